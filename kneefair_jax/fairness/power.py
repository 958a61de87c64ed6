"""What a number of patients can show, and how many patients would settle a question: `patients_needed`.

Three questions, three answers. A difference of the means of patients without a failed segmentation is found by Welch's
t: its power follows from the patients' standard deviation. A difference of failure rates is found by Fisher's exact
test: its power is a sum over all tables. Equivalence is shown where a two-part interval (`two_part`) lies inside the
margin, which needs enough patients to bound what failures take away, even where no segmentation failed. None of them
says anything about the others.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from kneefair_jax.errors import InputError

# No search goes beyond this number of patients in a group.
MOST_PATIENTS = 100_000
# Binomial counts with less probability than this in either tail change no printed digit of a power.
_NEGLIGIBLE = 1e-6
# More counts of failures in a group change no printed digit of a power, and beyond as many tables Fisher's test is as
# good as its normal approximation.
_MOST_COUNTS = 200
_MOST_TABLES = 200_000
# Standard deviations around the mean of a hypergeometric count that p values are summed over, and counts besides, for
# the long tail of a rare event.
_TAIL_DEVIATIONS, _TAIL_COUNTS = 8, 8


@dataclass(frozen=True)
class PatientsNeeded:
    """Patients of the smaller group that answer each question; None where `MOST_PATIENTS` are not enough.

    Attributes:
        margin: of the difference, in the unit of the score; of failure rates, as a share.
        spread: standard deviation over patients without a failed segmentation, the same in both groups.
        failure_rate: of the group that fails less; for means and equivalence, of both groups.
        ratio: patients of the larger group over those of the smaller one.
        span: distance of the groups' mean from the worst possible score, which a failure takes away at most.
        power: probability that a test rejects, or that equivalence is shown.
        level: of each test, single and uncorrected.
        equivalence_level: of each one-sided test of equivalence.
        mean: to find a difference of the margin between means of patients without a failure (Welch), of whom there are
            as many as both groups have at the failure rate.
        failures: to find that the smaller group's failure rate is higher by the margin (Fisher's exact test); None also
            where no rate is.
        equivalence: to show that groups with equal means, both with the failure rate, differ by less than the margin
            in one score. At a failure rate of 0 it is a lower bound: any failure widens the interval.
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
    """Return how many patients settle whether two groups differ by a margin, or are equivalent within it.

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
        (
            "equivalence_level",
            equivalence_level,
            "between 0 and 1",
            0 < equivalence_level < 1,
        ),
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
    """The difference of means that a two-sided Welch test finds with this power.

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
    """Patients of the smaller group with which a difference of means is found.

    Args:
        difference: above 0, in the unit of the spread.
        spread: standard deviation over patients, the same in both groups.
        power: probability that the test rejects.
        level: of the test.
        ratio: patients of the larger group over those of the smaller one.

    Returns:
        The smallest number for which `mean_difference` is at most the difference; None above `MOST_PATIENTS`.
    """
    return _first(
        lambda n: mean_difference((n, math.ceil(ratio * n)), (spread, spread), power, level) <= difference, 2
    )


def failure_power(patients: tuple[int, int], rates: tuple[float, float], level: float = 0.05) -> float:
    """Probability that Fisher's exact test finds the difference of two failure rates.

    Args:
        patients: of the two groups.
        rates: their true failure rates.
        level: of the two-sided test.
    """
    n, m = patients
    first, second = (_counts(count, rate) for count, rate in zip(patients, rates, strict=True))
    if len(first) * len(second) > _MOST_TABLES:
        return _normal_failure_power(patients, rates, level)
    chances = np.outer(stats.binom.pmf(first, n, rates[0]), stats.binom.pmf(second, m, rates[1]))
    low, high = _rejection(n, m, np.arange(first[0] + second[0], first[-1] + second[-1] + 1), level)
    place = (first - first[0])[:, None] + (second - second[0])
    return float(chances[(first[:, None] <= low[place]) | (first[:, None] >= high[place])].sum())


