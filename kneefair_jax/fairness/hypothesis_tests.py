"""Tests of gaps between groups: permuted Welch tests and rank tests.

Permuted Welch tests are the primary ones: the attribute is permuted over patients, and the statistic is studentized.
Permuted means reject a true null in 19 % of cohorts where the small group is the more variable one; a statistic
divided by its standard error keeps the level even then (Janssen, Statistics & Probability Letters 36, 1997; Chung and
Romano, Annals of Statistics 41, 2013). Each pair's t goes through Hall's cubic transformation, which takes out its
skewness (Hall, JRSS B 54, 1992), estimated from all groups together: of a few patients alone it would be noise.
More than two groups are compared by the largest |t| of all pairs, which also judges each pair, so that no test of all
groups contradicts those of the pairs. Welch's intervals stand beside them.

Rank tests are what readers of papers expect, and they ask another question than the gap. Brunner-Munzel: is a patient
of one group as likely to score above as below one of the other? Mann-Whitney and Kruskal-Wallis: are the distributions
the same? The last two also reject where spreads alone differ.
"""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats

from kneefair_jax.fairness import label_permutations, two_part
from kneefair_jax.fairness.bootstrap import CHUNK
from kneefair_jax.fairness.multiplicity import holm

# Statistics this close to the observed one are ties: the same split, summed in another order.
TIE = 1e-9
# Patients from which labels are drawn faster than shuffled (`label_permutations`).
_MANY_PATIENTS = 2_000
# Patients summed at a time, so that their labels stay in the processor's cache.
_BLOCK = 2048
# Rows of labels that a thread draws at a time.
_ROWS = 32


class PermutationTests(NamedTuple):
    """Of K scores of the same patients in G groups, J = G (G - 1) / 2 pairs.

    Attributes:
        name: of the test.
        statistic: f64[K], Welch's t (first minus second) of two groups, the largest |t| of more.
        p: f64[K], two-sided, the smallest of `pairs_p`.
        pairs: f64[K, J], Welch's t of each pair, in the order of `simultaneous_intervals.pairs`.
        pairs_p: f64[K, J], of each pair by the permuted max |t|, so corrected over the pairs.
        largest: f64[permutations, K], the permuted max |t| over pairs, ascending; every t Hall's.
        skewness: f64[K, J], of the pairs' differences: third cumulant over cubed standard error.
    """

    name: str
    statistic: np.ndarray
    p: np.ndarray
    pairs: np.ndarray
    pairs_p: np.ndarray
    largest: np.ndarray
    skewness: np.ndarray


def permuted_welch(
    scores: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, permutations: int = 10_000
) -> PermutationTests | None:
    """Permuted Welch t of two groups, and of more the permuted largest |t| of all pairs.

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
    centered = scores - scores.mean(1, keepdims=True)
    spread = centered.std(1, keepdims=True)
    scaled = np.divide(centered, spread, out=np.zeros_like(centered), where=spread > 1e-12)
    powers = np.concatenate([scaled, scaled**2, scaled**3]).T
    t, skewness = _welch_statistics(powers, labels[None], sizes)
    pairs = np.abs(two_part.hall(t, skewness))[0] * (1 - TIE)
    is_large_sample = patients > _MANY_PATIENTS and count < 256
    chunks = (_of_many if is_large_sample else _of_few)(powers, labels, sizes, rng, permutations)
    largest = np.concatenate(list(chunks))
    largest.sort(axis=0)
    pairs_p = np.stack(
        [
            (1 + permutations - np.searchsorted(largest[:, k], pairs[k])) / (1 + permutations)
            for k in range(len(scores))
        ]
    )
    return PermutationTests(
        "permuted Welch t" if count == 2 else "permuted largest Welch t",
        t[0, :, 0] if count == 2 else np.abs(t[0]).max(1),
        pairs_p.min(1),
        t[0],
        pairs_p,
        largest,
        skewness[0],
    )


def _of_few(
    powers: np.ndarray, labels: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, permutations: int
) -> Iterator[np.ndarray]:
    """The largest |t| of shuffled labels, chunks of f64[D, K]."""
    patients, columns = powers.shape
    rows = max(1, CHUNK // max(patients * len(sizes), columns // 3 * len(sizes) ** 2))
    for start in range(0, permutations, rows):
        size = min(rows, permutations - start)
        yield _largest(powers, rng.permuted(np.tile(labels, (size, 1)), axis=1), sizes)


def _of_many(
    powers: np.ndarray, labels: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, permutations: int
) -> Iterator[np.ndarray]:
    """As `_of_few`, of labels drawn faster and in threads, whose number does not change the result."""
    del labels
    chunks = [min(_ROWS, permutations - start) for start in range(0, permutations, _ROWS)]
    with ThreadPoolExecutor() as pool:
        yield from pool.map(
            lambda size, generator: _largest(powers, label_permutations.draw(sizes, size, generator), sizes),
            chunks,
            rng.spawn(len(chunks)),
        )


def _largest(powers: np.ndarray, labels: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The largest |t| over pairs after Hall's transformation, f64[D, K], of labels i[D, P]."""
    return np.abs(two_part.hall(*_welch_statistics(powers, labels, sizes))).max(2)


