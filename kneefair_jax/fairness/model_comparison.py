"""Two models on the same patients: what the second changes, by the paired studentised bootstrap over patients.

A patient's change is its score by the second model minus that by the first, so what the two models share cancels. The
pair of groups is the first model's best and worst, and its gap is signed: a model that turns it round is seen to.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax.fairness import bootstrap, patient_bootstrap, patient_table
from kneefair_jax.fairness.multiplicity import holm
from kneefair_jax.fairness.seed_intervals import ROUNDING

# Best and worst, and the sign of the gap, take it that higher is better.
SCORES = ("dice", "iou", "nsd")


def compare_models(
    tables: Mapping[str, pd.DataFrame],
    attributes: list[str],
    *,
    score: str = "dice",
    min_group_patients: int = 10,
    draws: int = 10_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Every pair of models, for every attribute: `models` of `report.json`.

    Patients without a score by both models are left out of that pair.

    Args:
        tables: model -> its long per-case table (`case_id, patient_id, structure`, the attributes, the score), all of
            the same cases.
        attributes: categorical columns; patients whose attribute is missing count in the mean alone.
        score: the column, one of `SCORES`.
        min_group_patients: smaller groups take no part in the gap.
        draws: bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        `{"score", "order": [model], "pairs": [{"first", "second", "attribute", "patients", "pair": {"best", "worst"} or
        None, "change_of_mean", "change_of_gap": {"value", "interval", "p", "p_holm"}}]}`: second minus first, so that a
        negative change of the gap narrows it. None for what is undefined. `p_holm` corrects over all of these tests.

    Raises:
        InputError: two tables are not of the same cases of the same patients.
        ValueError: the score is an error, of which lower is better.
    """
    if score not in SCORES:
        raise ValueError(f"score {score!r}: models are compared by one of {', '.join(SCORES)}")
    pairs: list[dict[str, Any]] = []
    tests: dict[tuple[str, ...], dict[str, Any]] = {}
    for first, second in combinations(tables, 2):
        both = {first: [tables[first]], second: [tables[second]]}
        for attribute in attributes:
            run = patient_table.stacked(both, [attribute], score)
            values = np.stack([run.scores[first], run.scores[second]])
            entry = change(values, run.index, run.names, min_group_patients, draws, seed)
            pairs.append({"first": first, "second": second, "attribute": attribute, **entry})
            # The mean does not depend on the attribute, so it is one test.
            tests[first, second, "mean"] = entry["change_of_mean"]
            tests[first, second, "gap", attribute] = entry["change_of_gap"]
    corrected = holm({name: test["p"] for name, test in tests.items()})
    for entry in pairs:
        key = entry["first"], entry["second"]
        entry["change_of_mean"]["p_holm"] = corrected[*key, "mean"]
        entry["change_of_gap"]["p_holm"] = corrected[*key, "gap", entry["attribute"]]
    return {"score": score, "order": list(tables), "pairs": pairs}


def change(
    values: np.ndarray, index: np.ndarray, names: tuple[str, ...], minimum: int, draws: int, seed: int
) -> dict[str, Any]:
    """The change of the mean and of the signed gap from one model to another.

    Args:
        values: f[2, 1, P], patients' scores, higher being better, by the first and the second model; NaN is left out.
        index: i32[P], patients' groups; negative where unknown.
        names: of the groups.
        minimum: groups of fewer patients take no part in the gap.
        draws: bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        `{"patients", "pair", "change_of_mean", "change_of_gap"}` of `compare_models`, without the correction.
    """
    known = ~np.isnan(values).any((0, 1))
    everyone = np.sort((values[1] - values[0])[:, known], axis=1)
    entry: dict[str, Any] = {"patients": int(known.sum()), "pair": None}
    entry["change_of_mean"] = _estimate(everyone, np.array([known.sum()]), np.ones(1), draws, seed)
    entry["change_of_gap"] = {"value": None, "interval": None, "p": None}
    strata = patient_bootstrap.stratify(values, index, minimum)
    count = len(strata.groups)
    if count >= 2:
        contrast = np.zeros(len(strata.sizes))
        contrast[0], contrast[count - 1] = -1, 1
        by_patient = strata.values[1] - strata.values[0]
        entry["pair"] = {"best": names[strata.groups[-1]], "worst": names[strata.groups[0]]}
        entry["change_of_gap"] = _estimate(by_patient, strata.sizes, contrast, draws, seed)
    return entry


def _estimate(
    scores: np.ndarray, sizes: np.ndarray, contrast: np.ndarray, draws: int, seed: int
) -> dict[str, Any]:
    """A contrast of stratum means with its equal-tailed studentised interval, and the p that goes with it.

    The interval excludes 0 where p is below 5 %. Where all patients change alike there is no spread to judge by: the
    interval is that point, and p is 1 for no change and undefined for any other.

    Args:
        scores: f64[1, P], stratum after stratum.
        sizes: i64[K], patients of each stratum.
        contrast: f64[K].
        draws: bootstrap resamples.
        seed: of the bootstrap.
    """
    if not sizes.sum():
        return {"value": None, "interval": None, "p": None}
    used = contrast != 0
    value = float(patient_bootstrap.means(scores, sizes)[0] @ contrast)
    if sizes[used].min() < bootstrap.MIN_PATIENTS:
        return {"value": value, "interval": None, "p": None}
    spread = np.array([part.var(ddof=1) / part.size for part in np.split(scores[0], np.cumsum(sizes)[:-1])])
    error = float(np.sqrt(spread[used] @ contrast[used] ** 2))
    if error <= ROUNDING:
        return {"value": value, "interval": [value, value], "p": 1.0 if abs(value) <= ROUNDING else None}
    drawn, squared = patient_bootstrap.resample(scores, sizes, np.random.default_rng(seed), draws)
    shift = drawn[:, 0] @ contrast - value
    errors = np.sqrt(squared[:, 0] @ contrast**2)
    # A resample of equal changes alone has no standard error: it lies as far out as it can.
    t = np.divide(shift, errors, out=np.where(shift > 0, np.inf, -np.inf), where=errors > ROUNDING)
    t = np.where(np.abs(shift) <= ROUNDING, 0.0, t)
    low, high = np.quantile(t, (0.975, 0.025), method="nearest")
    observed = value / error
    tail = min((t >= observed).sum(), (t <= observed).sum())
    ends = [value - float(low) * error, value - float(high) * error]
    return {
        "value": value,
        "interval": ends if np.isfinite(ends).all() else None,
        "p": min(1.0, 2 * float(tail + 1) / (draws + 1)),
    }
