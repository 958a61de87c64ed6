"""Computes the power of a number of patients, and the number of patients that a question needs (`patients_needed`).

Three questions have three answers, which do not imply each other. Welch's t detects a difference of the means of
patients without a failed segmentation; its power follows from the patients' standard deviation. Fisher's exact test
detects a difference of failure rates; its power is a sum over all tables. Groups are equivalent if a two-part interval
(`two_part`) lies inside the margin, which needs enough patients to bound the loss by failures, even if no segmentation
failed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from kneefair_jax.errors import InputError

# The largest number of patients of a group in a search.
MOST_PATIENTS = 100_000
# Binomial counts with less probability than this in either tail change no printed digit of a power.
_NEGLIGIBLE = 1e-6
# More counts of failures in a group change no printed digit of a power. With more tables, the normal approximation of
# Fisher's test is accurate.
_MOST_COUNTS = 200
_MOST_TABLES = 200_000
# P values are sums over this many standard deviations around the mean of a hypergeometric count, plus this many counts
# for the long tail of a rare event.
_TAIL_DEVIATIONS, _TAIL_COUNTS = 8, 8


@dataclass(frozen=True)
class PatientsNeeded:
    """Patients of the smaller group that each question needs; None if `MOST_PATIENTS` are not enough.

    Attributes:
        margin: of the difference, in the unit of the score; of failure rates as a share.
        spread: standard deviation over patients without a failed segmentation, the same in both groups.
        failure_rate: of the group that fails less; for means and equivalence, of both groups.
        ratio: patients of the larger group over those of the smaller one.
        span: distance of the groups' mean from the worst possible score, the largest loss by a failure.
        power: probability that a test rejects, or that a test of equivalence succeeds.
        level: of each single, uncorrected test.
        equivalence_level: of each one-sided test of equivalence.
        mean: to detect a difference of the margin between means of patients without a failure (Welch), whose number
            follows from the failure rate.
        failures: to detect that the smaller group's failure rate is higher by the margin (Fisher's exact test); None
            also if that rate is above 1.
        equivalence: to show that groups with equal means and the failure rate differ by less than the margin in one
            score. At a failure rate of 0 it is a lower bound: any failure widens the interval.
    """

    margin: float
    spread: float
    failure_rate: float
    ratio: float
    span: float
    power: float
    level: float
    equivalence_level: float
    mean: int | None
    failures: int | None
    equivalence: int | None


def patients_needed(
    margin: float,
    spread: float,
    failure_rate: float,
    *,
    ratio: float = 1.0,
    span: float = 1.0,
    power: float = 0.8,
    level: float = 0.05,
    equivalence_level: float = 0.05,
) -> PatientsNeeded:
    """Return how many patients are needed to detect that two groups differ by a margin, or are equivalent within it.

    Args:
        margin: above 0, in the unit of the score.
        spread: standard deviation over patients, in the same unit.
        failure_rate: in [0, 1).
        ratio: patients of the larger group over those of the smaller one, 1 or more.
        span: distance of the mean from the worst possible score, above 0; 0.95 for groups with a mean Dice of 0.95.
        power: in (0, 1).
        level: in (0, 1).
        equivalence_level: in (0, 1), of each one-sided test: 0.05 / A where A attributes are tested.

    Raises:
        InputError: a number is out of its range.
    """
    for name, value, allowed, valid in (
        ("margin", margin, "above 0", margin > 0),
        ("spread", spread, "of 0 or more", spread >= 0),
        ("failure_rate", failure_rate, "of 0 or more, below 1", 0 <= failure_rate < 1),
        ("ratio", ratio, "of 1 or more", ratio >= 1),
        ("span", span, "above 0", span > 0),
        ("power", power, "between 0 and 1", 0 < power < 1),
        ("level", level, "between 0 and 1", 0 < level < 1),
        ("equivalence_level", equivalence_level, "between 0 and 1", 0 < equivalence_level < 1),
    ):
        if not (valid and math.isfinite(value)):
            raise InputError(f"{name}={value}: give a number {allowed}")
    rates = (failure_rate + margin, failure_rate)
    without_failure = mean_difference_patients(margin, spread, power, level, ratio)
    return PatientsNeeded(
        margin,
        spread,
        failure_rate,
        ratio,
        span,
        power,
        level,
        equivalence_level,
        mean=None if without_failure is None else math.ceil(without_failure / (1 - failure_rate)),
        failures=failure_patients(rates, power, level, ratio) if rates[0] <= 1 else None,
        equivalence=equivalence_patients(margin, spread, failure_rate, span, power, equivalence_level, ratio),
    )


def mean_difference(
    patients: tuple[int, int], spread: tuple[float, float], power: float = 0.8, level: float = 0.05
) -> float:
    """Return the difference of means that a two-sided Welch test detects with this power.

    Args:
        patients: of the two groups, two or more each.
        spread: standard deviations over the patients of each group.
        power: probability that the test rejects.
        level: of the test.

    Returns:
        (t_{1 - level/2} + t_power) times Welch's standard error, in the unit of the spread.
    """
    squared_errors = [sd**2 / n for n, sd in zip(patients, spread, strict=True)]
    error = math.sqrt(sum(squared_errors))
    if error == 0:
        return 0.0
    freedom = sum(squared_errors) ** 2 / sum(
        part**2 / (n - 1) for n, part in zip(patients, squared_errors, strict=True)
    )
    return float((stats.t.ppf(1 - level / 2, freedom) + stats.t.ppf(power, freedom)) * error)


def mean_difference_patients(
    difference: float, spread: float, power: float = 0.8, level: float = 0.05, ratio: float = 1.0
) -> int | None:
    """Return the patients of the smaller group with which a difference of means is detected.

    Args:
        difference: above 0, in the unit of the spread.
        spread: standard deviation over patients, the same in both groups.
        power: probability that the test rejects.
        level: of the test.
        ratio: patients of the larger group over those of the smaller one.

    Returns:
        The smallest number at which `mean_difference` is at most the difference; None above `MOST_PATIENTS`.
    """
    return _smallest_sufficient(
        lambda n: mean_difference((n, math.ceil(ratio * n)), (spread, spread), power, level) <= difference, 2
    )


def failure_power(patients: tuple[int, int], rates: tuple[float, float], level: float = 0.05) -> float:
    """Return the probability that Fisher's exact test detects the difference of two failure rates.

    Args:
        patients: of the two groups.
        rates: their true failure rates.
        level: of the two-sided test.
    """
    n, m = patients
    first, second = (_likely_counts(count, rate) for count, rate in zip(patients, rates, strict=True))
    if len(first) * len(second) > _MOST_TABLES:
        return _normal_failure_power(patients, rates, level)
    chances = np.outer(stats.binom.pmf(first, n, rates[0]), stats.binom.pmf(second, m, rates[1]))
    low, high = _rejection(n, m, np.arange(first[0] + second[0], first[-1] + second[-1] + 1), level)
    place = (first - first[0])[:, None] + (second - second[0])
    return float(chances[(first[:, None] <= low[place]) | (first[:, None] >= high[place])].sum())


def _normal_failure_power(patients: tuple[int, int], rates: tuple[float, float], level: float) -> float:
    """Return `failure_power` of large groups by the normal approximation, corrected for continuity."""
    inverse = [1 / count for count in patients]
    pooled = sum(count * rate for count, rate in zip(patients, rates, strict=True)) / sum(patients)
    null_error = math.sqrt(pooled * (1 - pooled) * sum(inverse))
    true_error = math.sqrt(sum(rate * (1 - rate) * part for rate, part in zip(rates, inverse, strict=True)))
    critical = float(stats.norm.ppf(1 - level / 2)) * null_error + sum(inverse) / 2
    difference = rates[0] - rates[1]
    return float(
        stats.norm.sf((critical - difference) / true_error)
        + stats.norm.cdf((-critical - difference) / true_error)
    )


def failure_difference(
    patients: tuple[int, int], rate: float, power: float = 0.8, level: float = 0.05
) -> float | None:
    """Return the failure rate of the first group that differs detectably from the second group's with this power.

    Args:
        patients: of the two groups.
        rate: the true failure rate of the second group.
        power: probability that Fisher's exact test rejects.
        level: of the test.

    Returns:
        The smallest higher rate, to 0.001; None if even a rate of 1 is not detected.
    """
    if failure_power(patients, (1.0, rate), level) < power:
        return None
    low, high = rate, 1.0
    while high - low > 0.0005:
        middle = (low + high) / 2
        low, high = (
            (low, middle) if failure_power(patients, (middle, rate), level) >= power else (middle, high)
        )
    return high


def failure_patients(
    rates: tuple[float, float], power: float = 0.8, level: float = 0.05, ratio: float = 1.0
) -> int | None:
    """Return the patients of the smaller group (the first) with which a difference of failure rates is detected.

    The exact power rises in steps and dips between them, so a slightly smaller number may be enough as well.

    Args:
        rates: true failure rates, which differ.
        power: probability that Fisher's exact test rejects.
        level: of the test.
        ratio: patients of the larger group over those of the smaller one.

    Returns:
        A sufficient number; None above `MOST_PATIENTS`.
    """
    # The exact test needs more patients than the normal approximation gives, so the search starts from half of that.
    mean_rate = (rates[0] + ratio * rates[1]) / (1 + ratio)
    null_error = math.sqrt((1 + 1 / ratio) * mean_rate * (1 - mean_rate))
    true_error = math.sqrt(rates[0] * (1 - rates[0]) + rates[1] * (1 - rates[1]) / ratio)
    quantiles = stats.norm.ppf(1 - level / 2) * null_error + stats.norm.ppf(power) * true_error
    start = max(2, int((quantiles / (rates[0] - rates[1])) ** 2 / 2))
    return _smallest_sufficient(
        lambda n: failure_power((n, math.ceil(ratio * n)), rates, level) >= power, start
    )


def equivalence_power(
    patients: tuple[int, int],
    margin: float,
    spread: float,
    failure_rate: float,
    span: float,
    level: float = 0.05,
) -> float:
    """Return the probability that two groups with the same true mean and failure rate are shown to be equivalent.

    Two one-sided tests (`equivalence.tost`) succeed if both limits of the difference d of the sample means, and both of
    the difference of failure rates, lie inside the margin. Given k failures of n patients in each group, d is normal.
    The squared distance of a limit is the sum of those of Student's limits of the other scores and of Clopper-Pearson's
    limits of k / n, times the span. Without failures, the upper limit of k / n is 1 - level^(1/n). The powers are
    averaged over the failures.

    Args:
        patients: of the two groups, two or more each.
        margin: of equivalence.
        spread: standard deviation over patients without a failure, whose scores are normal.
        failure_rate: of both groups; every failure has the worst possible score.
        span: distance of the mean without failures from the worst possible score.
        level: of each one-sided test.
    """
    counts, chances = zip(*(_thin_counts(n, failure_rate) for n in patients), strict=True)
    # The first group is along the rows, the second along the columns.
    n = (np.array(patients[0]), np.array(patients[1]))
    failed = (counts[0][:, None], counts[1][None])
    rate = [k / size for k, size in zip(failed, n, strict=True)]
    error = [(1 - r) * spread / np.sqrt(size - k) for r, k, size in zip(rate, failed, n, strict=True)]
    mean_down, mean_up, distance_down, distance_up = [], [], [], []
    for k, size, r, e in zip(failed, n, rate, error, strict=True):
        sampling_error = special.stdtrit(size - k - 1, 1 - level) * e
        lowest_rate = np.where(k > 0, special.betaincinv(np.maximum(k, 1), size - k + 1, level), 0)
        highest_rate = special.betaincinv(k + 1, size - k, 1 - level)
        distance_down.append(r - lowest_rate)
        distance_up.append(highest_rate - r)
        mean_down.append(np.hypot(sampling_error, span * distance_up[-1]))
        mean_up.append(np.hypot(sampling_error, span * distance_down[-1]))
    reach_below, reach_above = np.hypot(mean_down[0], mean_up[1]), np.hypot(mean_up[0], mean_down[1])
    expected_difference = span * (rate[1] - rate[0])
    deviation = np.maximum(np.hypot(*error), 1e-12 * span)
    probability = special.ndtr((margin - reach_above - expected_difference) / deviation)
    probability = probability - special.ndtr((reach_below - margin - expected_difference) / deviation)
    rate_difference = rate[0] - rate[1]
    is_rate_equivalent = (rate_difference - np.hypot(distance_down[0], distance_up[1]) > -margin) & (
        rate_difference + np.hypot(distance_up[0], distance_down[1]) < margin
    )
    return float((chances[0][:, None] * chances[1] * is_rate_equivalent * np.maximum(probability, 0)).sum())


def equivalence_patients(
    margin: float,
    spread: float,
    failure_rate: float,
    span: float,
    power: float = 0.8,
    level: float = 0.05,
    ratio: float = 1.0,
) -> int | None:
    """Return the patients of the smaller group with which equal groups are shown to be equivalent.

    Args:
        margin: of equivalence.
        spread: standard deviation over patients without a failure.
        failure_rate: of both groups.
        span: distance of the mean without failures from the worst possible score.
        power: probability that equivalence is shown.
        level: of each one-sided test.
        ratio: patients of the larger group over those of the smaller one.

    Returns:
        A number at which `equivalence_power` reaches the power; None above `MOST_PATIENTS`.
    """

    def is_enough(n: int) -> bool:
        return (
            equivalence_power((n, math.ceil(ratio * n)), margin, spread, failure_rate, span, level) >= power
        )

    return _smallest_sufficient(is_enough, 2)


def _smallest_sufficient(is_enough: Callable[[int], bool], start: int) -> int | None:
    """Return the smallest number of patients from `start` for which a monotone condition holds.

    None if `MOST_PATIENTS` are not enough.
    """
    if start > MOST_PATIENTS:
        return None
    low, high = start - 1, start
    while not is_enough(high):
        if high == MOST_PATIENTS:
            return None
        low, high = high, min(2 * high, MOST_PATIENTS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _thin_counts(patients: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Return counts of failures that leave two patients without one, evenly spaced if many, and their probabilities."""
    counts = _likely_counts(patients, rate)
    counts = counts[counts <= patients - 2]
    starts = np.arange(0, len(counts), -(-len(counts) // _MOST_COUNTS))
    middle = (starts + np.append(starts[1:], len(counts)) - 1) // 2
    return counts[middle], np.add.reduceat(stats.binom.pmf(counts, patients, rate), starts)


def _likely_counts(patients: int, rate: float) -> np.ndarray:
    low, high = stats.binom.ppf([_NEGLIGIBLE, 1 - _NEGLIGIBLE], patients, rate)
    return np.arange(int(max(low, 0)), int(high) + 1)


def _rejection(n: int, m: int, totals: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts at which Fisher's two-sided test rejects.

    Args:
        n: patients of the first group.
        m: patients of the second group.
        totals: i64[K], failures in both groups.
        level: of the test.

    Returns:
        i64[K] each: the test rejects if the first group has at most the first number of failures, or at least the
        second.
    """
    share, complement = totals / (n + m), (n + m - totals) / max(n + m - 1, 1)
    deviation = math.sqrt(float((share * complement * n * m / (n + m)).max()))
    half_width = math.ceil(_TAIL_DEVIATIONS * deviation) + _TAIL_COUNTS
    counts = np.round(share * n).astype(int)[:, None] + np.arange(-half_width, half_width + 1)
    valid_counts = np.clip(counts, np.maximum(totals - m, 0)[:, None], np.minimum(totals, n)[:, None])
    second_counts = totals[:, None] - valid_counts
    log_factorial = special.gammaln(np.arange(max(n, m) + 1) + 1)
    logs = -sum(
        log_factorial[part] for part in (valid_counts, n - valid_counts, second_counts, m - second_counts)
    )
    chances = np.where(valid_counts == counts, np.exp(logs - logs.max(1, keepdims=True)), 0)
    chances /= chances.sum(1, keepdims=True)
    # p of a table is the probability of all tables that are no more probable (Fisher's two-sided rule, as in SciPy). At
    # most two tables have the same probability, one in each tail.
    order = np.sort(chances, axis=1)
    p = order.cumsum(1)
    tied = order[:, 1:] <= order[:, :-1] * (1 + 1e-7)
    p[:, :-1] = np.where(tied, p[:, 1:], p[:, :-1])
    accepted = chances > np.where(p <= level, order, -1).max(1, keepdims=True)
    rows = np.arange(len(totals))
    first, last = accepted.argmax(1), accepted.shape[1] - 1 - accepted[:, ::-1].argmax(1)
    return counts[rows, first] - 1, counts[rows, last] + 1
