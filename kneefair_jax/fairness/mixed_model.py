"""What is left of a gap between groups once confounders are accounted for: a linear mixed model of the scores.

`score ~ sex * race + age + BMI + KL grade + site + log(area) + (1 | patient)`, so far as the columns exist, with a
case's mean over structures as its score. BMI, KL grade and area may be mediators (the way by which a group comes to its
score), so the model is fitted with and without them, on the same cases.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from kneefair_jax import groups

# One that is about area, and one that is not.
SCORES = ("dice", "assd_mm")
MIXED = "mixed model"
ROBUST = "least squares, robust errors"
# Patients beyond the number of coefficients.
MIN_FREEDOM = 10
_CONFIDENCE = 0.95
AREA = "log(area)"
# What a group differs in may act through these: they are no confounders then, but a part of the effect.
MEDIATORS = ("bmi", "kl", AREA)
# A coefficient of fewer patients says nothing, and a single one has no robust standard error.
MIN_LEVEL_PATIENTS = 5
# Where a covariate is unknown in more cases than this share, it is left out; else the cases are.
MOST_UNKNOWN = 0.5
_RANK = 1e-8


def models(
    cases: pd.DataFrame, cohort: pd.DataFrame, attributes: Sequence[str], scores: Sequence[str] = SCORES
) -> dict[str, Any]:
    """The `model` of `report.json`.

    Args:
        cases: the long per-case table of one split and one model: `case_id, patient_id, structure, true_area_mm2` and
            any of the scores.
        cohort: a row a case: `case_id`, the attributes, and any of `groups.COVARIATES`.
        attributes: their columns.
        scores: what to model; one that is nowhere known is left out.

    Returns:
        score -> `{"formula", "kind", "with_mediators", "without_mediators", "references", "left_out", "reasons"}`. A
        fit is `{"terms": [{"term", "estimate", "interval", "p"}], "patients", "cases"}`, or None, with a reason.
        Estimates are in units of the score. Intervals (95 %) and p are by Student's t with as many degrees of freedom
        as there are patients beyond the coefficients: the normal distribution is too narrow for few patients.
    """
    by_case = cases.groupby("case_id")
    area = by_case["true_area_mm2"].sum(min_count=1)
    covariates = [name for name in cohort if str(name).lower() in groups.COVARIATES]
    columns = list(dict.fromkeys([*attributes, *covariates]))
    rows = cohort.set_index("case_id").loc[area.index, columns]
    rows["patient_id"] = by_case["patient_id"].first()
    rows[AREA] = np.log(area.where(area > 0))
    macro = {score: by_case[score].mean().dropna() for score in scores if score in cases}
    return {
        score: _model(score, rows.loc[values.index], values, attributes)
        for score, values in macro.items()
        if len(values)
    }


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
        rows: a row a case: `patient_id`, the attributes, and any of `groups.COVARIATES` (in any case of letters) and
            `AREA`; numbers are linear, anything else is levels, of which `missing` is none.
        attributes: their columns.
    """
    found = {str(name).lower(): str(name) for name in rows}
    names = list(
        dict.fromkeys([*attributes, *(found[name] for name in (*groups.COVARIATES, AREA) if name in found)])
    )
    left_out: list[str] = []
    values: dict[str, pd.Series] = {}
    for name in names:
        column = _values(rows[name])
        if column.isna().mean() > MOST_UNKNOWN:
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
            for level in patients.index[patients < MIN_LEVEL_PATIENTS]:
                left_out.append(
                    f"{name}={level}: {patients[level]} patients, {MIN_LEVEL_PATIENTS} are needed"
                )
                keep &= column != level
    parts = {name: _columns(name, column[keep]) for name, column in values.items()}
    left_out += [f"{name}: the same in all cases that are left" for name, part in parts.items() if part.empty]
    parts = {name: part for name, part in parts.items() if not part.empty}
    crossed = [name for name in parts if name in attributes and name.lower() not in groups.COVARIATES][:2]
    columns = pd.concat(parts.values(), axis=1) if parts else pd.DataFrame(index=rows.index[keep])
    if len(crossed) == 2:
        for a in parts[crossed[0]]:
            for b in parts[crossed[1]]:
                both = columns[a] * columns[b]
                if (number := rows["patient_id"][both.index[both != 0]].nunique()) < MIN_LEVEL_PATIENTS:
                    left_out.append(f"{a}:{b}: {number} patients, {MIN_LEVEL_PATIENTS} are needed")
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


