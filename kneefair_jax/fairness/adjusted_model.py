"""Estimates gaps between groups adjusted for covariates with a linear model of the scores.

The model is `score ~ sex * race + age + BMI + KL grade + site + log(area)`, as far as the columns exist, with a case's
mean over structures as its score. As in tests of gaps, patients with a failed segmentation are excluded. The fit is
least squares in which every patient has weight 1, as in the other statistics of a report, with standard errors robust
to the correlation of a patient's cases and to unequal variances of groups (CR2, `robust_estimates`). BMI, KL grade and
area may be mediators (causes of the score through which a group acts), so the model is fitted with and without them on
the same cases.

A random intercept per patient in place of the weights changes the standard deviation of an adjusted gap by at most 2 %
with 1 to 4 cases per patient, and needs an iteration that may fail. With its own standard errors it rejects 15 to 27 %
of true null hypotheses if a small group is twice as variable (docs/statistics.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from kneefair_jax import groups
from kneefair_jax.fairness import patient_table, two_part
from kneefair_jax.fairness.hypothesis_tests import holm
from kneefair_jax.fairness.model_design import (
    AREA,
    MIN_LEVEL_PATIENTS,
    Design,
    design,
    independent_columns,
    marginal_differences,
)
from kneefair_jax.fairness.patient_table import SHARES
from kneefair_jax.fairness.results import Estimate, Interval

# With a leverage (share of a cluster's own scores in their fitted values) above this, residuals are not informative.
_FULL_LEVERAGE = 1 - 1e-9


class RobustEstimates(NamedTuple):
    """Estimates of M linear combinations of the coefficients.

    Attributes:
        estimate: f64[M], in units of the response.
        error: f64[M], CR2 standard errors.
        freedom: f64[M], degrees of freedom of Student's t for estimate / error.
        loads: f64[P, M], what an error of 1 in every row of a cluster contributes to each estimate, clusters ascending.
    """

    estimate: np.ndarray
    error: np.ndarray
    freedom: np.ndarray
    loads: np.ndarray


def robust_estimates(
    x: np.ndarray, y: np.ndarray, clusters: np.ndarray, weights: np.ndarray, combinations: np.ndarray
) -> RobustEstimates | None:
    """Estimate linear combinations of the coefficients of `y ~ x`, robust to any covariance within a cluster.

    With clusters of one observation and one two-level factor, estimate / error is Welch's t. The degrees of freedom
    are exact where errors are normal, independent and of variance 1 / weight (the working model, which also defines
    the correction of the residuals); the standard errors are consistent whatever the covariance within clusters.

    Args:
        x: f64[N, K], of full column rank.
        y: f64[N].
        clusters: [N], the cluster of each row, in any order.
        weights: f64[N], positive, the same for all rows of a cluster.
        combinations: f64[M, K], the coefficients' weights in each combination.

    Returns:
        None if a single cluster determines a coefficient, because its residuals are then not informative.

    Reference:
        Bell & McCaffrey, Survey Methodology 28(2):169-181, 2002. Pustejovsky & Tipton, Journal of Business & Economic
        Statistics 36(4):672-683, 2018, doi:10.1080/07350015.2016.1247004.
    """
    root = np.sqrt(weights)
    q, r = np.linalg.qr(x * root[:, None])
    coordinates = q.T @ (y * root)
    # Rows by cluster, padded with zeros, which contribute nothing: [P, longest cluster, K] and [P, longest cluster].
    blocks, residuals = _cluster_blocks(q, clusters), _cluster_blocks(y * root - q @ coordinates, clusters)
    left, leverage, right = np.linalg.svd(blocks, full_matrices=False)
    if leverage.max() ** 2 > _FULL_LEVERAGE:
        return None
    # (I - H_ii)^(-1/2) Q_i, since H_ii = Q_i Q_i'.
    adjusted = (left * (leverage / np.sqrt(1 - leverage**2))[:, None]) @ right
    directions = np.linalg.solve(r.T, combinations.T)
    # f64[P, longest cluster, M]: each estimate's variance is the sum over clusters of (influence . residuals)^2.
    influence = adjusted @ directions
    variance = (np.einsum("pnm,pn->pm", influence, residuals) ** 2).sum(0)
    # Under the working model the clusters' influence . residuals have the covariance diag(own) - U U'. The variance is
    # their sum of squares, whose mean is the trace, and whose variance is twice the trace of the square.
    cluster_variance = (influence**2).sum(1)
    cluster_overlap = np.einsum("pnk,pnm->mpk", blocks, influence)
    overlap_variance = (cluster_overlap**2).sum(2).T
    trace = (cluster_variance - overlap_variance).sum(0)
    products = cluster_overlap.transpose(0, 2, 1) @ cluster_overlap
    trace_of_square = (cluster_variance**2 - 2 * cluster_variance * overlap_variance).sum(0) + (
        products**2
    ).sum((1, 2))
    loads = np.einsum("pnk,pn->pk", blocks, _cluster_blocks(root, clusters)) @ directions
    return RobustEstimates(directions.T @ coordinates, np.sqrt(variance), trace**2 / trace_of_square, loads)


def _cluster_blocks(rows: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Group rows by cluster, padded with zeros: [N, ...] -> [P, longest cluster, ...]."""
    _, index, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    order = np.argsort(index, kind="stable")
    starts = np.cumsum(sizes) - sizes
    position = np.arange(len(index)) - np.repeat(starts, sizes)
    blocks = np.zeros((len(sizes), sizes.max(), *rows.shape[1:]))
    blocks[index[order], position] = rows[order]
    return blocks


