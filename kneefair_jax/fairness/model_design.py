"""Builds the columns of a linear model from attributes and covariates, and contrasts of an attribute's levels."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pandas as pd

from kneefair_jax import groups

AREA = "log(area)"
# A group may affect the score through these; they are then part of the effect, not confounders.
MEDIATORS = ("bmi", "kl", AREA)
# A coefficient of fewer patients is not estimated.
MIN_LEVEL_PATIENTS = 5
# A covariate that is unknown in more than this share of cases is excluded; otherwise those cases are.
MOST_UNKNOWN = 0.5
_RANK = 1e-8


@dataclass(frozen=True)
class Design:
    """Numeric columns for the cases without an unknown variable.

    Attributes:
        columns: f64, a row per case (with the index of the input rows), a named column per coefficient: `intercept`,
            `sex=male`, `sex=male:race=B`, `age`; the first level of an attribute is the reference and has no column.
        variables: column -> its variables and their levels, `{"sex": "male", "race": "B"}`; the level of a number is
            None.
        attributes: the variables whose levels are compared; the others are covariates.
        levels: variable -> its levels, the reference first; numbers are absent.
        excluded: variables, levels and cases that the model excludes, and the reasons.
    """

    columns: pd.DataFrame
    variables: dict[str, dict[str, str | None]]
    attributes: tuple[str, ...]
    levels: dict[str, tuple[str, ...]]
    excluded: tuple[str, ...]

    @property
    def mediators(self) -> list[str]:
        """The columns of possible mediators."""
        return [name for name in self.columns if any(v.lower() in MEDIATORS for v in self.variables[name])]

    @property
    def references(self) -> list[str]:
        """The levels without a column."""
        return [f"{name}={levels[0]}" for name, levels in self.levels.items()]

    def formula(self, columns: Sequence[str]) -> str:
        """Return the right-hand side with these columns, such as `sex * race + age`; `1` is only the intercept."""
        variables = [self.variables[name] for name in columns]
        interaction = next((tuple(v) for v in variables if len(v) > 1), ())
        main_effects = dict.fromkeys(name for v in variables for name in v if name not in interaction)
        return " + ".join([" * ".join(interaction)] * bool(interaction) + list(main_effects)) or "1"

    def covariates(self, columns: Sequence[str]) -> list[str]:
        """Return the variables of these columns that are not attributes."""
        names = dict.fromkeys(variable for name in columns for variable in self.variables[name])
        return [variable for variable in names if variable not in self.attributes]


def design(rows: pd.DataFrame, attributes: Sequence[str], intersections: bool = True) -> Design:
    """Return the model `a * b + covariates`, as far as the columns exist; `a + b + covariates` without intersections.

    `a * b` are the first two attributes that are not themselves covariates, with the interaction of those levels that,
    with their references, form four cells of `MIN_LEVEL_PATIENTS` or more.

    Args:
        rows: a row per case: `patient_id`, the attributes, and any of `groups.COVARIATES` (in any case of letters) and
            `AREA`; numbers are linear, other columns categorical, with `missing` as unknown.
        attributes: columns of the rows.
        intersections: whether the model holds an interaction.
    """
    spelling = {str(name).lower(): str(name) for name in rows}
    covariates = [spelling[name] for name in (*groups.COVARIATES, AREA) if name in spelling]
    values, excluded = _usable_variables(rows, list(dict.fromkeys([*attributes, *covariates])))
    keep = pd.Series(True, index=rows.index)
    for name, column in values.items():
        if unknown := int(column.isna().sum()):
            excluded.append(f"{unknown} of {len(column)} cases: {name} is unknown")
        keep &= column.notna()
    keep = _frequent_cases(values, keep, rows["patient_id"], excluded)
    parts = {name: _columns(column[keep]) for name, column in values.items()}
    excluded += [f"{name}: the same in all cases that are left" for name, part in parts.items() if not part]
    parts = {name: part for name, part in parts.items() if part}
    columns = {"intercept": pd.Series(1.0, index=rows.index[keep])}
    variables: dict[str, dict[str, str | None]] = {"intercept": {}}
    for name, part in parts.items():
        for level in part:
            key = name if level is None else f"{name}={level}"
            columns[key], variables[key] = part[level], {name: level}
    levels = {
        name: (str(values[name][keep].min()), *map(str, part))
        for name, part in parts.items()
        if None not in part
    }
    interaction_attributes = [
        name for name in levels if name in attributes and name.lower() not in groups.COVARIATES
    ][:2]
    if intersections and len(interaction_attributes) == 2:
        cells = rows[keep].groupby([values[name][keep].astype(str) for name in interaction_attributes])
        patients = cells["patient_id"].nunique()
        (first, second), names = (levels[name] for name in interaction_attributes), interaction_attributes
        for a, b in product(first[1:], second[1:]):
            keys = [f"{names[0]}={a}", f"{names[1]}={b}"]
            # The interaction is the difference of two differences, so each of its four cells determines it.
            counts = {cell: int(patients.get(cell, 0)) for cell in product((a, first[0]), (b, second[0]))}
            rarest = min(counts, key=lambda cell: counts[cell])
            if counts[rarest] < MIN_LEVEL_PATIENTS:
                group = "" if rarest == (a, b) else f" with {names[0]}={rarest[0]}, {names[1]}={rarest[1]}"
                excluded.append(
                    f"{':'.join(keys)}: {counts[rarest]} patients{group}, {MIN_LEVEL_PATIENTS} are needed"
                )
            else:
                columns[":".join(keys)] = columns[keys[0]] * columns[keys[1]]
                variables[":".join(keys)] = variables[keys[0]] | variables[keys[1]]
    return Design(
        columns=pd.DataFrame(columns, index=rows.index[keep]),
        variables=variables,
        attributes=tuple(name for name in parts if name in attributes),
        levels=levels,
        excluded=tuple(excluded),
    )


def marginal_differences(
    design: Design, columns: Sequence[str], weights: np.ndarray
) -> dict[tuple[str, str, str], np.ndarray]:
    """Return the differences between the levels of each attribute as combinations of coefficients.

    All cases are set to one level, then to the other, with all other variables unchanged. The difference of the
    weighted means of the fitted scores is the marginal standardization (g-computation) of the attribute's effect.

    Args:
        design: of the cases.
        columns: the columns with a coefficient.
        weights: f64[N], of the cases in the mean.

    Returns:
        (attribute, level, reference) -> f64[K], for each pair of levels with coefficients.

    Reference:
        Robins, Mathematical Modelling 7:1393-1512, 1986, doi:10.1016/0270-0255(86)90088-6.
    """
    means = pd.Series(np.average(design.columns, axis=0, weights=weights), index=design.columns.columns)
    variables = {name: design.variables[name] for name in columns}
    differences = {}
    for attribute in design.attributes:
        levels = design.levels.get(attribute, ())
        main = {v[attribute] for v in variables.values() if list(v) == [attribute]}
        for reference, level in combinations(levels, 2):
            if not {reference, level} <= {levels[0], *main}:
                continue
            # The mean of an interaction's column, the attribute's level given, is that of its other factor.
            differences[attribute, level, reference] = np.array(
                [
                    ((v.get(attribute) == level) - float(v.get(attribute) == reference))
                    * np.prod([means[f"{name}={other}"] for name, other in v.items() if name != attribute])
                    if attribute in v
                    else 0.0
                    for v in variables.values()
                ]
            )
    return differences


def independent_columns(columns: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns that are linearly independent of those to their left, and the names of the others."""
    basis = np.zeros((len(columns), 0))
    independent_names, dependent_names = [], []
    for name in columns:
        column = columns[name].to_numpy(float)
        # Twice, because the first projection leaves rounding errors of the size of the tolerance.
        residual = column - basis @ (basis.T @ column)
        residual = residual - basis @ (basis.T @ residual)
        if np.linalg.norm(residual) <= _RANK * max(float(np.linalg.norm(column)), 1e-300):
            dependent_names.append(str(name))
        else:
            independent_names.append(name)
            basis = np.column_stack([basis, residual / np.linalg.norm(residual)])
    return columns[independent_names], dependent_names


