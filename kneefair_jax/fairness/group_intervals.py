"""Intervals over patients of what compares groups, from `two_part` limits of the group means.

Every summary is bounded by limits that hold at once: of all pairs' differences, or of all groups' means, each at its
share of the level (Bonferroni). Where the limits hold, the summary's interval holds; so it is on the safe side, and it
stays inside the range of the score.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy import stats

from kneefair_jax.fairness import two_part
from kneefair_jax.fairness.hypothesis_tests import PermutationTests
from kneefair_jax.fairness.simultaneous_intervals import pairs
from kneefair_jax.fairness.two_part import Scores

type Interval = list[float]
# Bisections of a p value; 2^-20 is below what any p is printed to.
_STEPS = 20


def differences(
    groups: Sequence[Scores], level: float = 0.05, each: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Limits of all pairs' differences, the first minus a later group.

    Args:
        groups: G of them, two patients or more in each.
        level: probability that any of the intervals misses its difference, or `each` of them.
        each: whether the level is that of a single interval, as in an equivalence test.

    Returns:
        Lower and upper limits, f64[J] each, J = G (G - 1) / 2.
    """
    matrix = pairs(len(groups))
    tail = level / 2 if each else level / 2 / len(matrix)
    ends = [two_part.limits(group, tail) for group in groups]
    return two_part.contrasts(np.array([group.mean for group in groups]), ends, matrix)


def tested_differences(
    groups: Sequence[Scores], tests: PermutationTests, column: int, level: float = 0.05
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Limits of all pairs' differences, and p values that agree with them: p <= level where zero is excluded.

    Where neither group of a pair has a failure, the permuted Welch test decides: an interval that allows for unobserved
    failures would contain zero in nearly every small group. Where the test rejects, the limit next to zero is the
    test's own. So the claim is about patients like those at hand, none of whom failed: where a failure rate that was
    not observed lowers the better group alone, it may have the wrong sign, and the failure rates say how likely that
    is. Where there is a failure, the interval decides: p is the level at which it reaches zero.

    Args:
        groups: G of them.
        tests: of the same groups in the same order.
        column: theirs.
        level: of all intervals together.

    Returns:
        Lower limits, upper limits and p values, corrected over the pairs: f64[J] each.
    """
    low, high = differences(groups, level)
    p = tests.pairs_p[column].copy()
    matrix = pairs(len(groups))
    for j, (first, second) in enumerate(combinations(groups, 2)):
        if first.failed or second.failed:
            p[j] = max(p[j], min(1.0, len(p) * _reaches_zero(groups, matrix[j])))
            continue
        if p[j] > level or (shifts := tests.shifts(column, j, level)) is None:
            continue
        point = first.mean - second.mean
        error = float(np.hypot(first.error, second.error))
        low[j] = max(low[j], point - shifts[1] * error) if point > 0 else low[j]
        high[j] = min(high[j], point - shifts[0] * error) if point < 0 else high[j]
    return low, high, p


def tested_contrast(
    groups: Sequence[Scores], coefficients: np.ndarray, level: float = 0.05
) -> tuple[float, Interval, float]:
    """A contrast of independent means with its interval, and a p value that agrees with it.

    As `tested_differences`, but the test of groups without failures is Welch's t with Satterthwaite's degrees of
    freedom, after Hall's transformation: no permutation keeps the other contrasts as they are.

    Args:
        groups: G of them, five patients or more in each.
        coefficients: f64[G], which sum to 0.
        level: of the interval.

    Returns:
        Contrast, limits and two-sided p; p is 1 where no score varies.
    """
    low, high = _limits(groups, coefficients, level)
    point = float(coefficients @ [group.mean for group in groups])
    variances = np.array([(c * group.error) ** 2 for c, group in zip(coefficients, groups, strict=True)])
    error = float(np.sqrt(variances.sum()))
    if any(group.failed for group in groups):
        return point, [low, high], _reaches_zero(groups, coefficients)
    if error < 1e-12:
        return point, [low, high], 1.0
    freedom = variances.sum() ** 2 / (variances**2 / [group.freedom for group in groups]).sum()
    third = [c**3 * group.skewness * group.error**3 for c, group in zip(coefficients, groups, strict=True)]
    skewness = float(np.sum(third)) / error**3
    p = float(2 * stats.t.sf(abs(two_part.hall(point / error, skewness)), freedom))
    if p <= level:
        critical = stats.t.ppf(1 - level / 2, freedom)
        if point > 0:
            low = max(low, point - two_part.unskewed(critical, skewness) * error)
        else:
            high = min(high, point - two_part.unskewed(-critical, skewness) * error)
    return point, [low, high], p


def _limits(groups: Sequence[Scores], coefficients: np.ndarray, level: float) -> tuple[float, float]:
    ends = [two_part.limits(group, level / 2) for group in groups]
    low, high = two_part.contrasts(np.array([group.mean for group in groups]), ends, coefficients[None])
    return float(low[0]), float(high[0])


def _reaches_zero(groups: Sequence[Scores], coefficients: np.ndarray) -> float:
    """The smallest level at which a contrast's own interval contains zero."""

    def excluded(level: float) -> bool:
        low, high = _limits(groups, coefficients, level)
        return low > 0 or high < 0

    if not excluded(1.0):
        return 1.0
    below, above = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (below + above) / 2
        below, above = (below, middle) if excluded(middle) else (middle, above)
    return above


def gap(low: np.ndarray, high: np.ndarray) -> Interval:
    """Of max_g mu_g - min_g mu_g, from the limits of all differences; not below 0."""
    return [
        float(max(np.maximum(low, -high).max(), 0.0)),
        float(np.maximum(high, -low).max()),
    ]


def sd(low: np.ndarray, high: np.ndarray, count: int) -> Interval:
    """Of the population SD of mu_g: its square is the sum of all squared differences over the squared count."""
    least, most = np.maximum(np.maximum(low, -high), 0), np.maximum(high, -low)
    return [float(np.sqrt((part**2).sum()) / count) for part in (least, most)]


def worst_error(groups: Sequence[Scores], level: float = 0.05) -> Interval:
    """Of the largest error: 1 - mu_g of overlap, mu_g of what is an error itself."""
    ends = _errors(groups, level)
    return [float(end) for end in ends.max(0)]


def ser(groups: Sequence[Scores], level: float = 0.05) -> Interval | None:
    """Of max_g e_g / min_g e_g, from MOVER intervals of the logarithms' differences; None where an error may be 0."""
    count = len(groups)
    ends = _errors(groups, 2 * level / (count - 1))  # level / J, J = count (count - 1) / 2
    points = np.array([_error(group) for group in groups])
    if min(points.min(), ends.min()) <= 1e-12:
        return None
    low, high = two_part.contrasts(np.log(points), np.log(ends).tolist(), pairs(count))
    return [float(np.exp(end)) for end in gap(low, high)]


def es(strata: Sequence[Scores], weights: np.ndarray, groups: int, level: float = 0.05) -> Interval:
    """Of S / (1 + sum_g |S - mu_g|), S = weights . mu, over the first `groups` strata."""
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
    """Limits of all groups' errors, which hold at once: f64[G, 2]."""
    ends = [two_part.limits(group, level / 2 / len(groups)) for group in groups]
    return np.array(
        [
            (group.best - high, group.best - low) if group.best > 0 else (low, high)
            for group, (low, high) in zip(groups, ends, strict=True)
        ]
    )