# A score that depends on area, and one that does not.
SCORES = ("dice", "assd_mm")
KIND = "least squares, every patient with weight 1, CR2 errors"
METHOD = (
    "marginal standardization; CR2 by patient, Hall's and Satterthwaite's t; Holm over the model's contrasts"
)
# The least number of patients beyond the number of coefficients.
MIN_FREEDOM = 10
_CONFIDENCE = 0.95
# Residuals below this share of the scores' standard deviation are rounding errors.
_ROUNDING = 1e-10


@dataclass(frozen=True, kw_only=True, repr=False)
class Contrast(Estimate):
    """The adjusted difference between the mean scores of two levels of an attribute, in units of the score.

    Attributes:
        term: its name in tables, `sex: male minus female`.
        attribute: its column.
        level: the level with the minuend.
        reference: the level with the subtrahend.
        df: Satterthwaite degrees of freedom of interval and p value.
    """

    term: str
    attribute: str
    level: str
    reference: str
    df: float


@dataclass(frozen=True)
class Term:
    """A coefficient in units of the score, with Student's interval (95 %), degrees of freedom and p."""

    term: str
    estimate: float
    interval: Interval
    df: float
    p: float


@dataclass(frozen=True)
class Fit:
    """A fitted model; `contrasts` are of every pair of levels of every attribute, `terms` of every coefficient."""

    formula: str
    covariates: list[str]
    contrasts: list[Contrast]
    terms: list[Term]
    patients: int
    cases: int


@dataclass(frozen=True)
class AdjustedModel:
    """The models of one score with and without possible mediators, equal if there are none.

    Attributes:
        formula: of the model with mediators.
        kind: of the fit.
        references: the levels without a coefficient.
        excluded: variables, levels, cases and patients that the models exclude, and the reasons.
        reasons: why a model cannot be fitted.
        without_mediators: None with a reason.
        with_mediators: None with a reason.
    """

    formula: str
    kind: str
    references: list[str]
    excluded: list[str]
    reasons: list[str]
    without_mediators: Fit | None = None
    with_mediators: Fit | None = None


def models(
    cases: pd.DataFrame,
    cohort: pd.DataFrame,
    attributes: Sequence[str],
    scores: Sequence[str] = SCORES,
    *,
    failure_dice: float = patient_table.FAILURE_DICE,
    intersections: bool = True,
) -> dict[str, AdjustedModel]:
    """Return the `model` of `report.json`.

    Args:
        cases: the long per-case table of one split and one model: `case_id, patient_id, structure, true_area_mm2` and
            any of the scores.
        cohort: a row per case: `case_id`, the attributes, and any of `groups.COVARIATES`.
        attributes: columns of the cohort.
        scores: the scores to model; a score without any value is excluded.
        failure_dice: Dice below which a segmentation counts as failed.
        intersections: whether the models hold an interaction of two attributes.

    Returns:
        By score. Estimates are in units of the score. Intervals (95 %) and p are by Student's t with the Satterthwaite
        degrees of freedom of the estimate, those of contrasts after Hall's transformation.
    """
    scored_columns = [score for score in scores if score in cases and cases[score].notna().any()]
    # From all cases, as in the tables, because they determine the expected score of a missing structure.
    macro = {score: patient_table.macro(cases, score, failure_dice) for score in scored_columns}
    failed = cases.loc[cases["dice"] < failure_dice - patient_table.TOLERANCE, "patient_id"].unique()
    cases = cases[~cases["patient_id"].isin(failed)]
    by_case = cases.groupby("case_id")
    area = by_case["true_area_mm2"].sum(min_count=1)
    covariates = [name for name in cohort if str(name).lower() in groups.COVARIATES]
    columns = list(dict.fromkeys([*attributes, *covariates]))
    rows = cohort.set_index("case_id").loc[area.index, columns]
    rows["patient_id"] = pd.factorize(by_case["patient_id"].first())[0]
    rows[AREA] = np.log(area.where(area > 0))
    excluded = []
    if len(failed):
        excluded = [f"patients with a failed segmentation (Dice below {failure_dice:g}): {len(failed)}"]
    models = {}
    for score in scored_columns:
        values = macro[score].reindex(area.index).dropna()
        model = _model(score, rows.loc[values.index], values, attributes, intersections)
        models[score] = replace(model, excluded=model.excluded + excluded)
    return models


