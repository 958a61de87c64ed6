"""Scores that a network predicts for its own masks, by group, and how far they may be trusted.

A predicted score is no measurement: it may be equally wrong for everyone, or more wrong for one group. So each group
has the share of its patients without a trusted prediction and, where reference masks exist, the share of patients whose
score lies outside of the predicted interval, and the mean of score minus prediction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from kneefair_jax import groups
from kneefair_jax.fairness import patient_table, rates
from kneefair_jax.fairness.rates import GroupRate
from kneefair_jax.fairness.results import Estimate

COLUMNS = ("predicted", "low", "high", "error", "outside", "covered", "untrusted")


@dataclass(frozen=True)
class GroupPrediction:
    """The predicted scores of a group.

    Attributes:
        cases: all of them.
        untrusted: patients with a case whose prediction is not trusted.
        predicted: mean over patients with a trusted prediction.
        low: mean lower end of the predicted intervals.
        high: mean upper end.
        outside: patients of whom a case's score is outside of its interval; None where no score is known.
        covered: mean share of scores in their intervals; None where no score is known.
        error: mean of score minus predicted score over patients, with Student's interval; None where none is known.
    """

    cases: int
    untrusted: GroupRate
    predicted: Estimate
    low: float | None
    high: float | None
    outside: GroupRate | None
    covered: float | None
    error: Estimate | None


@dataclass(frozen=True)
class PredictedScores:
    """The predicted scores of all patients and of each group.

    There are no tests: a patient with more films has more chances of one outside of its interval.

    Attributes:
        measured: whether the cohort has measured scores beside the predicted ones.
        overall: of all patients.
        groups: by name.
    """

    measured: bool
    overall: GroupPrediction
    groups: dict[str, GroupPrediction]


def predicted_scores(
    cases: pd.DataFrame, attributes: Sequence[str], minimum: int, *, measured: bool
) -> PredictedScores:
    """Describe predicted scores by group.

    Args:
        cases: a row per case with `patient_id`, categorical attributes, and `COLUMNS`: f64, NaN where unknown;
            `outside` and `untrusted` are 0 or 1, `covered` is a share.
        attributes: columns to group by.
        minimum: patients of a group that is ranked.
        measured: whether there are measured scores.
    """
    all_cases = groups.Partition((), ("all",), np.zeros(len(cases), np.int32))
    overall = _by_group(cases, all_cases, 0)["all"]
    by_group: dict[str, GroupPrediction] = {}
    for attribute in attributes:
        by_group |= _by_group(cases, groups.partition(cases, [attribute], missing_as_level=True), minimum)
    return PredictedScores(measured, overall, by_group)


def _by_group(cases: pd.DataFrame, partition: groups.Partition, minimum: int) -> dict[str, GroupPrediction]:
    patients = cases["patient_id"].to_numpy()
    values = cases[list(COLUMNS)].to_numpy(float)
    means, _, rows = patient_table.patient_group_means(values, patients, partition.index)
    described = {}
    for number, (name, count) in enumerate(zip(partition.names, partition.counts, strict=True)):
        of_group = dict(zip(COLUMNS, means[rows == number].T, strict=True))
        is_scored = bool((~np.isnan(of_group["error"])).any())
        described[name] = GroupPrediction(
            int(count),
            _rate(name, of_group["untrusted"], minimum),
            _mean(of_group["predicted"], (0.0, 1.0)),
            _mean(of_group["low"]).estimate,
            _mean(of_group["high"]).estimate,
            _rate(name, of_group["outside"], minimum) if is_scored else None,
            _mean(of_group["covered"]).estimate,
            _mean(of_group["error"], (-1.0, 1.0)) if is_scored else None,
        )
    return described


def _rate(name: str, shares: np.ndarray, minimum: int) -> GroupRate:
    """Return the rate of patients with a share above 0, of those whose share is known."""
    finite = shares[~np.isnan(shares)]
    tally = rates.Tally(int((finite > 0).sum()), len(finite))
    reason = groups.unranked_reason(name, tally.patients, minimum)
    return GroupRate(tally.events, rates.rate(tally), reason is None, reason)


def _mean(values: np.ndarray, limits: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
    """Return the mean of the known values with Student's interval, cut at limits; no interval with fewer than two."""
    finite = values[~np.isnan(values)]
    if not finite.size:
        return Estimate(None, None, 0)
    mean = float(finite.mean())
    if finite.size < 2:
        return Estimate(mean, None, 1)
    half = float(stats.t.ppf(0.975, finite.size - 1) * finite.std(ddof=1) / np.sqrt(finite.size))
    ends = max(mean - half, limits[0]), min(mean + half, limits[1])
    return Estimate(mean, ends, finite.size, method="Student interval over patients")
