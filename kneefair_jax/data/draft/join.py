"""Joins a clinical table to the films: by the patient's ID, or by the name of a film's file."""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from kneefair_jax.data import identifiers
from kneefair_jax.data.draft import scan
from kneefair_jax.data.draft.clinical_table import ClinicalTable
from kneefair_jax.data.draft.scan import File

_DATES = ("birth", "study")  # from which an age follows; they are never written


class Join(NamedTuple):
    """What the table states about each film.

    Attributes:
        values: by film, column -> cell; "" where the table states nothing, or several values.
        patients: by film, the patient's ID in the table; "" without one.
        notes: on films and rows without a partner, and on contradictions.
    """

    values: list[dict[str, str]]
    patients: list[str]
    notes: list[str]


def join(
    films: Sequence[File], patient_ids: Sequence[str], table: ClinicalTable, allow_similar: bool
) -> Join:
    """Join the rows of a table to films, before pseudonyms replace the patients' IDs.

    A film takes the rows of its file, or else those of its patient; of several rows, those of its knee.

    Args:
        films: the films.
        patient_ids: of the films, "" where unknown.
        table: the user's table.
        allow_similar: whether IDs that differ by leading zeros, case or white space are the same (`0007` and `7`).
    """
    cells = table.cells
    by_file = _rows_by(cells.get("image"), _file_form)
    by_patient = _rows_by(cells.get("patient_id"), str)
    similar = _rows_by(cells.get("patient_id"), identifiers.canonical_identifier)
    values, patients = [], []
    conflicts: collections.Counter[str] = collections.Counter()
    unmatched, almost = 0, set()
    used: set[int] = set()
    file_names = collections.Counter(name for film in films for name in _names(film))
    for film, patient in zip(films, patient_ids, strict=True):
        rows = _rows_of_file(film, by_file, file_names) or by_patient.get(patient, [])
        if not rows and patient and (near := similar.get(identifiers.canonical_identifier(patient))):
            almost.add(patient)
            rows = near if allow_similar else []
        used.update(rows)
        unmatched += not rows
        rows = _rows_of_side(cells, rows, film)
        values.append({name: _value(cells, rows, name, conflicts) for name in (*table.columns, *_DATES)})
        patients.append(_value(cells, rows, "patient_id", conflicts))
    notes = [
        f"{name}: {table.path.name} and the headers disagree for {count} films; the table is used"
        for name in ("sex", "side")
        if (count := _disagreements(films, values, name))
    ]
    if unmatched:
        notes.append(
            f"films without a row in {table.path.name}: {unmatched} of {len(films)}; add rows with the PatientID of "
            "their headers, or with their file names in a column image"
        )
    if almost and not allow_similar:
        notes.append(
            f"patient IDs that differ from one in {table.path.name} only by zeros, case or spaces: {len(almost)}; "
            "write them alike, or give --allow-similar-ids"
        )
    if len(used) < len(cells):
        notes.append(f"rows of {table.path.name} without a film: {len(cells) - len(used)} of {len(cells)}")
    for name, count in conflicts.items():
        if count and name in table.columns:
            notes.append(
                f"{name}: rows of one patient differ, so it is empty for {count} films; keep one value"
            )
    return Join(values, patients, notes)


def _disagreements(films: Sequence[File], values: Sequence[Mapping[str, str]], name: str) -> int:
    pairs = [(getattr(film.tags, name), value.get(name)) for film, value in zip(films, values, strict=True)]
    return sum(bool(tag and stated and tag != stated) for tag, stated in pairs)


def _rows_by(column: pd.Series | None, form: Callable[[str], str]) -> Mapping[str, list[int]]:
    rows: dict[str, list[int]] = collections.defaultdict(list)
    for row, cell in () if column is None else column.items():
        if cell:
            rows[form(cell)].append(int(row))
    return rows


def _file_form(cell: str) -> str:
    return cell.replace("\\", "/").lower()


def _names(film: File) -> list[str]:
    """Return the distinct texts by which a table may name a film: its path, its name, its name without ending."""
    names = (film.path.as_posix(), film.path.name, scan.stem(film.path))
    return list(dict.fromkeys(name.lower() for name in names))


def _rows_of_file(film: File, by_file: Mapping[str, list[int]], file_names: Mapping[str, int]) -> list[int]:
    """Return the rows that name a film; a name that several films have names none of them."""
    return next((by_file[name] for name in _names(film) if name in by_file and file_names[name] == 1), [])


def _rows_of_side(cells: pd.DataFrame, rows: list[int], film: File) -> list[int]:
    if len(rows) < 2 or "side" not in cells or not film.tags.side:
        return rows
    return [row for row in rows if cells.at[row, "side"] == film.tags.side] or rows


def _value(cells: pd.DataFrame, rows: list[int], name: str, conflicts: collections.Counter[str]) -> str:
    if name not in cells:
        return ""
    found = {str(cells.at[row, name]) for row in rows} - {""}
    conflicts[name] += len(found) > 1
    return found.pop() if len(found) == 1 else ""
