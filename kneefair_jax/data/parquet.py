"""Tables in parquet, whose size is checked by their metadata before anything is expanded."""

from pathlib import Path
from typing import Any

import pandas as pd

from kneefair_jax.data import delimited
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError

LONGEST_CELL = 131_072  # characters; that of Python's reader of CSV


def read(path: Path, most_cells: int = delimited.MOST_CELLS) -> pd.DataFrame:
    """Read a table; columns of text become categorical, so that a text that many rows share is kept once.

    Args:
        path: of the table.
        most_cells: the largest number of rows times columns.

    Raises:
        InputError: the file cannot be opened, is damaged, is beyond a limit, or has a column of lists.
    """
    import pyarrow.parquet as pq

    with limits.open_regular(path) as file:
        try:
            source = pq.ParquetFile(file)
            _require_size(source, path, most_cells)
            texts = [field.name for field in source.schema_arrow if _is_text(field.type)]
            table = pq.read_table(file, read_dictionary=texts)
            _require_short_cells(table, path)
            return table.to_pandas()
        except InputError:
            raise
        except Exception as error:  # pyarrow has its own errors for a damaged file
            raise InputError(f"{path}: unreadable parquet ({error}); export it again") from error


def _require_size(source: Any, path: Path, most_cells: int) -> None:
    import pyarrow as pa

    about = source.metadata
    if (count := about.num_rows * about.num_columns) > most_cells:
        raise InputError(f"{path}: {count} cells, more than {most_cells}; leave out columns, or split it")
    limits.require_bytes(sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups)), path)
    for field in source.schema_arrow:
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
            if longest > LONGEST_CELL:
                raise InputError(
                    f"{path}: column {name!r} has a cell of {longest} bytes, more than {LONGEST_CELL}; shorten it"
                )


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return any(
        test(kind)
        for test in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_binary,
            pa.types.is_large_binary,
        )
    )
