"""Computes intervals and tests over a few seeds, and defines the results of a comparison of methods over seeds.

The intervals are Student's t on per-seed values, paired by seed. One method's change over 3 seeds has 2 degrees of
freedom, and after correction for 6 methods t must exceed 10.9. The methods of a study share their seeds and their
baseline, so their changes can share a standard error (`pooled_errors`).

A percentile bootstrap covers 83 % with 5 seeds and 75 % with 3, so it is not used. These intervals are about training
again and testing on the same patients.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from kneefair_jax.fairness.results import Interval

CONFIDENCE = 0.95
# Scores lie in [0, 1]: differences below this are rounding.
ROUNDING = 1e-12


def interval(values: np.ndarray, shared: tuple[float, float] | None = None) -> Interval | None:
    """Return Student's 95 % interval of the mean of S values, f[S]; None for fewer than two, or an undefined value.

    Args:
        values: one per seed.
        shared: standard error of the mean and its degrees of freedom, in place of the values' own.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    error, freedom = shared or (_standard_error(values), len(values) - 1)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error
    return [float(values.mean() - half), float(values.mean() + half)]


def p_value(
    differences: np.ndarray, *, greater: bool = False, shared: tuple[float, float] | None = None
) -> float | None:
    """Return p of the t-test of paired differences f[S] against 0; None for fewer than two, or an undefined one.

    If all differences are 0, p is 1. If all equal another value, p is 0 (or 1 on the other side of a one-sided test).

    Args:
        differences: one per seed.
        greater: one-sided, against a mean above 0; else two-sided.
        shared: standard error of the mean and its degrees of freedom, in place of the differences' own.
    """
    if len(differences) < 2 or not np.isfinite(differences).all():
        return None
    mean = float(differences.mean())
    error, freedom = shared or (_standard_error(differences), len(differences) - 1)
    if error <= ROUNDING:
        t = 0.0 if abs(mean) <= ROUNDING else float(np.copysign(np.inf, mean))
        if t == 0:
            return 1.0
    else:
        t = mean / error
    tail = stats.t.sf(t if greater else abs(t), freedom)
    return float(tail if greater else 2 * tail)


