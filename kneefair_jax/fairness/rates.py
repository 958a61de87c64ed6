"""Compares rates of a binary endpoint by group: exact intervals, Fisher's exact tests and differences of pairs.

Means of scores hide rare failures, and their intervals are too short if a few scores are 0. A rate has an exact
interval however rare the event is: n patients without a failure are consistent with a failure rate of up to
1 - 0.025^(1/n).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats

from kneefair_jax.fairness import hypothesis_tests, patient_table
from kneefair_jax.fairness.results import Estimate

CONFIDENCE = 0.95
# Random tables for the test over more than two groups: the standard deviation of p near 0.05 is 0.002.
DRAWS = 9_999
# Relative difference below which the probabilities of two tables are equal but for rounding, as in R's fisher.test:
# logarithms of factorials of a million patients are exact to 1e-9.
_TIE = 1e-7
# The name, in a family of tests, of the test over all ranked groups of an attribute.
ALL_GROUPS = "all groups"


class Tally(NamedTuple):
    """The number of patients of a group, and how many of them have the event."""

    events: int
    patients: int


@dataclass(frozen=True, repr=False)
class RateDifference(Estimate):
    """The difference of two rates, the first minus the second.

    Attributes:
        tallies: of the two groups.
        interval_adjusted: at the level at which a family's correction judged its p; None outside a family.
    """

    tallies: tuple[Tally, Tally] = (Tally(0, 0), Tally(0, 0))
    interval_adjusted: tuple[float, float] | None = None


@dataclass(frozen=True)
class RatePair:
    """The difference of two groups' rates, the first minus the second.

    Attributes:
        first: name of a group.
        second: name of another group.
        difference: with its interval and Fisher's exact test; `p_adjusted` is Holm's over the pairs.
    """

    first: str
    second: str
    difference: RateDifference


@dataclass(frozen=True)
class RateComparison:
    """The comparison of the rates of one attribute's groups.

    Attributes:
        test: the largest difference of two ranked groups' rates, and the test that all ranked groups have the same
            rate; None if fewer than two groups are ranked.
        pairs: of ranked groups, in the order of the groups.
        unranked: for each group that is too small to rank, its rate minus that of all other patients with a known
            attribute.
    """

    test: Estimate | None
    pairs: tuple[RatePair, ...]
    unranked: dict[str, RateDifference]


@dataclass(frozen=True)
class GroupRate:
    """The rate of an endpoint in one group.

    Attributes:
        count: patients with the event of an adverse endpoint; patients who reach a threshold.
        rate: their share of the patients with a known event.
        ranked: whether the group takes part in tests over groups.
        unranked: the reason if it does not.
    """

    count: int
    rate: Estimate
    ranked: bool
    unranked: str | None


@dataclass(frozen=True)
class StructureRates:
    """The rates of one structure, by group of each attribute.

    The `tests` by attribute are exploratory: their `p_adjusted` is Benjamini and Hochberg's.
    """

    overall: Estimate
    groups: dict[str, GroupRate]
    tests: dict[str, Estimate]


@dataclass(frozen=True)
class EndpointRates:
    """The rates of one endpoint for all structures together (a patient's worst counts) and for each structure.

    `score`, `threshold` and `adverse` are those of the endpoint.

    Attributes:
        reason: why it cannot be computed, in which case all other fields are empty; None if it can.
        count: patients of all groups, as `GroupRate.count`.
        overall: the rate over all patients; None if it cannot be computed.
        groups: by name, for each attribute and each pair of attributes.
        comparisons: by attribute, corrected by `rates.adjust`. Pairs of attributes are shown but not tested:
            their rates differ if those of one attribute do.
        structures: by name.
    """

    score: str | None
    threshold: float | None
    adverse: bool
    reason: str | None
    count: int
    overall: Estimate | None
    groups: dict[str, GroupRate]
    comparisons: dict[str, RateComparison]
    structures: dict[str, StructureRates]


def merge_cases(events: np.ndarray, patients: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge the cases that a patient has in a group: the event occurs if it occurs in any of them.

    Args:
        events: f64[N, K] of 0, 1 and NaN (unknown).
        patients: the patient of each case, [N].
        index: the group of each case, i[N].

    Returns:
        f64[R, K] of 0, 1 and NaN by patient and group, and the group of each row, i[R].
    """
    means, _, rows = patient_table.patient_group_means(events, patients, index)
    return np.where(np.isnan(means), np.nan, means > 0), rows


def tallies(events: np.ndarray, index: np.ndarray, names: Sequence[str]) -> dict[str, Tally]:
    """Count rows with a known event, and events, by group.

    Args:
        events: f64[R] of 0, 1 and NaN (unknown).
        index: the group of each row, i[R].
        names: of the groups.
    """
    by_group = {}
    for g, name in enumerate(names):
        values = events[(index == g) & ~np.isnan(events)]
        by_group[name] = Tally(int(values.sum()), len(values))
    return by_group


@cache
def clopper_pearson(tally: Tally, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Return the exact interval of a rate; None without patients.

    Reference: Clopper and Pearson, Biometrika 26, 1934. The quantiles of the beta distribution are the closed form
    of `scipy.stats.binomtest(...).proportion_ci`.
    """
    events, patients = tally
    if not patients:
        return None
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, events, patients - events + 1)) if events else 0.0
    high = float(stats.beta.isf(tail, events + 1, patients - events)) if events < patients else 1.0
    return low, high


def rate(tally: Tally) -> Estimate:
    """Return the share of patients with the event and its exact interval."""
    events, patients = tally
    value = events / patients if patients else None
    return Estimate(value, clopper_pearson(tally), patients, method="Clopper-Pearson interval")


def difference_interval(first: Tally, second: Tally, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval of the difference of two rates, the first minus the second.

    It combines the exact intervals of both rates (method of variance estimates recovery), so it never leaves [-1, 1]
    and does not degenerate if a rate is 0 or 1.

    Reference: Newcombe, Statistics in Medicine 17, 1998 (method 10, there with score intervals); Zou and Donner,
    Statistics in Medicine 27, 2008, DOI 10.1002/sim.3095.

    Args:
        first: patients and events of a group, at least one patient.
        second: the same of another group.
        confidence: of the interval.
    """
    (low_1, high_1), (low_2, high_2) = (clopper_pearson(t, confidence) or (0.0, 1.0) for t in (first, second))
    rate_1, rate_2 = (t.events / t.patients for t in (first, second))
    value = rate_1 - rate_2
    return (
        max(-1.0, value - float(np.hypot(rate_1 - low_1, high_2 - rate_2))),
        min(1.0, value + float(np.hypot(high_1 - rate_1, rate_2 - low_2))),
    )


def difference(first: Tally, second: Tally, pairs: int = 1) -> RateDifference:
    """Return the difference of two rates, its interval (`difference_interval`) and Fisher's exact test.

    Args:
        first: patients and events of a group, at least one patient.
        second: the same of another group.
        pairs: number of differences whose intervals hold simultaneously at 95 % (Bonferroni).
    """
    simultaneous = f", simultaneous over {pairs} pairs" if pairs > 1 else ""
    return RateDifference(
        first.events / first.patients - second.events / second.patients,
        difference_interval(first, second, 1 - (1 - CONFIDENCE) / pairs),
        first.patients + second.patients,
        fisher([first, second]),
        method=f"Newcombe interval from Clopper-Pearson intervals{simultaneous}; Fisher's exact test",
        tallies=(first, second),
    )


def fisher(groups: Sequence[Tally], draws: int = DRAWS, seed: int = 0) -> float:
    """Return the two-sided p value of the hypothesis that all groups have the same rate.

    Two groups have Fisher's exact test, more groups the Fisher-Freeman-Halton test with random tables of the same
    margins. The result does not depend on the order of the groups.

    Args:
        groups: at least two, each with at least one patient.
        draws: random tables.
        seed: of the random tables.
    """
    table = np.array(sorted((t.events, t.patients - t.events) for t in groups)).T
    if not table.any(1).all():  # every patient has the event, or no patient has it
        return 1.0
    if len(groups) == 2:
        return float(stats.fisher_exact(table).pvalue)
    # The same as stats.fisher_exact with a MonteCarloMethod, which fails on tables with more patients than draws.
    rng = np.random.default_rng(seed)
    tables = stats.random_table(table.sum(1), table.sum(0), seed=rng)
    observed = float(tables.pmf(table))
    is_as_extreme = tables.pmf(tables.rvs(draws)) <= observed * (1 + _TIE)
    return float((1 + is_as_extreme.sum()) / (1 + draws))


def equal_rates_test(ranked: Mapping[str, Tally], seed: int = 0) -> Estimate | None:
    """Test whether all groups have the same rate; the estimate is the largest difference. None with fewer than two."""
    if len(ranked) < 2:
        return None
    values = [t.events / t.patients for t in ranked.values()]
    method = (
        "Fisher's exact test" if len(ranked) == 2 else f"Fisher-Freeman-Halton test, {DRAWS:,} random tables"
    )
    patients = sum(t.patients for t in ranked.values())
    p = fisher(list(ranked.values()), seed=seed)
    return Estimate(max(values) - min(values), None, patients, p, method=method)


def compare(
    ranked: Mapping[str, Tally], unranked: Mapping[str, Tally] | None = None, seed: int = 0
) -> RateComparison:
    """Compare the rates of groups by exact tests.

    Args:
        ranked: the groups that are large enough to rank, by name, each with at least one patient.
        unranked: the groups with a known attribute that are too small to rank.
        seed: of the test over more than two groups.

    Returns:
        Only the pairs have a `p_adjusted`; `adjust` corrects over attributes.
    """
    return RateComparison(
        equal_rates_test(ranked, seed), _pairs(ranked), _against_rest(ranked, unranked or {})
    )


def _pairs(ranked: Mapping[str, Tally]) -> tuple[RatePair, ...]:
    names = list(combinations(ranked, 2))
    differences = {(a, b): difference(ranked[a], ranked[b], len(names)) for a, b in names}
    adjusted_p = hypothesis_tests.holm({pair: estimate.p for pair, estimate in differences.items()})
    return tuple(
        RatePair(*pair, replace(estimate, p_adjusted=adjusted_p[pair]))
        for pair, estimate in differences.items()
    )


def _against_rest(ranked: Mapping[str, Tally], unranked: Mapping[str, Tally]) -> dict[str, RateDifference]:
    total = np.array([*ranked.values(), *unranked.values()]).reshape(-1, 2).sum(0)
    differences = {}
    for name, tally in unranked.items():
        rest = Tally(*(total - tally).tolist())
        if tally.patients and rest.patients:
            differences[name] = difference(tally, rest)
    return differences


def p_values(comparisons: Mapping[str, RateComparison]) -> dict[tuple[str, str], float]:
    """Return all uncorrected p values of one endpoint, which form one family.

    Returns:
        (attribute, `ALL_GROUPS`) for the test over the ranked groups, and (attribute, group) for each group that is too
        small to rank.
    """
    p_by_test: dict[tuple[str, str], float] = {}
    for attribute, comparison in comparisons.items():
        tests = {ALL_GROUPS: comparison.test} if comparison.test else {}
        for name, test in (tests | comparison.unranked).items():
            if test.p is not None:
                p_by_test[attribute, name] = test.p
    return p_by_test


def adjust(comparisons: Mapping[str, RateComparison]) -> dict[str, RateComparison]:
    """Correct over attributes by Holm's method: tests over groups and tests of small groups form one family.

    Pairs, which `compare` corrects within their attribute, are corrected over attributes too. If an attribute has only
    one pair, that pair is the test over groups and gets its p value.
    """
    family = hypothesis_tests.holm(p_values(comparisons))
    pairs = hypothesis_tests.holm_of_families(
        {
            attribute: [p for pair in comparison.pairs if (p := pair.difference.p_adjusted) is not None]
            for attribute, comparison in comparisons.items()
        }
    )
    adjusted_comparisons = {}
    for attribute, comparison in comparisons.items():
        p_over_groups = family.get((attribute, ALL_GROUPS))
        of_pairs = [p_over_groups] if len(comparison.pairs) == 1 else pairs[attribute]
        adjusted_comparisons[attribute] = RateComparison(
            comparison.test and replace(comparison.test, p_adjusted=p_over_groups),
            tuple(
                replace(pair, difference=replace(pair.difference, p_adjusted=p))
                for pair, p in zip(comparison.pairs, of_pairs, strict=True)
            ),
            {
                name: replace(test, p_adjusted=family[attribute, name])
                for name, test in comparison.unranked.items()
            },
        )
    return adjusted_comparisons
