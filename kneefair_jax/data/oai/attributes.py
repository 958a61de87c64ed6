"""Columns of the OAI's tables -> attributes of cases, merged by patient, knee or film.

Some have plain names here; any other column goes by its own name. A column of knees gives a film two attributes,
`<name>_right` and `<name>_left`.
"""

import contextlib
import difflib
import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from kneefair_jax import groups
from kneefair_jax.data import metadata, number_text
from kneefair_jax.data.oai import tables
from kneefair_jax.errors import InputError


class Known(NamedTuple):
    """A column with a plain name.

    Attributes:
        column: its name in the tables, `##` being the visit.
        level: cell -> level.
        baseline: whether the baseline's value stands in where the visit has none.
    """

    column: str
    level: Callable[[str], str] = tables.label
    baseline: bool = False


class Attributes(NamedTuple):
    """The attributes of cases.

    Attributes:
        cases: `case_id`, `patient_id`, `side` where cases are knees, a categorical column for each attribute, and the
            confounders beside them (`metadata.confounders`).
        notes: the words that were read as missing, by column.
    """

    cases: pd.DataFrame
    notes: tuple[str, ...]


def _named(levels: Mapping[str, str], cell: str) -> str:
    """The level of a code; KeyError where the OAI has no such code."""
    return levels[tables.code(cell)]


_SEX = {"1": "male", "2": "female"}
_RACE = {"0": "Other", "1": "White", "2": "Black", "3": "Asian"}
KNOWN = {
    "sex": Known("P02SEX", functools.partial(_named, _SEX)),
    "race": Known("P02RACE", functools.partial(_named, _RACE)),
    # The age at the visit where a table has it, else at enrolment: up to eight years are not added to it.
    "age": Known("V##AGE", tables.code, baseline=True),
    "bmi": Known("P01BMI", tables.code),
    "kl": Known("V##XRKL", tables.code),
    "site": Known("V00SITE"),
}


def add(
    cases: pd.DataFrame,
    found: Mapping[str, tables.Table],
    names: Sequence[str],
    bins: Mapping[str, Sequence[float]],
    options: metadata.Options = metadata.Options(),  # noqa: B008 - a NamedTuple cannot change
) -> Attributes:
    """Return the attributes of cases.

    Args:
        cases: `case_id`, `patient_id`, `visit`, `barcode`, and `side` (right or left; "" for a film).
        found: the tables.
        names: the attributes; `side`, plain names, or columns of the tables in any case.
        bins: attribute -> ascending edges, for numbers.
        options: whether levels may look alike.

    Raises:
        InputError: no table has a column, or what it holds cannot be an attribute; of values, the message has levels
            alone.
    """
    columns = {name: cases[name] for name in ("case_id", "patient_id")}
    if (cases["side"] != "").any():
        columns["side"] = groups.categorical(cases["side"], ("right", "left"))
    columns_read: dict[str, tables.Column | None] = {}

    def look(name: str) -> tables.Column | None:
        if name not in columns_read:
            columns_read[name] = tables.column(found, name)
        return columns_read[name]

    for name in names:
        if name in ("case_id", "patient_id") or list(names).count(name) > 1:
            raise InputError(f"config.data.attributes: {name!r} is named twice, or is no attribute")
        if name == "side" and name not in columns:
            raise InputError("config.data.attributes: 'side' is of knees: set data.knees='split'")
        if name not in columns:
            columns[name] = _categorical(cases, _levels(cases, found, look, name), bins.get(name), options)
    frame = pd.concat([pd.DataFrame(columns), _confounders(cases, found, look, names)], axis=1)
    return Attributes(
        frame, tuple(note for column in columns_read.values() if column for note in column.notes)
    )


def _confounders(
    cases: pd.DataFrame,
    found: Mapping[str, tables.Table],
    look: Callable[[str], tables.Column | None],
    names: Sequence[str],
) -> pd.DataFrame:
    """`metadata.confounders`, so far as the tables have one value for a case."""
    known = {}
    for name in groups.COVARIATES:
        with contextlib.suppress(InputError):  # nobody asked for it
            known[name] = _levels(cases, found, look, name)
    problems: list[metadata.Problem] = []
    covariates = metadata.confounders(pd.DataFrame(known, index=cases.index), names, problems)
    if problems:
        raise InputError(f"the OAI's tables, case {cases['case_id'][problems[0][0]]}: {problems[0][1]}")
    return covariates


