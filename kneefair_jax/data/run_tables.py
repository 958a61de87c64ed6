"""Tables of a run directory that somebody else may have written: regular files of a stated size, with known columns."""

import io
from collections.abc import Collection
from pathlib import Path

import pandas as pd
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

from kneefair_jax.data import parquet
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError, describe

MOST_CELLS = (
    100_000_000  # a row per structure, case and selection rule, of 15 cells: 400,000 cases of five structures
)


def read_parquet(
    path: Path, text: Collection[str], levels: Collection[str], numbers: Collection[str], remedy: str
) -> pd.DataFrame:
    """Return a table as `DataFrame.to_parquet` wrote it.

    Args:
        path: of the table.
        text: columns that must hold text.
        levels: columns that must be categorical.
        numbers: columns that must hold numbers, NaN among them.
        remedy: what a person can do, the end of the message.

    Raises:
        InputError: the file is missing, is damaged, is beyond a limit, or lacks one of the columns.
    """
    try:
        table = parquet.read(path, most_cells=MOST_CELLS)
    except InputError as error:
        raise InputError(f"{error}, or {remedy}") from error
    _require_columns(path, table, (*text, *levels, *numbers), remedy)
    for name in (*text, *levels):
        if not isinstance(table[name].dtype, pd.CategoricalDtype):
            raise InputError(f"{path}: the column {name!r} holds no text; {remedy}")
    for name in numbers:
        if not is_numeric_dtype(table[name]) or is_bool_dtype(table[name]):
            raise InputError(f"{path}: the column {name!r} holds no numbers; {remedy}")
    return table.astype(dict.fromkeys(text, "str"))


def read_csv(path: Path, text: Collection[str], counts: Collection[str], remedy: str) -> pd.DataFrame:
    """Return a table of text and of counts, which are i64.

    Args:
        path: of the table, CSV in UTF-8.
        text: columns that must be there.
        counts: columns that must hold whole numbers of 0 or more.
        remedy: what a person can do, the end of the message.

    Raises:
        InputError: the file is missing, is damaged, is beyond a limit, or lacks one of the columns.
    """
    content = io.BytesIO(limits.read_bytes(path))
    try:
        table = pd.read_csv(content, dtype=dict.fromkeys(text, str), keep_default_na=False)
    except ValueError as error:  # no UTF-8, no columns, rows of different lengths
        raise InputError(f"{path}: damaged ({describe(error)}); {remedy}") from error
    _require_columns(path, table, (*text, *counts), remedy)
    for name in counts:
        if not is_integer_dtype(table[name]) or (table[name] < 0).any():
            raise InputError(f"{path}: the column {name!r} holds no counts; {remedy}")
    return table


def _require_columns(path: Path, table: pd.DataFrame, names: Collection[str], remedy: str) -> None:
    if lacking := [name for name in names if name not in table]:
        raise InputError(f"{path} has no column {lacking[0]!r}; {remedy}")
