"""Tests gaps between groups by permuted Welch tests, with intervals that agree with them.

The tests permute the attribute over patients and studentize the statistic. Permuted means reject a true null in 19 % of
cohorts if the small group is the more variable one; a statistic divided by its standard error keeps the level even then
(Janssen, Statistics & Probability Letters 36, 1997; Chung and Romano, Annals of Statistics 41, 2013). Each pair's t
goes through Hall's cubic transformation, which removes its skewness (Hall, JRSS B 54, 1992). The skewness is estimated
from all groups together, because few patients would give noise. More than two groups are compared by the largest |t| of
all pairs. The same distribution judges each pair, so no test of all groups contradicts those of the pairs.

`draw_labels` permutes the labels of many patients several times as fast as shuffling. Labels drawn independently miss
the groups' sizes by about the square root of the number of patients. Random surplus members of a group then move to the
groups that lack members. No step depends on a patient's position, so every labeling with these sizes has the same
probability, whatever probabilities the first labels had. Those are multiples of 1 / 256, the resolution of one random
byte.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kneefair_jax.fairness import two_part
from kneefair_jax.fairness.bootstrap import CHUNK

_LEVELS = 256
_WORD = np.iinfo(np.uint64).max  # eight random bytes are drawn at a time, three times as fast as one by one


def draw_labels(sizes: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return u8[draws, P], uniformly random labels 0, ..., G - 1 with exactly these sizes in each row.

    Args:
        sizes: i64[G], patients of each group, fewer than 256 groups.
        draws: rows.
        rng: draws the labels.
    """
    patients = int(sizes.sum())
    # The type of the numbers: a comparison with another type would convert all of them.
    ends = (np.cumsum(sizes)[:-1] * (_LEVELS - 1) // patients).astype(np.uint8)
    labels = np.zeros((draws, patients), np.uint8)
    for row in labels:  # one at a time, so that numbers and labels stay in the processor's cache
        words = rng.integers(_WORD, size=-(-patients // 8), dtype=np.uint64, endpoint=True)
        numbers = words.view(np.uint8)[:patients]
        for end in ends:
            row += (numbers > end).view(np.uint8)
        _correct_sizes(row, sizes, rng)
    return labels


def _correct_sizes(labels: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> None:
    """Relabel random surplus members to the groups that lack members; `labels`, u8[P], changes in place."""
    counts = np.array([np.count_nonzero(labels == g) for g in range(len(sizes))])
    surplus = counts - sizes
    surplus_members = [
        _members(labels, g, counts[g], surplus[g], rng) for g in np.flatnonzero(surplus > 0).astype(np.uint8)
    ]
    if surplus_members:
        labels[np.concatenate(surplus_members)] = np.repeat(
            np.arange(len(sizes), dtype=np.uint8), np.maximum(-surplus, 0)
        )


def _members(
    labels: np.ndarray, group: np.uint8, count: int, number: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the positions of random distinct members of a group, i64[number].

    Random positions are tried first, which needs no search of all labels. Each is as likely to hold one member as
    another, so the members among them are a random choice, too.

    Args:
        labels: u8[P].
        group: the label.
        count: members of the group.
        number: of members to choose, at most `count`.
        rng: chooses the members.
    """
    if 8 * number < count:
        places = rng.integers(len(labels), size=16 + 2 * number * len(labels) // count)
        distinct = np.fromiter(dict.fromkeys(places[labels[places] == group].tolist()), np.int64)
        if len(distinct) >= number:
            return distinct[:number]
    members = np.flatnonzero(labels == group)
    return members[rng.choice(count, number, replace=False)]


# Statistics this close to the observed one, relatively, are ties: the same split, summed in another order.
TIE = 1e-9
# With more patients, drawing labels is faster than shuffling them (`draw_labels`).
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
        pairs: f64[K, J], Welch's t of each pair, in the order of `bootstrap.pairs`.
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
            lambda size, generator: _max_t(powers, draw_labels(sizes, size, generator), sizes),
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
        estimates: f64[J], in the order of `bootstrap.pairs`.
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
    scores: list[np.ndarray],
    test_order: np.ndarray,
    tests: PermutationTests,
    column: int,
    span: float,
    *,
    is_paired: bool = False,
) -> PairDifferences:
    """Return the differences of G groups, which the tests may have in another order.

    Args:
        scores: f64[n] of each group, two patients or more.
        test_order: i64[G], each group's position among those of the tests.
        tests: of the same patients.
        column: of the tests.
        span: the largest difference that the score allows.
        is_paired: whether each group has the same patients in the same order; standard errors are then within patients.
    """
    first, second = np.triu_indices(len(scores), 1)
    pair_number = np.zeros((len(scores), len(scores)), int)
    pair_number[first, second] = np.arange(len(first))
    pair_number += pair_number.T
    pair = pair_number[test_order[first], test_order[second]]
    is_reversed = test_order[first] > test_order[second]
    means = np.array([values.mean() for values in scores])
    if is_paired:
        differences = np.stack([scores[a] - scores[b] for a, b in zip(first, second, strict=True)])
        errors = differences.std(1, ddof=1) / np.sqrt(differences.shape[1])
    else:
        squared_errors = np.array([values.var(ddof=1) / len(values) for values in scores])
        errors = np.sqrt(squared_errors[first] + squared_errors[second])
    return PairDifferences(
        estimates=means[first] - means[second],
        errors=errors,
        skewness=np.where(is_reversed, -1.0, 1.0) * tests.skewness[column, pair],
        p=tests.pairs_p[column, pair],
        largest=tests.largest[:, column],
        span=span,
    )
