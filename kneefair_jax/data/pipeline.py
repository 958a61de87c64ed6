"""Rows of the cohort table -> batches of arrays for this host, read ahead by threads.

Training streams across epochs and never pads: padding would enter batch statistics. Evaluation goes through its
rows once and pads the last batch, with `mask` 0.
"""

from collections.abc import Iterator

import grain
import numpy as np

from kneefair_jax.data.case_arrays import Arrays

Batch = dict[str, np.ndarray]

# Measured on 2 cores: more threads, or processes, are slower (decoding is light).
READ = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)


def training_batches(
    cases: Arrays,
    order: grain.MapDataset,
    group: np.ndarray,
    *,
    batch_size: int,
    weight: np.ndarray | None = None,
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
        weight: f32[len(cases)], what the loss of each row's case counts; None for 1 each.
        start: the first step to give; the number of hosts may have been another in the steps before.
        host: this process among `hosts`; it reads the `host`-th part of each global batch, in one run: an array of all
            hosts' parts has its examples in the same places as on one host.
        hosts: processes that share the run.

    Returns:
        DESIGN's batch contract, this host's share of it, and `position` i32[B], the place in the global batch.
    """
    position = _positions(batch_size, host, hosts)
    mask = np.ones(len(position), np.float32)
    share = order.batch(batch_size, drop_remainder=True).map(lambda rows: rows[position])

    def weighed(rows: np.ndarray) -> Batch:
        batch = _batch(cases, group, rows, mask, position)
        return batch if weight is None else batch | {"weight": weight[rows].astype(np.float32)}

    batches = iter(share.map(weighed).to_iter_dataset(READ))
    batches.set_state({"next_index": start})
    return batches


def evaluation_batches(
    cases: Arrays, rows: np.ndarray, group: np.ndarray, *, batch_size: int, host: int = 0, hosts: int = 1
) -> Iterator[Batch]:
    """Every row once, in order; every host takes equally many batches of equal size, padded with mask 0.

    Padding repeats the first row, so shapes and ranges stay ordinary. Arguments as for `training_batches`.
    """
    padded = np.append(rows, np.repeat(rows[:1], -len(rows) % batch_size))
    valid = (np.arange(len(padded)) < len(rows)).astype(np.float32)
    position = _positions(batch_size, host, hosts)
    share = grain.MapDataset.range(len(padded)).batch(batch_size).map(lambda places: places[position])
    batches = share.map(lambda places: _batch(cases, group, padded[places], valid[places], position))
    return iter(batches.to_iter_dataset(READ))


def _positions(batch_size: int, host: int, hosts: int) -> np.ndarray:
    """i32[B / hosts], a host's places in the global batch."""
    return np.arange(batch_size, dtype=np.int32).reshape(hosts, -1)[host]


def _batch(
    cases: Arrays, group: np.ndarray, rows: np.ndarray, mask: np.ndarray, position: np.ndarray
) -> Batch:
    examples = [cases[row] for row in rows]
    return {
        **{key: np.stack([example[key] for example in examples]) for key in examples[0]},
        "group": group[rows].astype(np.int32),
        "case": rows.astype(np.int32),
        "weight": np.ones(len(rows), np.float32),
        "mask": mask,
        "position": position,
    }
