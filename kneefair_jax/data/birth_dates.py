"""Dates of birth and of the examination in tables: which columns hold them, and the age that follows from both."""

import datetime
import re
from collections.abc import Iterable

# English, German, French and Spanish.
_MONTH = (
    r"(jan(uary?)?|feb(ruary?)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?"
    r"|dec(ember)?|m(ä|ae)rz|mrz|mai|juni|juli|okt(ober)?|dez(ember)?|janvier|f[ée]vrier|mars|avril|juin|juillet"
    r"|ao[ûu]t|septembre|octobre|novembre|d[ée]cembre|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre"
    r"|octubre|noviembre|diciembre)\.?"
)
_YEAR, _PART = "(18|19|20)[0-9]{2}", "[0-9]{1,2}"
_DAY = rf"{_PART}(st|nd|rd|th)?"
_GAP = "([-/. ]|de )*"  # none in `03MAR1961`, as SAS writes dates
_TIME = "([ T:] ?[0-9].*)?"
_YEAR_FIRST = (
    re.compile(rf"(?P<year>{_YEAR})[-/. ](?P<month>{_PART})[-/. ](?P<day>{_PART}){_TIME}"),
    re.compile(rf"(?P<year>{_YEAR})(?P<month>0[1-9]|1[0-2])(?P<day>0[1-9]|[12][0-9]|3[01])(\.0*|{_TIME})"),
)
# With two digits for the year, `12 10 14` and `45-54-64` are other things.
_SHORT = "((0?[1-9]|1[0-2])[-/.](0?[1-9]|[12][0-9]|3[01])|(0?[1-9]|[12][0-9]|3[01])[-/.](0?[1-9]|1[0-2]))[-/.][0-9]{2}"
_OTHERS = tuple(
    re.compile(pattern + _TIME, re.IGNORECASE)
    for pattern in (
        rf"{_PART}[-/. ]{_PART}[-/. ]{_YEAR}",
        _SHORT,
        rf"{_DAY}{_GAP}{_MONTH}{_GAP}({_YEAR}|[0-9]{{2}})",
        rf"{_MONTH}{_GAP}{_DAY},? ?{_YEAR}",
    )
)
_YEAR_ALONE = re.compile(rf"{_YEAR}(\.0*)?")
_WITHIN = re.compile(
    rf"(?<![0-9]){_YEAR}(?![0-9])|(?<![0-9]){_SHORT}(?![0-9])"
    rf"|(?<![^\W\d_]){_MONTH}{_GAP}[0-9]|[0-9]{_GAP}{_MONTH}(?![^\W\d_])",
    re.IGNORECASE,
)
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
    """Tell whether a cell is written as a date of day, month and year, which the calendar may not have."""
    return any(pattern.fullmatch(cell) for pattern in (*_YEAR_FIRST, *_OTHERS))


def holds_date(cell: str) -> bool:
    """Tell whether text that is no number holds a date or a part of one: `03/1961`, `Mar-61`, `born 1961`."""
    return bool(_WITHIN.search(cell))


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
