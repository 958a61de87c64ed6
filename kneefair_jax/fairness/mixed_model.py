"""What is left of a gap between groups once confounders are accounted for: a linear mixed model of the scores.

`score ~ sex * race + age + BMI + KL grade + site + log(area) + (1 | patient)`, so far as the columns exist, with a
case's mean over structures as its score. BMI, KL grade and area may be mediators (the way by which a group comes to its
score), so the model is fitted with and without them, on the same cases.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from kneefair_jax.fairness import design

# One that is about area, and one that is not.
SCORES = ("dice", "assd_mm")
MIXED = "mixed model"
ROBUST = "least squares, robust errors"
# Patients beyond the number of coefficients.
MIN_FREEDOM = 10
_CONFIDENCE = 0.95


def models(
    cases: pd.DataFrame, cohort: pd.DataFrame, attributes: Sequence[str], scores: Sequence[str] = SCORES
) -> dict[str, Any]:
    """The `model` of `report.json`.

    Args:
        cases: the long per-case table of one split and one model: `case_id, patient_id, structure, true_area_mm2` and
            any of the scores.
        cohort: a row a case: `case_id`, the attributes, and any of `design.COVARIATES`.
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
    covariates = [name for name in cohort if str(name).lower() in design.COVARIATES]
    columns = list(dict.fromkeys([*attributes, *covariates]))
    rows = cohort.set_index("case_id").loc[area.index, columns]
    rows["patient_id"] = by_case["patient_id"].first()
    rows[design.AREA] = np.log(area.where(area > 0))
    macro = {score: by_case[score].mean().dropna() for score in scores if score in cases}
    return {
        score: _model(score, rows.loc[values.index], values, attributes)
        for score, values in macro.items()
        if len(values)
    }


def _model(name: str, rows: pd.DataFrame, score: pd.Series, attributes: Sequence[str]) -> dict[str, Any]:
    made = design.design(rows, attributes)
    patients = rows["patient_id"][made.columns.index]
    score = score[made.columns.index]
    several = bool(patients.duplicated().any())
    model: dict[str, Any] = {
        "formula": f"{name} ~ {made.formula}" + several * " + (1 | patient)",
        "kind": MIXED if several else ROBUST,
    }
    left_out, reasons = list(made.left_out), []
    for label, drop in (("with_mediators", ()), ("without_mediators", made.mediators)):
        columns, dependent = design.independent(made.columns.drop(columns=list(drop)))
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