def pooled_errors(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return standard errors of M - 1 methods' changes against the baseline, pooled over the methods.

    A change's variance over seeds is that of the baseline plus that of the method. The changes of all methods share the
    baseline, so the variance over seeds of their mean estimates the former with S - 1 degrees of freedom, and the
    residual mean square of changes x seeds estimates the latter with (M - 2)(S - 1). Their sum has Satterthwaite's
    degrees of freedom (Biometrics Bulletin 2, 1946), which are few if the baseline varies. A method whose own changes
    vary more keeps its own standard error, so that methods with less variance do not shrink it. Methods that equal the
    baseline in every seed are not pooled and have the error 0.

    Args:
        values: f[M, S], a statistic by method and seed, two seeds or more; the baseline first.

    Returns:
        f[M - 1], standard errors of the mean changes; their degrees of freedom; the pooled SD of a change over seeds.
        With one method, this is the paired t-test.
    """
    changes = values[1:] - values[:1]
    is_changed = np.abs(changes).max(1) > ROUNDING
    if not is_changed.any():
        return np.zeros(len(changes)), values.shape[1] - 1, 0.0
    pooled_variance, freedom = _pooled_variance(changes[is_changed])
    variance = np.where(is_changed, np.maximum(changes.var(1, ddof=1), pooled_variance), 0.0)
    return np.sqrt(variance / values.shape[1]), float(freedom), float(np.sqrt(pooled_variance))


def power(
    change: float, sd: float, methods: int, seeds: int, level: float = 0.05, draws: int = 4000
) -> float:
    """Return the probability that one method's change is significant if the other methods change nothing.

    It is simulated with the test of `pooled_errors` at the first step of Holm's correction, `level` / `methods`. It is
    higher if several methods change the statistic.

    Args:
        change: the true change of the one method.
        sd: of a change over seeds, the same for every method.
        methods: compared with the baseline.
        seeds: of each, two or more.
        level: of the family.
        draws: simulated studies; the result has a standard error of at most 0.008 with 4,000.
    """
    values = np.random.default_rng(0).normal(0, sd / np.sqrt(2), (draws, methods + 1, seeds))
    values[:, 1] += change
    changes = values[:, 1:] - values[:, :1]
    pooled_variance, freedom = _pooled_variance(changes)
    squared_error = np.maximum(changes[:, 0].var(1, ddof=1), pooled_variance) / seeds
    critical = stats.t.ppf(1 - level / methods / 2, freedom)
    return float((np.abs(changes[:, 0].mean(1)) >= critical * np.sqrt(squared_error)).mean())


def _pooled_variance(changes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of a change over seeds and its degrees of freedom: f[..., M, S] -> f[...] each."""
    methods, seeds = changes.shape[-2:]
    shared_variance = changes.mean(-2).var(-1, ddof=1)
    if methods == 1:
        return shared_variance, np.full(shared_variance.shape, seeds - 1.0)
    centered = changes - changes.mean(-1, keepdims=True)
    residual = centered - centered.mean(-2, keepdims=True)
    residual_freedom = (methods - 1) * (seeds - 1)
    residual_variance = (residual**2).sum((-2, -1)) / residual_freedom * (1 - 1 / methods)
    total = shared_variance + residual_variance
    parts = shared_variance**2 / (seeds - 1) + residual_variance**2 / residual_freedom
    return total, np.divide(total**2, parts, out=np.full(total.shape, seeds - 1.0), where=parts > 0)


def fieller(numerator: np.ndarray, denominator: np.ndarray) -> tuple[float, float] | None:
    """Return Fieller's 95 % interval of a ratio of two means, paired by seed.

    It holds every c for which the t-test of a_s - c b_s does not reject (Fieller, JRSS B 16, 1954). With means a, b,
    variances and covariance of the means v_aa, v_bb, v_ab, and Student's quantile t, these c solve
    (b^2 - t^2 v_bb) c^2 - 2 (a b - t^2 v_ab) c + (a^2 - t^2 v_aa) <= 0.

    Args:
        numerator: f[S], a_s.
        denominator: f[S], b_s.

    Returns:
        None if the set is no interval: with fewer than two seeds, or if the denominator does not differ from 0.
    """
    seeds = len(numerator)
    if seeds < 2 or not (np.isfinite(numerator).all() and np.isfinite(denominator).all()):
        return None
    a, b = float(numerator.mean()), float(denominator.mean())
    covariance = np.cov(numerator, denominator) / seeds
    t2 = stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1) ** 2
    square = b * b - t2 * covariance[1, 1]
    if square <= ROUNDING**2:
        return None
    middle = (a * b - t2 * covariance[0, 1]) / square
    # If the denominator differs from 0, only rounding can make this negative.
    half = np.sqrt(max(middle**2 - (a * a - t2 * covariance[0, 0]) / square, 0.0))
    return float(middle - half), float(middle + half)


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if np.ptp(values) > ROUNDING else 0.0


@dataclass(frozen=True)
class SeedEstimate:
    """A mean over seeds with its two intervals; None where it is undefined.

    Attributes:
        value: the mean over seeds.
        per_seed: its S values.
        seeds: interval over seeds; None with one seed.
        patients: interval over patients; None if a ranked group has fewer than `bootstrap.MIN_PATIENTS`.
    """

    value: float | None
    per_seed: list[float] | None
    seeds: Interval | None
    patients: Interval | None


@dataclass(frozen=True)
class Change(SeedEstimate):
    """The change of a statistic against the baseline.

    Attributes:
        p: two-sided, by a t-test over seeds.
        p_holm: corrected over the methods (`primary`), or over methods and secondary statistics together (`secondary`);
            None for the oracle.
        family: `primary` for the gap, else `secondary`.
    """

    p: float | None
    p_holm: float | None
    family: str


