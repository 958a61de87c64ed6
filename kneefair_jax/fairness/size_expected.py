"""Size-expected SER: the skewed error ratio that size alone would give, all contours being equally good."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.fairness import summaries


def expected_ser(
    errors: np.ndarray, patients: np.ndarray, index: np.ndarray, ranked: np.ndarray, worst: int
) -> float | None:
    """SER of errors that follow from size, over the patients of each ranked group.

    A ratio has no direction: where size alone would put another group last than the scores do, it explains nothing.

    Args:
        errors: f64[N, S] of `metrics.boundary_errors`, a row a case; NaN where a structure is absent.
        patients: [N], whose case it is.
        index: i32[N], the group of each case.
        ranked: i[G], the groups to compare.
        worst: that of them which scores worst.

    Returns:
        max_g e_g / min_g e_g of the means of patients' means of cases' means over structures; None with fewer than
        two groups, without a score in one of them, where the smallest error is 0, or where g is not the worst group.
    """
    macro = pd.DataFrame(errors).mean(axis=1)
    means = [macro[index == g].groupby(patients[index == g]).mean().mean() for g in ranked]
    if len(means) < 2 or np.isnan(means).any() or ranked[int(np.argmax(means))] != worst:
        return None
    ser = float(summaries.ser(1 - np.array(means)))
    return None if np.isnan(ser) else ser


def apart(cases: pd.DataFrame) -> float:
    """The pooled ASSD of a per-case table, in mm: how far off contours are; NaN where no spacing is known.

    A structure that was overlooked scores the image's diagonal, which says nothing about contours: it is left out.
    """
    drawn = cases[(cases["true_area_mm2"] > 0) & (cases["pred_area_mm2"] > 0)]
    return float(drawn["assd_mm"].mean())


def add(
    scores: dict[str, Any], errors: Mapping[str, np.ndarray], cases: pd.DataFrame, attributes: tuple[str, ...]
) -> None:
    """Writes `size` beside the value of each macro SER of a report's `scores`, for the groups ranked there.

    Args:
        scores: of `fairness.scores`; changed in place.
        errors: score -> f64[N, S].
        cases: the N cases: `patient_id` and the categorical attribute columns.
        attributes: as the report's.
    """
    patients = cases["patient_id"].to_numpy()
    for partition in groups.partitions(cases, attributes):
        for score, of_cases in errors.items():
            known = scores[score]["groups"]
            ranked = [g for g, name in enumerate(partition.names) if known[name]["ranked"]]
            summary = scores[score]["summaries"][",".join(partition.attributes)]
            name = summary["worst"]["group"]
            worst = partition.names.index(name) if name else -1
            summary["ser"]["size"] = expected_ser(
                of_cases, patients, partition.index, np.array(ranked), worst
            )
