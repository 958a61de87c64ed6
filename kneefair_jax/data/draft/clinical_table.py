"""Reads the clinical table that a user joins to the films: mapped columns, normalized values, by patient or by file."""

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kneefair_jax.data import ages, cell_text, column_names, identifiers, metadata, workbook
from kneefair_jax.data.draft import identity
from kneefair_jax.data.draft.identity import Identifiers
from kneefair_jax.data.draft.scan import age_in_years
from kneefair_jax.errors import InputError

KEYS = ("patient_id", "image")
# Columns that are found by their synonyms; others are read only where `--columns` states them.
TARGETS = ("sex", "age", "race", "ethnicity", "bmi", "kl", "site", "side")
_RESERVED = {"case_id", "mask"}
_NUMBERS = ("case_id", "hospital_number")  # columns that may be the patient's ID
_MEASURES = ("bmi", "kl")
OLDEST = 90  # years; above 89 an age identifies a patient (45 CFR 164.514(b)(2)(i)(C))
_WORDS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "sex": {
        "male": frozenset({"m", "male", "man", "mann", "männlich", "maennlich", "masculin", "homme", "masculino"}
        | {"hombre", "varón", "maschio", "uomo", "h"}),
        "female": frozenset({"f", "female", "woman", "w", "weiblich", "frau", "féminin", "feminin", "femme"}
        | {"femenino", "mujer", "femmina", "donna"}),
        "other": frozenset({"o", "other", "d", "divers", "diverse", "x", "intersex"}),
    },
    "side": {
        "right": frozenset({"r", "right", "rt", "rechts", "re", "droite", "droit", "derecha", "destra"}),
        "left": frozenset({"l", "left", "lt", "links", "li", "gauche", "izquierda", "sinistra"}),
        "both": frozenset({"b", "both", "bilateral", "beide", "beidseits"}),
    },
}  # fmt: skip
_GRADE = re.compile(r"(?:(?:kl|grade|grad)[ -]?)?(?:([0-4])|(I|II|III|IV))", re.IGNORECASE)
_ROMAN_NUMERALS = ("I", "II", "III", "IV")
_MOST_HEADERS = 10  # of a note
_SHORT_CODE = re.compile(r"[0-9]{1,2}|[A-Za-z]")  # the only cells that a message repeats


class ClinicalTable(NamedTuple):
    """The rows of the user's table, under the names of `metadata.csv`.

    Attributes:
        path: the file.
        cells: text, "" where missing, on the lines of the file; with one or both of `KEYS`, and `birth` and `study`,
            the dates of birth and of the examination.
        columns: the columns to write, besides those of `KEYS`.
        notes: on the dialect, the mapping of columns and of values.
    """

    path: Path
    cells: pd.DataFrame
    columns: tuple[str, ...]
    notes: list[str]


def read(
    path: Path,
    columns: Mapping[str, str],
    values: Mapping[str, Mapping[str, str]],
    identifiers_found: Identifiers,
    confirmed: Collection[str] = (),
) -> ClinicalTable:
    """Read the table.

    Args:
        path: the file.
        columns: column of `metadata.csv` -> header, as the user states it.
        values: column -> cell -> level, as the user states it; numbers have no other meaning.
        identifiers_found: receives the identifiers of the table (`identity.collect`).
        confirmed: columns that the user has read, in which nearly every patient may have a text of their own.

    Raises:
        InputError: the table has no column of patients or files, or a cell has no clear meaning; with row and remedy.
    """
    if not workbook.exists(path):
        raise InputError(f"--table {path}: no such file; give the clinical table (.xlsx or CSV)")
    stated = {name for name in _RESERVED if name in columns}
    if stated:
        raise InputError(f"--columns {min(stated)}=...: this column is drafted from the files; leave it out")
    keys = frozenset(columns.values()).union(*(column_names.SYNONYMS[name] for name in (*KEYS, *_NUMBERS)))
    table = metadata.read(path, keys)
    headers = list(table.cells.columns)
    _require_headers(headers, columns, path)
    mapping = column_names.mapping((*KEYS, *TARGETS), headers, columns, path)
    if not set(KEYS) & mapping.keys():
        numbers = [header for name in _NUMBERS for header in column_names.synonyms(name, headers)]
        remedy = (
            "write the columns' names in row 1, and name one with --columns patient_id=HEADER or image=HEADER"
        )
        if numbers:
            remedy = (
                f"{numbers[0]!r} may be the number of an examination or of a hospital; if it is the PatientID of the "
                f"films, give --columns {shlex.quote(f'patient_id={numbers[0]}')}"
            )
        raise InputError(f"{path}: no column states the patient's ID or the file; {remedy}")
    identity.collect(table.raw, mapping, identifiers_found)
    identity.collect_titles(table.titles, identifiers_found)
    notes = list(table.notes)
    notes += _unused_columns(headers, mapping, identifiers_found, path)
    if read_as := [f"{target} from {name!r}" for target, name in mapping.items() if target != name]:
        notes.append(f"{path.name}: {', '.join(read_as)}")
    for target in ("sex", "age"):
        if target not in mapping and (near := column_names.suggestion(target, headers)):
            notes.append(f"{path.name} has no column {target}{near} Give --columns {target}=HEADER")
    cells = pd.DataFrame({target: table.cells[name] for target, name in mapping.items()})
    written = [name for name in mapping if name not in KEYS]
    cells = _with_dates(cells, table.cells)
    if "age" not in written and (cells["birth"] != "").any():
        written.append("age")
    for cell in cells["birth"].unique():
        identifiers_found.add_date(identity.year_first(cell))
    problems: list[metadata.Problem] = []
    for name in written:
        cells[name], column_notes = _normalize(cells, name, values.get(name, {}), problems, identifiers_found)
        notes += [f"{path.name}: {note}" for note in column_notes]
        if name not in ("age", "site", *_WORDS):  # sites are numbered
            identity.check_values(cells[name], problems)
            if name not in confirmed:
                identity.check_unique(cells[name], table.raw, mapping, problems)
    for unused in set(values) - set(written):
        raise InputError(f"--values {unused}:...: {path} has no column {unused}; state it with --columns")
    for unused in set(confirmed) - set(written):
        raise InputError(
            f"--confirm-columns {unused}: {path} has no column {unused}; state it with --columns"
        )
    metadata.refuse(path, problems)
    cells = cells.assign(
        birth=cells["birth"].map(identity.year_first), study=cells["study"].map(identity.year_first)
    )
    return ClinicalTable(path, cells, tuple(written), notes)


