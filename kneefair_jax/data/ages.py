"""Ages in tables: years, DICOM's `065Y`, and dates of birth beside dates of the examination."""

import datetime
import re
from collections.abc import Iterable

import pandas as pd

from kneefair_jax.data import cell_text

OLDEST = 120  # years
type Problem = tuple[int, str]  # a line of the table, and what is wrong with it

# Value representation AS of DICOM PS3.5, table 6.2-1; tools drop its zeros and put a space before years.
_DICOM_AGE = re.compile(r"([0-9]{1,3})(?: ?([Yy])|([DWMdwm]))")
_NAMES = frozenset({"age", "ages", "alter", "edad"})
_PER_YEAR = {"y": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}
_UNIT = re.compile(
    r"[0-9]+([.,][0-9]+)?\s*(y|yrs?|years?( old)?|y\.?/?o\.?|m|mos?|months?|w|wks?|weeks?|d|days?)\.?",
    re.IGNORECASE,
)
# Ages in years by a unit in English, German, French, Spanish or Italian.
_YEARS = re.compile(
    r"([0-9]{1,3}(?:[.,][0-9]+)?)\s*(y|yrs?|years?|y\.?/?o|j|jahren?|ans?|años?|anos|anni|anno)\.?( old| alt)?",
    re.IGNORECASE,
)
_REMEDY = "write the age in years at the examination instead"

# Months in English, German, French and Spanish.
_MONTH = (
    r"(jan(uary?)?|feb(ruary?)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?"
    r"|dec(ember)?|m(ä|ae)rz|mrz|mai|juni|juli|okt(ober)?|dez(ember)?|janvier|f[ée]vrier|mars|avril|juin|juillet"
    r"|ao[ûu]t|septembre|octobre|novembre|d[ée]cembre|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre"
    r"|octubre|noviembre|diciembre)\.?"
)
_YEAR, _PART = "(18|19|20)[0-9]{2}", "[0-9]{1,2}"
_DAY = rf"{_PART}(st|nd|rd|th)?"
_SEPARATOR = "([-/. ]|de )*"  # SAS writes `03MAR1961`, without one
_TIME = "([ T:] ?[0-9].*)?"
_YEAR_FIRST = (
    re.compile(rf"(?P<year>{_YEAR})[-/. ](?P<month>{_PART})[-/. ](?P<day>{_PART}){_TIME}"),
    re.compile(rf"(?P<year>{_YEAR})(?P<month>0[1-9]|1[0-2])(?P<day>0[1-9]|[12][0-9]|3[01])(\.0*|{_TIME})"),
)
# With a year of two digits, `12 10 14` and `45-54-64` are not dates.
_SHORT_DATE = (
    "((0?[1-9]|1[0-2])[-/.](0?[1-9]|[12][0-9]|3[01])"
    "|(0?[1-9]|[12][0-9]|3[01])[-/.](0?[1-9]|1[0-2]))[-/.][0-9]{2}"
)
_YEAR_LAST = tuple(
    re.compile(pattern + _TIME, re.IGNORECASE)
    for pattern in (
        rf"{_PART}[-/. ]{_PART}[-/. ]{_YEAR}",
        _SHORT_DATE,
        rf"{_DAY}{_SEPARATOR}{_MONTH}{_SEPARATOR}({_YEAR}|[0-9]{{2}})",
        rf"{_MONTH}{_SEPARATOR}{_DAY},? ?{_YEAR}",
    )
)
_YEAR_ONLY = re.compile(rf"{_YEAR}(\.0*)?")
_DATE_PART = re.compile(
    rf"(?<![0-9]){_YEAR}(?![0-9])|(?<![0-9]){_SHORT_DATE}(?![0-9])"
    rf"|(?<![^\W\d_]){_MONTH}{_SEPARATOR}[0-9]|[0-9]{_SEPARATOR}{_MONTH}(?![^\W\d_])",
    re.IGNORECASE,
)
_BIRTH = re.compile(r"(patients?)?(date(of)?birth|birth(date|day)|dob)")
_EXAM = "(exam(ination)?|study|scan|visit|acquisition|imag(e|ing)|film|radiograph|xray)"
_EXAM_DATE = re.compile(rf"{_EXAM}(date|day)|date(of)?{_EXAM}")


