"""Reads a user's table of any kind as text: delimited text in several dialects, or an Excel workbook."""

from collections.abc import Collection
from pathlib import Path

from kneefair_jax.data import delimited, workbook
from kneefair_jax.data.readers import limits


def read(path: Path, keys: Collection[str] = (delimited.KEY,)) -> delimited.Rows:
    """Read a table by its content, whatever its name.

    Args:
        path: of the file.
        keys: names of columns of which the table has one; they determine the delimiter, or the sheet of a workbook.
            If they are empty, the delimiter is the one that gives the first rows the same number of cells.

    Raises:
        InputError: the table cannot be read (`delimited.read`, `workbook.read`).
    """
    with limits.open_regular(path) as file:
        is_workbook = file.read(len(workbook.MAGIC)) == workbook.MAGIC
    return workbook.read(path, keys) if is_workbook else delimited.read(path, keys)
