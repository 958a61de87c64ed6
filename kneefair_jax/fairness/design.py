"""A cohort's columns -> the design matrix of `mixed_model`, and what of it was left out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import groups

AREA = "log(area)"
COVARIATES = groups.COVARIATES
# What a group differs in may act through these: they are no confounders then, but a part of the effect.
MEDIATORS = ("bmi", "kl", AREA)
# A coefficient of fewer patients says nothing, and a single one has no robust standard error.
MIN_PATIENTS = 5
# Where a covariate is unknown in more cases than this share, it is left out; else the cases are.
MOST = 0.5
_RANK = 1e-8


class Design(NamedTuple):
    """Columns of numbers for the cases of which everything is known.

    Attributes:
        columns: f64, a row a case (the index is that of the rows given), a named column a coefficient: `intercept`,
            `sex=male`, `sex=male:race=B`, `age`; the first level of an attribute has none, it is the reference.
        formula: the right-hand side with fixed effects, such as `sex * race + age`.
        mediators: the columns of possible mediators.
        references: the levels without a column.
        left_out: what has no column or no row, and why.
    """

    columns: pd.DataFrame
    formula: str
    mediators: tuple[str, ...]
    references: tuple[str, ...]
    left_out: tuple[str, ...]


def design(rows: pd.DataFrame, attributes: Sequence[str]) -> Design:
    """The model `a * b + covariates`, so far as the columns exist.

    `a * b` are the first two attributes that are not themselves covariates, with their interaction.

    Args:
        rows: a row a case: `patient_id`, the attributes, and any of `COVARIATES` (in any case of letters) and `AREA`;
            numbers are linear, anything else is levels, of which `missing` is none.
        attributes: their columns.
    """
    found = {str(name).lower(): str(name) for name in rows}
    names = list(
        dict.fromkeys([*attributes, *(found[name] for name in (*COVARIATES, AREA) if name in found)])
    )
    left_out: list[str] = []
    values: dict[str, pd.Series] = {}
    for name in names:
        column = _values(rows[name])
        if column.isna().mean() > MOST:
            left_out.append(f"{name}: unknown in most cases")
        elif column.nunique() < 2:
            left_out.append(f"{name}: the same in all cases")
        else:
            values[name] = column
    keep = pd.Series(True, index=rows.index)
    for column in values.values():
        keep &= column.notna()
    for name, column in values.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            patients = rows["patient_id"][keep].groupby(column[keep], observed=True).nunique()
            for level in patients.index[patients < MIN_PATIENTS]:
                left_out.append(f"{name}={level}: {patients[level]} patients, {MIN_PATIENTS} are needed")
                keep &= column != level
    parts = {name: _columns(name, column[keep]) for name, column in values.items()}
    left_out += [f"{name}: the same in all cases that are left" for name, part in parts.items() if part.empty]
    parts = {name: part for name, part in parts.items() if not part.empty}
    crossed = [name for name in parts if name in attributes and name.lower() not in COVARIATES][:2]
    columns = pd.concat(parts.values(), axis=1) if parts else pd.DataFrame(index=rows.index[keep])
    if len(crossed) == 2:
        for a in parts[crossed[0]]:
            for b in parts[crossed[1]]:
                both = columns[a] * columns[b]
                if (number := rows["patient_id"][both.index[both != 0]].nunique()) < MIN_PATIENTS:
                    left_out.append(f"{a}:{b}: {number} patients, {MIN_PATIENTS} are needed")
                else:
                    columns[f"{a}:{b}"] = both
    columns.insert(0, "intercept", 1.0)
    text = " + ".join([" * ".join(crossed)] * bool(crossed) + [name for name in parts if name not in crossed])
    return Design(
        columns=columns,
        formula=text or "1",
        mediators=tuple(c for name in parts if name.lower() in MEDIATORS for c in parts[name]),
        references=tuple(
            f"{name}={values[name][keep].min()}"
            for name in parts
            if isinstance(values[name].dtype, pd.CategoricalDtype)
        ),
        left_out=tuple(left_out),
    )


def independent(columns: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The columns that do not follow from those to their left, and the names of the others."""
    basis = np.zeros((len(columns), 0))
    kept, others = [], []
    for name in columns:
        column = columns[name].to_numpy(float)
        # Twice, as the first projection leaves rounding errors of the size that is asked for.
        rest = column - basis @ (basis.T @ column)
        rest = rest - basis @ (basis.T @ rest)
        if np.linalg.norm(rest) <= _RANK * max(float(np.linalg.norm(column)), 1e-300):
            others.append(str(name))
        else:
            kept.append(name)
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
    return columns[kept], others


def _values(column: pd.Series) -> pd.Series:
    """Finite numbers, or an ordered categorical; NaN where unknown."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = column.astype(float)
        return numbers.where(np.isfinite(numbers))
    levels = column if isinstance(column.dtype, pd.CategoricalDtype) else groups.categorical(column)
    known = [level for level in levels.cat.categories if level != groups.MISSING]
    return levels.cat.set_categories(known, ordered=True)


def _columns(name: str, values: pd.Series) -> pd.DataFrame:
    """f64: the numbers, or a column of zeros and ones for each level that occurs but the first."""
    if not isinstance(values.dtype, pd.CategoricalDtype):
        return values.to_frame(name) if values.nunique() > 1 else pd.DataFrame(index=values.index)
    levels = values.cat.remove_unused_categories()
    return pd.DataFrame(
        {f"{name}={level}": (levels == level).astype(float) for level in levels.cat.categories[1:]},
        index=values.index,
    )
