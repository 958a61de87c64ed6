"""Reads a sheet of an Excel workbook (.xlsx) as the cells of a text table, with openpyxl."""

import datetime
import io
import itertools
import re
import warnings
import zipfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from kneefair_jax.data import identifiers
from kneefair_jax.data.delimited import (
    KEY,
    LONGEST_LINE,
    MOST_CELLS,
    MOST_COLUMNS,
    Rows,
    replace_decimal_commas,
)
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError

_MAGIC = b"PK\x03\x04"  # of zip archives
_CONTENT = "xl/workbook.xml"  # the part that makes an archive a workbook
_MOST_ROWS = 1_048_576  # of a sheet in Excel
_EXACT = 10**15  # Excel stores 15 digits of a number
# Formats that show more than the stored number: `0000` shows 7 as 0007, and `"P"000` shows it as P007.
_ZERO_FORMAT = re.compile(r'(?:"([^"]*)")?(0+)')


def is_workbook(path: Path) -> bool:
    """Return whether a file is an Excel workbook by its first bytes."""
    with limits.open_regular(path) as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read(path: Path, keys: Collection[str] = (KEY,)) -> Rows:
    """Read the only sheet with cells, or the only sheet whose first row has a column of `keys`.

    Numbers have a decimal point, dates are written as 1960-03-21, and a number shown with leading zeros keeps them.

    Raises:
        InputError: the file is no workbook or exceeds a limit, several sheets may be the table, a formula has no stored
            value, or a number has more digits than Excel stores.
    """
    data = limits.read_bytes(path)
    _require_workbook(data, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on parts that are not read, such as validation lists
        try:
            sheets = {name: cells for name, cells in _sheets(data, path) if cells}
        except InputError:
            raise
        except Exception as error:  # openpyxl and zipfile raise many errors for a damaged workbook
            cause = type(error).__name__
            raise InputError(
                f"{path}: unreadable Excel workbook ({cause}); save it again as .xlsx or CSV"
            ) from error
    name = _choose(sheets, keys, path)
    rows = sheets[name]
    first = min(rows)
    header = [identifiers.visible(cell) for cell in rows.pop(first)]
    width = len(header)
    cells = {line: row + [""] * (width - len(row)) for line, row in rows.items()}
    notes = [f"{path.name} is read as an Excel workbook, sheet {name!r}"]
    if names := replace_decimal_commas(header, cells):
        notes.append(f"{path.name}: decimal commas are read as points in {', '.join(names)}")
    return Rows(header, cells, notes)


def _require_workbook(data: bytes, path: Path) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
            expanded = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path}: a damaged Excel workbook or zip archive; save it again") from error
    if _CONTENT not in names:
        raise InputError(f"{path}: a zip archive, not an Excel workbook; unpack it, and give the table")
    limits.require_bytes(expanded, path)


def _sheets(data: bytes, path: Path) -> Iterator[tuple[str, dict[int, list[str]]]]:
    """Yield the name of each worksheet and its rows of text by their number."""
    try:
        import openpyxl
    except ImportError as error:
        raise InputError(f"{path}: openpyxl reads Excel workbooks; pip install openpyxl") from error
    values = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    formulas = openpyxl.load_workbook(io.BytesIO(data), read_only=True)
    for sheet, formula_sheet in zip(values.worksheets, formulas.worksheets, strict=True):
        for each in (sheet, formula_sheet):
            each.reset_dimensions()  # some programs state wrong ones
        pairs = zip(sheet.iter_rows(), formula_sheet.iter_rows(), strict=True)
        yield sheet.title, dict(_rows(pairs, path))


def _rows(
    pairs: Iterator[tuple[Sequence[Any], Sequence[Any]]], path: Path
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the text of each row that has text.

    Args:
        pairs: cells with their stored values, and the same cells with their formulas.
        path: the file, for messages.
    """
    count = 0
    for number, (row, formulas) in enumerate(pairs, start=1):
        count += len(row) + 1
        if len(row) > MOST_COLUMNS or count > MOST_CELLS or number > _MOST_ROWS:
            raise InputError(
                f"{path} row {number}: more than {MOST_COLUMNS} columns or {MOST_CELLS} cells; delete columns and rows "
                "that are not used, empty ones too"
            )
        texts = [_text(cell, formula, path, number) for cell, formula in itertools.zip_longest(row, formulas)]
        while texts and not texts[-1]:
            texts.pop()
        if texts:
            yield number, texts


def _text(cell: Any, formula: Any, path: Path, number: int) -> str:
    """Return the text of a cell as Excel shows it in its general format."""
    value = None if cell is None else cell.value
    if value is None:
        if formula is not None and formula.value is not None:
            raise InputError(
                f"{path} row {number}: a formula has no stored value; open and save the workbook in Excel, or paste "
                "its values"
            )
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ")
    if isinstance(value, int | float):
        if abs(value) >= _EXACT:
            raise InputError(
                f"{path} row {number}: a number of more than 15 digits, of which Excel stores 15; format the column as "
                "text and enter it again from the original source"
            )
        if not float(value).is_integer():
            return f"{value:.15g}"
        zeros = _ZERO_FORMAT.fullmatch(str(cell.number_format))
        return f"{zeros[1] or ''}{int(value):0{len(zeros[2])}d}" if zeros else str(int(value))
    text = str(value).strip()
    if len(text) > LONGEST_LINE:
        raise InputError(f"{path} row {number}: a cell of {len(text)} characters; leave out the column")
    return text


def _choose(sheets: dict[str, dict[int, list[str]]], keys: Collection[str], path: Path) -> str:
    """Return the name of the sheet that is the table."""
    if not sheets:
        raise InputError(f"{path}: no sheet has a cell; write the columns' names in row 1")
    if len(sheets) == 1:
        return next(iter(sheets))
    names = [
        name for name, rows in sheets.items() if set(map(identifiers.visible, rows[min(rows)])) & set(keys)
    ]
    if len(names) != 1:
        matches = f", and {len(names)} of them a column {' or '.join(sorted(keys))}" if keys else ""
        raise InputError(
            f"{path}: the sheets {', '.join(map(repr, sheets))} have cells{matches}; keep one sheet in the workbook, "
            "or save the sheet as CSV"
        )
    return names[0]