def base_name(name: str) -> str:
    """Return a column's name in lower case without the OAI's prefix of the visit: `age` for Age and for V00AGE."""
    return re.sub(r"^[vp]\d\d(xr)?", "", name.lower())


def is_age(name: str) -> bool:
    """Return whether a column's name is that of ages: `age`, `V00AGE`, `PatientAge`, `age_years`, `Alter`."""
    words = re.findall(r"[A-Z]*[a-z]+|[A-Z]+", re.sub(r"^[VvPp]\d\d(XR|xr)?", "", name))
    return any(word.lower() in _NAMES for word in words)


def to_years(table: pd.DataFrame, name: str, problems: list[Problem]) -> tuple[pd.Series, list[str]]:
    """Convert a column of ages or of dates of birth to years as text, and note the cells that are no ages.

    Dates of birth become completed years at the date of the examination, as in DICOM's `065Y` and in most tables: the
    bins `<=50` and `51-64` then hold the same patients.

    Args:
        table: text on the lines of the file, "" where missing.
        name: of the column.
        problems: receives an entry for each cell that is no age: a date of birth without a date of the examination, a
            part of a date, a decimal comma, a unit in words.

    Returns:
        The column with DICOM's ages and dates of birth in years, and notes on how many those were.
    """
    cells = table[name]
    has_birth_dates = bool(birth_columns([name]))
    faults = cells.map({cell: _fault(cell, has_birth_dates) for cell in cells.unique()})
    problems += [
        (int(str(row)), f"{name} {cells[row]!r} {text}") for row, text in faults[faults != ""].items()
    ]
    is_birth_date = cells.map({cell: is_date(cell) for cell in cells.unique()}).astype(bool)
    years: dict[object, str] = {}
    notes: list[str] = []
    if is_birth_date.any():
        years, notes = _years_from_birth_dates(table.loc[is_birth_date], name, problems)
    matches = cells.map({cell: _DICOM_AGE.fullmatch(cell) for cell in cells.unique()}).dropna()
    years |= {row: f"{float(m[1]) / _PER_YEAR[(m[2] or m[3]).lower()]:.6g}" for row, m in matches.items()}
    if len(matches):
        row = matches.index[0]
        notes.append(
            f"column {name}: {len(matches)} DICOM ages are read in years, such as {cells[row]} as {years[row]}"
        )
    return pd.Series(
        {row: years.get(row, cell) for row, cell in cells.items()}, dtype=object, name=name
    ), notes


def without_unit(cell: str) -> str:
    """Return the number of an age in years with a unit, `66` for `66 Jahre` and `066Y`; any other text unchanged."""
    match = _YEARS.fullmatch(cell)
    return f"{float(match[1].replace(',', '.')):g}" if match else cell


def has_dicom_ages(cells: pd.Series) -> bool:
    """Return whether the cells of a column are ages by their units, whatever the column's name.

    At least one cell has DICOM's three digits and unit, or the unit of years, and every other cell has them too or is a
    number. `12M` alone may be a visit.
    """
    values = [cell for cell in cells.unique() if cell]
    ages = {cell for cell in values if (unit := _DICOM_AGE.fullmatch(cell)) and (unit[2] or len(cell) == 4)}
    remainder = pd.Series([cell for cell in values if cell not in ages], dtype=object)
    return bool(ages) and bool(cell_text.to_numbers(remainder).notna().all())


def implausible_age_notes(table: pd.DataFrame) -> list[str]:
    """Return a note for each column of ages with impossible values, such as -3, or 999, a code for unknown.

    Args:
        table: cells of text, with `case_id`.
    """
    notes = []
    for name in table:
        if not is_age(str(name)):
            continue
        years = cell_text.to_numbers(table[name])
        implausible = years[(years < 0) | (years > OLDEST)]
        if len(implausible):
            examples = ", ".join(
                f"{table['case_id'][row]}: {table[name][row]}" for row in implausible.index[:3]
            )
            notes.append(
                f"{len(implausible)} of {len(table)} rows have an {name} below 0 or above {OLDEST} (such as "
                f"{examples}), which is used as it is; leave unknown ages empty"
            )
    return notes