def _normal_failure_power(patients: tuple[int, int], rates: tuple[float, float], level: float) -> float:
    """`failure_power` of large groups: the normal approximation of Fisher's test, corrected for continuity."""
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
    """The failure rate of the first group that is told from the second group's with this power.

    Args:
        patients: of the two groups.
        rate: the true failure rate of the second group.
        power: probability that Fisher's exact test rejects.
        level: of the test.

    Returns:
        The smallest higher rate, to 0.001; None where not even a rate of 1 is found.
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
    """Patients of the smaller group (the first) with which a difference of failure rates is found.

    The exact power rises in steps that dip between them, so a number next to the one returned may be enough as well.

    Args:
        rates: true failure rates, which differ.
        power: probability that Fisher's exact test rejects.
        level: of the test.
        ratio: patients of the larger group over those of the smaller one.

    Returns:
        A number that is enough; None above `MOST_PATIENTS`.
    """
    # The exact test needs more patients than the normal approximation says, where the search would otherwise take long.
    mean_rate = (rates[0] + ratio * rates[1]) / (1 + ratio)
    null_error = math.sqrt((1 + 1 / ratio) * mean_rate * (1 - mean_rate))
    true_error = math.sqrt(rates[0] * (1 - rates[0]) + rates[1] * (1 - rates[1]) / ratio)
    quantiles = stats.norm.ppf(1 - level / 2) * null_error + stats.norm.ppf(power) * true_error
    start = max(2, int((quantiles / (rates[0] - rates[1])) ** 2 / 2))
    return _first(lambda n: failure_power((n, math.ceil(ratio * n)), rates, level) >= power, start)


def equivalence_power(
    patients: tuple[int, int],
    margin: float,
    spread: float,
    failure_rate: float,
    span: float,
    level: float = 0.05,
) -> float:
    """Probability that two groups with the same true mean and failure rate are shown to be equivalent.

    Two one-sided tests (`equivalence.tost`): both limits of the difference d of the sample means, and both of the
    difference of failure rates, lie inside the margin. Given the failures k of n patients in each group, d is normal,
    and a limit adds the distances of Student's limits of the other scores and of Clopper-Pearson's limits of k / n,
    times the span, in squares. With no failure, the upper one is 1 - level^(1/n). The powers are averaged over the
    failures.

    Args:
        patients: of the two groups, two or more each.
        margin: of equivalence.
        spread: standard deviation over patients without a failure, whose scores are normal.
        failure_rate: of both groups; every failure has the worst possible score.
        span: distance of the mean without failures from the worst possible score.
        level: of each one-sided test.
    """
    counts, chances = zip(*(_thinned(n, failure_rate) for n in patients), strict=True)
    # Of the first group along the rows, of the second along the columns.
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
    """Patients of the smaller group with which equal groups are shown to be equivalent.

    Args:
        margin: of equivalence.
        spread: standard deviation over patients without a failure.
        failure_rate: of both groups.
        span: distance of the mean without failures from the worst possible score.
        power: probability that equivalence is shown.
        level: of each one-sided test.
        ratio: patients of the larger group over those of the smaller one.

    Returns:
        A number for which `equivalence_power` reaches the power; None above `MOST_PATIENTS`.
    """

    def is_enough(n: int) -> bool:
        return (
            equivalence_power((n, math.ceil(ratio * n)), margin, spread, failure_rate, span, level) >= power
        )

    return _first(is_enough, 2)


def _first(is_enough: Callable[[int], bool], start: int) -> int | None:
    """The smallest number of patients, of `least` or more, for which a condition holds that stays true once it holds.

    None where `MOST_PATIENTS` are not enough.
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


def _thinned(patients: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Failures of a group, of which two patients have none, and their probabilities; of many, evenly spaced ones."""
    counts = _counts(patients, rate)
    counts = counts[counts <= patients - 2]
    starts = np.arange(0, len(counts), -(-len(counts) // _MOST_COUNTS))
    middle = (starts + np.append(starts[1:], len(counts)) - 1) // 2
    return counts[middle], np.add.reduceat(stats.binom.pmf(counts, patients, rate), starts)


def _counts(patients: int, rate: float) -> np.ndarray:
    low, high = stats.binom.ppf([_NEGLIGIBLE, 1 - _NEGLIGIBLE], patients, rate)
    return np.arange(int(max(low, 0)), int(high) + 1)


def _rejection(n: int, m: int, totals: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Where Fisher's two-sided test rejects.

    Args:
        n: patients of the first group.
        m: patients of the second group.
        totals: i64[K], failures in both groups.
        level: of the test.

    Returns:
        i64[K] each: the test rejects where the first group has this many failures at most, or this many at least.
    """
    share, complement = totals / (n + m), (n + m - totals) / max(n + m - 1, 1)
    deviation = math.sqrt(float((share * complement * n * m / (n + m)).max()))
    half_width = math.ceil(_TAIL_DEVIATIONS * deviation) + _TAIL_COUNTS
    counts = np.round(share * n).astype(int)[:, None] + np.arange(-half_width, half_width + 1)
    valid_counts = np.clip(counts, np.maximum(totals - m, 0)[:, None], np.minimum(totals, n)[:, None])
    second_counts = totals[:, None] - valid_counts
    logs = -sum(
        special.gammaln(part + 1)
        for part in (valid_counts, n - valid_counts, second_counts, m - second_counts)
    )
    chances = np.where(valid_counts == counts, np.exp(logs - logs.max(1, keepdims=True)), 0)
    chances /= chances.sum(1, keepdims=True)
    # p of a table: the probability of all tables that are no likelier (Fisher's two-sided rule, as SciPy's). Two tables
    # at most are equally likely, one in each tail.
    order = np.sort(chances, axis=1)
    p = order.cumsum(1)
    tied = order[:, 1:] <= order[:, :-1] * (1 + 1e-7)
    p[:, :-1] = np.where(tied, p[:, 1:], p[:, :-1])
    accepted = chances > np.where(p <= level, order, -1).max(1, keepdims=True)
    rows = np.arange(len(totals))
    first, last = accepted.argmax(1), accepted.shape[1] - 1 - accepted[:, ::-1].argmax(1)
    return counts[rows, first] - 1, counts[rows, last] + 1
