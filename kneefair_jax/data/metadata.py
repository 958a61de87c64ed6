"""Reads `metadata.csv`, a row per case, as text, and checks it cell by cell.

Its columns are `case_id`, `patient_id`, `image` and `mask` (paths relative to the folder), any attribute columns,
and optionally `spacing_mm` (`0.3`, or `0.3x0.2` for down x across) and a split. `delimited` and `workbook` read the
file, `cell_text` the words for missing, `ages` the forms of an age; `identifiers` compares similar identifiers.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.data import ages, cell_text, delimited, identifiers, workbook
from kneefair_jax.data.readers.limits import LARGEST_MM, SMALLEST_MM
from kneefair_jax.errors import InputError

REQUIRED = ("case_id", "patient_id", "image", "mask")
_NOUNS = {"case_id": "case", "patient_id": "patient"}
_SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
# Numbers with more levels than this are measurements, not codes.
_MAX_CODES = 10
# `sex=f,race=x` is the name of a group, and would be that of a level `f,race=x` of sex; not so `<=50`, `Black, other`.
_GROUP_NAME = re.compile(r",.*=", re.DOTALL)
# A line of metadata.csv (the header is line 1), or `WHOLE_COLUMN`, and its fault.
Problem = tuple[int, str]
# In place of a line: a fault of all cells of a column. A data frame has a row 0.
WHOLE_COLUMN = -1


class Options(NamedTuple):
    """The user's names of options in error messages, and whether identifiers may look alike.

    Attributes:
        attributes: the option that names the attributes.
        bins: the option that sets the bins.
        similar: the option that allows identifiers and levels that look alike.
        allow_similar: whether that option is set.
    """

    attributes: str = "data.attributes"
    bins: str = "data.bins"
    similar: str = "--config.data.allow_similar_ids=True"
    allow_similar: bool = False

    def set_bins(self, name: str) -> str:
        """Return what to do for a column of numbers; no flag can add an entry to a table of the config."""
        where = f" in the config file: config.data.bins[{name!r}] = (25, 30), with edges of your choice"
        return f"set {self.bins} for it{where if self.bins == 'data.bins' else ''}"


class Table(NamedTuple):
    """A table of text; the index of both frames is the line in the file.

    Attributes:
        cells: "" where a cell is missing; see `cell_text.without_missing_words` for exceptions.
        raw: the cells as they are in the file, including the words for missing.
        notes: on the dialect of the file, where it is not UTF-8 with commas.
        titles: the cells above the header.
    """

    cells: pd.DataFrame
    raw: pd.DataFrame
    notes: list[str]
    titles: Sequence[str] = ()


def refuse(path: Path, problems: Sequence[Problem]) -> None:
    """Raise an InputError with the first five problems and their number, if there is any."""
    if not problems:
        return
    lines = [
        f"{path}{'' if row == WHOLE_COLUMN else f' row {row}'}: {text}" for row, text in sorted(problems)[:5]
    ]
    if len(problems) > 1:
        extent = f"; the first {len(lines)}" if len(lines) < len(problems) else ""
        lines.insert(0, f"{path}: {len(problems)} problems{extent}:")
    raise InputError("\n".join(lines))


def read(path: Path, keys: Collection[str] = (delimited.KEY,)) -> Table:
    """Read a table of text or an Excel workbook, whatever its name; every row has as many cells as the header.

    `delimited` uses Python's CSV reader, since pandas fills short rows and shifts long ones silently.

    Args:
        path: of the file; it may end in the name of a sheet (`workbook.split_sheet`).
        keys: names of columns of which the table has one; they determine the header, and the delimiter or the sheet of
            a workbook (`delimited.header_row`).

    Raises:
        InputError: the file does not exist, or is not a table.
    """
    if not workbook.exists(path):
        raise InputError(f"{path}: no such file; set data.root and data.metadata to the table of cases")
    header, rows, notes, titles = (workbook if workbook.is_workbook(path) else delimited).read(path, keys)
    if not rows or len(set(header)) < len(header):
        raise InputError(
            f"{path}: malformed CSV; write the columns' names in row 1, each once, and a case in each further row"
        )
    ragged = [(row, len(cells)) for row, cells in rows.items() if len(cells) != len(header)]
    remedy = (
        f"cells under {len(header)} columns; add the missing cells, or quote a cell that contains a comma"
    )
    refuse(path, [(row, f"malformed CSV: {count} {remedy}") for row, count in ragged])
    raw = pd.DataFrame.from_dict(rows, orient="index", columns=header, dtype=str)
    return Table(cell_text.without_missing_words(raw), raw, notes, titles)


def word_notes(raw: pd.DataFrame, attributes: Sequence[str]) -> list[str]:
    """Return `cell_text.missing_word_notes` of the attributes, the covariates, the spacing and the split."""
    names = {*attributes, "spacing_mm", "split"}
    columns = [name for name in raw if name in names or str(name).lower() in groups.COVARIATES]
    return cell_text.missing_word_notes(raw[columns])


class CaseColumns(NamedTuple):
    """The columns of a table of cases, on the lines of the file.

    Attributes:
        cases: `case_id`, `patient_id` (text) and the categorical attributes.
        confounders: what an adjusted model adjusts for beside the attributes.
        spacing: f32[N, 2], mm per pixel; NaN where the table states none.
    """

    cases: pd.DataFrame
    confounders: pd.DataFrame
    spacing: np.ndarray


def case_columns(
    table: pd.DataFrame,
    attributes: Sequence[str],
    bins: Mapping[str, Sequence[float]],
    problems: list[Problem],
    required: Sequence[str],
    options: Options,
) -> CaseColumns:
    """Check and convert the columns of a table of cases.

    Args:
        table: text on the lines of the file, "" where missing.
        attributes: columns to report by.
        bins: attribute -> ascending edges, for numbers.
        problems: receives the faults.
        required: columns that need a text in every row.
        options: for the messages.
    """
    check_identifiers(table, problems, required, options)
    columns = {name: table[name] for name in cell_text.IDENTIFIERS}
    for name in attributes:
        columns[name] = attribute(table[name], bins.get(name), problems, options)
        check_merged(table, name, problems)
    return CaseColumns(
        pd.DataFrame(columns), confounders(table, attributes, problems, options), spacings(table, problems)
    )


def check_identifiers(
    table: pd.DataFrame,
    problems: list[Problem],
    required: Sequence[str] = REQUIRED,
    options: Options = Options(),  # noqa: B008 - a NamedTuple cannot change
) -> None:
    """Append missing required cells, repeated cases, and unusable, damaged or similar identifiers to `problems`."""
    words = {name: table[name][table[name].map(cell_text.is_missing)] for name in _NOUNS if name in required}
    for name, column_words in words.items():
        for row, cell in column_words[column_words != ""].items():
            text = f"{name} {cell!r} is read as missing; rename it, or fill in the identifier"
            problems.append((int(str(row)), text))
    for name in required:
        above = ""
        for row, cell in table[name].items():
            remedy = "fill it in"
            if above and not cell:
                remedy += f"; where cells were merged with {above!r} above, unmerge them and repeat the value"
            if not cell:
                problems.append((int(str(row)), f"{name} is empty; {remedy}"))
            above = cell or above
    first_row: dict[str, int] = {}
    for row, case in table["case_id"].items():
        if row not in words["case_id"].index and first_row.setdefault(case, row) != row:
            problems.append(
                (row, f"case_id {case!r} is also in row {first_row[case]}; give each case its own id")
            )
    for name in (name for name in _NOUNS if name in required):
        cells = dict(table[name].drop(words[name].index).items())
        problems += identifiers.unusable(cells, name)
        if not options.allow_similar:
            similar = identifiers.similar(cells, name, _NOUNS[name], options.similar)
            problems += similar
            if similar:
                alike = {cell for group in identifiers.similar_identifiers(cells.values()) for cell in group}
                cells = {row: cell for row, cell in cells.items() if cell not in alike}
        problems += identifiers.spoiled(cells, name, options.allow_similar)


def check_merged(table: pd.DataFrame, name: str, problems: list[Problem]) -> None:
    """Append the empty cells of an attribute that has values only in each patient's first row, as after merged cells.

    At least two patients have such empty cells, and none has a value in a later row; one missing visit is not enough.
    """
    visit = table.groupby("patient_id", sort=False).cumcount()
    is_filled = table[name] != ""
    is_first_filled = table["patient_id"].map(is_filled[visit == 0].set_axis(table["patient_id"][visit == 0]))
    is_later = (visit > 0) & (table["patient_id"] != "")
    empty = is_later & ~is_filled & is_first_filled
    if table["patient_id"][empty].nunique() > 1 and not (is_later & is_filled).any():
        text = f"{name} is empty below the first row of the patient, as merged cells are; repeat the value in each row"
        problems += [(int(str(row)), text) for row in table.index[empty]]


def with_ages(table: pd.DataFrame, path: Path, attributes: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return the table with ages in years (`ages.to_years`) in its attributes and covariates, and notes.

    An attribute `age` without a column is computed from the columns of the dates of birth and of the examination.

    Raises:
        InputError: cells are dates of birth without a date of the examination, or other text that is not an age.
    """
    problems: list[Problem] = []
    notes: list[str] = []
    columns: dict[str, pd.Series] = {}
    births = ages.birth_columns(table.columns)
    sources = {
        str(name): str(name)
        for name in table
        if (name in attributes or str(name).lower() in groups.COVARIATES)
        and (ages.is_age(str(name)) or name in births or ages.has_dicom_ages(table[name]))
    }
    if len(births) == 1:
        sources |= {
            name: births[0] for name in attributes if name not in table and ages.base_name(name) == "age"
        }
    for name, source in sources.items():
        columns[name], column_notes = ages.to_years(table, source, problems)
        notes += column_notes
    refuse(path, problems)
    return table.assign(**columns), notes