def _usable_variables(rows: pd.DataFrame, names: Sequence[str]) -> tuple[dict[str, pd.Series], list[str]]:
    """Return the variables that are known in most cases and vary, and the reasons for excluding the others."""
    values, excluded = {}, []
    for name in names:
        column = _values(rows[name])
        if column.isna().all():
            excluded.append(f"{name}: unknown in all cases")
        elif column.isna().mean() > MOST_UNKNOWN:
            excluded.append(f"{name}: unknown in most cases")
        elif column.nunique() < 2:
            excluded.append(f"{name}: the same in all cases")
        else:
            values[name] = column
    return values, excluded


def _frequent_cases(
    values: dict[str, pd.Series], keep: pd.Series, patient_ids: pd.Series, excluded: list[str]
) -> pd.Series:
    """Keep the cases whose levels all have `MIN_LEVEL_PATIENTS`; the other levels are appended to `excluded`."""
    categories = {n: c for n, c in values.items() if isinstance(c.dtype, pd.CategoricalDtype)}
    while True:
        keep_before = keep
        for name, column in categories.items():
            patients = patient_ids[keep].groupby(column[keep], observed=True).nunique()
            for level in patients.index[patients < MIN_LEVEL_PATIENTS]:
                excluded.append(
                    f"{name}={level}: {patients[level]} patients, {MIN_LEVEL_PATIENTS} are needed"
                )
                keep = keep & (column != level)
        # Excluding cases for one variable may make a level of another too rare.
        if keep.equals(keep_before):
            return keep


def _values(column: pd.Series) -> pd.Series:
    """Return finite numbers, or an ordered categorical; NaN is unknown."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = column.astype(float)
        return numbers.where(np.isfinite(numbers))
    levels = column if isinstance(column.dtype, pd.CategoricalDtype) else groups.categorical(column)
    known_levels = [level for level in levels.cat.categories if level != groups.MISSING]
    return levels.cat.set_categories(known_levels, ordered=True)


def _columns(values: pd.Series) -> dict[str | None, pd.Series]:
    """Return level -> f64: the numbers under None, or an indicator of each level that occurs, except the first."""
    if not isinstance(values.dtype, pd.CategoricalDtype):
        return {None: values} if values.nunique() > 1 else {}
    levels = values.cat.remove_unused_categories()
    return {str(level): (levels == level).astype(float) for level in levels.cat.categories[1:]}
