"""Prepared cases as arrays by row: a cache in memory, and cohorts whose training cases are drawn online."""

import hashlib
import threading
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import numpy as np
import pandas as pd

from kneefair_jax.data.source import Source, read_subset
from kneefair_jax.data.store.store import Cases

CACHE_BYTES = 2 * 2**30  # 65,000 cases of 128 x 128, 8,000 of 360 x 360


class Arrays(Protocol):
    """Prepared cases by row: `cases[k]` -> `{"image", "label", "spacing"}`; `store.Cases` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> dict[str, np.ndarray]: ...


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
