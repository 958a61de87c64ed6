"""The OAI's tables as a user has them: `|`-separated with `code: label`, or an export of the bare codes.

Names of files and columns are found in any case. Every cell is text; missing ones are "".
"""

import csv
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kneefair_jax.data import delimited, metadata, missing_words
from kneefair_jax.errors import InputError

_SUFFIXES = (".txt", ".csv")
# Folders of images: a hundred thousand files, and no table among them.
_IMAGE_FOLDER = re.compile(r"\d\dm|images|annotations", re.IGNORECASE)
_SIDES = {"1": "right", "2": "left"}
# The project of the Kellgren-Lawrence grades among the readings of a film.
_KL_PROJECT = "15"
# A missing form is `.: Missing Form/Incomplete Workbook`, a special missing value of SAS `.A` to `.Z`.
_MISSING = re.compile(r"\.[A-Za-z]?\s*(:.*)?")
_CODED = re.compile(r"(-?\d+(?:\.\d+)?|[A-Za-z])\s*:\s+(\S.*)")

# A patient or a film, and a side where rows are of one knee, else "".
Key = tuple[str, str]


class Table(NamedTuple):
    """Where a table is, and its header.

    Attributes:
        path: of the file.
        separator: of its cells.
        columns: upper-case names in the file's order.
    """

    path: Path
    separator: str
    columns: tuple[str, ...]


class Column(NamedTuple):
    """A column, keyed.

    Attributes:
        path: of the table that has it.
        by_film: whether the keys are films (barcodes), else patients (`ID`).
        by_side: whether the keys tell the sides apart.
        cells: the different cells that each key has, missing ones left out.
        notes: `missing_words.notes` of the column.
    """

    path: Path
    by_film: bool
    by_side: bool
    cells: dict[Key, list[str]]
    notes: tuple[str, ...] = ()


def find(folder: Path) -> dict[str, Table]:
    """Every table with a column ID, anywhere below a folder (image folders apart), by lower-case stem.

    Raises:
        InputError: two files have the same name, or a header names a column twice.
    """
    found: dict[str, Table] = {}
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _IMAGE_FOLDER.fullmatch(name))
        for path in (Path(place, name) for name in sorted(files)):
            if path.suffix.lower() not in _SUFFIXES or not path.is_file():  # a pipe would block
                continue
            if (table := header(path)) is None:
                continue
            if "ID" not in table.columns:
                continue
            if twin := found.get(path.stem.lower()):
                raise InputError(
                    f"{path} and {twin.path} are the same table; keep one of them in data.tables"
                )
            found[path.stem.lower()] = table
    return found


