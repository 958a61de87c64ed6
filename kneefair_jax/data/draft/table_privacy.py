"""Keeps what identifies a patient in a clinical table out of the drafted one: collects it, and checks each cell."""

import re
from collections.abc import Callable, Mapping

import pandas as pd

from kneefair_jax.data import ages, cell_text, column_names
from kneefair_jax.data.draft.identity import SHORTEST_PART, Identifiers
from kneefair_jax.data.metadata import WHOLE_COLUMN, Problem

# A value of a column that is not written is a level, not an identifier, if as many patients share it.
_SHARED_PATIENTS, _SHARED_PART = 5, 0.2
# A text column whose values belong to single patients, as surnames do, has at least this part and number of them.
_UNIQUE_PART, _UNIQUE_VALUES = 0.8, 4
_LONG_NUMBER = 6  # digits, of telephone numbers and IDs; in a text, with separators too
_SMALLEST_BMI, _LARGEST_BMI = 10.0, 100.0  # kg/m2
_KL = re.compile(r"((kl|grade|grad)[ -]?)?[0-4](\.0*)?|tk[ra]", re.IGNORECASE)
_GROUP_WORDS_TEXT = (
    "white black asian african american caucasian european hispanic latino latina native indian alaska hawaiian "
    "pacific islander mixed multiple other or of and non not middle eastern north south east arab more than one two"
)
_GROUP_WORDS = frozenset(_GROUP_WORDS_TEXT.split())
_IDENTIFIER_COLUMNS = (
    "accession accessionnumber address adresse street strasse phone telefon email ssn insurancenumber "
    "versicherungsnummer caseno fallnummer studyuid studyinstanceuid"
)
_OTHER_IDENTIFIERS = frozenset(_IDENTIFIER_COLUMNS.split())


def collect(raw: pd.DataFrame, mapping: Mapping[str, str], identifiers: Identifiers) -> None:
    """Add the IDs, names and dates of a table, and the texts of all columns that are not written.

    Args:
        raw: the cells of the file.
        mapping: column of `metadata.csv` -> header.
        identifiers: receives them.
    """
    headers = list(raw.columns)
    add: dict[str, Callable[[str], None]] = {}
    for name in column_names.synonyms("name", headers):
        add[name] = identifiers.add_name
    dates = [*ages.birth_columns(headers), *ages.exam_columns(headers)]
    dates += [*column_names.synonyms("birth_date", headers), *column_names.synonyms("study_date", headers)]
    for name in dates:
        add[name] = identifiers.add_date
    ids = [*column_names.synonyms("patient_id", headers)]
    ids += [mapping["patient_id"]] if "patient_id" in mapping else []
    ids += [name for name in headers if column_names.plain(name) in _OTHER_IDENTIFIERS]
    for name in ids:
        add[name] = identifiers.add
    for name, function in add.items():
        for cell in raw[name].unique():
            if not cell_text.is_missing(cell):
                function(year_first(cell) if function == identifiers.add_date else cell)
    patients = _patients(raw, mapping)
    for name in headers:
        if name not in add and name not in mapping.values():
            _collect_texts(raw[name], patients, identifiers)


def _collect_texts(column: pd.Series, patients: pd.Series, identifiers: Identifiers) -> None:
    """Add the texts of a column that is not written, except those that many patients share."""
    for cell, count in patients.groupby(column).nunique().items():
        text = str(cell)
        is_level = count >= _SHARED_PATIENTS and count >= _SHARED_PART * patients.nunique()
        if cell_text.is_missing(text) or is_level:
            continue
        if ages.is_date(text):
            identifiers.add_date(year_first(text))
        elif not cell_text.is_number(text) or _is_large(text):
            identifiers.add_text(text)


def identifies(cell: str, name: str, identifiers: Identifiers) -> bool:
    """Return whether a cell holds an identifier or a date; `White` is a surname too, but no identifier of a race."""
    if not cell or (name == "kl" and _KL.fullmatch(cell)):
        return False
    if cell_text.is_number(cell):  # 25 is a measurement, even if a patient's ID is 25
        return ages.is_date(cell) or identifiers.found_in(cell, SHORTEST_PART)
    if name in ("race", "ethnicity") and _is_group(cell):
        return False
    return ages.contains_date(cell) or identifiers.found_in(cell)


def check_values(column: pd.Series, problems: list[Problem]) -> None:
    """Append the cells that are no plausible value of their column.

    Args:
        column: text on the lines of the file, "" where missing.
        problems: receives the faults; none repeats a cell.
    """
    name = str(column.name)
    for row, cell in column[column != ""].items():
        number = float(cell) if cell_text.is_number(cell) else None
        if name == "bmi" and (number is None or not _SMALLEST_BMI <= number <= _LARGEST_BMI):
            fault = (
                f"bmi is no number from {_SMALLEST_BMI:g} to {_LARGEST_BMI:g}; correct it, or leave it empty"
            )
        elif name == "kl" and not _KL.fullmatch(cell):
            fault = "kl is no grade from 0 to 4, TKR or TKA; correct it, or leave it empty"
        elif _is_large(cell) if number is not None else len(re.findall(r"\d", cell)) >= _LONG_NUMBER:
            fault = f"{name} has a number of six digits or more, which may be an ID; leave the column out"
        else:
            continue
        problems.append((int(str(row)), fault))


def check_unique(
    column: pd.Series, raw: pd.DataFrame, mapping: Mapping[str, str], problems: list[Problem]
) -> None:
    """Append a column to `problems` if nearly every patient has a text of their own in it."""
    texts = column[[bool(cell) and not cell_text.is_number(cell) and not _is_group(cell) for cell in column]]
    patients = _patients(raw, mapping)[texts.index].nunique()
    if texts.nunique() >= _UNIQUE_VALUES and texts.nunique() >= _UNIQUE_PART * patients:
        fault = (
            f"column {column.name}: has {texts.nunique()} different texts for {patients} patients, which may identify "
            f"them; leave it out, or read its cells and give --confirm-columns {column.name}"
        )
        problems.append((WHOLE_COLUMN, fault))


def year_first(cell: str) -> str:
    """Return a date with its year first; 21.03.1960 has one meaning, and both orders of 03/04/1960 are found."""
    match = re.match(r"(\d{1,2})[-/. ](\d{1,2})[-/. ]((?:18|19|20)\d{2})", cell)
    if not match:
        return cell
    first, second, year = match.groups()
    day, month = (first, second) if int(second) <= 12 else (second, first)
    return f"{year}-{int(month):02d}-{int(day):02d}"


def _patients(raw: pd.DataFrame, mapping: Mapping[str, str]) -> pd.Series:
    """Return the patient of each row; its line in a table without patients."""
    if "patient_id" in mapping:
        return raw[mapping["patient_id"]]
    return pd.Series(raw.index.astype(str), index=raw.index)


def _is_group(cell: str) -> bool:
    return set(re.findall(r"\w+", cell.lower())) <= _GROUP_WORDS


def _is_large(cell: str) -> bool:
    return abs(float(cell)) >= float(10 ** (_LONG_NUMBER - 1))
