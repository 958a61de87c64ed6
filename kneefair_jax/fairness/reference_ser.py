"""Computes the SER that follows from size if all contours are equally good, and compares the observed SER with it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from kneefair_jax import groups
from kneefair_jax.fairness import patient_table
from kneefair_jax.fairness.inference import MIN_INTERVAL_PATIENTS
from kneefair_jax.fairness.patient_table import standardized_means
from kneefair_jax.fairness.results import BeyondSize

LEVEL = 0.05


def expected_ser(
    errors: np.ndarray, patients: np.ndarray, index: np.ndarray, best: int, worst: int
) -> float | None:
    """Return the ratio of two groups' errors that follow from size, over their patients.

    A SER has no direction. This ratio keeps the direction of the scores: it is below 1 if size favors the group that
    scores worst, and then explains nothing.

    Args:
        errors: f64[N], macro errors (`patient_table.standardized_means`) of `metrics.boundary_errors`, a row per case;
            NaN without any.
        patients: [N], the patient of each case.
        index: i32[N], the group of each case.
        best: the group that scores best.
        worst: the group that scores worst.

    Returns:
        e_worst / e_best, means of patients' means of their cases; None if a group has no score or e_best is 0.
    """
    macro = pd.Series(errors)
    low, high = (macro[index == g].groupby(patients[index == g]).mean().mean() for g in (best, worst))
    return float(high / low) if low > 0 and not np.isnan(high) else None


def boundary_offset_mm(cases: pd.DataFrame, spacing: np.ndarray) -> float:
    """Return the typical distance of contours in mm: the pooled ASSD of a per-case table, at least the largest pixel.

    All groups share one distance, because a distance per device would be confounded with size. It is NaN if no spacing
    is known. A structure without any predicted pixel scores the image's diagonal, which is no distance of contours, so
    it is excluded.

    Args:
        cases: the long per-case table.
        spacing: f[N, 2], mm per pixel of each case.
    """
    predicted_structures = cases[(cases["true_area_mm2"] > 0) & (cases["pred_area_mm2"] > 0)]
    known_spacing = spacing[np.isfinite(spacing).all(1)]
    return (
        max(float(predicted_structures["assd_mm"].mean()), float(known_spacing.max()))
        if len(known_spacing)
        else float("nan")
    )


def beyond_size(
    observed: np.ndarray, expected: np.ndarray, index: np.ndarray, names: Sequence[str]
) -> BeyondSize | None:
    """Compare the ratio of the errors of the worst and the best group with the ratio that follows from size.

    Both ratios are of the same patients. The variance of log(worst / best) - log(expected worst / expected best) is
    that of the patients' observed / mean observed - expected / mean expected (delta method). Student's t has Welch
    and Satterthwaite's degrees of freedom. With more than two groups the extremes are selected by their errors, so the
    interval is simultaneous over all pairs (Bonferroni).

    Args:
        observed: f64[P], errors of patients, no NaN.
        expected: f64[P], the errors that follow from size, of the same patients.
        index: i[P], their groups.
        names: of the groups.

    Returns:
        None if an error of a group is 0, or fewer than two groups have a patient.
    """
    errors_by_group = {
        names[g]: (observed[index == g], expected[index == g])
        for g in range(len(names))
        if (index == g).any()
    }
    if (
        len(errors_by_group) < 2
        or min(part.mean() for group_errors in errors_by_group.values() for part in group_errors) <= 0
    ):
        return None
    best, worst = (
        select(errors_by_group, key=lambda name: errors_by_group[name][0].mean()) for select in (min, max)
    )
    ratios = [errors_by_group[worst][i].mean() / errors_by_group[best][i].mean() for i in (0, 1)]
    interval = None
    if min(len(errors_by_group[name][0]) for name in (best, worst)) >= MIN_INTERVAL_PATIENTS:
        variance = np.array([_log_variance(*errors_by_group[name]) for name in (best, worst)])
        freedom = np.array([len(errors_by_group[name][0]) - 1 for name in (best, worst)])
        total = variance.sum()
        half = 0.0
        if total > 0:
            pairs = len(errors_by_group) * (len(errors_by_group) - 1) / 2
            satterthwaite = total**2 / (variance**2 / freedom).sum()
            half = float(stats.t.ppf(1 - LEVEL / 2 / pairs, satterthwaite) * np.sqrt(total))
        center = np.log(ratios[0] / ratios[1])
        interval = (float(np.exp(center - half)), float(np.exp(center + half)))
    return BeyondSize(
        value=float(ratios[0] / ratios[1]),
        interval=interval,
        observed=float(ratios[0]),
        expected=float(ratios[1]),
        best=best,
        worst=worst,
        patients={name: len(errors_by_group[name][0]) for name in (best, worst)},
    )


def _log_variance(observed: np.ndarray, expected: np.ndarray) -> float:
    """Return the variance of log(mean observed) - log(mean expected) of the same patients."""
    return float((observed / observed.mean() - expected / expected.mean()).var(ddof=1) / len(observed))


def add_expected_ser(
    scores: dict[str, Any],
    errors: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    cases: pd.DataFrame,
    attributes: tuple[str, ...],
    intersections: bool = True,
    failure_dice: float = patient_table.FAILURE_DICE,
) -> None:
    """Write `size` and `beyond_size` beside each macro SER of a report's `scores`.

    `size` is of all patients, for the best and the worst ranked group. `beyond_size`, the fields of `BeyondSize` or
    None, is of patients without a failed segmentation, as are the tests of gaps, because size explains no failure.

    Args:
        scores: of `fairness.scores`; changed in place.
        errors: score -> f64[N, S], a row per case of `cases`.
        table: the long per-case table of the scores.
        cases: the N cases: `case_id`, `patient_id` and the categorical attribute columns.
        attributes: as the report's.
        intersections: as the report's.
        failure_dice: as the report's.
    """
    patients = cases["patient_id"].to_numpy()
    failed = set(table.loc[table["dice"] < failure_dice - patient_table.TOLERANCE, "case_id"])
    has_failure = cases["case_id"].isin(failed).to_numpy()[:, None]
    macro_errors = {
        score: np.column_stack(
            [
                1 - patient_table.macro(table, score, failure_dice).reindex(cases["case_id"]).to_numpy(float),
                standardized_means(case_errors),
            ]
        )
        for score, case_errors in errors.items()
    }
    for partition in groups.partitions(cases, attributes, intersections):
        flags = patient_table.patient_group_flags(has_failure, patients, partition.index)[:, 0]
        for score, case_errors in macro_errors.items():
            ranked_means = {
                name: scores[score]["groups"][name]["mean"]
                for name in partition.names
                if scores[score]["groups"][name]["ranked"]
            }
            ser = scores[score]["summaries"][",".join(partition.attributes)]["ser"]
            if len(ranked_means) < 2:
                continue
            best, worst = (
                partition.names.index(select(ranked_means, key=ranked_means.__getitem__))
                for select in (max, min)
            )
            ser["size"] = expected_ser(case_errors[:, 1], patients, partition.index, best, worst)
            patient_errors, _, index = patient_table.patient_group_means(
                case_errors, patients, partition.index
            )
            ranked = [partition.names.index(name) for name in ranked_means]
            is_compared = ~flags & ~np.isnan(patient_errors).any(1) & np.isin(index, ranked)
            observed, expected = patient_errors[is_compared].T
            result = beyond_size(observed, expected, index[is_compared], partition.names)
            ser["beyond_size"] = result and asdict(result)
