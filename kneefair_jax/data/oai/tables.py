"""Reads the OAI's tables: `|`-separated with `code: label`, or an export of the codes.

Names of files and columns match in any case of letters. Every cell is text; missing ones are "".
"""

import csv
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kneefair_jax.data import cell_text, delimited, metadata
from kneefair_jax.errors import InputError

_SUFFIXES = (".txt", ".csv")
# Folders of images, which hold a hundred thousand files and no table.
_IMAGE_FOLDER = re.compile(r"\d\dm|images|annotations", re.IGNORECASE)
_SIDES = {"1": "right", "2": "left"}
# The project of the Kellgren-Lawrence grades among the readings of a film.
_KL_PROJECT = "15"
# A missing form is `.: Missing Form/Incomplete Workbook`, a special missing value of SAS `.A` to `.Z`.
_MISSING_FORM = re.compile(r"\.[A-Za-z]?\s*(:.*)?")
_CODED = re.compile(r"(-?\d+(?:\.\d+)?|[A-Za-z])\s*:\s+(\S.*)")

# A patient or a film, and the side for rows of one knee, else "".
Key = tuple[str, str]


class Table(NamedTuple):
    """The location of a table, and its header.

    Attributes:
        path: of the file.
        separator: of its cells.
        columns: upper-case names in the file's order.
    """

    path: Path
    separator: str
    columns: tuple[str, ...]


class Column(NamedTuple):
    """The cells of a column by key.

    Attributes:
        path: of its table.
        by_film: whether the keys are films (barcodes); otherwise they are patients (`ID`).
        by_side: whether the keys have a side.
        cells: the different cells of each key, without missing ones.
        notes: `cell_text.missing_word_notes` of the column.
    """

    path: Path
    by_film: bool
    by_side: bool
    cells: dict[Key, list[str]]
    notes: tuple[str, ...] = ()


def find(folder: Path) -> dict[str, Table]:
    """Return every table with a column ID below a folder, by lower-case stem; folders of images are skipped.

    Raises:
        InputError: two files have the same name, or a header names a column twice.
    """
    oai_tables: dict[str, Table] = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _IMAGE_FOLDER.fullmatch(name))
        for path in (Path(parent, name) for name in sorted(files)):
            if path.suffix.lower() not in _SUFFIXES or not path.is_file():  # a pipe would block
                continue
            if (table := header(path)) is None:
                continue
            if "ID" not in table.columns:
                continue
            if duplicate := oai_tables.get(path.stem.lower()):
                raise InputError(
                    f"{path} and {duplicate.path} are the same table; keep one of them in data.tables"
                )
            oai_tables[path.stem.lower()] = table
    return oai_tables


