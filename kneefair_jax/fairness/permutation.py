"""Is there any gap? Permutation of the attribute over patients, of a statistic that is studentised.

Permuted means reject a true null in 19 % of cohorts where the small group is the more variable one; a statistic
divided by its standard error keeps the level even then (Janssen, Statistics & Probability Letters 36, 1997; Chung and
Romano, Annals of Statistics 41, 2013).
"""

from typing import NamedTuple

import numpy as np

from kneefair_jax.fairness.bootstrap import CHUNK

# Statistics this close to the observed one are ties: the same split, summed in another order.
_TIE = 1e-9


class Tests(NamedTuple):
    """Of K scores of the same patients in G groups, J = G (G - 1) / 2 pairs.

    Attributes:
        name: of the test.
        statistic: f64[K], Welch's t (first minus second) of two groups, Welch's F of more.
        p: f64[K], two-sided.
        pairs: f64[K, J], Welch's t of each pair, in the order of `simultaneous.pairs`.
        pairs_p: f64[K, J], of each pair by the permuted max |t|, so corrected over the pairs.
    """

    name: str
    statistic: np.ndarray
    p: np.ndarray
    pairs: np.ndarray
    pairs_p: np.ndarray


def welch(
    scores: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, permutations: int = 10_000
) -> Tests | None:
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
    statistic, pairs = _statistics(both, labels[None], sizes)
    observed = [np.abs(part[0]) * (1 - _TIE) for part in (statistic, pairs)]
    beyond, pairs_beyond = np.zeros(statistic.shape[1:]), np.zeros(pairs.shape[1:])
    rows = max(1, CHUNK // max(patients * count, len(scores) * count**2))
    for start in range(0, permutations, rows):
        size = min(rows, permutations - start)
        shuffled = rng.permuted(np.tile(labels, (size, 1)), axis=1)
        permuted, t = _statistics(both, shuffled, sizes)
        beyond += (np.abs(permuted) >= observed[0]).sum(0)
        pairs_beyond += (np.abs(t).max(2, keepdims=True) >= observed[1]).sum(0)
    return Tests(
        "permuted Welch t" if count == 2 else "permuted Welch ANOVA",
        statistic[0],
        (1 + beyond) / (1 + permutations),
        pairs[0],
        (1 + pairs_beyond) / (1 + permutations),
    )


def _statistics(both: np.ndarray, labels: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
    return (pairs[..., 0] if len(sizes) == 2 else _anova(mean, variance, sizes)), pairs


def _anova(mean: np.ndarray, variance: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Welch's F of means f64[..., G] and their squared standard errors (Biometrika 38, 1951)."""
    count = len(sizes)
    weights = 1 / variance
    share = weights / weights.sum(-1, keepdims=True)
    middle = (share * mean).sum(-1, keepdims=True)
    between = (weights * (mean - middle) ** 2).sum(-1) / (count - 1)
    lack = ((1 - share) ** 2 / (sizes - 1)).sum(-1)
    return between / (1 + 2 * (count - 2) / (count**2 - 1) * lack)
