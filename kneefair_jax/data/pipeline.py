"""Streams rows of the cohort table as batches of arrays for this host, with prefetching threads.

Training streams across epochs without padding, which would enter batch statistics. Evaluation takes each row once and
pads the last batch, with `mask` 0. The prepared cases come from the store or a cache in memory; in cohorts whose
training cases are drawn online, a training batch has the inputs of `Online` instead.
"""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import grain
import numpy as np
import pandas as pd

from kneefair_jax.data.source import Source, read_subset
from kneefair_jax.data.store.store import Cases

Batch = dict[str, np.ndarray]

# On 2 cores, more threads or processes were slower in a measurement, since decoding is light.
READ = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
CACHE_BYTES = 2 * 2**30  # 65,000 cases of 128 x 128, 8,000 of 360 x 360


class Arrays(Protocol):
    """Prepared cases by row: `cases[k]` -> `{"image", "label", "spacing"}`; `store.Cases` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> dict[str, np.ndarray]: ...


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


class CachedCases:
    """Cases that stay in memory after their first reading: unpacking a record costs more than all later steps."""

    def __init__(self, cases: Arrays, limit: int = CACHE_BYTES):
        """Wraps `cases`; once the cache holds `limit` bytes, further cases are read each time."""
        self._cases = cases
        self._free_bytes = limit
        self._cache: dict[int, dict[str, np.ndarray]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        row = int(row)
        if (cached := self._cache.get(row)) is not None:
            return cached
        case = self._cases[row]
        size = sum(array.nbytes for array in case.values())
        with self._lock:
            if row not in self._cache and size <= self._free_bytes:
                for array in case.values():
                    array.flags.writeable = False  # every reader of this row shares the array
                self._free_bytes -= size
                self._cache[row] = case
        return self._cache.get(row, case)


def stored_source(source: Source, cases: pd.DataFrame) -> Source:
    """Return the source of the cases to store: the source itself, or all but its training cases if they are online.

    Args:
        source: of the cohort.
        cases: the cohort's table, with `split`.
    """
    if source.online is None:
        return source
    ids = cases["case_id"][_is_stored(cases)]
    rows = pd.Index(source.cases["case_id"]).get_indexer(ids)
    digest = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
    return source._replace(
        cases=source.cases.iloc[rows].reset_index(drop=True),
        settings=source.settings | {"stored rows": digest},
        read=partial(read_subset, source.read, rows),
    )


def index_by_table_row(prepared: Cases, source: Source, cases: pd.DataFrame) -> Cases:
    """Return the prepared cases of `stored_source` by row of the cohort's table; unchanged if no case is online."""
    if source.online is None:
        return prepared
    return Cases(_SparseRows(prepared, np.flatnonzero(_is_stored(cases)), len(cases)), prepared.digest)


def training_inputs(prepared: Arrays, source: Source, cases: pd.DataFrame) -> Arrays:
    """Return each table row's entries of a training batch: stored arrays, or the inputs of `Online`."""
    return prepared if source.online is None else _ColumnRows(source.online.inputs(cases), len(cases))


def _is_stored(cases: pd.DataFrame) -> np.ndarray:
    """bool[N], False for training cases, which are drawn online."""
    return np.asarray(cases["split"] != "train")


class _SparseRows:
    """Records of some rows of a table."""

    def __init__(self, records: Arrays, rows: Sequence[int] | np.ndarray, count: int):
        self._records = records
        self._positions = {int(row): position for position, row in enumerate(rows)}
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        return self._records[self._positions[int(row)]]


class _ColumnRows:
    """Rows of arrays by name."""

    def __init__(self, columns: dict[str, np.ndarray], count: int):
        self._columns = columns
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        return {name: column[row] for name, column in self._columns.items()}
