"""Reads a sheet of an Excel workbook (.xlsx) as the cells of a text table, with openpyxl.

A path of a table may end in the name of a sheet: `patients.xlsx:Sheet2`.
"""

import datetime
import io
import itertools
import os
import re
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kneefair_jax.data.delimited import (
    KEY,
    LONGEST_LINE,
    MOST_CELLS,
    MOST_COLUMNS,
    Rows,
    header_row,
    replace_decimal_commas,
    split_header,
    title_notes,
)
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError

_MAGIC = b"PK\x03\x04"  # of zip archives
_CONTENT = "xl/workbook.xml"  # the part that makes an archive a workbook
_MOST_ROWS = 1_048_576  # of a sheet in Excel
_EXACT = 10**15  # Excel stores 15 digits of a number
# Formats that show more than the stored number: `0000` shows 7 as 0007, and `"P"000` shows it as P007.
_ZERO_FORMAT = re.compile(r'(?:"([^"]*)")?(0+)')


def split_sheet(path: Path) -> tuple[Path, str]:
    """Return the file and the sheet of `FILE:SHEET`; the sheet is "" if the path names none, or is a file."""
    file, _, sheet = str(path).rpartition(":")
    return (Path(file), sheet) if os.path.isfile(file) and not os.path.lexists(path) else (path, "")


def exists(path: Path) -> bool:
    """Return whether there is a table at a path, which may end in the name of a sheet."""
    return os.path.lexists(split_sheet(path)[0])


def is_workbook(path: Path) -> bool:
    """Return whether a file is an Excel workbook by its first bytes; the path may end in the name of a sheet."""
    with limits.open_regular(split_sheet(path)[0]) as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read(path: Path, keys: Collection[str] = (KEY,)) -> Rows:
    """Read the sheet that the path names, the only sheet with cells, or the only sheet with a header by `keys`.

    Numbers have a decimal point, dates are written as 1960-03-21, and a number shown with leading zeros keeps them.

    Raises:
        InputError: the file is no workbook or exceeds a limit, it lacks the sheet, several sheets may be the table, a
            formula has no stored value, or a number has more digits than Excel stores.
    """
    file, sheet = split_sheet(path)
    data = limits.read_bytes(file)
    _require_workbook(data, file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on parts that are not read, such as validation lists
        try:
            sheets = {name: cells for name, cells in _sheets(data, file) if cells}
        except InputError:
            raise
        except Exception as error:  # openpyxl and zipfile raise many errors for a damaged workbook
            cause = type(error).__name__
            raise InputError(
                f"{file}: unreadable Excel workbook ({cause}); save it again as .xlsx or CSV"
            ) from error
    name = _choose(sheets, sheet, keys, file)
    rows = sheets[name]
    first, header, titles = split_header(rows, keys)
    width = len(header)
    cells = {line: row + [""] * (width - len(row)) for line, row in rows.items()}
    notes = [f"{file.name} is read as an Excel workbook, sheet {name!r}", *title_notes(first, titles, file)]
    if names := replace_decimal_commas(header, cells):
        notes.append(f"{file.name}: decimal commas are read as points in {', '.join(names)}")
    return Rows(header, cells, notes, titles)


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
        name = path if len(values.worksheets) == 1 else Path(f"{path}:{sheet.title}")
        yield sheet.title, dict(_rows(pairs, name))


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


def _choose(
    sheets: Mapping[str, Mapping[int, Sequence[str]]], sheet: str, keys: Collection[str], path: Path
) -> str:
    """Return the name of the sheet that is the table: `sheet`, if the user states one."""
    if not sheets:
        raise InputError(f"{path}: no sheet has a cell; write the columns' names in row 1")
    candidates = [name for name, rows in sheets.items() if header_row(rows, keys)]
    if sheet or (len(sheets) > 1 and len(candidates) != 1):
        if sheet in sheets:
            return sheet
        names = ", ".join(map(repr, sheets))
        fault = f"no sheet {sheet!r} with cells" if sheet else "several sheets may be the table"
        raise InputError(
            f"{path}: {fault} (sheets with cells: {names}); name a sheet after the file, as in "
            f"'{path.name}:{next(iter(candidates or sheets))}'"
        )
    return next(iter(candidates or sheets))
