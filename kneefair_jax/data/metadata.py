"""`metadata.csv`: a row per case, read as text and checked cell by cell.

Its columns are `case_id`, `patient_id`, `image` and `mask` (paths relative to the folder), any attribute columns,
and optionally `spacing_mm` (`0.3`, or `0.3x0.2` for down x across) and a split.
Empty cells, `NA`, `N/A`, `NaN`, `null` and `missing` mean missing; `none` is a level like any other.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.data.readers.spacing import LARGEST_MM, SMALLEST_MM
from kneefair_jax.errors import InputError

REQUIRED = ("case_id", "patient_id", "image", "mask")
MISSING_TEXT = {"", "na", "n/a", "nan", "null", groups.MISSING}
_SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
# A number with more levels than this is a measurement, not a code.
_MAX_CODES = 10
_OLDEST = 120  # years
# A line of metadata.csv (the header is line 1) and what is wrong with it.
Problem = tuple[int, str]


def _plain(name: str) -> str:
    """A column's plain name, in small letters: `age` of Age, and of V00AGE as the OAI calls it."""
    return re.sub(r"^[vp]\d\d(xr)?", "", name.lower())


def refuse(path: Path, problems: Sequence[Problem]) -> None:
    """Raises an InputError with the first five problems and how many there are; nothing if there is none."""
    if not problems:
        return
    lines = [f"{path} row {row}: {text}" for row, text in sorted(problems)[:5]]
    if len(problems) > 1:
        lines.insert(0, f"{path}: {len(problems)} problems, of which the first {len(lines)}:")
    raise InputError("\n".join(lines))


def read(path: Path) -> pd.DataFrame:
    """Every cell as text, "" where it is missing; the index is the line in the file."""
    return known(as_written(path))


def known(table: pd.DataFrame) -> pd.DataFrame:
    """A table of text with "" for every word that means missing."""
    return table.map(lambda cell: "" if cell.lower() in MISSING_TEXT else cell)


