"""Computes intervals of means by resampling patients."""

import math

import numpy as np
from scipy import stats

from kneefair_jax.errors import InputError

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


def expanded_levels(patients: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the percentiles that make the interval of a mean of few patients as wide as Student's.

    Phi(sqrt(n / (n - 1)) t_{alpha/2, n-1}): Hesterberg, The American Statistician 69(4), 2015. The plain
    percentile interval is too short by the factor sqrt((n - 1) / n) and by z against t.

    Returns:
        Lower and upper level in (0, 1).
    """
    t = stats.t.ppf((1 - confidence) / 2, patients - 1)
    level = float(stats.norm.cdf(np.sqrt(patients / (patients - 1)) * t))
    return level, 1 - level


def check_draws(draws: int, option: str = "draws", confidence: float = 0.95) -> None:
    """Check that there are enough resamples for an interval.

    Args:
        draws: resamples.
        option: the name of the setting, for the message.
        confidence: of the interval.

    Raises:
        InputError: there are fewer than 2 / (1 - confidence), so that no resample lies outside the interval.
    """
    minimum = math.ceil(round(2 / (1 - confidence), 6))
    if draws < minimum:
        raise InputError(
            f"{option}={draws}: a {confidence:.0%} interval needs {minimum} resamples or more; the default is 10000"
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


def mean_intervals(
    scores: np.ndarray, rng: np.random.Generator, draws: int = 10_000, confidence: float = 0.95
) -> np.ndarray:
    """Return expanded-percentile bootstrap intervals of the means of K scores of the same patients.

    Args:
        scores: f[P, K], a row per patient, so that two knees of one patient count as one; NaN is excluded.
        rng: draws the patients, the same for all K scores.
        draws: resamples.
        confidence: of each interval.

    Returns:
        f64[K, 2]; NaN if fewer than `MIN_PATIENTS` patients have the score.

    Raises:
        InputError: there are too few draws (`check_draws`).
    """
    check_draws(draws, confidence=confidence)
    patients = len(scores)
    has_score = ~np.isnan(scores)
    zero_filled = np.where(has_score, scores, 0.0)
    means = np.full((draws, scores.shape[1]), np.nan)
    rows = max(1, CHUNK // max(patients, 1))
    for start in range(0, draws if patients else 0, rows):
        size = min(rows, draws - start)
        # How often each patient is drawn: resampling as a matrix product.
        weights = counts(patients, size, rng).astype(float)
        count = weights @ has_score
        means[start : start + size] = np.divide(
            weights @ zero_filled, count, out=np.full_like(count, np.nan), where=count > 0
        )
    intervals = np.full((scores.shape[1], 2), np.nan)
    for k, n in enumerate(has_score.sum(0)):
        if n >= MIN_PATIENTS:
            intervals[k] = np.nanquantile(means[:, k], expanded_levels(int(n), confidence))
    return intervals
