"""Compares pairs of models on the same patients: the change of the mean and of the gap between groups.

A patient's change is the score of the second model minus that of the first, so the variance that both models share
cancels. The change of the mean has the studentized bootstrap over patients; swaps test the change of the gap
(`gap_change`).
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax.fairness import bootstrap, gap_change, patient_bootstrap, patient_table
from kneefair_jax.fairness.multiplicity import holm
from kneefair_jax.fairness.patient_table import Runs
from kneefair_jax.fairness.seed_intervals import ROUNDING

# Scores for which higher is better; only for these does a smaller gap mean a better model.
SCORES = ("dice", "iou", "nsd")


def compare_models(
    tables: Mapping[str, pd.DataFrame],
    attributes: list[str],
    *,
    score: str = "dice",
    min_group_patients: int = 10,
    draws: int = 10_000,
    seed: int = 0,
    failure_dice: float = patient_table.FAILURE_DICE,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Compare every pair of models for every attribute: the `models` of `report.json`.

    A pair excludes patients without a score by both models. A patient whose cases lie in several groups has a row in
    each, with the mean of those cases, as in the tables of each model.

    Args:
        tables: model -> its long per-case table (`case_id, patient_id, structure`, the attributes, the score), all of
            the same cases.
        attributes: categorical columns; cases with a missing attribute count in the mean only.
        score: the column, one of `SCORES`.
        min_group_patients: smaller groups take no part in the gap.
        draws: bootstrap resamples, and swaps.
        seed: of both.
        failure_dice: of the models' tables (`patient_table.macro`).
        advance: called after each attribute of each pair of models.

    Returns:
        `{"score", "order": [model], "pairs": [{"first", "second", "attribute", "patients", "change_of_mean": {"value",
        "interval", "p", "p_holm"}, "change_of_gap": {"first", "second", "value", "interval", "p", "p_holm"}}]}`: second
        minus first, so a negative change narrows the gap. None is undefined. `p_holm` of the gap is corrected over
        pairs of models and attributes, that of the mean over pairs of models.

    Raises:
        InputError: two tables are not of the same cases of the same patients.
        ValueError: lower is better for the score.
    """
    if score not in SCORES:
        raise ValueError(f"score {score!r}: models are compared by one of {', '.join(SCORES)}")
    pairs: list[dict[str, Any]] = []
    for first, second in combinations(tables, 2):
        pair_tables = {first: [tables[first]], second: [tables[second]]}
        mean = None
        for attribute in attributes:
            runs = patient_table.stack_runs(pair_tables, [attribute], score, failure_dice)
            mean = mean or mean_change(runs, draws, seed)
            gap = change_of_gap(runs, min_group_patients, draws, seed)
            pair_names = {"first": first, "second": second, "attribute": attribute}
            pairs.append(
                pair_names | {**mean, "change_of_mean": dict(mean["change_of_mean"]), "change_of_gap": gap}
            )
            advance()
    means = holm({(pair["first"], pair["second"]): pair["change_of_mean"]["p"] for pair in pairs})
    gaps = holm({k: pair["change_of_gap"]["p"] for k, pair in enumerate(pairs)})
    for k, pair in enumerate(pairs):
        pair["change_of_mean"]["p_holm"] = means[pair["first"], pair["second"]]
        pair["change_of_gap"]["p_holm"] = gaps[k]
    return {"score": score, "order": list(tables), "pairs": pairs}


def mean_change(runs: Runs, draws: int, seed: int) -> dict[str, Any]:
    """Return the change of the mean over patients: `patients` and `change_of_mean`, not corrected.

    Args:
        runs: of the first and the second model, one run each.
        draws: bootstrap resamples.
        seed: of the bootstrap.
    """
    (first,), (second,) = runs.overall.values()
    changes = second - first
    changes = changes[~np.isnan(changes)]
    return {"patients": len(changes), "change_of_mean": _mean(changes, draws, seed)}


def change_of_gap(runs: Runs, minimum: int, swaps: int, seed: int) -> dict[str, Any]:
    """Return the change of the gap, `change_of_gap`, not corrected.

    Args:
        runs: of the first and the second model, one run each.
        minimum: groups of fewer patients take no part.
        swaps: random sets of patients whose scores are swapped.
        seed: of the swaps.
    """
    (first,), (second,) = runs.scores.values()
    has_score = (runs.index >= 0) & ~np.isnan(first + second)
    sizes = np.bincount(runs.index[has_score], minlength=len(runs.names))
    ranked = np.flatnonzero(sizes >= max(minimum, 1))
    if len(ranked) < 2:
        return dict.fromkeys(("first", "second", "value", "interval", "p"))
    is_ranked = has_score & np.isin(runs.index, ranked)
    index = np.searchsorted(ranked, runs.index[is_ranked])
    change = gap_change.compare_gaps(
        first[is_ranked], second[is_ranked], index, runs.patients[is_ranked], swaps, seed
    )
    return asdict(change)


def _mean(changes: np.ndarray, draws: int, seed: int) -> dict[str, Any]:
    """Return the mean of f64[P] with its equal-tailed studentized bootstrap interval and the matching p.

    The interval excludes 0 if p is below 5 %. If all patients change by the same amount, there is no standard error:
    the interval is a point, and p is 1 if the change is 0, else undefined.
    """
    if not len(changes):
        return {"value": None, "interval": None, "p": None}
    value = float(changes.mean())
    if len(changes) < bootstrap.MIN_PATIENTS:
        return {"value": value, "interval": None, "p": None}
    # Sorted by size: the order of the patients changes no resample, and the order of the models only its sign.
    changes = changes[np.argsort(np.abs(changes), kind="stable")][None]
    sizes = np.array([changes.size])
    error = float(np.sqrt(patient_bootstrap.squared_errors(changes, sizes)[0, 0]))
    if error <= ROUNDING:
        return {"value": value, "interval": [value, value], "p": 1.0 if abs(value) <= ROUNDING else None}
    bootstrap_means, bootstrap_variance = patient_bootstrap.resample(
        changes, sizes, np.random.default_rng(seed), draws
    )
    shift, errors = bootstrap_means[:, 0, 0] - value, np.sqrt(bootstrap_variance[:, 0, 0])
    # A resample of equal changes has no standard error: its t is infinite.
    t = np.divide(shift, errors, out=np.where(shift > 0, np.inf, -np.inf), where=errors > ROUNDING)
    t = np.where(np.abs(shift) <= ROUNDING, 0.0, t)
    low, high = np.quantile(t, (0.975, 0.025), method="nearest")
    tail = min((t >= value / error).sum(), (t <= value / error).sum())
    ends = [value - float(low) * error, value - float(high) * error]
    return {
        "value": value,
        "interval": ends if np.isfinite(ends).all() else None,
        "p": min(1.0, 2 * float(tail + 1) / (draws + 1)),
    }