def _fault(cell: str, has_birth_dates: bool) -> str:
    """Return why a cell is neither an age nor a date, and what to write; "" where it may be either."""
    if has_birth_dates and cell and not is_date(cell):
        return "is not a date of birth; write it as 1960-03-21"
    if is_year(cell):
        return f"is a year of birth, not an age; {_REMEDY}"
    if point := cell_text.with_decimal_point(cell):
        return f"has a decimal comma; write {point}"
    if contains_date(cell) and not (is_date(cell) or cell_text.is_number(cell)):
        return f"holds a part of a date, not an age; {_REMEDY}"
    if _UNIT.fullmatch(cell) and not _DICOM_AGE.fullmatch(cell):
        return "has a unit; write the number of years"
    return ""


def _years_from_birth_dates(
    table: pd.DataFrame, name: str, problems: list[Problem]
) -> tuple[dict[object, str], list[str]]:
    """Return row -> completed years as text, for rows whose column `name` is a date of birth, and a note."""
    exams = exam_columns(table.columns)
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
                years[row] = str(completed_years(birth, exam))
        except ValueError as error:
            problems.append((int(row), f"{name} and {exams[0]}: {error}"))
    note = f"column {name}: {len(table)} dates of birth are read as completed years at {exams[0]}"
    if missing := int((table[exams[0]] == "").sum()):
        note += f"; {exams[0]} is missing for {missing} of them, and so is the age"
    return years, [note]


def birth_columns(names: Iterable[str]) -> list[str]:
    """Return the columns of dates of birth by their names: `birth_date`, `DOB`, `PatientBirthDate`."""
    return [name for name in names if _BIRTH.fullmatch(_letters(name))]


def exam_columns(names: Iterable[str]) -> list[str]:
    """Return the columns of dates of the examination by their names: `exam_date`, `StudyDate`, `date_of_visit`."""
    return [name for name in names if _EXAM_DATE.fullmatch(_letters(name))]


def is_date(cell: str) -> bool:
    """Return whether a cell has the form of a date with day, month and year, whether or not the date exists."""
    return any(pattern.fullmatch(cell) for pattern in (*_YEAR_FIRST, *_YEAR_LAST))


def contains_date(cell: str) -> bool:
    """Return whether text that is not a number contains a date or a part of one: `03/1961`, `Mar-61`, `born 1961`."""
    return bool(_DATE_PART.search(cell))


def is_year(cell: str) -> bool:
    """Return whether a cell is a year from 1800 to 2099."""
    return bool(_YEAR_ONLY.fullmatch(cell))


def completed_years(birth: str, exam: str) -> int:
    """Return the age in completed years.

    Args:
        birth: date of birth, year first.
        exam: date of the examination, year first.

    Raises:
        ValueError: a text is not a date with its year first, or the birth is after the examination.

    Example:
        >>> completed_years("1960-03-21", "20260320"), completed_years("1960-03-21", "2026/3/21")
        (65, 66)
    """
    birth_date, exam_date = _parse_date(birth), _parse_date(exam)
    if birth_date > exam_date:
        raise ValueError(f"{birth!r} is after the examination, {exam!r}; correct one of them")
    is_before_birthday = (exam_date.month, exam_date.day) < (birth_date.month, birth_date.day)
    return exam_date.year - birth_date.year - is_before_birthday


def _parse_date(cell: str) -> datetime.date:
    for pattern in _YEAR_FIRST:
        if match := pattern.fullmatch(cell):
            try:
                return datetime.date(int(match["year"]), int(match["month"]), int(match["day"]))
            except ValueError:
                break
    # 03/04/1960 may be in March or in April.
    raise ValueError(f"{cell!r} is not a date by year, month and day; write it as 1960-03-21")


def _letters(name: str) -> str:
    return re.sub(r"[^a-z]", "", re.sub(r"^[vp]\d\d", "", name.lower()))
