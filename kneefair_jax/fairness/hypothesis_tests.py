"""Tests of gaps between groups: permuted Welch tests, rank tests and equivalence tests.

Permuted Welch tests are the primary ones: the attribute is permuted over patients, and the statistic is studentised.
Permuted means reject a true null in 19 % of cohorts where the small group is the more variable one; a statistic
divided by its standard error keeps the level even then (Janssen, Statistics & Probability Letters 36, 1997; Chung and
Romano, Annals of Statistics 41, 2013). Welch's intervals and the smallest detectable gap stand beside them.

Rank tests are what readers of papers expect, and they ask another question than the gap. Brunner-Munzel: is a patient
of one group as likely to score above as below one of the other? Mann-Whitney and Kruskal-Wallis: are the distributions
the same? The last two also reject where spreads alone differ.

Groups are called equivalent by two one-sided tests, never by a large p.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from kneefair_jax.fairness import simultaneous_intervals
from kneefair_jax.fairness.bootstrap import CHUNK
from kneefair_jax.fairness.multiplicity import holm
from kneefair_jax.fairness.simultaneous_intervals import Means

# Statistics this close to the observed one are ties: the same split, summed in another order.
_TIE = 1e-9
# Fewer patients in a group cannot show equality.
MIN_EQUIVALENCE_PATIENTS = 50


class PermutationTests(NamedTuple):
    """Of K scores of the same patients in G groups, J = G (G - 1) / 2 pairs.

    Attributes:
        name: of the test.
        statistic: f64[K], Welch's t (first minus second) of two groups, Welch's F of more.
        p: f64[K], two-sided.
        pairs: f64[K, J], Welch's t of each pair, in the order of `simultaneous_intervals.pairs`.
        pairs_p: f64[K, J], of each pair by the permuted max |t|, so corrected over the pairs.
    """

    name: str
    statistic: np.ndarray
    p: np.ndarray
    pairs: np.ndarray
    pairs_p: np.ndarray


def permuted_welch(
    scores: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, permutations: int = 10_000
) -> PermutationTests | None:
    """Permuted Welch t of two groups, permuted Welch ANOVA of more with its pairs.

    p is (1 + permutations at least as extreme) / (1 + permutations).

    Args:
        scores: f64[K, P], one a patient, the groups one after another; none NaN.
        sizes: i64[G], patients of each group.
        rng: permutes, the same way for all K.
        permutations: how many.

    Returns:
        The tests; None where a group has fewer than two patients, or there are fewer than two groups.
    """
    if len(sizes) < 2 or min(sizes) < 2:
        return None
    patients, count = scores.shape[1], len(sizes)
    labels = np.repeat(np.arange(count, dtype=np.int8 if count < 128 else np.int32), sizes)
    # Neither centring nor scaling changes a statistic; both keep sums of squares exact.
    centred = scores - scores.mean(1, keepdims=True)
    spread = centred.std(1, keepdims=True)
    scaled = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-12)
    both = np.concatenate([scaled, scaled**2]).T
    statistic, pairs = _welch_statistics(both, labels[None], sizes)
    observed = [np.abs(part[0]) * (1 - _TIE) for part in (statistic, pairs)]
    beyond, pairs_beyond = np.zeros(statistic.shape[1:]), np.zeros(pairs.shape[1:])
    rows = max(1, CHUNK // max(patients * count, len(scores) * count**2))
    for start in range(0, permutations, rows):
        size = min(rows, permutations - start)
        shuffled = rng.permuted(np.tile(labels, (size, 1)), axis=1)
        permuted, t = _welch_statistics(both, shuffled, sizes)
        beyond += (np.abs(permuted) >= observed[0]).sum(0)
        pairs_beyond += (np.abs(t).max(2, keepdims=True) >= observed[1]).sum(0)
    return PermutationTests(
        "permuted Welch t" if count == 2 else "permuted Welch ANOVA",
        statistic[0],
        (1 + beyond) / (1 + permutations),
        pairs[0],
        (1 + pairs_beyond) / (1 + permutations),
    )


def _welch_statistics(
    both: np.ndarray, labels: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums by group as matrix products -> f64[D, K] and f64[D, K, J].

    Args:
        both: f64[P, 2 K], scores of SD 1 and their squares.
        labels: i[D, P], the patients' groups by draw.
        sizes: i64[G].
    """
    sums = [(labels == g).astype(float) @ both for g in range(len(sizes) - 1)]
    sums.append(both.sum(0) - sum(sums))
    total, squares = np.split(np.stack(sums, axis=-1), 2, axis=1)  # f64[D, K, G] each
    mean = total / sizes
    # A group of equal scores has a standard error of nearly 0, not of 0: its t is large, not undefined.
    variance = np.maximum(squares - total * mean, 1e-12) / (sizes - 1) / sizes
    first, second = np.triu_indices(len(sizes), 1)
    pairs = (mean[..., first] - mean[..., second]) / np.sqrt(variance[..., first] + variance[..., second])
    return (pairs[..., 0] if len(sizes) == 2 else _welch_anova(mean, variance, sizes)), pairs