def attribute(
    values: pd.Series,
    edges: Sequence[float] | None,
    problems: list[Problem],
    options: Options = Options(),  # noqa: B008 - a NamedTuple cannot change
    *,
    rows: bool = True,
) -> pd.Series:
    """Convert a column of text to a categorical one, in bins if `edges` are given.

    Args:
        values: text, "" where missing.
        edges: ascending, for numbers.
        problems: receives faults by the index of `values`.
        options: for the messages.
        rows: whether the index is the line in a file, for the messages.
    """
    numbers = cell_text.to_numbers(values)
    has_value = values != ""
    if not has_value.any():
        problems.append(
            (
                WHOLE_COLUMN,
                f"column {values.name!r} is empty; fill it in or remove it from {options.attributes}",
            )
        )
    if edges is not None:
        problems += _not_numbers(values, numbers)
        return groups.bin_values(numbers, edges)
    levels = values[has_value].unique()
    measured = values[_is_measured(values, numbers)].nunique()
    if measured > _MAX_CODES and numbers[has_value].notna().all():
        remedy = options.set_bins(str(values.name))
        text = f"column {values.name!r} holds {numbers.nunique()} different numbers; {remedy}"
        problems.append((WHOLE_COLUMN, text))
    elif measured > _MAX_CODES:
        problems += _not_numbers(values, numbers)
    elif ages.is_age(str(values.name)) and len(levels) > _MAX_CODES:
        remedy = options.set_bins(str(values.name))
        text = f"column {values.name!r} holds {len(levels)} different values; write years, and {remedy}"
        problems.append((WHOLE_COLUMN, text))
    elif len(levels) > 1 and all(map(ages.is_date, levels)):
        problems.append(
            (WHOLE_COLUMN, f"column {values.name!r} holds dates; convert them to ages or periods")
        )
    else:
        problems += _unusable_levels(values, options, rows=rows)
    return groups.categorical(values)


