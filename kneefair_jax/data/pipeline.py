"""Rows of the cohort table -> batches of arrays for this host, read ahead by threads.

Training streams across epochs and never pads: padding would enter batch statistics. Evaluation goes through its
rows once and pads the last batch, with `mask` 0.
"""

from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

from kneefair_jax.data.memory import Arrays

Batch = dict[str, np.ndarray]

# Measured on 2 cores: more threads, or processes, are slower (decoding is light).
READ = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)


def training_batches(
    cases: Arrays,
    order: grain.MapDataset,
    group: np.ndarray,
    *,
    batch_size: int,
    start: int = 0,
    host: int = 0,
    hosts: int = 1,
) -> Iterator[Batch]:
    """Endless batches; the batch of a step is a function of (order, step), so a resumed run needs nothing else.

    Args:
        cases: the prepared cases.
        order: which row of the cohort table is the k-th example, for every k (see `sampling`).
        group: i32[len(cases)], the group of each row of the cohort table; -1 unknown.
        batch_size: of the global batch; a multiple of `hosts`.
        start: the first step to give; the number of hosts may have been another in the steps before.
        host: this process among `hosts`; it reads every `hosts`-th example of each global batch.
        hosts: processes that share the run.

    Yields:
        DESIGN's batch contract, this host's share of it, and `position` i32[B], the place in the global batch.
    """
    examples = order[host::hosts].map(lambda row: _example(cases, group, row, 1))
    batches = iter(examples.batch(batch_size // hosts, drop_remainder=True).to_iter_dataset(READ))
    batches.set_state({"next_index": start})
    position = np.arange(host, batch_size, hosts, dtype=np.int32)
    for batch in batches:
        yield {**batch, "position": position}


def evaluation_batches(
    cases: Arrays, rows: np.ndarray, group: np.ndarray, *, batch_size: int, host: int = 0, hosts: int = 1
) -> Iterator[Batch]:
    """Every row once, in order; every host takes equally many batches of equal size, padded with mask 0.

    Padding repeats the first row, so shapes and ranges stay ordinary. Arguments as for `training_batches`.
    """
    padded = np.append(rows, np.repeat(rows[:1], -len(rows) % batch_size))

    places = grain.MapDataset.range(len(padded))[host::hosts]
    examples = places.map(lambda place: _example(cases, group, padded[place], place < len(rows)))
    position = np.arange(host, batch_size, hosts, dtype=np.int32)
    for batch in examples.batch(batch_size // hosts).to_iter_dataset(READ):
        yield {**batch, "position": position}


def _example(cases: Arrays, group: np.ndarray, row: Any, mask: float) -> Batch:
    return {
        **cases[row],
        "group": np.array(group[row], np.int32),
        "case": np.array(row, np.int32),
        "weight": np.array(1, np.float32),
        "mask": np.array(mask, np.float32),
    }
