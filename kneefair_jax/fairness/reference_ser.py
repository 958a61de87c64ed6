"""The SER that follows from size alone, all contours being equally good."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax import groups


def expected_ser(
    errors: np.ndarray, patients: np.ndarray, index: np.ndarray, best: int, worst: int
) -> float | None:
    """The ratio of two groups' errors that follow from size, over their patients.

    A SER has no direction. This ratio keeps that of the scores: it is below 1 where size would favour the group that
    scores worst, and so explains nothing.

    Args:
        errors: f64[N, S] of `metrics.boundary_errors`, a row a case; NaN where a structure is absent.
        patients: [N], whose case it is.
        index: i32[N], the group of each case.
        best: the group that scores best.
        worst: the group that scores worst.

    Returns:
        e_worst / e_best, means of patients' means of cases' means over structures; None without a score in one of
        them, or where e_best is 0.
    """
    macro = pd.DataFrame(errors).mean(axis=1)
    low, high = (macro[index == g].groupby(patients[index == g]).mean().mean() for g in (best, worst))
    return float(high / low) if low > 0 and not np.isnan(high) else None


def apart(cases: pd.DataFrame, spacing: np.ndarray) -> float:
    """How far off contours are, in mm: the pooled ASSD of a per-case table, at least the cohort's largest pixel.

    One distance for all, or another machine's pixels would pass for another size. NaN where no spacing is known. A
    structure that was overlooked scores the image's diagonal, which says nothing about contours: it is left out.

    Args:
        cases: the long per-case table.
        spacing: f[N, 2], mm per pixel of each case.
    """
    drawn = cases[(cases["true_area_mm2"] > 0) & (cases["pred_area_mm2"] > 0)]
    known = spacing[np.isfinite(spacing).all(1)]
    return max(float(drawn["assd_mm"].mean()), float(known.max())) if len(known) else float("nan")


def add(
    scores: dict[str, Any],
    errors: Mapping[str, np.ndarray],
    cases: pd.DataFrame,
    attributes: tuple[str, ...],
    intersections: bool = True,
) -> None:
    """Writes `size` beside each macro SER of a report's `scores`, for the best and the worst group ranked there.

    Args:
        scores: of `fairness.scores`; changed in place.
        errors: score -> f64[N, S].
        cases: the N cases: `patient_id` and the categorical attribute columns.
        attributes: as the report's.
        intersections: as the report's.
    """
    patients = cases["patient_id"].to_numpy()
    for partition in groups.partitions(cases, attributes, intersections):
        for score, of_cases in errors.items():
            means = {
                name: scores[score]["groups"][name]["mean"]
                for name in partition.names
                if scores[score]["groups"][name]["ranked"]
            }
            ser = scores[score]["summaries"][",".join(partition.attributes)]["ser"]
            ser["size"] = None
            if len(means) > 1:
                best, worst = (
                    partition.names.index(choose(means, key=means.__getitem__)) for choose in (max, min)
                )
                ser["size"] = expected_ser(of_cases, patients, partition.index, best, worst)
