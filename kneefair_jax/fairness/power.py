"""What a number of patients can show, and how many patients would settle a question.

Two endpoints, two answers. A difference of means in which every patient takes part is found by Welch's t: its power
follows from the patients' standard deviation. A difference that a few failed segmentations make is found by Fisher's
exact test of the failure rates: its power is a sum over all tables. The one says nothing about the other: a gap of
0.02 from failures of 2 % of one group's patients needs many times as many patients as one that all share.
"""

import math
from functools import lru_cache

import numpy as np
from scipy import special, stats

# No search goes beyond this number of patients in a group.
MOST_PATIENTS = 100_000
# Binomial counts with less probability than this in either tail change no printed digit of a power.
_NEGLIGIBLE = 1e-6


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
    squared = [sd**2 / n for n, sd in zip(patients, spread, strict=True)]
    error = math.sqrt(sum(squared))
    if error == 0:
        return 0.0
    freedom = sum(squared) ** 2 / sum(part**2 / (n - 1) for n, part in zip(patients, squared, strict=True))
    return float((stats.t.ppf(1 - level / 2, freedom) + stats.t.ppf(power, freedom)) * error)


def mean_difference_patients(
    difference: float, spread: float, power: float = 0.8, level: float = 0.05, ratio: float = 1.0
) -> int:
    """Patients of the smaller group with which a difference of means is found.

    Args:
        difference: above 0, in the unit of the spread.
        spread: standard deviation over patients, the same in both groups.
        power: probability that the test rejects.
        level: of the test.
        ratio: patients of the larger group over those of the smaller one.

    Returns:
        The smallest number for which `mean_difference` is at most the difference; at most `MOST_PATIENTS`.
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
    chances = np.outer(stats.binom.pmf(first, n, rates[0]), stats.binom.pmf(second, m, rates[1]))
    total = first[:, None] + second
    rejected = np.zeros_like(chances, bool)
    for count in np.unique(total):
        low, high = _rejection(n, m, int(count), level)
        rejected |= (total == count) & ((first[:, None] <= low) | (first[:, None] >= high))
    return float(chances[rejected].sum())


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
) -> int:
    """Patients of the smaller group (the first) with which a difference of failure rates is found.

    Args:
        rates: true failure rates, which differ.
        power: probability that Fisher's exact test rejects.
        level: of the test.
        ratio: patients of the larger group over those of the smaller one.
    """
    return _first(lambda n: failure_power((n, math.ceil(ratio * n)), rates, level) >= power, 2)


def _first(enough, least: int) -> int:
    """The smallest number of patients for which a condition holds that, once it holds, stays true."""
    high = least
    while not enough(high):
        if high >= MOST_PATIENTS:
            return MOST_PATIENTS
        high = min(2 * high, MOST_PATIENTS)
    low = max(high // 2, least - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _counts(patients: int, rate: float) -> np.ndarray:
    low, high = stats.binom.ppf([_NEGLIGIBLE, 1 - _NEGLIGIBLE], patients, rate)
    return np.arange(int(max(low, 0)), int(high) + 1)


@lru_cache(maxsize=1 << 16)
def _rejection(n: int, m: int, total: int, level: float) -> tuple[int, int]:
    """Failures in the first group at which Fisher's two-sided test rejects, of a total: at most, or at least, these."""
    least, most = max(0, total - m), min(total, n)
    counts = np.arange(least, most + 1)
    logs = (
        special.gammaln(n + 1)
        - special.gammaln(counts + 1)
        - special.gammaln(n - counts + 1)
        + special.gammaln(m + 1)
        - special.gammaln(total - counts + 1)
        - special.gammaln(m - total + counts + 1)
    )
    chances = np.exp(logs - logs.max())
    chances /= chances.sum()
    # p of a table: the probability of all tables that are no likelier (Fisher's two-sided rule, as SciPy's).
    p = np.array([chances[chances <= chance * (1 + 1e-7)].sum() for chance in chances])
    rejected = counts[p <= level]
    mode = counts[chances.argmax()]
    low, high = rejected[rejected < mode], rejected[rejected > mode]
    return (int(low.max()) if len(low) else -1), (int(high.min()) if len(high) else total + n + 1)
