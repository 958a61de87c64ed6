"""Computes intervals by resampling patients: of means, and of statistics that are not linear in group means.

Statistics that are not linear are the worst mean, the gap, the SER, the ES, and changes of the worst mean and of the
gap. Percentiles of an extreme are biased: with equal groups, the lowest mean falls in nearly every resample. So all
differences on which a statistic depends get simultaneous intervals from the bootstrap of max |t| over seeds and
differences, which are conservative. Each statistic is monotone in each difference, so the ends of the differences give
its ends. A statistic is computed for each seed and then averaged, as its value is.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from kneefair_jax.errors import InputError
from kneefair_jax.fairness.seed_intervals import CONFIDENCE, ROUNDING

# With fewer patients the range of the scores bounds the interval. 95 % intervals from normal scores cover the mean in
# 50 % of cohorts with 2 patients, 75 % with 3, 87 % with 4, 92 % with 5 and 94 % with 8 (4,000 cohorts each).
MIN_PATIENTS = 5

# The minimum number of resamples: with fewer than 1 / 0.025, the ends of a 95 % interval lie outside all of them.
MIN_DRAWS = 40

# With more patients, fewer resamples are used (`affordable_draws`).
MANY_PATIENTS = 20_000
# The fewest that leave the Monte Carlo error of the end of a 95 % interval below 1 % of the interval's width.
FEWEST_PERMUTATIONS = 2_500
FEWEST_RESAMPLES = 5_000

# Draws x patients in memory at the same time: 64 MiB of weights.
CHUNK = 1 << 23


def expanded_levels(patients: int) -> tuple[float, float]:
    """Return the percentiles that make the interval of a mean of few patients as wide as Student's.

    Phi(sqrt(n / (n - 1)) t_{alpha/2, n-1}): Hesterberg, The American Statistician 69(4), 2015. The plain
    percentile interval is too short by the factor sqrt((n - 1) / n) and by z against t.

    Returns:
        Lower and upper level in (0, 1).
    """
    t = stats.t.ppf((1 - CONFIDENCE) / 2, patients - 1)
    level = float(stats.norm.cdf(np.sqrt(patients / (patients - 1)) * t))
    return level, 1 - level


def check_draws(draws: int, option: str = "draws") -> None:
    """Check that there are enough resamples for a 95 % interval; `option` names the setting in the message.

    Raises:
        InputError: there are fewer than `MIN_DRAWS`.
    """
    if draws < MIN_DRAWS:
        raise InputError(
            f"{option}={draws}: a 95 % interval needs {MIN_DRAWS} resamples or more; the default is 10000"
        )


def affordable_draws(draws: int, patients: int, fewest: int) -> int:
    """Return how many of the requested resamples or permutations to use; fewer with more than 20,000 patients.

    Draws times patients is at most that of 10,000 draws of 20,000 patients, but at least `fewest` draws are used. With
    B draws of a normal statistic, the end of a 95 % interval has a Monte Carlo standard error, in units of the
    interval's width 2 * 1.96, of sqrt(0.05 * 0.95 / B) / (2 phi(1.96)) by the permuted |t| (0.95 % at B = 2,500), and
    of sqrt(0.025 * 0.975 / B) / phi(1.96) by a quantile of resamples (0.96 % at B = 5,000). The smallest p of 2,500
    permutations is 1 / 2,501, which stays below 0.05 after Holm's correction over up to 125 hypotheses.

    Args:
        draws: as requested.
        patients: in the audit.
        fewest: `FEWEST_PERMUTATIONS` or `FEWEST_RESAMPLES`; fewer are used only where fewer are requested.
    """
    if patients <= MANY_PATIENTS:
        return draws
    return min(draws, max(fewest, 10_000 * MANY_PATIENTS // patients))


def counts(patients: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each patient occurs in each resample, i64[draws, patients].

    Counting patient numbers takes a fifth of the time of `rng.multinomial` and has the same distribution.
    """
    patient_numbers = rng.integers(patients, size=(draws, patients))
    patient_numbers += np.arange(0, draws * patients, patients)[:, None]
    return np.bincount(patient_numbers.ravel(), minlength=draws * patients).reshape(draws, patients)


