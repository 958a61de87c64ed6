"""Columns of ages: years, DICOM's `065Y`, and dates of birth beside dates of the examination."""

import re

import pandas as pd

from kneefair_jax.data import birth_dates, number_text

OLDEST = 120  # years
# Value representation AS of DICOM PS3.5, table 6.2-1; tools drop its zeros and put a space before years.
_DICOM = re.compile(r"([0-9]{1,3})(?: ?([Yy])|([DWMdwm]))")
_NAMES = frozenset({"age", "ages", "alter", "edad"})
_PER_YEAR = {"y": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}
_UNIT = re.compile(
    r"[0-9]+([.,][0-9]+)?\s*(y|yrs?|years?( old)?|y\.?/?o\.?|m|mos?|months?|w|wks?|weeks?|d|days?)\.?",
    re.IGNORECASE,
)
_REMEDY = "write the age in years at the examination instead"

type Problem = tuple[int, str]


def plain(name: str) -> str:
    """Return a column's plain name, in lower case: `age` for Age, and for V00AGE as the OAI calls it."""
    return re.sub(r"^[vp]\d\d(xr)?", "", name.lower())


def is_age(name: str) -> bool:
    """Tell whether a column is one of ages by its name: `age`, `V00AGE`, `PatientAge`, `age_years`, `Alter`."""
    words = re.findall(r"[A-Z]*[a-z]+|[A-Z]+", re.sub(r"^[VvPp]\d\d(XR|xr)?", "", name))
    return any(word.lower() in _NAMES for word in words)


def in_years(table: pd.DataFrame, name: str, problems: list[Problem]) -> tuple[pd.Series, list[str]]:
    """Convert a column of ages or of dates of birth to years as text, and note what is no age.

    Dates of birth become completed years at the date of the examination, as DICOM's `065Y` and most tables have an age:
    the bins `<=50` and `51-64` then hold the same people.

    Args:
        table: text on the lines of the file, "" where missing.
        name: of the column.
        problems: gets a line for each cell that is no age: a date of birth without a date of the examination, a part of
            a date, a decimal comma, a unit in words.

    Returns:
        The column with DICOM's ages and dates of birth in years, and notes on how many those were.
    """
    cells = table[name]
    of_births = bool(birth_dates.birth_columns([name]))
    faults = cells.map({cell: _fault(cell, of_births) for cell in cells.unique()})
    problems += [
        (int(str(row)), f"{name} {cells[row]!r} {text}") for row, text in faults[faults != ""].items()
    ]
    dates = cells.map({cell: birth_dates.is_date(cell) for cell in cells.unique()}).astype(bool)
    years: dict[object, str] = {}
    notes: list[str] = []
    if dates.any():
        years, notes = _from_birth(table.loc[dates], name, problems)
    dicom = cells.map({cell: _DICOM.fullmatch(cell) for cell in cells.unique()}).dropna()
    years |= {row: f"{float(m[1]) / _PER_YEAR[(m[2] or m[3]).lower()]:.6g}" for row, m in dicom.items()}
    if len(dicom):
        first = dicom.index[0]
        notes.append(
            f"column {name}: {len(dicom)} DICOM ages are read in years, such as {cells[first]} as {years[first]}"
        )
    return pd.Series(
        {row: years.get(row, cell) for row, cell in cells.items()}, dtype=object, name=name
    ), notes


def is_dicom(cells: pd.Series) -> bool:
    """Tell whether the known cells are ages by their units, whatever the column's name.

    So they are where one has DICOM's three digits and unit, or the unit of years, and the others have them too or are
    numbers. `12M` alone may be a visit.
    """
    known = [cell for cell in cells.unique() if cell]
    sure = {cell for cell in known if (unit := _DICOM.fullmatch(cell)) and (unit[2] or len(cell) == 4)}
    others = pd.Series([cell for cell in known if cell not in sure], dtype=object)
    return bool(sure) and bool(number_text.column(others).notna().all())


def unlikely(table: pd.DataFrame) -> list[str]:
    """Return a note on cases of a table of text whose age nobody has, such as -3 or 999, a code for unknown."""
    notes = []
    for name in table:
        if not is_age(str(name)):
            continue
        years = number_text.column(table[name])
        wrong = years[(years < 0) | (years > OLDEST)]
        if len(wrong):
            shown = ", ".join(f"{table['case_id'][row]}: {table[name][row]}" for row in wrong.index[:3])
            notes.append(
                f"{len(wrong)} of {len(table)} rows have an {name} below 0 or above {OLDEST} (such as {shown}), taken "
                "as it stands; leave it empty where it is unknown"
            )
    return notes


def _fault(cell: str, of_births: bool) -> str:
    """Return why a cell is neither an age nor a date, and what to write; "" where it may be one of them."""
    if of_births and cell and not birth_dates.is_date(cell):
        return "is no date of birth; write it as 1960-03-21"
    if birth_dates.is_year(cell):
        return f"is a year of birth, not an age; {_REMEDY}"
    if point := number_text.with_point(cell):
        return f"has a decimal comma; write {point}"
    if birth_dates.holds_date(cell) and not (birth_dates.is_date(cell) or number_text.is_number(cell)):
        return f"holds a part of a date, not an age; {_REMEDY}"
    if _UNIT.fullmatch(cell) and not _DICOM.fullmatch(cell):
        return "has a unit; write the number of years"
    return ""


def _from_birth(
    table: pd.DataFrame, name: str, problems: list[Problem]
) -> tuple[dict[object, str], list[str]]:
    """Row -> completed years as text, of rows whose column `name` is a date of birth; and a note."""
    exams = birth_dates.exam_columns(table.columns)
    if len(exams) != 1:
        remedy = f"{_REMEDY}, or add its date as a column study_date"
        if exams:
            remedy = f"{', '.join(exams)} may all be the date of the examination; keep one"
        problems += [
            (int(str(row)), f"{name} {cell!r} is a date of birth, not an age; {remedy}")
            for row, cell in table[name].items()
        ]
        return {}, []
    years: dict[object, str] = {}
    for row, birth, exam in zip(table.index, table[name], table[exams[0]], strict=True):
        years[row] = ""
        try:
            if exam:
                years[row] = str(birth_dates.completed_years(birth, exam))
        except ValueError as error:
            problems.append((int(row), f"{name} and {exams[0]}: {error}"))
    note = f"column {name}: {len(table)} dates of birth are read as completed years at {exams[0]}"
    if unknown := int((table[exams[0]] == "").sum()):
        note += f"; {exams[0]} is missing for {unknown} of them, and so is the age"
    return years, [note]