def header(path: Path) -> Table | None:
    """The header of a table, or None where the first line is none.

    Raises:
        InputError: a column occurs twice.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        line = file.readline(delimited.LONGEST_LINE).strip("\r\n")
    separator = next((mark for mark in "|\t," if mark in line), "")
    if not separator:
        return None
    columns = tuple(name.strip(' "').upper() for name in line.split(separator))
    named = [name for name in columns if name]
    if "ID" in named and len(set(named)) < len(named):
        raise InputError(f"{path}: a column occurs twice in the header; names differ by more than their case")
    return Table(path, separator, columns)


def read(table: Table, names: Sequence[str]) -> pd.DataFrame:
    """Some columns of a table as text; the index is the line in the file.

    Missing forms and the certain words for a missing value become "".

    Raises:
        InputError: a line has fewer or more cells than the header, or the file is no table.
    """
    places = [table.columns.index(name) for name in names]
    rows: dict[int, list[str]] = {}
    problems: list[metadata.Problem] = []
    try:
        with table.path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            # With bars nothing is quoted: an inch sign would swallow the lines after it.
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
                rows[reader.line_num] = [cells[place].strip(' "') for place in places]
    except csv.Error as error:
        raise InputError(f"{table.path}: malformed table ({error}); download or export it again") from error
    metadata.refuse(table.path, problems)
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(names), dtype=str)
    missing = {cell: "" for cell in pd.unique(frame.to_numpy().ravel()) if _is_missing(cell)}
    return frame.map(lambda cell: missing.get(cell, cell))


def patients(table: Table) -> set[str]:
    """The patients that a table lists, by ID."""
    return set(_identifiers(table, read(table, ["ID"])))


def column(found: Mapping[str, Table], name: str) -> Column | None:
    """A column by its upper-case name, merged over the tables that have it; None if none has.

    A table with barcodes is keyed by film, one with `SIDE` by patient and knee, any other by patient. What the first
    table (by name) leaves out, the next of the same kind fills in. Of `kxr_sq_bu`, the rows of the project that reads
    Kellgren-Lawrence grades (`READPRJ` 15) count.

    Raises:
        InputError: a table is malformed.
    """
    merged: Column | None = None
    for stem in sorted(found):
        if name not in found[stem].columns:
            continue
        one = _keyed(found[stem], name, readings=stem.startswith("kxr_sq_bu"))
        if merged is None:
            merged = one
        elif one[1:3] == merged[1:3]:
            merged = merged._replace(cells=one.cells | merged.cells, notes=merged.notes + one.notes)
    return merged


def code(cell: str) -> str:
    """`2: Female`, `2` and `2.0` -> `2`."""
    coded = _CODED.fullmatch(cell)
    return re.sub(r"\.0*$", "", coded[1] if coded else cell)


def label(cell: str) -> str:
    """`2: Female` -> `Female`; a bare cell is its own label."""
    coded = _CODED.fullmatch(cell)
    return coded[2] if coded else cell


def barcode(text: str) -> str:
    """The eight digits after `166` of a film's barcode, whether written with all 12 digits or without leading zeros.

    Returns:
        Eight digits, or "" where the text is no barcode. A leading 0 means X-ray.
    """
    digits = re.sub(r"\.0*$", "", text.strip()).replace("-", "")
    if full := re.fullmatch(r"\d?166(\d{8})", digits):
        return full[1]
    return digits.zfill(8) if re.fullmatch(r"\d{1,8}", digits) else ""


def _is_missing(cell: str) -> bool:
    return missing_words.word(cell) in missing_words.CERTAIN or bool(_MISSING.fullmatch(cell))


def _identifiers(table: Table, frame: pd.DataFrame) -> list[str]:
    """Column ID as seven digits, which an export as floating point leaves as `9000099.0`."""
    given = [re.fullmatch(r"(\d{7})(?:\.0*)?", cell) for cell in frame["ID"]]
    problems = [
        (line, "ID is not of seven digits; download or export the table again")
        for line, match in zip(frame.index, given, strict=True)
        if match is None
    ]
    metadata.refuse(table.path, problems)
    return [match[1] for match in given if match]


def _keyed(table: Table, name: str, *, readings: bool) -> Column:
    film = next((other for other in table.columns if re.fullmatch(r"V\d\dXRBARCD", other)), None)
    side = "SIDE" if film is None and "SIDE" in table.columns else None
    project = "READPRJ" if readings and "READPRJ" in table.columns else None
    wanted = [other for other in (film, side, project) if other]
    frame = read(table, list(dict.fromkeys(["ID", name, *wanted])))
    who = _identifiers(table, frame) if film is None else [barcode(cell) for cell in frame[film]]
    sides = [_SIDES.get(code(cell), "") for cell in frame[side]] if side else [""] * len(frame)
    counts = [not project or code(cell) == _KL_PROJECT for cell in frame[project or "ID"]]
    words = {cell: label(cell) for cell in frame[name].unique() if missing_words.is_missing(label(cell))}
    cells: dict[Key, list[str]] = {}
    for key, cell, counted in zip(zip(who, sides, strict=True), frame[name], counts, strict=True):
        if cell not in words and counted and cell not in cells.setdefault(key, []):
            cells[key].append(cell)
    notes = missing_words.notes(frame.loc[counts, [name]].replace({name: words}))
    return Column(
        table.path,
        film is not None,
        side is not None,
        cells,
        tuple(f"{table.path.name}, {note}" for note in notes),
    )
