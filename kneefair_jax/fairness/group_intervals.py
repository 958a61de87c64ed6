"""Computes conservative intervals over patients of summaries of groups, from `two_part` limits of the group means.

Simultaneous limits bound every summary: those of all pairs' differences, or of all groups' means, each at its share of
the level (Bonferroni). If the limits hold, the summary's interval holds, so it is conservative. It stays inside the
range of the score.
"""

from collections.abc import Sequence

import numpy as np

from kneefair_jax.fairness import two_part
from kneefair_jax.fairness.simultaneous_intervals import pairs
from kneefair_jax.fairness.two_part import Scores

type Interval = list[float]


def differences(
    groups: Sequence[Scores], level: float = 0.05, each: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits of all pairs' differences, the first minus a later group.

    Args:
        groups: G groups of two patients or more.
        level: probability that any of the intervals misses its difference.
        each: whether `level` is that of each single interval instead, as in an equivalence test.

    Returns:
        Lower and upper limits, f64[J] each, J = G (G - 1) / 2.
    """
    matrix = pairs(len(groups))
    tail = level / 2 if each else level / 2 / len(matrix)
    ends = [two_part.limits(group, tail) for group in groups]
    return two_part.contrasts(np.array([group.mean for group in groups]), ends, matrix)


def gap(low: np.ndarray, high: np.ndarray) -> Interval:
    """Return the interval of max_g mu_g - min_g mu_g from the limits of all differences; not below 0."""
    return [
        float(max(np.maximum(low, -high).max(), 0.0)),
        float(np.maximum(high, -low).max()),
    ]


def sd(low: np.ndarray, high: np.ndarray, count: int) -> Interval:
    """Return the interval of the population SD of mu_g, whose square is the sum of squared differences / count^2."""
    smallest, largest = np.maximum(np.maximum(low, -high), 0), np.maximum(high, -low)
    return [float(np.sqrt((part**2).sum()) / count) for part in (smallest, largest)]


def worst_error(groups: Sequence[Scores], level: float = 0.05) -> Interval:
    """Return the interval of the largest error: 1 - mu_g of an overlap score, mu_g of a distance."""
    ends = _errors(groups, level)
    return [float(end) for end in ends.max(0)]


def ser(groups: Sequence[Scores], level: float = 0.05) -> Interval | None:
    """Return the interval of max_g e_g / min_g e_g by MOVER of the logarithms; None if an error may be 0."""
    count = len(groups)
    ends = _errors(groups, 2 * level / (count - 1))  # level / J, J = count (count - 1) / 2
    points = np.array([_error(group) for group in groups])
    if min(points.min(), ends.min()) <= 1e-12:
        return None
    low, high = two_part.contrasts(np.log(points), np.log(ends).tolist(), pairs(count))
    return [float(np.exp(end)) for end in gap(low, high)]


def es(strata: Sequence[Scores], weights: np.ndarray, groups: int, level: float = 0.05) -> Interval:
    """Return the interval of S / (1 + sum_g |S - mu_g|), S = weights . mu, over the first `groups` strata."""
    deviations = weights - np.eye(len(weights))[:groups]
    matrix = np.vstack([weights, deviations])
    ends = [two_part.limits(group, level / 2 / len(matrix)) for group in strata]
    low, high = two_part.contrasts(np.array([group.mean for group in strata]), ends, matrix)
    largest = np.maximum(-low, high)[1:].sum()
    smallest = np.maximum(np.maximum(low, -high), 0)[1:].sum()
    return [float(max(low[0], 0.0) / (1 + largest)), float(min(high[0], 1.0) / (1 + smallest))]


def _error(group: Scores) -> float:
    return group.best - group.mean if group.best > 0 else group.mean


def _errors(groups: Sequence[Scores], level: float) -> np.ndarray:
    """Return simultaneous limits of all groups' errors: f64[G, 2]."""
    ends = [two_part.limits(group, level / 2 / len(groups)) for group in groups]
    return np.array(
        [
            (group.best - high, group.best - low) if group.best > 0 else (low, high)
            for group, (low, high) in zip(groups, ends, strict=True)
        ]
    )
