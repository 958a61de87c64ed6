"""Dates of birth and of the examination in tables: which columns hold them, and the age that follows from both."""

import datetime
import re
from collections.abc import Iterable

_MONTH, _DAY = "(?P<month>0?[1-9]|1[0-2])", "(?P<day>0?[1-9]|[12][0-9]|3[01])"
_YEAR = "(?P<year>(18|19|20)[0-9]{2})"
_YEAR_FIRST = (
    re.compile(rf"{_YEAR}[-/.]{_MONTH}[-/.]{_DAY}([ T].*)?"),
    re.compile(rf"{_YEAR}(?P<month>0[1-9]|1[0-2])(?P<day>0[1-9]|[12][0-9]|3[01])"),
)
_YEAR_LAST = re.compile(rf"[0-9]{{1,2}}[-/. ][0-9A-Za-z]{{1,9}}\.?[-/. ]({_YEAR}|[0-9]{{2}})( .*)?")
_YEAR_ALONE = re.compile(rf"{_YEAR}(\.0*)?")
_BIRTH = re.compile(r"(patients?)?(date(of)?birth|birth(date|day)|dob)")
_EXAM = "(exam(ination)?|study|scan|visit|acquisition|imag(e|ing)|film|radiograph|xray)"
_EXAM_DATE = re.compile(rf"{_EXAM}(date|day)|date(of)?{_EXAM}")


def birth_columns(names: Iterable[str]) -> list[str]:
    """Return the columns of dates of birth by their names: `birth_date`, `DOB`, `PatientBirthDate`."""
    return [name for name in names if _BIRTH.fullmatch(_letters(name))]


def exam_columns(names: Iterable[str]) -> list[str]:
    """Return the columns of dates of the examination by their names: `exam_date`, `StudyDate`, `date_of_visit`."""
    return [name for name in names if _EXAM_DATE.fullmatch(_letters(name))]


def is_date(cell: str) -> bool:
    """Tell whether a cell is a calendar date."""
    return any(pattern.fullmatch(cell) for pattern in (*_YEAR_FIRST, _YEAR_LAST))


def is_year(cell: str) -> bool:
    """Tell whether a cell is a year from 1800 to 2099."""
    return bool(_YEAR_ALONE.fullmatch(cell))


def completed_years(birth: str, exam: str) -> int:
    """Return the age in completed years.

    Args:
        birth: date of birth, year first.
        exam: date of the examination, year first.

    Raises:
        ValueError: one is no date with its year first, or the birth is after the examination; the message says so.

    Example:
        >>> completed_years("1960-03-21", "20260320"), completed_years("1960-03-21", "2026/3/21")
        (65, 66)
    """
    born, examined = _date(birth), _date(exam)
    if born > examined:
        raise ValueError(f"{birth!r} is after the examination, {exam!r}; correct one of them")
    return examined.year - born.year - ((examined.month, examined.day) < (born.month, born.day))


def _date(cell: str) -> datetime.date:
    for pattern in _YEAR_FIRST:
        if match := pattern.fullmatch(cell):
            try:
                return datetime.date(int(match["year"]), int(match["month"]), int(match["day"]))
            except ValueError:
                break
    # 03/04/1960 is in March or in April.
    raise ValueError(f"{cell!r} is no date by year, month and day; write it as 1960-03-21")


def _letters(name: str) -> str:
    return re.sub(r"[^a-z]", "", re.sub(r"^[vp]\d\d", "", name.lower()))
