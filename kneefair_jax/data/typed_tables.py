"""Tables with typed columns: data frames, Parquet of any origin, and the Parquet and CSV files of a run directory.

`read_as_text` gives a table of cases or scores the form that `metadata.read` gives a text table. Every size is checked
by the file's metadata before the file is decompressed.
"""

import io
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

from kneefair_jax.data import cell_text, delimited, metadata, workbook
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError, describe

FRAME = Path("frame")  # the name of a data frame in messages
MOST_CELL_BYTES = 131_072  # as in Python's CSV reader
# A row per structure, case and selection rule, of 15 cells: 400,000 cases of five structures.
MOST_RUN_CELLS = 100_000_000


def read_parquet(path: Path, most_cells: int = delimited.MOST_CELLS) -> pd.DataFrame:
    """Read a Parquet table; columns of text become categorical, so that rows share equal texts in memory.

    Args:
        path: of the table.
        most_cells: the largest number of rows times columns.

    Raises:
        InputError: the file cannot be opened, is damaged, exceeds a limit, or has a column of lists.
    """
    import pyarrow.parquet as pq

    with limits.open_regular(path) as file:
        try:
            parquet = pq.ParquetFile(file)
            _require_size(parquet, path, most_cells)
            text_columns = [field.name for field in parquet.schema_arrow if _is_text(field.type)]
            table = pq.read_table(file, read_dictionary=text_columns)
            _require_short_cells(table, path)
            return table.to_pandas()
        except InputError:
            raise
        except Exception as error:  # pyarrow raises several errors for a damaged file
            raise InputError(f"{path}: unreadable parquet ({error}); export it again") from error


def read_as_text(source: Path | pd.DataFrame) -> tuple[metadata.Table, dict[str, list[str]]]:
    """Return every cell of a table as text on its row, and the order of levels where the table states one.

    Args:
        source: a text table, Parquet, or a data frame, whose rows are counted from 0.

    Raises:
        InputError: the file does not exist or is unreadable, or the frame has no rows or no plain columns.
    """
    if isinstance(source, pd.DataFrame):
        return _as_text(_plain_columns(source), FRAME, first_row=0)
    if not workbook.exists(source):
        raise InputError(f"{source}: no such file; give a CSV or parquet file of scores by case")
    if source.suffix.lower() not in (".parquet", ".pq"):
        return metadata.read(source), {}
    return _as_text(read_parquet(source), source, first_row=2)  # as if row 1 named the columns


def _plain_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the named levels of its index as columns.

    Raises:
        InputError: the columns have several levels, or two of them the same name.
    """
    if frame.columns.nlevels > 1:
        raise InputError("frame: its columns have several levels; give them one, such as dice_femur")
    frame = frame.reset_index([name for name in frame.index.names if name is not None])
    names = frame.columns.map(str)
    if (repeated := names[names.duplicated()]).size:
        raise InputError(f"frame: has the column {repeated[0]!r} twice; drop one of them")
    return frame


def _as_text(frame: pd.DataFrame, path: Path, first_row: int) -> tuple[metadata.Table, dict[str, list[str]]]:
    """Return a data frame as a table of text, and the order of the levels of its ordered categorical columns.

    Args:
        frame: with a name per column; its index is ignored.
        path: what messages call it.
        first_row: number of its first row in messages.

    Raises:
        InputError: there are no rows.
    """
    if frame.empty:
        raise InputError(f"{path}: holds no rows")
    levels = {
        str(name): [str(level) for level in frame[name].cat.categories]
        for name in frame
        if isinstance(frame[name].dtype, pd.CategoricalDtype) and frame[name].cat.ordered
    }
    frame = frame.rename(columns=str).reset_index(drop=True)
    text = frame.astype(object).where(frame.notna(), "").map(str)
    text.index = pd.RangeIndex(first_row, first_row + len(text))
    written = text.map(str.strip)
    return metadata.Table(cell_text.without_missing_words(written), written, []), levels


def read_run_parquet(
    path: Path, text: Collection[str], levels: Collection[str], numbers: Collection[str], remedy: str
) -> pd.DataFrame:
    """Return a table of a run directory as `DataFrame.to_parquet` wrote it.

    Args:
        path: of the table.
        text: columns that must hold text.
        levels: columns that must be categorical.
        numbers: columns that must hold numbers, NaN included.
        remedy: the end of every error message.

    Raises:
        InputError: the file is missing, is damaged, exceeds a limit, or lacks one of the columns.
    """
    try:
        table = read_parquet(path, most_cells=MOST_RUN_CELLS)
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


def read_run_csv(path: Path, text: Collection[str], counts: Collection[str], remedy: str) -> pd.DataFrame:
    """Return a table of a run directory with text and counts, which are i64.

    Args:
        path: of the table, CSV in UTF-8.
        text: required columns of text.
        counts: required columns of whole numbers of 0 or more.
        remedy: the end of every error message.

    Raises:
        InputError: the file is missing, is damaged, exceeds a limit, or lacks one of the columns.
    """
    content = io.BytesIO(limits.read_bytes(path))
    try:
        table = pd.read_csv(content, dtype=dict.fromkeys(text, str), keep_default_na=False)
    except ValueError as error:  # not UTF-8, no columns, or rows of different lengths
        raise InputError(f"{path}: damaged ({describe(error)}); {remedy}") from error
    _require_columns(path, table, (*text, *counts), remedy)
    for name in counts:
        if not is_integer_dtype(table[name]) or (table[name] < 0).any():
            raise InputError(f"{path}: the column {name!r} holds no counts; {remedy}")
    return table


def _require_columns(path: Path, table: pd.DataFrame, names: Collection[str], remedy: str) -> None:
    if missing_columns := [name for name in names if name not in table]:
        raise InputError(f"{path} has no column {missing_columns[0]!r}; {remedy}")


def _require_size(parquet: Any, path: Path, most_cells: int) -> None:
    import pyarrow as pa

    header = parquet.metadata
    if (count := header.num_rows * header.num_columns) > most_cells:
        raise InputError(f"{path}: {count} cells, more than {most_cells}; leave out columns, or split it")
    sizes = (header.row_group(n).total_byte_size for n in range(header.num_row_groups))
    limits.require_bytes(sum(sizes), path)
    for field in parquet.schema_arrow:
        if pa.types.is_nested(field.type):
            raise InputError(f"{path}: column {field.name!r} holds lists or structures; leave it out")


def _require_short_cells(table: Any, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, column in zip(table.column_names, table.columns, strict=True):
        for chunk in column.chunks if pa.types.is_dictionary(column.type) else ():
            if not _is_text(chunk.type.value_type):
                continue
            longest = pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0
            if longest > MOST_CELL_BYTES:
                raise InputError(
                    f"{path}: column {name!r} has a cell of {longest} bytes, more than {MOST_CELL_BYTES}; shorten it"
                )


def _is_text(arrow_type: Any) -> bool:
    import pyarrow as pa

    is_kind = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(arrow_type) for test in is_kind)
