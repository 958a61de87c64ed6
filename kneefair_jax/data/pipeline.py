"""Streams rows of the cohort table as batches of arrays for this host, with prefetching threads.

Training streams across epochs without padding, which would enter batch statistics. Evaluation takes each row once and
pads the last batch, with `mask` 0.
"""

from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

from kneefair_jax.data.case_arrays import Arrays

Batch = dict[str, np.ndarray]

# On 2 cores, more threads or processes were slower in a measurement, since decoding is light.
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
    """Return endless batches; a step's batch is a function of (order, step), so a resumed run needs no other state.

    Args:
        cases: the prepared cases.
        order: dataset whose k-th element is the row of the k-th example (see `sampling`).
        group: i32[len(cases)], the group of each row of the cohort table; -1 unknown.
        batch_size: of the global batch; a multiple of `hosts`.
        weight: f32[len(cases)], the loss weight of each row's case; None for 1 each.
        start: the first step; the number of hosts may have differed in earlier steps.
        host: index of this process among `hosts`; it reads the `host`-th contiguous part of each global batch, so the
            concatenation of all hosts' parts has the order of a single host.
        hosts: number of processes in the run.

    Returns:
        This host's part of each batch: `image`, `label`, `spacing` (or the inputs of `Online`), `group` i32[B], `case`
        i32[B], `weight` f32[B], `mask` f32[B] and `position` i32[B], the position in the global batch.
    """
    position = _positions(batch_size, host, hosts)
    mask = np.ones(len(position), np.float32)
    share = order.batch(batch_size, drop_remainder=True).map(lambda rows: rows[position])

    def weighted_batch(rows: np.ndarray) -> Batch:
        batch = _batch(cases, group, rows, mask, position)
        return batch if weight is None else batch | {"weight": weight[rows].astype(np.float32)}

    iterator: Any = iter(share.map(weighted_batch).to_iter_dataset(READ))
    iterator.set_state({"next_index": start})
    batches: Iterator[Batch] = iterator
    return batches


def evaluation_batches(
    cases: Arrays, rows: np.ndarray, group: np.ndarray, *, batch_size: int, host: int = 0, hosts: int = 1
) -> Iterator[Batch]:
    """Return batches of every row once, in order; all hosts get as many batches of the same size, padded with mask 0.

    Padding repeats the first row, so that shapes and ranges are those of real cases. Arguments as for
    `training_batches`.
    """
    padded = np.append(rows, np.repeat(rows[:1], -len(rows) % batch_size))
    valid = (np.arange(len(padded)) < len(rows)).astype(np.float32)
    position = _positions(batch_size, host, hosts)
    share = grain.MapDataset.range(len(padded)).batch(batch_size).map(lambda indices: indices[position])
    batches = share.map(lambda indices: _batch(cases, group, padded[indices], valid[indices], position))
    return iter(batches.to_iter_dataset(READ))


def _positions(batch_size: int, host: int, hosts: int) -> np.ndarray:
    """Return i32[B / hosts], a host's positions in the global batch."""
    positions: np.ndarray = np.arange(batch_size, dtype=np.int32).reshape(hosts, -1)[host]
    return positions


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
