"""What readers of papers expect beside the permutation test: rank tests on patient means, and an effect size.

They ask another question than the gap. Brunner-Munzel: is a patient of one group as likely to score above as below one
of the other? Mann-Whitney and Kruskal-Wallis: are the distributions the same? The last two also reject where spreads
alone differ.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats

from kneefair_jax.fairness.multiplicity import holm


class Ranks(NamedTuple):
    """Of G groups, J pairs in the order of `simultaneous.pairs`.

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


def tests(groups: Sequence[np.ndarray]) -> Ranks | None:
    """Two-sided rank tests of independent patients.

    Args:
        groups: f64[P_g] of each group, none NaN.

    Returns:
        The tests; None for fewer than two groups, or one of fewer than two patients.
    """
    if len(groups) < 2 or min(len(group) for group in groups) < 2:
        return None
    chosen = list(combinations(groups, 2))
    brunner_munzel = _over_pairs([_brunner_munzel(*pair) for pair in chosen])
    deltas = [cliffs_delta(*pair) for pair in chosen]
    if len(groups) == 2:
        mann_whitney = 1.0 if _equal(groups) else float(stats.mannwhitneyu(*groups).pvalue)
        return Ranks("Brunner-Munzel", brunner_munzel[0], brunner_munzel, [mann_whitney], deltas)
    p = 1.0 if _equal(groups) else float(stats.kruskal(*groups).pvalue)
    return Ranks("Kruskal-Wallis", p, brunner_munzel, _over_pairs(dunn(groups)), deltas)


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
    if _equal([first, second]):
        return 1.0
    if first.min() > second.max() or first.max() < second.min():
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        p = float(stats.brunnermunzel(first, second).pvalue)
    return p if np.isfinite(p) else None


def _equal(groups: Sequence[np.ndarray]) -> bool:
    return bool(np.ptp(np.concatenate(groups)) == 0)


def _over_pairs(p_values: list[float | None]) -> list[float | None]:
    return list(holm(dict(enumerate(p_values))).values())