def _require_headers(headers: Sequence[str], columns: Mapping[str, str], path: Path) -> None:
    """Refuse stated headers that a table lacks; the header is not repeated, as it may be a patient's."""
    for target, name in columns.items():
        if name not in headers:
            near = column_names.suggestion(name, headers) if _has_headers(headers) else ""
            raise InputError(
                f"{path}: --columns {target}={name}: there is no column {name!r}{near}; give a header of the table"
            )


def _unused_columns(
    headers: Sequence[str], mapping: Mapping[str, str], identifiers_found: Identifiers, path: Path
) -> list[str]:
    """Return a note with the headers that no column is read from; those that may be a patient's are only counted."""
    used = {*mapping.values(), *(names[0] for names in _date_headers(headers) if len(names) == 1)}
    unused = [name for name in headers if name not in used]
    names = [
        repr(name)
        for name in unused
        if _has_headers(headers)
        and not cell_text.is_number(name)
        and not identity.identifies(name, name, identifiers_found)
    ][:_MOST_HEADERS]
    rest = len(unused) - len(names)
    text = ", ".join(names) + (f" and {rest} more" if names and rest else "") or str(rest)
    return [f"{path.name}: columns left out: {text}"] if unused else []


def _has_headers(headers: Sequence[str]) -> bool:
    """Return whether a known header is among them; otherwise they may be a patient's cells."""
    return any(column_names.synonyms(target, headers) for target in column_names.SYNONYMS)


