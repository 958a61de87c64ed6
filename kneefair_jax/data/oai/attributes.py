"""Columns of the OAI's tables -> attributes of cases, merged by patient, knee or film.

`NAMED_COLUMNS` gives some columns simple names; any other column has its own name. A column by knee gives a film two
attributes, `<name>_right` and `<name>_left`.
"""

import contextlib
import difflib
import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from kneefair_jax import groups
from kneefair_jax.data import cell_text, metadata
from kneefair_jax.data.oai import tables
from kneefair_jax.errors import InputError


class NamedColumn(NamedTuple):
    """A column of the tables with a simple name.

    Attributes:
        column: its name in the tables, where `##` stands for the visit.
        level: cell -> level.
        baseline: whether the baseline's value is used if the visit has none.
    """

    column: str
    level: Callable[[str], str] = tables.label
    baseline: bool = False


class Attributes(NamedTuple):
    """The attributes of cases.

    Attributes:
        cases: `case_id`, `patient_id`, `side` where cases are knees, a categorical column for each attribute, and the
            confounders (`metadata.confounders`).
        notes: on the words read as missing, by column.
    """

    cases: pd.DataFrame
    notes: tuple[str, ...]


def _level_of_code(levels: Mapping[str, str], cell: str) -> str:
    """Return the level of a code; KeyError if the OAI does not define the code."""
    return levels[tables.code(cell)]


_SEX = {"1": "male", "2": "female"}
_RACE = {"0": "Other", "1": "White", "2": "Black", "3": "Asian"}
NAMED_COLUMNS = {
    "sex": NamedColumn("P02SEX", functools.partial(_level_of_code, _SEX)),
    "race": NamedColumn("P02RACE", functools.partial(_level_of_code, _RACE)),
    # The age at the visit if a table has it, else at enrollment, without the up to eight years since then.
    "age": NamedColumn("V##AGE", tables.code, baseline=True),
    "bmi": NamedColumn("P01BMI", tables.code),
    "kl": NamedColumn("V##XRKL", tables.code),
    "site": NamedColumn("V00SITE"),
}


def add(
    cases: pd.DataFrame,
    oai_tables: Mapping[str, tables.Table],
    names: Sequence[str],
    bins: Mapping[str, Sequence[float]],
    options: metadata.Options = metadata.Options(),  # noqa: B008 - a NamedTuple cannot change
) -> Attributes:
    """Return the attributes of cases.

    Args:
        cases: `case_id`, `patient_id`, `visit`, `barcode`, and `side` (right or left; "" for a film).
        oai_tables: by lower-case stem.
        names: of attributes: `side`, those of `NAMED_COLUMNS`, or columns of the tables in any case.
        bins: attribute -> ascending edges, for numbers.
        options: whether levels may look alike.

    Raises:
        InputError: no table has a column, or its cells cannot be levels; the message quotes levels, no other values.
    """
    columns = {name: cases[name] for name in ("case_id", "patient_id")}
    if (cases["side"] != "").any():
        columns["side"] = groups.categorical(cases["side"], ("right", "left"))
    columns_read: dict[str, tables.Column | None] = {}

    def read_column(name: str) -> tables.Column | None:
        if name not in columns_read:
            columns_read[name] = tables.column(oai_tables, name)
        return columns_read[name]

    for name in names:
        if name in ("case_id", "patient_id") or list(names).count(name) > 1:
            raise InputError(f"config.data.attributes: {name!r} is listed twice, or is not an attribute")
        if name == "side" and name not in columns:
            raise InputError(
                "config.data.attributes: 'side' is an attribute of knees: set data.knees='split'"
            )
        if name not in columns:
            columns[name] = _categorical(
                cases, _levels(cases, oai_tables, read_column, name), bins.get(name), options
            )
    confounders = _confounders(cases, oai_tables, read_column, names)
    frame = pd.concat([pd.DataFrame(columns), confounders], axis=1)
    return Attributes(
        frame, tuple(note for column in columns_read.values() if column for note in column.notes)
    )


def _confounders(
    cases: pd.DataFrame,
    oai_tables: Mapping[str, tables.Table],
    read_column: Callable[[str], tables.Column | None],
    names: Sequence[str],
) -> pd.DataFrame:
    """Return `metadata.confounders` of the covariates for which the tables have one value a case."""
    levels = {}
    for name in groups.COVARIATES:
        with contextlib.suppress(InputError):  # the covariate is optional
            levels[name] = _levels(cases, oai_tables, read_column, name)
    problems: list[metadata.Problem] = []
    covariates = metadata.confounders(pd.DataFrame(levels, index=cases.index), names, problems)
    if problems:
        raise InputError(f"the OAI's tables, case {cases['case_id'][problems[0][0]]}: {problems[0][1]}")
    return covariates