def patient_weights(patients: pd.Series) -> np.ndarray:
    """Return 1 over the number of the patient's cases, f64[N], so that every patient has weight 1."""
    return np.asarray(1 / patients.map(patients.value_counts()), float)


def _model(
    name: str, rows: pd.DataFrame, score: pd.Series, attributes: Sequence[str], intersections: bool
) -> AdjustedModel:
    if score.empty:
        reason = "every patient with this score has a failed segmentation"
        return AdjustedModel(name, KIND, [], [], [reason])
    full_design = design(rows, attributes, intersections)
    if full_design.columns.empty:
        reason = _reason_without_cases(rows, attributes)
        return AdjustedModel(name, KIND, [], list(full_design.excluded), [reason])
    rows, score = rows.loc[full_design.columns.index], score[full_design.columns.index]
    excluded, reasons = list(full_design.excluded), []
    fits: dict[str, Fit | str] = {}
    for label, drop in (("without_mediators", full_design.mediators), ("with_mediators", [])):
        if label == "without_mediators" or full_design.mediators:
            columns, dependent_columns = independent_columns(full_design.columns.drop(columns=drop))
            excluded += [f"{column}: follows from the other columns" for column in dependent_columns]
            fit = _fit(name, score, full_design, columns, rows)
        fits[label] = fit
        if isinstance(fit, str):
            reasons.append(f"{label.replace('_', ' ')}: {fit}")
    return AdjustedModel(
        formula=f"{name} ~ {full_design.formula(list(columns))}",
        kind=KIND,
        references=full_design.references,
        excluded=list(dict.fromkeys(excluded)),
        reasons=reasons,
        **{label: fit for label, fit in fits.items() if isinstance(fit, Fit)},
    )


def _reason_without_cases(rows: pd.DataFrame, attributes: Sequence[str]) -> str:
    """Return why the design has no case: `MIN_LEVEL_PATIENTS` are missing, or values."""
    for attribute in attributes:
        rows_with_group = rows[~rows[attribute].isin([groups.MISSING]) & rows[attribute].notna()]
        patients = rows_with_group.groupby(rows_with_group[attribute].astype(str))["patient_id"].nunique()
        if (patients >= MIN_LEVEL_PATIENTS).sum() > 1:
            few = f"with fewer than {MIN_LEVEL_PATIENTS} tested patients"
            return f"each tested patient lacks a value, or is in a group or level of a covariate {few}"
    return f"no attribute has two groups of {MIN_LEVEL_PATIENTS} tested patients"