@dataclass(frozen=True)
class RepairableGap(SeedEstimate):
    """The baseline's gap minus the oracle's.

    Attributes:
        p: two-sided, by the paired t-test over seeds.
        significant: whether the interval over seeds lies above 0.
    """

    p: float | None
    significant: bool


@dataclass(frozen=True)
class RemainingGap:
    """A method's gap minus the oracle's, with its interval over seeds."""

    value: float
    seeds: Interval | None


@dataclass(frozen=True)
class HalfTest:
    """The one-sided test of whether a method closes more than half of the repairable gap.

    Attributes:
        value: the closed part minus half of the repairable gap.
        seeds: its interval over seeds.
        p: of the t-test over seeds.
        p_holm: corrected over the methods.
    """

    value: float
    seeds: Interval | None
    p: float | None
    p_holm: float | None


@dataclass(frozen=True)
class ClosedShare:
    """The share of the repairable gap that a method closes.

    Attributes:
        value: the share; None if there is no repairable gap.
        seeds: its interval over seeds (Fieller).
        reason: why there is no share; None if there is one.
        left: the gap that is left.
        half: None if there is no share.
    """

    value: float | None
    seeds: Interval | None
    reason: str | None
    left: RemainingGap
    half: HalfTest | None


@dataclass(frozen=True)
class Front:
    """Whether a method is on the Pareto front of the overall mean and of one other statistic, by point estimates.

    Attributes:
        worst: no other method is better in one of overall mean and worst group mean and as good in the other.
        gap: the same of the overall mean and the gap's distance from 0.
    """

    worst: bool | None
    gap: bool | None


@dataclass(frozen=True)
class Method:
    """One method; None where a statistic is undefined.

    Attributes:
        groups: name -> mean of each ranked group.
        mean: over all patients.
        worst: the lowest group mean.
        gap: highest minus lowest group mean of each seed; with two groups the signed pair.
        pair: the signed gap of the pair.
        ser: skewed error ratio.
        es: equity-scaled score.
        hd95: mean distance.
        change: statistic -> its change; None for the baseline.
        closed: None for the baseline and the oracle.
        front: None for the oracle.
    """

    groups: dict[str, float]
    mean: SeedEstimate
    worst: SeedEstimate
    gap: SeedEstimate
    pair: SeedEstimate
    ser: SeedEstimate
    es: SeedEstimate
    hd95: SeedEstimate
    change: dict[str, Change] | None
    closed: ClosedShare | None
    front: Front | None


@dataclass(frozen=True)
class GroupSize:
    """The patients of a group, and whether it is ranked."""

    patients: int
    ranked: bool


@dataclass(frozen=True)
class Pair:
    """The names of the groups that the baseline scores best and worst."""

    best: str
    worst: str


@dataclass(frozen=True)
class Power:
    """The power of the primary family to find one method's change of the gap.

    Attributes:
        change: the true change: the repairable gap if it is significant, else `method_comparison.REPAIRABLE`.
        sd: of a change over seeds: of this study if it has one, else `method_comparison.SD`.
        own_change: whether `change` is that of this study.
        own_sd: whether `sd` is that of this study.
        power: the probability.
    """

    change: float
    sd: float
    own_change: bool
    own_sd: bool
    power: float


@dataclass(frozen=True)
class Comparison:
    """The comparison of a study's methods.

    Attributes:
        baseline: the method with which the others are compared.
        oracle: the method that shows what training can repair, or None.
        confidence: of every interval.
        seeds: number of seeds.
        patients: patients with a score in every run.
        excluded: patients without one.
        groups: name -> its size.
        pair: None if fewer than two groups are ranked.
        repairable: None without an oracle.
        power: None for a single seed or no method.
        methods: by name.
    """

    baseline: str
    oracle: str | None
    confidence: float
    seeds: int
    patients: int
    excluded: int
    groups: dict[str, GroupSize]
    pair: Pair | None
    repairable: RepairableGap | None
    power: Power | None
    methods: dict[str, Method]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON, None for what is undefined."""
        return asdict(self)
