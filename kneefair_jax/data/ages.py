"""Columns of ages: DICOM's `065Y`, and what is no age, such as a date of birth."""

import re

import pandas as pd

from kneefair_jax.data import number_text

OLDEST = 120  # years
# Value representation AS of DICOM PS3.5, table 6.2-1; tools drop its zeros.
_DICOM = re.compile(r"([0-9]{1,3})([DWMYdwmy])")
_PER_YEAR = {"y": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}
_MONTH, _DAY = "(0?[1-9]|1[0-2])", "(0?[1-9]|[12][0-9]|3[01])"
_YEAR = "(18|19|20)[0-9]{2}"
_DATES = (
    re.compile(rf"{_YEAR}[-/.]{_MONTH}[-/.]{_DAY}([ T].*)?"),
    re.compile(rf"[0-9]{{1,2}}[-/. ][0-9A-Za-z]{{1,9}}\.?[-/. ]({_YEAR}|[0-9]{{2}})( .*)?"),
    re.compile(rf"{_YEAR}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])"),
)
_BIRTH_YEAR = re.compile(rf"{_YEAR}(\.0*)?")
_COMMA = re.compile(r"[0-9]+,[0-9]+")

type Problem = tuple[int, str]


def plain(name: str) -> str:
    """Return a column's plain name, in lower case: `age` for Age, and for V00AGE as the OAI calls it."""
    return re.sub(r"^[vp]\d\d(xr)?", "", name.lower())


def is_age(name: str) -> bool:
    """Tell whether a column is one of ages by its name: `age`, `V00AGE`, `PatientAge`, `age_years`."""
    words = re.findall(r"[A-Z]*[a-z]+|[A-Z]+", re.sub(r"^[VvPp]\d\d(XR|xr)?", "", name))
    return "age" in {word.lower() for word in words}


def in_years(cells: pd.Series, problems: list[Problem]) -> tuple[pd.Series, list[str]]:
    """Convert a column of ages as text to years, and note what is no age.

    Args:
        cells: text on the lines of the file, "" where missing.
        problems: gets a line for each date or year of birth and each decimal comma.

    Returns:
        The column with DICOM's ages in years, and a note on how many those were.
    """
    for row, cell in cells.items():
        if is_date(cell) or _BIRTH_YEAR.fullmatch(cell):
            remedy = "write the age in years at the examination instead"
            problems.append(
                (int(str(row)), f"{cells.name} {cell!r} is a date or year of birth, not an age; {remedy}")
            )
        elif _COMMA.fullmatch(cell):
            text = f"{cells.name} {cell!r} has a decimal comma; write {cell.replace(',', '.')}"
            problems.append((int(str(row)), text))
    stated = {cell: match for cell in cells.unique() if (match := _DICOM.fullmatch(cell))}
    if not stated:
        return cells, []
    years = {cell: f"{float(match[1]) / _PER_YEAR[match[2].lower()]:.6g}" for cell, match in stated.items()}
    count, example = int(cells.isin(years).sum()), next(iter(years))
    note = f"column {cells.name}: {count} DICOM ages are read in years, such as {example} as {years[example]}"
    return cells.map(lambda cell: years.get(cell, cell)), [note]


def is_dicom(cells: pd.Series) -> bool:
    """Tell whether every known cell is an age with DICOM's unit and three digits."""
    known = cells[cells != ""]
    return bool(len(known)) and all(_DICOM.fullmatch(cell) and len(cell) == 4 for cell in known.unique())


def is_date(cell: str) -> bool:
    """Tell whether a cell is a calendar date."""
    return any(pattern.fullmatch(cell) for pattern in _DATES)


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
