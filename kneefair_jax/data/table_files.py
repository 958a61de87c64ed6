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
    return workbook.read(path, keys) if is_workbook(path) else delimited.read(path, keys)


def is_workbook(path: Path) -> bool:
    """Return whether a file is an Excel workbook by its first bytes."""
    with limits.open_regular(path) as file:
        return file.read(len(workbook.MAGIC)) == workbook.MAGIC