def _welch_statistics(
    powers: np.ndarray, labels: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums by group as matrix products -> t of pairs and their skewness, f64[D, K, J] each.

    Args:
        powers: f64[P, 3 K], scores of SD 1, their squares and cubes.
        labels: i[D, P], the patients' groups by draw.
        sizes: i64[G].
    """
    sums = [_sum_of_group(powers, labels, g) for g in range(len(sizes) - 1)]
    sums.append(powers.sum(0) - sum(sums))
    mean, squares, cubes = np.split(np.stack(sums, axis=-1) / sizes, 3, axis=1)  # f64[D, K, G] each
    # A group of equal scores has a standard error of nearly 0, not of 0: its t is large, not undefined.
    moment = np.maximum(squares - mean**2, 1e-12 / sizes)
    error = np.sqrt(moment / (sizes - 1))
    third = cubes - 3 * mean * squares + 2 * mean**3
    # Where no score varies, rounding would pass for skewness.
    shapes = np.where(moment > 1e-9, third / moment**1.5, 0.0)
    shape = (shapes * sizes).sum(-1, keepdims=True) / sizes.sum()
    cumulant = shape * error**3 / np.sqrt(sizes)
    first, second = np.triu_indices(len(sizes), 1)
    errors = np.sqrt(error[..., first] ** 2 + error[..., second] ** 2)
    t = (mean[..., first] - mean[..., second]) / errors
    return t, (cumulant[..., first] - cumulant[..., second]) / errors**3


def _sum_of_group(powers: np.ndarray, labels: np.ndarray, group: int) -> np.ndarray:
    """f64[D, 3 K], the sums over the patients of a group, in blocks of patients."""
    total = np.zeros((len(labels), powers.shape[1]))
    for start in range(0, len(powers), _BLOCK):
        block = slice(start, start + _BLOCK)
        total += (labels[:, block] == group).astype(float) @ powers[block]
    return total


def welch_intervals(scores: np.ndarray, sizes: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """Of each pair's difference on its own, not of all pairs at once.

    Args:
        scores: f64[K, P], one a patient, the groups one after another; none NaN.
        sizes: i64[G], two patients or more in each group.
        confidence: of each interval.

    Returns:
        f64[K, J, 2], in the order of `simultaneous_intervals.pairs`.
    """
    groups = np.split(scores, np.cumsum(sizes)[:-1], axis=1)
    with warnings.catch_warnings():
        # The interval of equal scores is a point; SciPy warns that they lose precision.
        warnings.simplefilter("ignore", RuntimeWarning)
        intervals = [
            stats.ttest_ind(*pair, axis=1, equal_var=False).confidence_interval(confidence)
            for pair in combinations(groups, 2)
        ]
    return np.stack([np.stack(ends, axis=-1) for ends in intervals], axis=1)


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
    groups = [np.sort(group) for group in groups]
    placements = [(_placements(a, b), _placements(b, a)) for a, b in combinations(groups, 2)]
    brunner_munzel = _holm([_brunner_munzel(*both) for both in placements])
    deltas = [2 * float(first.mean()) / len(second) - 1 for first, second in placements]
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
    scores = np.concatenate(groups)
    n = len(scores)
    sizes = np.array([len(group) for group in groups])
    means = np.array([part.mean() for part in np.split(stats.rankdata(scores), np.cumsum(sizes)[:-1])])
    ties = np.unique(scores, return_counts=True)[1].astype(float)
    variance = n * (n + 1) / 12 - (ties**3 - ties).sum() / (12 * (n - 1))
    if variance <= 0:
        return [1.0] * (len(groups) * (len(groups) - 1) // 2)
    first, second = np.triu_indices(len(groups), 1)
    z = (means[first] - means[second]) / np.sqrt(variance * (1 / sizes[first] + 1 / sizes[second]))
    return [float(p) for p in 2 * stats.norm.sf(np.abs(z))]


def cliffs_delta(first: np.ndarray, second: np.ndarray) -> float:
    """P(first > second) - P(first < second), the effect size that the Mann-Whitney statistic is of."""
    return 2 * float(_placements(first, np.sort(second)).mean()) / len(second) - 1


def _placements(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how many patients of the second group score below each of the first, ties counted half: f64[n].

    Args:
        first: f64[n]; fastest where it is sorted, too.
        second: f64[m], sorted.
    """
    return (np.searchsorted(second, first, "left") + np.searchsorted(second, first, "right")) / 2


def _brunner_munzel(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return the p value of the Brunner-Munzel test; None where no patient of one group scores among the other's.

    As `scipy.stats.brunnermunzel`, which sorts both groups for each pair of groups: a placement is a patient's rank in
    both groups minus the rank in the own group.

    Args:
        first: f64[n], placements of the patients of one group, n at least 2 (`_placements`).
        second: f64[m], those of the other group.

    Reference: Brunner and Munzel, Biometrical Journal 42, 2000.
    """
    n, m = len(first), len(second)
    probability = float(first.mean()) / m  # that a patient of the first group scores above one of the second
    if probability in (0.0, 1.0):
        return None
    errors = np.array([first.var(ddof=1) / m**2 / n, second.var(ddof=1) / n**2 / m])
    variance = float(errors.sum())
    if variance == 0:  # all scores are equal
        return 1.0
    freedom = variance**2 / (errors**2 / (np.array([n, m]) - 1)).sum()
    return float(2 * stats.t.sf(abs(probability - 0.5) / np.sqrt(variance), freedom))


def _all_equal(groups: Sequence[np.ndarray]) -> bool:
    return bool(np.ptp(np.concatenate(groups)) == 0)


def _holm(p_values: list[float | None]) -> list[float | None]:
    return list(holm(dict(enumerate(p_values))).values())