def _model(name: str, rows: pd.DataFrame, score: pd.Series, attributes: Sequence[str]) -> dict[str, Any]:
    made = design(rows, attributes)
    patients = rows["patient_id"][made.columns.index]
    score = score[made.columns.index]
    several = bool(patients.duplicated().any())
    model: dict[str, Any] = {
        "formula": f"{name} ~ {made.formula}" + several * " + (1 | patient)",
        "kind": MIXED if several else ROBUST,
    }
    left_out, reasons = list(made.left_out), []
    for label, drop in (("with_mediators", ()), ("without_mediators", made.mediators)):
        columns, dependent = independent(made.columns.drop(columns=list(drop)))
        left_out += [f"{column}: follows from the other columns" for column in dependent]
        fit = _fit(score, columns, patients, several)
        model[label] = None if isinstance(fit, str) else fit
        if isinstance(fit, str):
            reasons.append(f"{label.replace('_', ' ')}: {fit}")
    return model | {
        "references": list(made.references),
        "left_out": list(dict.fromkeys(left_out)),
        "reasons": reasons,
    }


def _fit(score: pd.Series, columns: pd.DataFrame, patients: pd.Series, several: bool) -> dict[str, Any] | str:
    """The fit, or why there is none."""
    freedom = patients.nunique() - columns.shape[1]
    if freedom < MIN_FREEDOM:
        return (
            f"{patients.nunique()} patients with everything known are too few for {columns.shape[1]} "
            f"coefficients; {columns.shape[1] + MIN_FREEDOM} are needed"
        )
    spread = float(score.std())
    if not spread > 1e-12:
        return "all cases score the same"
    # In units of about 1 the optimiser converges, and its idea of a variance near 0 fits.
    scale = columns.std().where(columns.std() > 0, 1.0).to_numpy()
    y, x = score.to_numpy() / spread, columns.to_numpy() / scale
    fitted = _mixed(y, x, patients.to_numpy()) if several else sm.OLS(y, x).fit(cov_type="HC3")
    if isinstance(fitted, str):
        return fitted
    k = columns.shape[1]
    estimate, error = (np.asarray(v)[:k] * spread / scale for v in (fitted.params, fitted.bse))
    if not (np.isfinite(estimate).all() and np.isfinite(error).all() and (error > 0).all()):
        return "the standard errors are not defined"
    half = stats.t.ppf((1 + _CONFIDENCE) / 2, freedom) * error
    p = 2 * stats.t.sf(np.abs(estimate / error), freedom)
    return {
        "terms": [
            {
                "term": str(term),
                "estimate": float(estimate[i]),
                "interval": [float(estimate[i] - half[i]), float(estimate[i] + half[i])],
                "p": float(p[i]),
            }
            for i, term in enumerate(columns)
        ],
        "patients": int(patients.nunique()),
        "cases": len(score),
    }


def _mixed(y: np.ndarray, x: np.ndarray, patients: np.ndarray) -> Any | str:
    """Statsmodels' result by restricted maximum likelihood, or why there is none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted = sm.MixedLM(y, x, groups=patients).fit(reml=True)
        except (np.linalg.LinAlgError, ValueError) as error:
            return f"the mixed model could not be fitted ({error})"
    if not fitted.converged:
        said = [str(entry.message) for entry in caught if issubclass(entry.category, ConvergenceWarning)]
        return f"the mixed model did not converge ({said[0] if said else 'no reason given'})"
    return fitted


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