def as_written(path: Path) -> pd.DataFrame:
    """As `read`, but with words that mean missing as they are.

    Python's own reader, since pandas fills short rows and shifts long ones without a word.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; set data.root and data.metadata to the table of cases")
    rows: dict[int, list[str]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    rows[reader.line_num] = [cell.strip() for cell in cells]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: malformed CSV ({error}); save it as UTF-8 text with commas") from error
    if not rows or len(set(header)) < len(header):
        raise InputError(
            f"{path}: malformed CSV; line 1 names the columns, each once, and each further line is a case"
        )
    ragged = [(row, len(cells)) for row, cells in rows.items() if len(cells) != len(header)]
    remedy = f"cells under {len(header)} columns; add what is missing, or quote a cell that holds a comma"
    refuse(path, [(row, f"malformed CSV: {count} {remedy}") for row, count in ragged])
    return pd.DataFrame.from_dict(rows, orient="index", columns=header, dtype=str)


def require_columns(table: pd.DataFrame, path: Path, config: Mapping[str, Any]) -> None:
    """Refuses a table without a required column, or a config that names columns that are not there."""
    columns = ", ".join(table.columns)
    for name in REQUIRED:
        if name not in table:
            if len(table.columns) == 1 and ";" in table.columns[0]:
                raise InputError(f"{path}: its cells are separated by semicolons; save it with commas")
            hint = " (repeat case_id in it if no two cases share a patient)" if name == "patient_id" else ""
            raise InputError(f"{path}: column {name!r} is missing; add it{hint}; there are: {columns}")
    attributes = tuple(config["attributes"])
    candidates = [name for name in table.columns if name not in (*REQUIRED, "split", "spacing_mm")]
    for name in attributes:
        if name not in candidates:
            raise InputError(
                f"{path}: data.attributes names {name!r}, which is not an attribute column; there are: "
                f"{', '.join(candidates)} (several are written \"('sex','age')\")"
            )
        if attributes.count(name) > 1:
            raise InputError(f"{path}: data.attributes names {name!r} twice")
    if config["split_column"] and config["split_column"] not in table:
        raise InputError(
            f"{path}: data.split_column is {config['split_column']!r}; set it to '' or one of: {columns}"
        )


def check_identifiers(
    table: pd.DataFrame, problems: list[Problem], required: Sequence[str] = REQUIRED
) -> None:
    """Notes required cells that are empty and cases that occur twice."""
    for name in required:
        problems += [(row, f"{name} is empty; fill it in") for row in table.index[table[name] == ""]]
    first: dict[str, int] = {}
    for row, case in table["case_id"].items():
        if case and first.setdefault(case, row) != row:
            problems.append((row, f"case_id {case!r} is also in row {first[case]}; give each case its own"))


def attribute(
    values: pd.Series,
    edges: Sequence[float] | None,
    problems: list[Problem],
    names: tuple[str, str] = ("data.attributes", "data.bins"),
) -> pd.Series:
    """A column of text -> a categorical one, in bins where `edges` are given; `names` are for the remedies."""
    numbers = pd.to_numeric(values.where(values != "", None), errors="coerce").astype(float)
    numbers = numbers.where(np.isfinite(numbers))
    given = values != ""
    if not given.any():
        problems.append((1, f"column {values.name!r} is empty; fill it in or drop it from {names[0]}"))
    if edges is not None:
        for row in values.index[given & numbers.isna()]:
            text = f"{values.name} {values[row]!r} is not a number; correct it, or leave it empty if unknown"
            problems.append((row, text))
        return groups.binned(numbers, edges)
    if given.any() and numbers[given].notna().all() and numbers[given].nunique() > _MAX_CODES:
        text = f"column {values.name!r} holds {numbers[given].nunique()} different numbers; set {names[1]} for it"
        problems.append((1, text))
    return groups.categorical(values)


def splits(values: pd.Series, problems: list[Problem]) -> pd.Series:
    """A column of text -> `train`, `validation` or `test`."""
    for row, value in values.items():
        if value.lower() not in _SPLITS:
            problems.append((row, f"split {value!r} is unknown; use train, validation (or val) or test"))
    return values.str.lower().map(_SPLITS)


def spacings(table: pd.DataFrame, problems: list[Problem]) -> np.ndarray:
    """f32[N, 2] mm per pixel, NaN where the table does not say."""
    spacing = np.full((len(table), 2), np.nan, np.float32)
    for index, (row, text) in enumerate(table.get("spacing_mm", pd.Series(dtype=str)).items()):
        if text:
            try:
                values = [float(number) for number in text.lower().split("x")]
            except ValueError:
                values = []
            if len(values) in (1, 2) and all(SMALLEST_MM <= value <= LARGEST_MM for value in values):
                spacing[index] = values
            elif len(values) in (1, 2) and all(0 < value < np.inf for value in values):
                least, most = f"{SMALLEST_MM:g}", f"{LARGEST_MM:g}"
                problems.append(
                    (row, f"spacing_mm {text!r} is not between {least} and {most} mm; write mm per pixel")
                )
            else:
                problems.append(
                    (
                        row,
                        f"spacing_mm {text!r} is not positive mm per pixel; write 0.3, 0.3x0.2 or nothing",
                    )
                )
    return spacing


def unlikely_ages(table: pd.DataFrame) -> list[str]:
    """Says which cases of a table of text have an age that nobody has, such as -3 or 999, a code for unknown."""
    notes = []
    for name in table:
        ages = (
            pd.to_numeric(table[name], errors="coerce")
            if _plain(str(name)) == "age"
            else pd.Series(dtype=float)
        )
        wrong = ages[(ages < 0) | (ages > _OLDEST)]
        if len(wrong):
            shown = ", ".join(f"{table['case_id'][row]}: {table[name][row]}" for row in wrong.index[:3])
            notes.append(
                f"{len(wrong)} of {len(table)} rows have an {name} below 0 or above {_OLDEST} (such as {shown}), taken "
                "as it stands; leave it empty where it is unknown"
            )
    return notes


def confounders(table: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """The columns of text named in `groups.COVARIATES`, in any case of letters, that are no attributes.

    Columns of which most known cells are numbers become f64, NaN where a cell is none; any other, and `site`, whose
    numbers are codes, becomes a categorical one. An attribute in bins stays in bins: beside its own number, the
    coefficient of a bin would no longer be the gap between groups; V00AGE is age there.
    """
    taken = {_plain(name) for name in attributes}
    found: dict[str, pd.Series] = {}
    for name in table:
        if (plain := str(name).lower()) not in groups.COVARIATES or plain in taken:
            continue
        taken.add(plain)
        text = table[name]
        numbers = pd.to_numeric(text.where(text != "", None), errors="coerce").astype(float)
        numbers = numbers.where(np.isfinite(numbers))
        measured = plain != "site" and 2 * numbers.notna().sum() > (text != "").sum()
        found[str(name)] = numbers if measured else groups.categorical(text)
    return pd.DataFrame(found, index=table.index)
