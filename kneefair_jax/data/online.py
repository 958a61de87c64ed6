"""Cohorts whose training cases are drawn in the training step: which cases are stored, and what a batch holds."""

import hashlib
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from kneefair_jax.data.source import Source, read_subset
from kneefair_jax.data.store.cache import Arrays
from kneefair_jax.data.store.store import Cases


def stored_source(source: Source, cases: pd.DataFrame) -> Source:
    """Return the source of the cases to store: the source itself, or all but its training cases if they are online.

    Args:
        source: of the cohort.
        cases: the cohort's table, with `split`.
    """
    if source.online is None:
        return source
    ids = cases["case_id"][_stored(cases)]
    rows = pd.Index(source.cases["case_id"]).get_indexer(ids)
    digest = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
    return source._replace(
        cases=source.cases.iloc[rows].reset_index(drop=True),
        settings=source.settings | {"stored rows": digest},
        read=partial(read_subset, source.read, rows),
    )


def by_table_row(stored: Cases, source: Source, cases: pd.DataFrame) -> Cases:
    """Return the prepared cases of `stored_source` by row of the cohort's table; the same where nothing is online."""
    if source.online is None:
        return stored
    return Cases(_Sparse(stored, np.flatnonzero(_stored(cases)), len(cases)), stored.digest)


def training_inputs(stored: Arrays, source: Source, cases: pd.DataFrame) -> Arrays:
    """Return what a training batch holds of each row of the cohort's table: stored arrays, or inputs of `Online`."""
    return stored if source.online is None else _Columns(source.online.inputs(cases), len(cases))


def _stored(cases: pd.DataFrame) -> np.ndarray:
    return (cases["split"] != "train").to_numpy()


class _Sparse:
    """Records of some rows of a table."""

    def __init__(self, records: Arrays, rows: Sequence[int] | np.ndarray, count: int):
        self._records = records
        self._places = {int(row): place for place, row in enumerate(rows)}
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        return self._records[self._places[int(row)]]


class _Columns:
    """Rows of arrays by name."""

    def __init__(self, columns: dict[str, np.ndarray], count: int):
        self._columns = columns
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        return {name: column[row] for name, column in self._columns.items()}