def _levels(
    cases: pd.DataFrame,
    found: Mapping[str, tables.Table],
    look: Callable[[str], tables.Column | None],
    name: str,
) -> pd.Series:
    """The levels of an attribute as text, "" where it is missing."""
    films = bool((cases["side"] == "").all())
    base, _, side = name.rpartition("_")
    if not films or side not in ("right", "left"):
        base, side = name, ""
    known = KNOWN.get(base.lower(), Known(base.upper()))
    columns = {visit: _candidates(look, known, visit) for visit in cases["visit"].unique()}
    if not any(columns.values()):
        raise InputError(_absent(found, name, known))
    where = next(column for visit in columns.values() for column in visit)
    if films and where.by_side != bool(side):
        how = f"by knee: name {base}_right or {base}_left, or set data.knees='split'"
        how = how if where.by_side else f"by patient: name {base}"
        raise InputError(f"config.data.attributes: {name!r}: {where.path.name} knows {base} {how}")

    levels, several, unknown = [], [], []
    for row in cases.to_dict("records"):
        key = (side or row["side"], row["patient_id"], row["barcode"])
        cells = next((cells for column in columns[row["visit"]] if (cells := _cells(column, *key))), [""])
        if len(cells) > 1:
            several.append(row["case_id"])
        try:
            levels.append(cells[0] and known.level(cells[0]))
        except KeyError:
            levels.append("")
            unknown.append(row["case_id"])
    if several:
        raise InputError(
            f"{where.path}: {base!r} has several values for {_some(several)}; name a column with one value for a "
            "patient, a knee or a film"
        )
    if unknown:
        raise InputError(
            f"{where.path}: {known.column} holds a code that the OAI does not define, for {_some(unknown)}; "
            f"correct it, or name {known.column} itself as the attribute"
        )
    return pd.Series(levels, index=cases.index, name=name, dtype=object)


def _candidates(look: Callable[[str], tables.Column | None], known: Known, visit: str) -> list[tables.Column]:
    """Where the value at a visit may stand, the best first."""
    visits = [visit, "00"] if known.baseline else [visit]
    names = dict.fromkeys(known.column.replace("##", number) for number in visits)
    return [column for name in names if (column := look(name))]


def _cells(column: tables.Column, side: str, patient: str, barcode: str) -> list[str] | None:
    return column.cells.get((barcode if column.by_film else patient, side if column.by_side else ""))


def _some(cases: Sequence[str]) -> str:
    more = f" and {len(cases) - 3} more" if len(cases) > 3 else ""
    return f"case {', '.join(cases[:3])}{more}"


def _absent(found: Mapping[str, tables.Table], name: str, known: Known) -> str:
    there = {column: None for table in found.values() for column in table.columns if column}
    close = difflib.get_close_matches(name.upper(), there, n=5, cutoff=0.6)
    hint = f"; close to it: {', '.join(close)}" if close else ""
    wanted = f" (column {known.column})" if known.column != name.upper() else ""
    columns = textwrap.shorten(", ".join(there), 1500, placeholder=" ...")
    return (
        f"config.data.attributes: no table has {name!r}{wanted}{hint}. Known by name: side (of split knees), "
        f"{', '.join(KNOWN)}; columns there are: {columns}. Add the table to data.tables, or name another"
    )


def _categorical(
    cases: pd.DataFrame, values: pd.Series, edges: Sequence[float] | None, options: metadata.Options
) -> pd.Series:
    """Text -> a categorical column, in bins where `edges` are given."""
    if edges is not None:
        wrong = (values != "") & number_text.column(values).isna()
        if wrong.any():
            raise InputError(
                f"config.data.bins: {values.name!r} is not a number for {_some(list(cases['case_id'][wrong]))}; "
                "correct the table, or take it out of data.bins"
            )
    problems: list[metadata.Problem] = []
    column = metadata.attribute(values, edges, problems, options, rows=False)
    if problems:
        raise InputError(f"the OAI's tables: {problems[0][1]}")
    return column