def _welch_anova(mean: np.ndarray, variance: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Welch's F of means f64[..., G] and their squared standard errors (Biometrika 38, 1951)."""
    count = len(sizes)
    weights = 1 / variance
    share = weights / weights.sum(-1, keepdims=True)
    middle = (share * mean).sum(-1, keepdims=True)
    between = (weights * (mean - middle) ** 2).sum(-1) / (count - 1)
    lack = ((1 - share) ** 2 / (sizes - 1)).sum(-1)
    return between / (1 + 2 * (count - 2) / (count**2 - 1) * lack)


def welch_intervals(scores: np.ndarray, sizes: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """Of each pair's difference on its own, not of all pairs at once.

    Args:
        scores: f64[K, P], one a patient, the groups one after another; none NaN.
        sizes: i64[G], two patients or more in each group.
        confidence: of each interval.

    Returns:
        f64[K, J, 2], in the order of `simultaneous_intervals.pairs`.
    """
    difference, error, freedom = _welch_pairs(scores, sizes)
    half = stats.t.ppf((1 + confidence) / 2, freedom) * error
    return np.stack([difference - half, difference + half], axis=-1)


def detectable_gap(
    scores: np.ndarray, sizes: np.ndarray, power: float = 0.8, level: float = 0.05
) -> np.ndarray:
    """The gap that a two-sided test would find with this power: f64[K], of the pair where it is largest.

    (t_{1 - level/2} + t_power) times Welch's standard error of patient means.
    """
    _, error, freedom = _welch_pairs(scores, sizes)
    return ((stats.t.ppf(1 - level / 2, freedom) + stats.t.ppf(power, freedom)) * error).max(1)


def _welch_pairs(scores: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Differences, their standard errors and Welch's degrees of freedom, f64[K, J] each."""
    parts = np.split(scores, np.cumsum(sizes)[:-1], axis=1)
    mean = np.stack([part.mean(1) for part in parts], axis=1)
    squared = np.stack([part.var(1, ddof=1) / part.shape[1] for part in parts], axis=1)
    first, second = np.triu_indices(len(sizes), 1)
    both = squared[:, first] + squared[:, second]
    parted = squared[:, first] ** 2 / (sizes[first] - 1) + squared[:, second] ** 2 / (sizes[second] - 1)
    # Groups of equal scores alone have no standard error, whatever its degrees of freedom.
    freedom = np.divide(both**2, parted, out=np.ones_like(both), where=parted > 0)
    return mean[:, first] - mean[:, second], np.sqrt(both), freedom


class RankTests(NamedTuple):
    """Of G groups, J pairs in the order of `simultaneous_intervals.pairs`.

    Attributes:
        name: `Brunner-Munzel` of two groups, `Kruskal-Wallis` of more.
        p: of it; None where undefined.
        brunner_munzel: J p values, corrected by Holm over the pairs; None where no patient of one group scores among
            the other's, which has no standard error.
        mann_whitney: J p values; Dunn's corrected by Holm where there are more than two groups.
        cliffs_delta: J numbers in [-1, 1], P(first > second) - P(first < second).
    """

    name: str
    p: float | None
    brunner_munzel: list[float | None]
    mann_whitney: list[float | None]
    cliffs_delta: list[float]


def rank_tests(groups: Sequence[np.ndarray]) -> RankTests | None:
    """Two-sided rank tests of independent patients.

    Args:
        groups: f64[P_g] of each group, none NaN.

    Returns:
        The tests; None for fewer than two groups, or one of fewer than two patients.
    """
    if len(groups) < 2 or min(len(group) for group in groups) < 2:
        return None
    chosen = list(combinations(groups, 2))
    brunner_munzel = _holm([_brunner_munzel(*pair) for pair in chosen])
    deltas = [cliffs_delta(*pair) for pair in chosen]
    if len(groups) == 2:
        mann_whitney = 1.0 if _all_equal(groups) else float(stats.mannwhitneyu(*groups).pvalue)
        return RankTests("Brunner-Munzel", brunner_munzel[0], brunner_munzel, [mann_whitney], deltas)
    p = 1.0 if _all_equal(groups) else float(stats.kruskal(*groups).pvalue)
    return RankTests("Kruskal-Wallis", p, brunner_munzel, _holm(dunn(groups)), deltas)


def dunn(groups: Sequence[np.ndarray]) -> list[float | None]:
    """Dunn's test of each pair from the ranks of all groups, corrected for ties, not for the number of pairs.

    z = (mean rank - mean rank) / sqrt((N (N + 1) / 12 - sum(t^3 - t) / (12 (N - 1))) (1 / n + 1 / n')),
    t the sizes of sets of equal scores (Technometrics 6, 1964).
    """
    pooled = np.concatenate(groups)
    n = len(pooled)
    sizes = np.array([len(group) for group in groups])
    means = np.array([part.mean() for part in np.split(stats.rankdata(pooled), np.cumsum(sizes)[:-1])])
    ties = np.unique(pooled, return_counts=True)[1].astype(float)
    variance = n * (n + 1) / 12 - (ties**3 - ties).sum() / (12 * (n - 1))
    if variance <= 0:
        return [1.0] * (len(groups) * (len(groups) - 1) // 2)
    first, second = np.triu_indices(len(groups), 1)
    z = (means[first] - means[second]) / np.sqrt(variance * (1 / sizes[first] + 1 / sizes[second]))
    return [float(p) for p in 2 * stats.norm.sf(np.abs(z))]


def cliffs_delta(first: np.ndarray, second: np.ndarray) -> float:
    """P(first > second) - P(first < second), the effect size that the Mann-Whitney statistic is of."""
    n, m = len(first), len(second)
    rank_sum = stats.rankdata(np.concatenate([first, second]))[:n].sum()
    return float(2 * (rank_sum - n * (n + 1) / 2) / (n * m) - 1)


def _brunner_munzel(first: np.ndarray, second: np.ndarray) -> float | None:
    if _all_equal([first, second]):
        return 1.0
    if first.min() > second.max() or first.max() < second.min():
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        p = float(stats.brunnermunzel(first, second).pvalue)
    return p if np.isfinite(p) else None


def _all_equal(groups: Sequence[np.ndarray]) -> bool:
    return bool(np.ptp(np.concatenate(groups)) == 0)


def _holm(p_values: list[float | None]) -> list[float | None]:
    return list(holm(dict(enumerate(p_values))).values())


def tost(
    means: Means | None, sizes: np.ndarray, delta: float, smallest: int, level: float = 0.05
) -> dict[str, Any]:
    """Whether every pair's difference is shown to lie inside +-delta.

    Two one-sided tests at `level` are the interval of confidence 1 - 2 level (Schuirmann 1987), here of the
    studentised bootstrap; all pairs must pass, so each is tested at the full level (intersection-union).

    Args:
        means: of the G ranked groups, of one score; None where there are too few patients for an interval.
        sizes: i64[G], patients of each.
        delta: the margin, stated in advance, in the score's unit.
        smallest: patients of the smallest group, ranked or not: of a group that nobody ranked nothing is shown.
        level: of each test.

    Returns:
        `{"delta", "equivalent": bool, "reason": why not, or None, "intervals": [[lo, hi]]}`, a pair after another in
        the order of `simultaneous_intervals.pairs`; an interval is None where there is none.
    """
    intervals: list[list[float] | None] = []
    if means is not None:
        ends = simultaneous_intervals.separate(means, simultaneous_intervals.pairs(len(sizes)), 1 - 2 * level)
        intervals = [
            [float(low), float(high)] if np.isfinite(low) and np.isfinite(high) else None
            for low, high in zip(*(end[0] for end in ends), strict=True)
        ]
    inside = [ends is not None and -delta < ends[0] and ends[1] < delta for ends in intervals]
    reason = None
    if len(sizes) < 2:
        reason = "fewer than two groups are ranked"
    elif smallest < MIN_EQUIVALENCE_PATIENTS:
        reason = f"the smallest group has {smallest}; equality needs {MIN_EQUIVALENCE_PATIENTS} patients in every group"
    elif means is not None and not means.spread.any():
        reason = "no group's scores vary, so they compare nothing"
    elif not inside or None in intervals:
        reason = "a pair of groups has no interval"
    elif not all(inside):
        reason = "a pair's interval reaches beyond the margin"
    return {"delta": delta, "equivalent": reason is None, "reason": reason, "intervals": intervals}
