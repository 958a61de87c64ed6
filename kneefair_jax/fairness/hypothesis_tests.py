"""Tests gaps between groups by permuted Welch tests, intervals that agree with them, and rank tests.

Permuted Welch tests are the primary tests: they permute the attribute over patients and studentize the statistic.
Permuted means reject a true null in 19 % of cohorts if the small group is the more variable one; a statistic divided by
its standard error keeps the level even then (Janssen, Statistics & Probability Letters 36, 1997; Chung and Romano,
Annals of Statistics 41, 2013). Each pair's t goes through Hall's cubic transformation, which removes its skewness
(Hall, JRSS B 54, 1992). The skewness is estimated from all groups together, because few patients would give noise. More
than two groups are compared by the largest |t| of all pairs. The same distribution judges each pair, so no test of all
groups contradicts those of the pairs.

Rank tests, which papers often report, answer another question than the gap. Brunner-Munzel tests whether a patient of
one group is as likely to score above as below a patient of the other. Mann-Whitney and Kruskal-Wallis test whether the
distributions are the same, so they also reject if only the variances differ.
"""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats

from kneefair_jax.fairness import label_permutations, two_part
from kneefair_jax.fairness.bootstrap import CHUNK
from kneefair_jax.fairness.multiplicity import holm

# Statistics this close to the observed one, relatively, are ties: the same split, summed in another order.
TIE = 1e-9
# With more patients, drawing labels is faster than shuffling them (`label_permutations`).
_MANY_PATIENTS = 2_000
# Patients summed at a time, so that their labels stay in the processor's cache.
_BLOCK = 2048
# Rows of labels that a thread draws in one call.
_ROWS = 32


class PermutationTests(NamedTuple):
    """Tests of K scores of the same patients in G groups with J = G (G - 1) / 2 pairs.

    Attributes:
        name: of the test.
        statistic: f64[K], Welch's t (first minus second) of two groups, the largest |t| of more.
        p: f64[K], two-sided, the smallest of `pairs_p`.
        pairs: f64[K, J], Welch's t of each pair, in the order of `simultaneous_intervals.pairs`.
        pairs_p: f64[K, J], of each pair by the permuted max |t|, so corrected over the pairs.
        largest: f64[permutations, K], the permuted max |t| over pairs, ascending, after Hall's transformation.
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
    """Test the permuted Welch t of two groups, or the permuted largest |t| of all pairs of more groups.

    p is (1 + permutations at least as extreme) / (1 + permutations).

    Args:
        scores: f64[K, P], one per patient, group after group; no NaN.
        sizes: i64[G], patients of each group.
        rng: permutes the labels, the same way for all K.
        permutations: number of permutations.

    Returns:
        None if a group has fewer than two patients, or there are fewer than two groups.
    """
    if len(sizes) < 2 or min(sizes) < 2:
        return None
    patients, count = scores.shape[1], len(sizes)
    labels = np.repeat(np.arange(count, dtype=np.int8 if count < 128 else np.int32), sizes)
    # Centering and scaling change no statistic and keep sums of squares exact.
    centered = scores - scores.mean(1, keepdims=True)
    spread = centered.std(1, keepdims=True)
    scaled = np.divide(centered, spread, out=np.zeros_like(centered), where=spread > 1e-12)
    powers = np.concatenate([scaled, scaled**2, scaled**3]).T
    t, skewness = _welch_statistics(powers, labels[None], sizes)
    pairs = np.abs(two_part.hall(t, skewness))[0] * (1 - TIE)
    is_large_sample = patients > _MANY_PATIENTS and count < 256
    chunks = (_threaded_max_t if is_large_sample else _shuffled_max_t)(
        powers, labels, sizes, rng, permutations
    )
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


def _shuffled_max_t(
    powers: np.ndarray, labels: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, permutations: int
) -> Iterator[np.ndarray]:
    """Yield the largest |t| of shuffled labels in chunks of f64[D, K]."""
    patients, columns = powers.shape
    rows = max(1, CHUNK // max(patients * len(sizes), columns // 3 * len(sizes) ** 2))
    for start in range(0, permutations, rows):
        size = min(rows, permutations - start)
        yield _max_t(powers, rng.permuted(np.tile(labels, (size, 1)), axis=1), sizes)


def _threaded_max_t(
    powers: np.ndarray, labels: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, permutations: int
) -> Iterator[np.ndarray]:
    """Yield as `_shuffled_max_t`, drawing labels in threads, whose number does not change the result."""
    del labels
    chunks = [min(_ROWS, permutations - start) for start in range(0, permutations, _ROWS)]
    with ThreadPoolExecutor() as pool:
        yield from pool.map(
            lambda size, generator: _max_t(powers, label_permutations.draw(sizes, size, generator), sizes),
            chunks,
            rng.spawn(len(chunks)),
        )


def _max_t(powers: np.ndarray, labels: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the largest |t| over pairs after Hall's transformation, f64[D, K], for labels i[D, P]."""
    return np.abs(two_part.hall(*_welch_statistics(powers, labels, sizes))).max(2)


