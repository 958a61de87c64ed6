"""Welch's interval of a difference of means, and the smallest difference that a sample could have seen."""

import numpy as np
from scipy import stats


def intervals(scores: np.ndarray, sizes: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """Of each pair's difference on its own, not of all pairs at once.

    Args:
        scores: f64[K, P], one a patient, the groups one after another; none NaN.
        sizes: i64[G], two patients or more in each group.
        confidence: of each interval.

    Returns:
        f64[K, J, 2], in the order of `simultaneous.pairs`.
    """
    difference, error, freedom = _pairs(scores, sizes)
    half = stats.t.ppf((1 + confidence) / 2, freedom) * error
    return np.stack([difference - half, difference + half], axis=-1)


def detectable(scores: np.ndarray, sizes: np.ndarray, power: float = 0.8, level: float = 0.05) -> np.ndarray:
    """The gap that a two-sided test would find with this power: f64[K], of the pair where it is largest.

    (t_{1 - level/2} + t_power) times Welch's standard error of patient means.
    """
    _, error, freedom = _pairs(scores, sizes)
    return ((stats.t.ppf(1 - level / 2, freedom) + stats.t.ppf(power, freedom)) * error).max(1)


def _pairs(scores: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