def _date_headers(headers: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the headers of dates of birth, and those of dates of the examination."""
    births = [*ages.birth_columns(headers), *column_names.synonyms("birth_date", headers)]
    exams = [*ages.exam_columns(headers), *column_names.synonyms("study_date", headers)]
    return list(dict.fromkeys(births)), list(dict.fromkeys(exams))


def _with_dates(cells: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Add the columns `birth` and `study`; dates in the column of ages are dates of birth."""
    empty = pd.Series("", index=cells.index)
    birth, study = (
        table[names[0]] if len(names) == 1 else empty for names in _date_headers(list(table.columns))
    )
    age = cells.get("age", empty)
    is_birth = age.map(ages.is_date).astype(bool)
    return cells.assign(age=age.where(~is_birth, ""), birth=age.where(is_birth, birth), study=study)


def _is_ambiguous(cell: str) -> bool:
    """Return whether day and month of a date may be exchanged; with points between them, the day is first."""
    match = re.match(r"(\d{1,2})([-/ ])(\d{1,2})[-/ ](?:18|19|20)\d{2}", cell)
    if match is None:
        return False
    first, second = int(match[1]), int(match[3])
    return max(first, second) <= 12 and first != second


def _normalize(
    cells: pd.DataFrame,
    name: str,
    stated: Mapping[str, str],
    problems: list[metadata.Problem],
    identifiers_found: Identifiers,
) -> tuple[pd.Series, list[str]]:
    """Return a column in the words of `metadata.csv`, and notes on what became what."""
    column = cells[name]
    if stated:
        unknown = [value for value in stated if value not in set(column)]
        if unknown:
            text = f"--values {name}:{unknown[0]}=...: no cell of this column has this value; leave it out"
            problems.append((metadata.WHOLE_COLUMN, text))
        column = column.map(lambda cell: stated.get(cell, cell))
    if name == "age":
        return _years(cells.assign(age=column), problems)
    if name in _WORDS:
        return _levels(column, problems)
    column, notes = _plain_grades(column) if name == "kl" else (column, [])
    safe_cells = column.map(
        lambda cell: "" if identity.identifies(cell, name, identifiers_found) else identifiers.visible(cell)
    )
    removed = int((safe_cells != column.map(identifiers.visible)).sum())
    if removed:
        notes.append(f"cells of {name} left empty, with an identifier or a date: {removed}")
    if name not in _MEASURES:
        return safe_cells, notes
    numbers, word_notes = _without_words(safe_cells)
    return numbers, notes + word_notes


def _plain_grades(column: pd.Series) -> tuple[pd.Series, list[str]]:
    """Return a column with grades as digits, `KL III` and `Grad 3` as `3`, and a note on them."""
    grades = {
        cell: match[1] or str(_ROMAN_NUMERALS.index(match[2].upper()) + 1)
        for cell in column.unique()
        if (match := _GRADE.fullmatch(cell))
    }
    changed = ", ".join(f"{cell!r} as {grade}" for cell, grade in grades.items() if cell != grade)
    return column.map(lambda cell: grades.get(cell, cell)), [f"kl: {changed}"] if changed else []


def _without_words(column: pd.Series) -> tuple[pd.Series, list[str]]:
    """Return a measure without its words, and a note on them.

    Few words are read as missing. Where most cells are words, the column is another one, so `identity.check_values`
    refuses them by row, as it does wrong numbers, which may be IDs. Words such as `obese` occur in folders and in other
    columns, so they are no identifiers.
    """
    name = str(column.name)
    is_word = column.map({cell: _is_word(cell, name) for cell in column.unique()}).astype(bool)
    if not is_word.any() or 2 * is_word.sum() > (column != "").sum():
        return column, []
    note = (
        f"{is_word.sum()} of {len(column)} cells of {name} are left empty: words, not numbers; state their meaning "
        f"with --values {name}:CELL=NUMBER, or correct them"
    )
    return column.where(~is_word, ""), [note]


def _is_word(cell: str, name: str) -> bool:
    """Return whether a cell of a measure holds no number."""
    return bool(cell) and not re.search(r"[0-9]", cell) and not (name == "kl" and identity.KL.fullmatch(cell))


def _levels(column: pd.Series, problems: list[metadata.Problem]) -> tuple[pd.Series, list[str]]:
    """Return a column of words as the levels of `_WORDS`. Numbers are never guessed."""
    name = str(column.name)
    level_of = {word: level for level, words in _WORDS[name].items() for word in words}
    plain_cells = {cell: cell_text.normalized(cell).rstrip(".") for cell in column.unique() if cell}
    if name == "sex" and {"h", "m"} <= set(plain_cells.values()):
        del level_of["m"], level_of["h"]  # homme and hombre, and M is then mujer
    levels = {"": ""}
    for row, cell in column.drop_duplicates().items():
        if cell and plain_cells[cell] not in level_of:
            is_code = _SHORT_CODE.fullmatch(cell)
            reference, options = (repr(cell), f"{cell}=...") if is_code else ("a cell", "CELL=...")
            problems.append(
                (
                    int(str(row)),
                    f"{name} {reference} has no clear meaning ({', '.join(_WORDS[name])}); state it with "
                    f"--values {name}:{options}",
                )
            )
        elif cell:
            levels[cell] = level_of[plain_cells[cell]]
    changed = [f"{cell!r} as {level}" for cell, level in levels.items() if cell != level]
    normalized = column.map(lambda cell: levels.get(cell, ""))
    return normalized, [f"{name}: {', '.join(changed)}"] if changed else []


def _years(cells: pd.DataFrame, problems: list[metadata.Problem]) -> tuple[pd.Series, list[str]]:
    """Return ages in years; a date of birth needs the date of the examination, of the table or of the film's header."""
    stated = cells["age"]
    cells = cells.assign(age=stated.map(ages.without_unit))
    years: dict[object, str] = {}
    for row, age, birth, exam in cells[["age", "birth", "study"]].itertuples():
        if any(map(_is_ambiguous, (birth, exam))) and not age:
            problems.append((int(row), "a date may be by day or by month first; write it as 1960-03-21"))
        if ages.is_year(age) or (age and not cell_text.is_number(age) and not age_in_years(age, "", "")):
            problems.append((int(row), "age is neither a number of years nor a date of birth; correct it"))
        elif age and cell_text.is_number(age) and not 0 <= float(age) <= ages.OLDEST:
            problems.append((int(row), f"age is not between 0 and {ages.OLDEST}; leave unknown ages empty"))
        if age:
            years[row] = age if cell_text.is_number(age) else age_in_years(age, "", "")
        else:
            years[row] = (
                age_in_years("", identity.year_first(birth), identity.year_first(exam)) if birth else ""
            )
    result: pd.Series = pd.Series(years, dtype=object, name="age").reindex(cells.index)
    counts = {
        "in completed years by the dates": int(((cells["age"] == "") & (result != "")).sum()),
        "read in years from a text with a unit": int((cells["age"] != stated).sum()),
    }
    return result, [f"ages {text}: {count}" for text, count in counts.items() if count]


def top_coded(age: str) -> str:
    """Return an age, of 90 years and above as 90."""
    return str(OLDEST) if age and float(age) >= OLDEST else age