def _is_measured(values: pd.Series, numbers: pd.Series) -> pd.Series:
    """Return where cells are numbers, with a point or with a decimal comma."""
    return numbers.notna() | values.map(cell_text.with_decimal_point).ne("")


def _not_numbers(
    values: pd.Series, numbers: pd.Series, remedy: str = "correct it, or leave it empty if unknown"
) -> list[Problem]:
    """Return a problem for each cell of a column of numbers that is not a number."""
    problems = []
    for row, cell in values[(values != "") & numbers.isna()].items():
        point = cell_text.with_decimal_point(cell)
        text = f"has a decimal comma; write {point}" if point else f"is not a number; {remedy}"
        problems.append((int(str(row)), f"{values.name} {cell!r} {text}"))
    return problems


def _unusable_levels(values: pd.Series, options: Options, *, rows: bool) -> list[Problem]:
    """Return problems for levels and names that would collide in a group's name, and for levels that look alike."""
    problems = []
    remedy = "make it the name of another group, such as 'sex=f,race=x'; write a semicolon instead"
    if set(str(values.name)) & set(",="):
        problems.append((WHOLE_COLUMN, f"column {values.name!r}: a comma or equals sign would {remedy}"))
    for row, level in values.drop_duplicates().items():
        if _GROUP_NAME.search(level):
            problems.append((int(str(row)), f"{values.name} {level!r}: the comma would {remedy}"))
    if not options.allow_similar:
        cells = dict(values.items())
        problems += identifiers.similar(
            cells, str(values.name), "level", options.similar, rows=rows, form=identifiers.canonical
        )
    return problems


