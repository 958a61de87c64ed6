"""Intervals over patients of what is not linear in group means: the worst mean, the gap, SER, ES and a change of worst.

Percentiles of an extreme are biased: of equal groups the lowest mean falls in every resample. So all differences that a
statistic depends on get intervals at once, by the bootstrap of max |t| over seeds and differences. Each statistic here
rises or falls with each of them, so that its ends follow from theirs; where they hold, it holds. They are on the safe
side. A statistic is formed seed by seed and then averaged, as its value is.
"""

from typing import NamedTuple

import numpy as np

from kneefair_jax.fairness.over_seeds import ROUNDING

# A Student's t that only resamples without any spread reach: the interval would be made of them.
_FAR = 1e3


class Means(NamedTuple):
    """Means of K strata of different patients, or of one stratum by different runs, for S seeds.

    Attributes:
        point: f64[S, K].
        spread: f64[S, K], squared standard errors.
        drawn: f64[draws, S, K], of resamples.
        squared: f64[draws, S, K], their squared standard errors.
    """

    point: np.ndarray
    spread: np.ndarray
    drawn: np.ndarray
    squared: np.ndarray

    def ranked(self, groups: int) -> "Means":
        """The first strata alone."""
        return Means(*(part[..., :groups] for part in self))


def worst(means: Means, confidence: float = 0.95) -> list[float] | None:
    """Of min_g mu_g."""
    ends = contrasts(means, np.eye(means.point.shape[1]), confidence)
    return ends and _averaged(*(end.min(1) for end in ends))


def gap(means: Means, confidence: float = 0.95) -> list[float] | None:
    """Of max_g mu_g - min_g mu_g, the largest of all signed differences; not below 0."""
    ends = contrasts(means, _pairs(means.point.shape[1]), confidence)
    return ends and _averaged(*(np.maximum(end.max(1), 0) for end in ends))


def ser(means: Means, confidence: float = 0.95) -> list[float] | None:
    """Of max_g e_g / min_g e_g, e = 1 - mu, by the logarithm; not below 1. None where an error is 0."""
    error, errors = 1 - means.point, 1 - means.drawn
    if min(error.min(), errors.min()) <= 0:
        return None
    # The delta method: log e has the standard error of e over e.
    logs = Means(np.log(error), means.spread / error**2, np.log(errors), means.squared / errors**2)
    ends = contrasts(logs, _pairs(error.shape[1]), confidence)
    return ends and _averaged(*(np.exp(np.maximum(end.max(1), 0)) for end in ends))


def es(means: Means, weights: np.ndarray, groups: int, confidence: float = 0.95) -> list[float] | None:
    """Of S / (1 + sum_g |S - mu_g|), S = weights . mu, over the first `groups` strata."""
    deviations = weights - np.eye(len(weights))[:groups]
    ends = contrasts(means, np.vstack([weights, deviations]), confidence)
    if ends is None:
        return None
    low, high = ends
    largest = np.maximum(-low, high)[:, 1:].sum(1)
    smallest = np.maximum(np.maximum(low, -high), 0)[:, 1:].sum(1)
    return _averaged(low[:, 0] / (1 + largest), high[:, 0] / (1 + smallest))


def change_of_worst(
    method: Means, baseline: Means, change: Means, confidence: float = 0.95
) -> list[float] | None:
    """Of min_k a_k - min_h b_h, a method's worst mean minus the baseline's, whichever groups those are.

    It is min_k max_h (a_k - b_h), and max_h min_k (a_k - b_h) as well: the first gives the lower end, the second the
    upper. Differences within a group are paired; those between groups are of different patients.

    Args:
        method: a.
        baseline: b.
        change: a - b by patient.
        confidence: of the interval.
    """
    count = method.point.shape[1]
    crossed = np.zeros((count, count, 3 * count))
    for k in range(count):
        for h in range(count):
            if k == h:
                crossed[k, h, 2 * count + k] = 1
            else:
                crossed[k, h, k], crossed[k, h, count + h] = 1, -1
    stacked = Means(*(np.concatenate(parts, axis=-1) for parts in zip(method, baseline, change, strict=True)))
    ends = contrasts(stacked, crossed.reshape(-1, 3 * count), confidence)
    if ends is None:
        return None
    low, high = (end.reshape(-1, count, count) for end in ends)
    return _averaged(low.max(2).min(1), high.min(1).max(1))


def contrasts(
    means: Means, matrix: np.ndarray, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray] | None:
    """Simultaneous intervals of J linear functions of independent means, for all S seeds at once.

    point -+ q se, with q the quantile of the bootstrap's max |t|.

    Args:
        means: of K strata.
        matrix: f[J, K].
        confidence: that all of the S J intervals hold.

    Returns:
        Lower and upper ends, f64[S, J] each; None where resamples without spread leave no quantile.
    """
    point, error = means.point @ matrix.T, np.sqrt(means.spread @ (matrix**2).T)
    shift = means.drawn @ matrix.T - point
    errors = np.sqrt(means.squared @ (matrix**2).T)
    # A resample that drew equal scores alone has no standard error, and lies far out unless it did not move.
    moved = np.where(np.abs(shift) > ROUNDING, np.abs(shift), 0.0)
    t = np.divide(moved, errors, out=(moved > 0) * _FAR**2, where=errors > ROUNDING)
    quantile = np.quantile(t.max((1, 2)), confidence)
    return (point - quantile * error, point + quantile * error) if quantile < _FAR else None


def _pairs(count: int) -> np.ndarray:
    """The differences of all ordered pairs: f[count (count - 1), count]."""
    first, second = np.nonzero(~np.eye(count, dtype=bool))
    return np.eye(count)[first] - np.eye(count)[second]


def _averaged(low: np.ndarray, high: np.ndarray) -> list[float] | None:
    ends = [float(low.mean()), float(high.mean())]
    return ends if np.isfinite(ends).all() else None
