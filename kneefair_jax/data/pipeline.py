"""Rows of the cohort table -> batches of arrays for this host.

Training streams across epochs and never pads: padding would enter batch statistics. Evaluation goes through its
rows once and pads the last batch, with `mask` 0.
"""

from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

from kneefair_jax.data.sampling import Sampler
from kneefair_jax.data.store import Cases

Batch = dict[str, np.ndarray]

# Measured on 2 cores: more threads, or processes, are slower (decoding is light).
THREADS = 2


def training_batches(
    cases: Cases,
    rows: np.ndarray,
    group: np.ndarray,
    *,
    sampler: Sampler,
    seed: int,
    batch_size: int,
    start: int = 0,
    host: int = 0,
    hosts: int = 1,
) -> Iterator[Batch]:
    """Endless batches; the batch of a step is a function of (seed, step), so a resumed run needs nothing else.

    Args:
        cases: the prepared cases.
        rows: i[N], rows to train on.
        group: i32[len(cases)], the group of each row of the cohort table; -1 unknown.
        sampler: which row comes next.
        seed: of the order.
        batch_size: of the global batch; a multiple of `hosts`.
        start: the first step to give.
        host: this process among `hosts`; it reads every `hosts`-th example of each global batch.
        hosts: processes that share the run.

    Yields:
        DESIGN's batch contract, this host's share of it, and `position` i32[B], the place in the global batch.
    """
    order = sampler(rows, seed)[host::hosts].map(lambda row: _example(cases, group, row))
    batches = order.batch(batch_size // hosts, drop_remainder=True)
    iterator = iter(batches.to_iter_dataset(grain.ReadOptions(THREADS, 8)))
    iterator.set_state({"next_index": start})
    position = np.arange(host, batch_size, hosts, dtype=np.int32)
    for batch in iterator:
        yield {**batch, "mask": np.ones(len(position), np.float32), "position": position}


def evaluation_batches(
    cases: Cases, rows: np.ndarray, group: np.ndarray, *, batch_size: int, host: int = 0, hosts: int = 1
) -> Iterator[Batch]:
    """Every row once, in order; every host takes equally many batches of equal size, padded with mask 0.

    Padding repeats the first row, so shapes and ranges stay ordinary. Arguments as for `training_batches`.
    """
    steps = -(-len(rows) // batch_size)
    padded = np.full(steps * batch_size, rows[0])
    padded[: len(rows)] = rows
    mask = (np.arange(len(padded)) < len(rows)).astype(np.float32)
    for step in range(steps):
        here = slice(step * batch_size + host, (step + 1) * batch_size, hosts)
        examples = [_example(cases, group, row) for row in padded[here]]
        batch = {key: np.stack([example[key] for example in examples]) for key in examples[0]}
        position = np.arange(host, batch_size, hosts, dtype=np.int32)
        yield {**batch, "mask": mask[here], "position": position}


def _example(cases: Cases, group: np.ndarray, row: Any) -> Batch:
    return {
        **cases[row],
        "group": np.array(group[row], np.int32),
        "case": np.array(row, np.int32),
        "weight": np.array(1, np.float32),
    }