def _levels(
    cases: pd.DataFrame,
    oai_tables: Mapping[str, tables.Table],
    read_column: Callable[[str], tables.Column | None],
    name: str,
) -> pd.Series:
    """Return the levels of an attribute as text, "" where it is missing."""
    films = bool((cases["side"] == "").all())
    base, _, side = name.rpartition("_")
    if not films or side not in ("right", "left"):
        base, side = name, ""
    named_column = NAMED_COLUMNS.get(base.lower(), NamedColumn(base.upper()))
    columns = {visit: _candidates(read_column, named_column, visit) for visit in cases["visit"].unique()}
    if not any(columns.values()):
        raise InputError(_absent_column_message(oai_tables, name, named_column))
    first = next(column for visit in columns.values() for column in visit)
    if films and first.by_side != bool(side):
        remedy = f"by knee: name {base}_right or {base}_left, or set data.knees='split'"
        remedy = remedy if first.by_side else f"by patient: name {base}"
        raise InputError(f"config.data.attributes: {name!r}: {first.path.name} has {base} {remedy}")

    levels, ambiguous, undefined = [], [], []
    for row in cases.to_dict("records"):
        key = (side or row["side"], row["patient_id"], row["barcode"])
        cells = next((cells for column in columns[row["visit"]] if (cells := _cells(column, *key))), [""])
        if len(cells) > 1:
            ambiguous.append(row["case_id"])
        try:
            levels.append(cells[0] and named_column.level(cells[0]))
        except KeyError:
            levels.append("")
            undefined.append(row["case_id"])
    if ambiguous:
        raise InputError(
            f"{first.path}: {base!r} has several values for {_format_cases(ambiguous)}; name a column with one value "
            "for a patient, a knee or a film"
        )
    if undefined:
        raise InputError(
            f"{first.path}: {named_column.column} holds a code that the OAI does not define, for "
            f"{_format_cases(undefined)}; correct it, or name {named_column.column} itself as the attribute"
        )
    return pd.Series(levels, index=cases.index, name=name, dtype=object)


def _candidates(
    read_column: Callable[[str], tables.Column | None], named_column: NamedColumn, visit: str
) -> list[tables.Column]:
    """Return the columns that may hold the value at a visit, the best first."""
    visits = [visit, "00"] if named_column.baseline else [visit]
    names = dict.fromkeys(named_column.column.replace("##", number) for number in visits)
    return [column for name in names if (column := read_column(name))]


def _cells(column: tables.Column, side: str, patient: str, barcode: str) -> list[str] | None:
    return column.cells.get((barcode if column.by_film else patient, side if column.by_side else ""))


def _format_cases(cases: Sequence[str]) -> str:
    more = f" and {len(cases) - 3} more" if len(cases) > 3 else ""
    return f"case {', '.join(cases[:3])}{more}"


def _absent_column_message(
    oai_tables: Mapping[str, tables.Table], name: str, named_column: NamedColumn
) -> str:
    columns = {column: None for table in oai_tables.values() for column in table.columns if column}
    close = difflib.get_close_matches(name.upper(), columns, n=5, cutoff=0.6)
    hint = f"; similar columns: {', '.join(close)}" if close else ""
    column = f" (column {named_column.column})" if named_column.column != name.upper() else ""
    column_names = textwrap.shorten(", ".join(columns), 1500, placeholder=" ...")
    return (
        f"config.data.attributes: no table has {name!r}{column}{hint}. Simple names: side (of split knees), "
        f"{', '.join(NAMED_COLUMNS)}; columns of the tables: {column_names}. Add the table to data.tables, or name "
        "another column"
    )


def _categorical(
    cases: pd.DataFrame, values: pd.Series, edges: Sequence[float] | None, options: metadata.Options
) -> pd.Series:
    """Convert text to a categorical column, in bins where `edges` are given."""
    if edges is not None:
        is_text = (values != "") & cell_text.to_numbers(values).isna()
        if is_text.any():
            raise InputError(
                f"config.data.bins: {values.name!r} is not a number for "
                f"{_format_cases(list(cases['case_id'][is_text]))}; correct the table, or remove it from data.bins"
            )
    problems: list[metadata.Problem] = []
    column = metadata.attribute(values, edges, problems, options, rows=False)
    if problems:
        raise InputError(f"the OAI's tables: {problems[0][1]}")
    return column