# Only resamples without any spread reach a Student's t of this size; they would determine the interval.
_FAR = 1e3


class Means(NamedTuple):
    """Means of K strata of different patients, or of one stratum by different runs, for S seeds.

    Attributes:
        estimate: f64[S, K].
        variance: f64[S, K], squared standard errors.
        bootstrap: f64[draws, S, K], of resamples.
        bootstrap_variance: f64[draws, S, K], their squared standard errors.
    """

    estimate: np.ndarray
    variance: np.ndarray
    bootstrap: np.ndarray
    bootstrap_variance: np.ndarray

    def ranked(self, groups: int) -> "Means":
        """Return the first `groups` strata."""
        return Means(*(part[..., :groups] for part in self))


def worst(means: Means) -> list[float] | None:
    """Return the interval of min_g mu_g."""
    ends = contrasts(means, np.eye(means.estimate.shape[1]))
    return ends and _seed_mean(*(end.min(1) for end in ends))


def gap(means: Means) -> list[float] | None:
    """Return the interval of max_g mu_g - min_g mu_g, the largest of all signed differences; not below 0."""
    ends = contrasts(means, pairs(means.estimate.shape[1]))
    return ends and _seed_mean(*largest_difference(*ends))


def ser(means: Means) -> list[float] | None:
    """Return the interval of max_g e_g / min_g e_g, e = 1 - mu, from logarithms; not below 1, None if an error is 0."""
    errors, resampled_errors = 1 - means.estimate, 1 - means.bootstrap
    if min(errors.min(), resampled_errors.min()) <= 0:
        return None
    # The delta method: log e has the standard error of e divided by e.
    logs = Means(
        np.log(errors),
        means.variance / errors**2,
        np.log(resampled_errors),
        means.bootstrap_variance / resampled_errors**2,
    )
    ends = contrasts(logs, pairs(errors.shape[1]))
    return ends and _seed_mean(*(np.exp(end) for end in largest_difference(*ends)))


def es(means: Means, weights: np.ndarray, groups: int) -> list[float] | None:
    """Return the interval of S / (1 + sum_g |S - mu_g|), S = weights . mu, over the first `groups` strata."""
    deviations = weights - np.eye(len(weights))[:groups]
    ends = contrasts(means, np.vstack([weights, deviations]))
    if ends is None:
        return None
    low, high = ends
    largest_deviations = np.maximum(-low, high)[:, 1:].sum(1)
    smallest_deviations = np.maximum(np.maximum(low, -high), 0)[:, 1:].sum(1)
    return _seed_mean(low[:, 0] / (1 + largest_deviations), high[:, 0] / (1 + smallest_deviations))


def change_of_worst(method: Means, baseline: Means, change: Means) -> list[float] | None:
    """Return the interval of min_k a_k - min_h b_h, a method's worst mean minus the baseline's, of whichever groups.

    The change equals both min_k max_h (a_k - b_h), which gives the lower end, and max_h min_k (a_k - b_h), which gives
    the upper end. Differences within a group are paired; differences between groups are of different patients.

    Args:
        method: a.
        baseline: b.
        change: a - b by patient.
    """
    count = method.estimate.shape[1]
    matrix = np.zeros((count, count, 3 * count))
    for k in range(count):
        for h in range(count):
            if k == h:
                matrix[k, h, 2 * count + k] = 1
            else:
                matrix[k, h, k], matrix[k, h, count + h] = 1, -1
    stacked = Means(*(np.concatenate(parts, axis=-1) for parts in zip(method, baseline, change, strict=True)))
    ends = contrasts(stacked, matrix.reshape(-1, 3 * count))
    if ends is None:
        return None
    low, high = (end.reshape(-1, count, count) for end in ends)
    return _seed_mean(low.max(2).min(1), high.min(1).max(1))