def splits(values: pd.Series, problems: list[Problem]) -> pd.Series:
    """Convert a column of text to `train`, `validation` or `test`."""
    for row, value in values.items():
        if value.lower() not in _SPLITS:
            problems.append((row, f"split {value!r} is unknown; use train, validation (or val) or test"))
    return values.str.lower().map(_SPLITS)


def spacings(table: pd.DataFrame, problems: list[Problem]) -> np.ndarray:
    """Return f32[N, 2], mm per pixel, NaN where the table does not state it."""
    spacing = np.full((len(table), 2), np.nan, np.float32)
    for index, (row, text) in enumerate(table.get("spacing_mm", pd.Series(dtype=str)).items()):
        if text:
            try:
                values = [cell_text.parse_number(number) for number in text.lower().split("x")]
            except ValueError:
                values = []
            if len(values) in (1, 2) and all(SMALLEST_MM <= value <= LARGEST_MM for value in values):
                spacing[index] = values
            elif len(values) in (1, 2) and min(values) > 0:
                unit = f"not between {SMALLEST_MM:g} and {LARGEST_MM:g}, as in radiographs; write millimeters per pixel"
                problems.append((row, f"spacing_mm {text!r}: {unit}"))
            else:
                problems.append(
                    (
                        row,
                        f"spacing_mm {text!r} is not positive mm per pixel; write 0.3, 0.3x0.2 or nothing",
                    )
                )
    return spacing


def confounders(
    table: pd.DataFrame,
    attributes: Sequence[str],
    problems: list[Problem],
    options: Options = Options(),  # noqa: B008 - a NamedTuple cannot change
) -> pd.DataFrame:
    """Return the columns named in `groups.COVARIATES`, in any case of letters, that are no attributes.

    Columns of numbers become f64, NaN where a cell is empty; columns of words, and `site`, whose numbers are codes,
    become categorical. The number of a binned attribute is no confounder: beside it, the coefficient of a bin would no
    longer be the gap between groups. V00AGE counts as age.

    Args:
        table: text on the lines of the file, "" where missing.
        attributes: columns to report by.
        problems: receives the words among the numbers of a column.
        options: for the messages.
    """
    excluded_names = {ages.base_name(name) for name in attributes}
    columns: dict[str, pd.Series] = {}
    for name in table:
        lower_name = str(name).lower()
        if lower_name not in groups.COVARIATES or lower_name in excluded_names:
            continue
        excluded_names.add(lower_name)
        text = table[name]
        numbers = cell_text.to_numbers(text)
        has_many_ages = lower_name == "age" and text[text != ""].nunique() > _MAX_CODES
        if lower_name != "site" and (_is_measured(text, numbers).any() or has_many_ages):
            remedy = (
                "correct it, rename the column so that no model adjusts for it, or name it in "
                f"{options.attributes}"
            )
            problems += _not_numbers(text, numbers, remedy)
            columns[str(name)] = numbers
        else:
            columns[str(name)] = groups.categorical(text)
    return pd.DataFrame(columns, index=table.index)
