"""Intervals over patients of what is not linear in group means: the worst mean, the gap, SER, ES and a change of worst.

Percentiles of an extreme are biased: of equal groups the lowest mean falls in every resample. So all differences that a
statistic depends on get intervals at once, by the bootstrap of max |t| over seeds and differences. Each statistic here
rises or falls with each of them, so that its ends follow from theirs; where they hold, it holds. They are on the safe
side. A statistic is formed seed by seed and then averaged, as its value is.
"""

from typing import NamedTuple

import numpy as np

from kneefair_jax.fairness.seed_intervals import ROUNDING

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

    def errors(self) -> "Means":
        """Of e = 1 - S."""
        return self._replace(point=1 - self.point, drawn=1 - self.drawn)


def worst(means: Means, confidence: float = 0.95) -> list[float] | None:
    """Of min_g mu_g."""
    ends = contrasts(means, np.eye(means.point.shape[1]), confidence)
    return ends and _averaged(*(end.min(1) for end in ends))


def worst_error(errors: Means, confidence: float = 0.95) -> list[float] | None:
    """Of max_g e_g."""
    ends = contrasts(errors, np.eye(errors.point.shape[1]), confidence)
    return ends and _averaged(*(end.max(1) for end in ends))


def gap(means: Means, confidence: float = 0.95) -> list[float] | None:
    """Of max_g mu_g - min_g mu_g, the largest of all signed differences; not below 0."""
    ends = contrasts(means, pairs(means.point.shape[1]), confidence)
    return ends and _averaged(*largest(*ends))


def ser(means: Means, confidence: float = 0.95) -> list[float] | None:
    """Of max_g e_g / min_g e_g, e = 1 - mu, by the logarithm; not below 1. None where an error is 0."""
    return ratio(means.errors(), confidence)


def ratio(errors: Means, confidence: float = 0.95) -> list[float] | None:
    """Of max_g e_g / min_g e_g for the means e of errors, as `ser`."""
    if min(errors.point.min(), errors.drawn.min()) <= 0:
        return None
    # The delta method: log e has the standard error of e over e.
    logs = Means(
        np.log(errors.point),
        errors.spread / errors.point**2,
        np.log(errors.drawn),
        errors.squared / errors.drawn**2,
    )
    ends = contrasts(logs, pairs(errors.point.shape[1]), confidence)
    return ends and _averaged(*(np.exp(end) for end in largest(*ends)))


def sd(means: Means, confidence: float = 0.95) -> list[float] | None:
    """Of the population SD of mu_g; not below 0.

    The SD is a norm, so that of the estimates is off by no more than the SD of their errors, whose quantile is the
    bootstrap's, over the root of the mean squared standard error. With two groups it is half the interval of the gap.
    """
    point, error = means.point.std(1), np.sqrt(means.spread.mean(1))
    t = _over((means.drawn - means.point).std(2), np.sqrt(means.squared.mean(2)))
    quantile = np.quantile(t.max(1), confidence)
    if quantile >= _FAR:
        return None
    return _averaged(np.maximum(point - quantile * error, 0), point + quantile * error)


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


def change_of_gap(
    method: Means, baseline: Means, change: Means, confidence: float = 0.95
) -> list[float] | None:
    """Of max_j a_j - max_j b_j over signed pairs j of groups, a method's gap minus the baseline's.

    It is at most a_j - b_j in the pair that has the method's gap, and at least that in the pair that has the
    baseline's, which are paired by patient. It also lies between the differences of the ends of the two gaps, which
    are closer where the method turns the order of the groups round. All hold at once, so the interval is conservative.

    Args:
        method: a.
        baseline: b.
        change: a - b by patient.
        confidence: of the interval.
    """
    signed = pairs(method.point.shape[1])
    signed = np.concatenate([signed, -signed])
    stacked = Means(*(np.concatenate(parts, axis=-1) for parts in zip(method, baseline, change, strict=True)))
    ends = contrasts(stacked, np.kron(np.eye(3), signed), confidence)
    if ends is None:
        return None
    low, high = (np.moveaxis(end.reshape(-1, 3, len(signed)), 1, 0) for end in ends)
    has_gap = high[:2] >= low[:2].max(-1, keepdims=True)
    paired_low = np.where(has_gap[1], low[2], np.inf).min(-1)
    paired_high = np.where(has_gap[0], high[2], -np.inf).max(-1)
    gap_low, gap_high = np.maximum(low[:2].max(-1), 0), high[:2].max(-1)
    return _averaged(
        np.maximum(paired_low, gap_low[0] - gap_high[1]), np.minimum(paired_high, gap_high[0] - gap_low[1])
    )


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
    point, error, t = studentised(means, matrix)
    quantile = np.quantile(t.max((1, 2)), confidence)
    return (point - quantile * error, point + quantile * error) if quantile < _FAR else None


def separate(means: Means, matrix: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """As `contrasts`, but each interval holds on its own: NaN ends where its resamples leave no quantile."""
    point, error, t = studentised(means, matrix)
    quantile = np.quantile(t, confidence, axis=0)
    quantile = np.where(quantile < _FAR, quantile, np.nan)
    return point - quantile * error, point + quantile * error


def studentised(means: Means, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear functions of the means, their standard errors, and |t| of the resamples about them.

    Returns:
        f64[S, J], f64[S, J] and f64[draws, S, J].
    """
    point, error = means.point @ matrix.T, np.sqrt(means.spread @ (matrix**2).T)
    return point, error, _over(means.drawn @ matrix.T - point, np.sqrt(means.squared @ (matrix**2).T))


def pairs(count: int) -> np.ndarray:
    """The differences of all pairs, the first minus a later one: f[count (count - 1) / 2, count]."""
    first, second = np.triu_indices(count, 1)
    return np.eye(count)[first] - np.eye(count)[second]


def largest(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of signed differences f64[S, J], all of which hold -> that of the largest without its sign, f64[S]."""
    return np.maximum(np.maximum(low, -high).max(1), 0), np.maximum(high, -low).max(1)


def _over(shift: np.ndarray, errors: np.ndarray) -> np.ndarray:
    # A resample that drew equal scores alone has no standard error, and lies far out unless it did not move.
    moved = np.where(np.abs(shift) > ROUNDING, np.abs(shift), 0.0)
    return np.divide(moved, errors, out=(moved > 0) * _FAR**2, where=errors > ROUNDING)


def _averaged(low: np.ndarray, high: np.ndarray) -> list[float] | None:
    ends = [float(low.mean()), float(high.mean())]
    return ends if np.isfinite(ends).all() else None