def _fit(
    name: str, score: pd.Series, full_design: Design, columns: pd.DataFrame, rows: pd.DataFrame
) -> Fit | str:
    """Return the fit, or the reason why there is none."""
    patient_count, coefficient_count = rows["patient_id"].nunique(), columns.shape[1]
    if patient_count - coefficient_count < MIN_FREEDOM:
        return (
            f"{patient_count} patients with everything known are too few for {coefficient_count} coefficients; "
            f"{coefficient_count + MIN_FREEDOM} are needed"
        )
    spread = float(score.std())
    if not spread > 1e-12:
        return "all cases score the same"
    weights = patient_weights(rows["patient_id"])
    differences = marginal_differences(full_design, list(columns), weights)
    x, y = columns.to_numpy(float), score.to_numpy(float)
    combinations = np.vstack([np.eye(coefficient_count), *differences.values()])
    result = robust_estimates(x, y, rows["patient_id"].to_numpy(), weights, combinations)
    if result is None:
        name = _determined_by_one_patient(columns, rows["patient_id"].to_numpy())
        remedy = f"exclude {'interactions (--no-intersections)' if ':' in name else 'the column'}"
        return f"the cases of one patient determine the coefficient of {name}; merge its group, or {remedy}"
    residuals = pd.Series(y - x @ result.estimate[:coefficient_count], index=score.index)
    if residuals.abs().max() <= _ROUNDING * spread:
        return "the columns explain every score, so that no standard error is defined"
    skewnesses = np.zeros(len(result.estimate))
    patient_residuals = residuals.groupby(rows["patient_id"]).mean()
    for i, (attribute, _, _) in enumerate(differences, coefficient_count):
        levels = rows.groupby("patient_id")[attribute].first()
        skewnesses[i] = skewness(patient_residuals, levels, result.loads[:, i], float(result.error[i]))
    names = [*map(str, columns), *(f"{attribute}: {a} minus {b}" for attribute, a, b in differences)]
    terms = _terms(names, result, skewnesses)
    return Fit(
        formula=f"{name} ~ {full_design.formula(list(columns))}",
        covariates=full_design.covariates(list(columns)),
        contrasts=_contrasts(terms[coefficient_count:], list(differences), patient_count, name),
        terms=terms[:coefficient_count],
        patients=patient_count,
        cases=len(score),
    )


def _determined_by_one_patient(columns: pd.DataFrame, patients: np.ndarray) -> str:
    """Return the column that depends on those to its left without the patient of the largest leverage."""
    blocks = _cluster_blocks(np.linalg.qr(columns.to_numpy(float))[0], patients)
    patient = np.unique(patients)[np.linalg.norm(blocks, 2, axis=(1, 2)).argmax()]
    dependent_columns = independent_columns(columns[patients != patient])[1]
    return ["a column", *dependent_columns][-1]


def _terms(names: Sequence[str], result: RobustEstimates, skewnesses: np.ndarray) -> list[Term]:
    """Return every combination of coefficients."""
    critical = stats.t.ppf((1 + _CONFIDENCE) / 2, result.freedom)
    low, high = (
        result.estimate
        - result.error * [two_part.inverse_hall(q, g) for q, g in zip(end, skewnesses, strict=True)]
        for end in (critical, -critical)
    )
    t = two_part.hall(result.estimate / result.error, skewnesses)
    p = 2 * stats.t.sf(np.abs(t), result.freedom)
    return [
        Term(name, float(estimate), [float(start), float(end)], float(df), float(p_value))
        for name, estimate, start, end, df, p_value in zip(
            names, result.estimate, low, high, result.freedom, p, strict=True
        )
    ]


def _contrasts(
    terms: Sequence[Term], keys: Sequence[tuple[str, str, str]], patients: int, score: str
) -> list[Contrast]:
    """Return the contrasts of (attribute, level, reference), corrected over the model's contrasts."""
    limit = 1.0 if score in SHARES else np.inf  # shares differ by no more
    p_adjusted = holm({key: term.p for key, term in zip(keys, terms, strict=True)})
    return [
        Contrast(
            estimate=term.estimate,
            interval=(max(-limit, term.interval[0]), min(limit, term.interval[1])),
            n=patients,
            p=term.p,
            p_adjusted=p_adjusted[attribute, level, reference],
            method=METHOD,
            term=term.term,
            attribute=attribute,
            level=level,
            reference=reference,
            df=term.df,
        )
        for (attribute, level, reference), term in zip(keys, terms, strict=True)
    ]


def skewness(residuals: pd.Series, levels: pd.Series, loads: np.ndarray, error: float) -> float:
    """Return the third cumulant of an estimate over its cubed standard error.

    Patients' errors are assumed to have one shape, because few patients do not determine their own, and the variance of
    their level (as in `hypothesis_tests`).

    Args:
        residuals: of P patients.
        levels: of an attribute, for the same patients.
        loads: f64[P], the contribution of each patient's unit error to the estimate.
        error: of the estimate.
    """
    by_level = residuals.groupby(levels, observed=True)
    standardized_residuals = (residuals - by_level.transform("mean")) / by_level.transform("std", ddof=0)
    shape = float((standardized_residuals.replace([np.inf, -np.inf], np.nan).fillna(0) ** 3).mean())
    spread = by_level.transform("std").fillna(residuals.std()).to_numpy()
    return float(shape * (loads**3 @ spread**3) / error**3)
