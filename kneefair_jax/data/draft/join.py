"""Joins a clinical table to the films: by the patient's ID, or by the name of a film's file."""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from kneefair_jax.data import identifiers, mask_names
from kneefair_jax.data.draft.clinical_table import ClinicalTable
from kneefair_jax.data.draft.scan import File

_DATES = ("birth", "study")  # from which an age follows; they are never written
_FILM_COLUMNS = ("side", "view")  # a patient has films of both knees, so that their headers have precedence
_KNEE_COLUMNS = ("kl",)


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

    A film takes the rows of its file, or else those of its patient; of several rows, those of its knee. A patient's row
    states side and view only of a patient with one film, whose header states none.

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
    film_counts = collections.Counter(map(identifiers.canonical_identifier, patient_ids))
    knees = _knees(films, patient_ids)
    doubtful: collections.Counter[tuple[str, str]] = collections.Counter()
    for film, patient in zip(films, patient_ids, strict=True):
        rows = rows_of_film = _rows_of_file(film, by_file, file_names)
        if not rows:
            rows = by_patient.get(patient, [])
        canonical = identifiers.canonical_identifier(patient)
        if not rows and patient and (near := similar.get(canonical)):
            almost.add(patient)
            rows = near if allow_similar else []
        used.update(rows)
        unmatched += not rows
        rows = _rows_of_side(cells, rows, film)
        row = {name: _value(cells, rows, name, conflicts) for name in (*table.columns, *_DATES)}
        patients.append(_value(cells, rows, "patient_id", conflicts))
        if not rows_of_film:
            reasons = _ambiguous_columns(film, row, film_counts[canonical], len(knees[canonical]))
            row |= dict.fromkeys((name for name, reason in reasons.items() if reason != _SHARED), "")
            doubtful.update(reasons.items())
        values.append(row)
    notes = [
        f"{name}: {table.path.name} and the headers disagree (films: {count}); the table is used"
        for name in ("sex", *_FILM_COLUMNS)
        if (count := _disagreements(films, values, name))
    ]
    notes += [
        f"{name}: {reason.format(table=table.path.name, count=count)}"
        for (name, reason), count in doubtful.items()
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
                f"{name}: rows of one patient differ, so it is empty (films: {count}); keep one value"
            )
    return Join(values, patients, notes)


# What is doubtful about the cell of a patient's row, as the value of one film.
_HEADER = (
    "{table} and the headers disagree (films: {count}); the headers are used, as a row of a patient has one value for "
    "all films; for a value per film, add a column image"
)
_SEVERAL_FILMS = (
    "it is empty where the header states none (films: {count}), as a row of a patient has one value for several films; "
    "add a column image to {table}, or fill it in"
)
_OTHER_KNEE = "it is empty (films: {count}), as the row of {table} is of the patient's other knee; add rows"
_SHARED = (
    "several knees of a patient have the one value of the patient's row (films: {count}); add a column side or image "
    "to {table}, with a row per knee"
)


def _ambiguous_columns(
    film: File, row: Mapping[str, str], film_count: int, knee_count: int
) -> dict[str, str]:
    """Return column -> what is doubtful about its cell, for a film that takes its patient's row.

    Args:
        film: the film.
        row: the cells of its patient's row, or of the row of its knee.
        film_count: of the patient.
        knee_count: of the patient.
    """
    reasons = {}
    for name in _FILM_COLUMNS:
        tag, cell = getattr(film.tags, name), row.get(name)
        if cell and tag and cell != tag:
            reasons[name] = _HEADER
        elif cell and not tag and film_count > 1:
            reasons[name] = _SEVERAL_FILMS
    side = row.get("side")
    for name in _KNEE_COLUMNS:
        if not row.get(name):
            continue
        if {side, film.tags.side} == {"left", "right"}:
            reasons[name] = _OTHER_KNEE
        elif knee_count > 1 and (not side or side != film.tags.side):
            reasons[name] = _SHARED
    return reasons


def _knees(films: Sequence[File], patient_ids: Sequence[str]) -> Mapping[str, set[str]]:
    """Return patient -> knees: the sides that headers state, and each film without one."""
    knees = collections.defaultdict(set)
    for film, patient in zip(films, patient_ids, strict=True):
        knees[identifiers.canonical_identifier(patient)].add(film.tags.side or film.path.as_posix())
    return knees


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
    names = (film.path.as_posix(), film.path.name, mask_names.stem(film.path))
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
    texts = {str(cells.at[row, name]) for row in rows} - {""}
    conflicts[name] += len(texts) > 1
    return texts.pop() if len(texts) == 1 else ""