def change_of_gap(method: Means, baseline: Means, change: Means) -> list[float] | None:
    """Return the interval of max_j a_j - max_j b_j over signed pairs j of groups, a method's gap minus the baseline's.

    The change is at most a_j - b_j in the pair that has the method's gap, and at least a_j - b_j in the pair that has
    the baseline's gap; both are paired by patient. It also lies between the differences of the ends of the two gaps,
    which are closer if the method reverses the order of the groups. All limits hold simultaneously, so the interval is
    conservative.

    Args:
        method: a.
        baseline: b.
        change: a - b by patient.
    """
    signed_pairs = pairs(method.estimate.shape[1])
    signed_pairs = np.concatenate([signed_pairs, -signed_pairs])
    stacked = Means(*(np.concatenate(parts, axis=-1) for parts in zip(method, baseline, change, strict=True)))
    ends = contrasts(stacked, np.kron(np.eye(3), signed_pairs))
    if ends is None:
        return None
    low, high = (np.moveaxis(end.reshape(-1, 3, len(signed_pairs)), 1, 0) for end in ends)
    has_gap = high[:2] >= low[:2].max(-1, keepdims=True)
    paired_low = np.where(has_gap[1], low[2], np.inf).min(-1)
    paired_high = np.where(has_gap[0], high[2], -np.inf).max(-1)
    gap_low, gap_high = np.maximum(low[:2].max(-1), 0), high[:2].max(-1)
    return _seed_mean(
        np.maximum(paired_low, gap_low[0] - gap_high[1]), np.minimum(paired_high, gap_high[0] - gap_low[1])
    )


def contrasts(means: Means, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return simultaneous intervals of J linear functions of independent means, for all S seeds.

    Each is estimate -+ q se, with q the quantile of the bootstrap's max |t|, so that all S J intervals hold with
    probability `CONFIDENCE`.

    Args:
        means: of K strata.
        matrix: f[J, K].

    Returns:
        Lower and upper ends, f64[S, J] each; None if resamples without spread determine the quantile.
    """
    point, error, t = studentize(means, matrix)
    quantile = np.quantile(t.max((1, 2)), CONFIDENCE)
    return (point - quantile * error, point + quantile * error) if quantile < _FAR else None


def studentize(means: Means, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return linear functions of the means, their standard errors, and |t| of the resamples.

    Returns:
        f64[S, J], f64[S, J] and f64[draws, S, J].
    """
    point, error = means.estimate @ matrix.T, np.sqrt(means.variance @ (matrix**2).T)
    return (
        point,
        error,
        _studentized_distance(
            means.bootstrap @ matrix.T - point, np.sqrt(means.bootstrap_variance @ (matrix**2).T)
        ),
    )


def pairs(count: int) -> np.ndarray:
    """Return the contrasts of all pairs, the first minus a later group: f[count (count - 1) / 2, count]."""
    first, second = np.triu_indices(count, 1)
    return np.eye(count)[first] - np.eye(count)[second]


def largest_difference(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of the largest absolute difference, f64[S] each, from simultaneous intervals f64[S, J]."""
    return np.maximum(np.maximum(low, -high).max(1), 0), np.maximum(high, -low).max(1)


def _studentized_distance(shift: np.ndarray, errors: np.ndarray) -> np.ndarray:
    # A resample of equal scores has no standard error; unless it equals the estimate, its t is set to a large number.
    distance = np.where(np.abs(shift) > ROUNDING, np.abs(shift), 0.0)
    t: np.ndarray = np.divide(distance, errors, out=(distance > 0) * _FAR**2, where=errors > ROUNDING)
    return t


def _seed_mean(low: np.ndarray, high: np.ndarray) -> list[float] | None:
    ends = [float(low.mean()), float(high.mean())]
    return ends if np.isfinite(ends).all() else None