def _welch_statistics(
    powers: np.ndarray, labels: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return t of pairs and their skewness, f64[D, K, J] each, from sums by group as matrix products.

    Args:
        powers: f64[P, 3 K], scores of SD 1, their squares and cubes.
        labels: i[D, P], the patients' groups by draw.
        sizes: i64[G].
    """
    sums = [_sum_of_group(powers, labels, g) for g in range(len(sizes) - 1)]
    sums.append(powers.sum(0) - sum(sums))
    mean, squares, cubes = np.split(np.stack(sums, axis=-1) / sizes, 3, axis=1)  # f64[D, K, G] each
    # The standard error of equal scores is set to nearly 0, not to 0: their t is large, not undefined.
    moment = np.maximum(squares - mean**2, 1e-12 / sizes)
    error = np.sqrt(moment / (sizes - 1))
    third = cubes - 3 * mean * squares + 2 * mean**3
    # If no score varies, rounding would look like skewness.
    shapes = np.where(moment > 1e-9, third / moment**1.5, 0.0)
    shape = (shapes * sizes).sum(-1, keepdims=True) / sizes.sum()
    cumulant = shape * error**3 / np.sqrt(sizes)
    first, second = np.triu_indices(len(sizes), 1)
    errors = np.sqrt(error[..., first] ** 2 + error[..., second] ** 2)
    t = (mean[..., first] - mean[..., second]) / errors
    return t, (cumulant[..., first] - cumulant[..., second]) / errors**3


def _sum_of_group(powers: np.ndarray, labels: np.ndarray, group: int) -> np.ndarray:
    """Return the sums over the patients of a group, f64[D, 3 K], in blocks of patients."""
    total = np.zeros((len(labels), powers.shape[1]))
    for start in range(0, len(powers), _BLOCK):
        block = slice(start, start + _BLOCK)
        total += (labels[:, block] == group).astype(float) @ powers[block]
    return total


@dataclass(frozen=True)
class PairDifferences:
    """Differences of the group means of all J = G (G - 1) / 2 pairs, the first minus a later group.

    The permuted largest |t| over all pairs (`permuted_welch`) is the critical value of each pair. Inverting the test
    with it gives an interval: at any level, it excludes zero if and only if the test rejects at that level.

    Attributes:
        estimates: f64[J], in the order of `simultaneous_intervals.pairs`.
        errors: f64[J], Welch's standard errors.
        skewness: f64[J], of the differences: third cumulant over cubed standard error.
        p: f64[J], corrected over the pairs.
        largest: f64[permutations], the permuted max |t| over pairs, ascending.
        span: the largest difference that the score allows; infinite of a distance.
    """

    estimates: np.ndarray
    errors: np.ndarray
    skewness: np.ndarray
    p: np.ndarray
    largest: np.ndarray
    span: float

    def limits(self, level: float = 0.05) -> tuple[np.ndarray, np.ndarray] | None:
        """Return lower and upper limits, f64[J] each, which hold simultaneously with probability 1 - level.

        Returns None if there are too few permutations for the level.
        """
        rejection_count = int(np.floor(level * (1 + len(self.largest)) + 1e-9))
        if rejection_count < 1:
            return None
        # A difference equal to the critical value is a tie, which the test does not reject.
        critical = self.largest[len(self.largest) - rejection_count] * (1 + TIE)
        shifts = np.array(
            [
                [two_part.inverse_hall(end, skewness) for skewness in self.skewness]
                for end in (critical, -critical)
            ]
        )
        low, high = np.clip(self.estimates - shifts * self.errors, -self.span, self.span)
        return low, high


def group_differences(
    scores: list[np.ndarray], test_order: np.ndarray, tests: PermutationTests, column: int, span: float
) -> PairDifferences:
    """Return the differences of G groups, which the tests may have in another order.

    Args:
        scores: f64[n] of each group, two patients or more.
        test_order: i64[G], each group's position among those of the tests.
        tests: of the same patients.
        column: of the tests.
        span: the largest difference that the score allows.
    """
    first, second = np.triu_indices(len(scores), 1)
    pair_number = np.zeros((len(scores), len(scores)), int)
    pair_number[first, second] = np.arange(len(first))
    pair_number += pair_number.T
    pair = pair_number[test_order[first], test_order[second]]
    is_reversed = test_order[first] > test_order[second]
    means = np.array([values.mean() for values in scores])
    squared_errors = np.array([values.var(ddof=1) / len(values) for values in scores])
    return PairDifferences(
        estimates=means[first] - means[second],
        errors=np.sqrt(squared_errors[first] + squared_errors[second]),
        skewness=np.where(is_reversed, -1.0, 1.0) * tests.skewness[column, pair],
        p=tests.pairs_p[column, pair],
        largest=tests.largest[:, column],
        span=span,
    )


def welch_intervals(scores: np.ndarray, sizes: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """Return Welch's interval of each pair's difference, not simultaneous over the pairs.

    Args:
        scores: f64[K, P], one per patient, group after group; no NaN.
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
    """Rank tests of G groups with J pairs in the order of `simultaneous_intervals.pairs`.

    Attributes:
        name: `Brunner-Munzel` of two groups, `Kruskal-Wallis` of more.
        p: of that test; None if it is undefined.
        brunner_munzel: J p values, corrected by Holm over the pairs; None if the ranges of two groups do not overlap,
            because there is no standard error then.
        mann_whitney: J p values; with more than two groups Dunn's, corrected by Holm.
        cliffs_delta: J numbers in [-1, 1], P(first > second) - P(first < second).
    """

    name: str
    p: float | None
    brunner_munzel: list[float | None]
    mann_whitney: list[float | None]
    cliffs_delta: list[float]


def rank_tests(groups: Sequence[np.ndarray]) -> RankTests | None:
    """Test groups of independent patients by two-sided rank tests.

    Args:
        groups: f64[P_g] of each group, no NaN.

    Returns:
        None for fewer than two groups, or a group of fewer than two patients.
    """
    if len(groups) < 2 or min(len(group) for group in groups) < 2:
        return None
    groups = [np.sort(group) for group in groups]
    placements = [(_placements(a, b), _placements(b, a)) for a, b in combinations(groups, 2)]
    brunner_munzel = _holm([_brunner_munzel(*pair) for pair in placements])
    deltas = [2 * float(first.mean()) / len(second) - 1 for first, second in placements]
    if len(groups) == 2:
        mann_whitney = 1.0 if _all_equal(groups) else float(stats.mannwhitneyu(*groups).pvalue)
        return RankTests("Brunner-Munzel", brunner_munzel[0], brunner_munzel, [mann_whitney], deltas)
    p = 1.0 if _all_equal(groups) else float(stats.kruskal(*groups).pvalue)
    return RankTests("Kruskal-Wallis", p, brunner_munzel, _holm(dunn(groups)), deltas)


def dunn(groups: Sequence[np.ndarray]) -> list[float | None]:
    """Return p values of Dunn's test of each pair, corrected for ties, not for the number of pairs.

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
    """Return P(first > second) - P(first < second), the effect size of the Mann-Whitney test."""
    return 2 * float(_placements(first, np.sort(second)).mean()) / len(second) - 1


def _placements(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how many patients of the second group score below each patient of the first, ties counted half: f64[n].

    Args:
        first: f64[n]; fastest if it is sorted, too.
        second: f64[m], sorted.
    """
    return (np.searchsorted(second, first, "left") + np.searchsorted(second, first, "right")) / 2


def _brunner_munzel(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return the p value of the Brunner-Munzel test; None if the ranges of the groups do not overlap.

    `scipy.stats.brunnermunzel` gives the same, but sorts both groups for each pair of groups. A placement is a
    patient's rank in both groups minus the rank in the patient's own group.

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