def header(path: Path) -> Table | None:
    """Return the header of a table, or None if the first line is not a header.

    Raises:
        InputError: a column occurs twice.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        line = file.readline(delimited.LONGEST_LINE).strip("\r\n")
    separator = next((mark for mark in "|\t," if mark in line), "")
    if not separator:
        return None
    columns = tuple(name.strip(' "').upper() for name in line.split(separator))
    names = [name for name in columns if name]
    if "ID" in names and len(set(names)) < len(names):
        raise InputError(f"{path}: a column occurs twice in the header; names differ by more than their case")
    return Table(path, separator, columns)


def read(table: Table, names: Sequence[str]) -> pd.DataFrame:
    """Return columns of a table as text; the index is the line in the file.

    Missing forms and `cell_text.MISSING_WORDS` become "".

    Raises:
        InputError: a line has fewer or more cells than the header, or the file is not a table.
    """
    positions = [table.columns.index(name) for name in names]
    rows: dict[int, list[str]] = {}
    problems: list[metadata.Problem] = []
    try:
        with table.path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            # Tables with bars quote nothing; read as a quotation mark, an inch sign would consume the following lines.
            reader = csv.reader(
                file,
                delimiter=table.separator,
                quoting=csv.QUOTE_NONE if table.separator == "|" else csv.QUOTE_MINIMAL,
            )
            next(reader)
            for cells in reader:
                if not any(cells):
                    continue
                width = len(table.columns)
                if len(cells) < width or any(cells[width:]):
                    text = f"{len(cells)} cells under {width} columns; download or export the table again"
                    problems.append((reader.line_num, text))
                    continue
                rows[reader.line_num] = [cells[position].strip(' "') for position in positions]
    except csv.Error as error:
        raise InputError(f"{table.path}: malformed table ({error}); download or export it again") from error
    metadata.refuse(table.path, problems)
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(names), dtype=str)
    replacements = {cell: "" for cell in pd.unique(frame.to_numpy().ravel()) if _is_missing(cell)}
    return frame.map(lambda cell: replacements.get(cell, cell))


def patients(table: Table) -> set[str]:
    """Return the IDs of the patients in a table."""
    return set(_identifiers(table, read(table, ["ID"])))


def column(oai_tables: Mapping[str, Table], name: str) -> Column | None:
    """Return a column by its upper-case name, merged over the tables that have it; None if no table has it.

    A table with barcodes is keyed by film, one with `SIDE` by patient and knee, any other by patient. Keys that the
    first table (by name) lacks are filled from the next of the same kind. In `kxr_sq_bu`, only the rows of the project
    that reads Kellgren-Lawrence grades (`READPRJ` 15) count.

    Raises:
        InputError: a table is malformed.
    """
    merged: Column | None = None
    for stem in sorted(oai_tables):
        if name not in oai_tables[stem].columns:
            continue
        part = _column_by_key(oai_tables[stem], name, readings=stem.startswith("kxr_sq_bu"))
        if merged is None:
            merged = part
        elif part[1:3] == merged[1:3]:
            merged = merged._replace(cells=part.cells | merged.cells, notes=merged.notes + part.notes)
    return merged


def code(cell: str) -> str:
    """Return the code of a cell: `2` for `2: Female`, `2` and `2.0`."""
    match = _CODED.fullmatch(cell)
    return re.sub(r"\.0*$", "", match[1] if match else cell)


def label(cell: str) -> str:
    """Return the label of a cell: `Female` for `2: Female`, and the cell itself if it has no code."""
    match = _CODED.fullmatch(cell)
    return match[2] if match else cell


def barcode(text: str) -> str:
    """Return the eight digits after `166` of a film's barcode, written with all 12 digits or without leading zeros.

    Returns:
        Eight digits, or "" if the text is not a barcode. A leading 0 means X-ray.
    """
    digits = re.sub(r"\.0*$", "", text.strip()).replace("-", "")
    if full := re.fullmatch(r"\d?166(\d{8})", digits):
        return full[1]
    return digits.zfill(8) if re.fullmatch(r"\d{1,8}", digits) else ""


def _is_missing(cell: str) -> bool:
    return cell_text.normalized(cell) in cell_text.MISSING_WORDS or bool(_MISSING_FORM.fullmatch(cell))


def _identifiers(table: Table, frame: pd.DataFrame) -> list[str]:
    """Return column ID as seven digits; exports as floating point write `9000099.0`."""
    matches = [re.fullmatch(r"(\d{7})(?:\.0*)?", cell) for cell in frame["ID"]]
    problems = [
        (line, "ID is not of seven digits; download or export the table again")
        for line, match in zip(frame.index, matches, strict=True)
        if match is None
    ]
    metadata.refuse(table.path, problems)
    return [match[1] for match in matches if match]


def _column_by_key(table: Table, name: str, *, readings: bool) -> Column:
    film = next((column for column in table.columns if re.fullmatch(r"V\d\dXRBARCD", column)), None)
    side = "SIDE" if film is None and "SIDE" in table.columns else None
    project = "READPRJ" if readings and "READPRJ" in table.columns else None
    key_columns = [column for column in (film, side, project) if column]
    frame = read(table, list(dict.fromkeys(["ID", name, *key_columns])))
    owners = _identifiers(table, frame) if film is None else [barcode(cell) for cell in frame[film]]
    sides = [_SIDES.get(code(cell), "") for cell in frame[side]] if side else [""] * len(frame)
    is_counted = [not project or code(cell) == _KL_PROJECT for cell in frame[project or "ID"]]
    words = {cell: label(cell) for cell in frame[name].unique() if cell_text.is_missing(label(cell))}
    cells: dict[Key, list[str]] = {}
    for key, cell, counts in zip(zip(owners, sides, strict=True), frame[name], is_counted, strict=True):
        if cell not in words and counts and cell not in cells.setdefault(key, []):
            cells[key].append(cell)
    notes = cell_text.missing_word_notes(frame.loc[is_counted, [name]].replace({name: words}))
    return Column(
        table.path,
        film is not None,
        side is not None,
        cells,
        tuple(f"{table.path.name}, {note}" for note in notes),
    )
