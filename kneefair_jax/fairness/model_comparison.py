"""Compares pairs of models on the same patients: the change of the mean and of the gap between groups.

A patient's change is the score of the second model minus that of the first, so the variance that both models share
cancels. The change of the mean has the studentized bootstrap over patients; the interval of a group's change holds
Student's t interval too. Swaps of the two models' scores in patients test the change of the gap.

The gap is the highest minus the lowest group mean, of each model in its own extreme groups, so no pair of groups is
selected by one of the models and the order of the models turns nothing but the sign. Each model's scores are taken from
that model's mean, because a model that is better everywhere has changed no gap.

* Statistic: the gap of sampled means is too large on average, the more so the closer the true means are. Bias and
  standard error of the change come from a parametric bootstrap of both models' group means, shrunken toward their
  common mean by the positive-part empirical-Bayes factor 1 - noise / observed variance (Efron and Morris, JASA 68,
  1973). The plug-in means vary more than the true means and would give too little bias.
* Reference distribution: half are swaps of random patients' scores, which leave the distribution of every statistic
  unchanged if the models are exchangeable (Pesarin and Salmaso, Permutation Tests for Complex Data, 2010). The other
  half are normal means around common group means with each model's own variance, because models of unequal noise are
  not exchangeable.
* Interval: its half-width is the critical value times the standard error, so it excludes zero if and only if the test
  rejects. An end moves away from zero by the bias that could be missing if the true means are closer.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from kneefair_jax.fairness import bootstrap, patient_bootstrap, patient_table
from kneefair_jax.fairness.hypothesis_tests import holm
from kneefair_jax.fairness.patient_table import Runs
from kneefair_jax.fairness.permutation_tests import TIE
from kneefair_jax.fairness.results import GapChange, GroupChange, MeanChange, ModelPair, ModelPairs
from kneefair_jax.fairness.seed_intervals import ROUNDING


def compare_models(
    tables: Mapping[str, pd.DataFrame],
    attributes: list[str],
    *,
    score: str = "dice",
    min_group_patients: int = 10,
    draws: int = 10_000,
    seed: int = 0,
    failure_dice: float = patient_table.FAILURE_DICE,
    advance: Callable[[], None] = lambda: None,
) -> ModelPairs:
    """Compare every pair of models for every attribute: the `models` of `report.json`.

    A pair excludes patients without a score by both models. A patient whose cases lie in several groups has a row in
    each, with the mean of those cases, as in the tables of each model.

    Args:
        tables: model -> its long per-case table (`case_id, patient_id, structure`, the attributes, the score), all of
            the same cases.
        attributes: categorical columns; cases with a missing attribute count in the mean only.
        score: the column, one of `patient_table.SCORES`. A gap has no direction, but a negative change of the mean is
            an improvement only in a score where lower is better.
        min_group_patients: smaller groups take no part in the gap.
        draws: bootstrap resamples, and swaps.
        seed: of both.
        failure_dice: of the models' tables (`patient_table.macro`).
        advance: called after each attribute of each pair of models.

    Returns:
        The changes, second minus first, so a negative change of the gap narrows it.

    Raises:
        InputError: two tables are not of the same cases of the same patients.
        ValueError: there is no such score.
    """
    if score not in patient_table.SCORES:
        raise ValueError(f"score {score!r}: models are compared by one of {', '.join(patient_table.SCORES)}")
    pairs = []
    for first, second in combinations(tables, 2):
        pair_tables = {first: [tables[first]], second: [tables[second]]}
        mean = None
        for attribute in attributes:
            runs = patient_table.stack_runs(pair_tables, [attribute], score, failure_dice)
            mean = mean or mean_change(runs, draws, seed)
            gap = change_of_gap(runs, min_group_patients, draws, seed)
            pair = ModelPair(first, second, attribute, *mean, gap, changes_by_group(runs, draws, seed))
            pairs.append(_bounded(pair) if score in patient_table.SHARES else pair)
            advance()
    mean_p = holm({(pair.first, pair.second): pair.change_of_mean.p for pair in pairs})
    gap_p = holm({k: pair.change_of_gap.p for k, pair in enumerate(pairs)})
    corrected = [
        replace(
            pair,
            change_of_mean=replace(pair.change_of_mean, p_holm=mean_p[pair.first, pair.second]),
            change_of_gap=replace(pair.change_of_gap, p_holm=gap_p[k]),
        )
        for k, pair in enumerate(pairs)
    ]
    return ModelPairs(score, list(tables), corrected)


def mean_change(runs: Runs, draws: int, seed: int) -> tuple[int, MeanChange]:
    """Return the number of patients with a score by both models, and the change of their mean, not corrected.

    Args:
        runs: of the first and the second model, one run each.
        draws: bootstrap resamples.
        seed: of the bootstrap.
    """
    (first,), (second,) = runs.overall.values()
    has_score = ~np.isnan(first + second)
    return int(has_score.sum()), _mean(first[has_score], second[has_score], draws, seed)


def changes_by_group(runs: Runs, draws: int, seed: int) -> list[GroupChange]:
    """Return the change of the mean of every group, over the patients with a score by both models.

    Args:
        runs: of the first and the second model, one run each.
        draws: bootstrap resamples.
        seed: of the bootstrap.
    """
    (first,), (second,) = runs.scores.values()
    has_score = ~np.isnan(first + second)
    changes = []
    for group, name in enumerate(runs.names):
        rows = has_score & (runs.index == group)
        change = _with_t_interval(second[rows] - first[rows], _mean(first[rows], second[rows], draws, seed))
        changes.append(
            GroupChange(name, int(rows.sum()), change.first, change.second, change.value, change.interval)
        )
    return changes


def _with_t_interval(changes: np.ndarray, change: MeanChange) -> MeanChange:
    """Return a change whose interval holds Student's t interval too.

    In small groups, the studentized bootstrap is too short for skewed changes that cancel out, and Student's t for
    those that do not (`benchmarks/calibration_group_changes.py`).
    """
    if change.interval is None or change.interval[0] == change.interval[1]:
        return change
    low, high = stats.t.interval(0.95, len(changes) - 1, changes.mean(), stats.sem(changes))
    return replace(change, interval=[min(low, change.interval[0]), max(high, change.interval[1])])


def _bounded(pair: ModelPair) -> ModelPair:
    """Return changes of a share with intervals in [-1, 1]; the bootstrap of few patients reaches further."""

    def bounded[Change: (MeanChange, GapChange, GroupChange)](change: Change) -> Change:
        if change.interval is None:
            return change
        low, high = change.interval
        return replace(change, interval=[max(low, -1.0), min(high, 1.0)])

    return replace(
        pair,
        change_of_mean=bounded(pair.change_of_mean),
        change_of_gap=bounded(pair.change_of_gap),
        change_by_group=[bounded(change) for change in pair.change_by_group],
    )


def change_of_gap(runs: Runs, minimum: int, swaps: int, seed: int) -> GapChange:
    """Return the change of the gap, not corrected.

    Args:
        runs: of the first and the second model, one run each.
        minimum: groups of fewer patients take no part.
        swaps: random sets of patients whose scores are swapped.
        seed: of the swaps.
    """
    (first,), (second,) = runs.scores.values()
    has_score = (runs.index >= 0) & ~np.isnan(first + second)
    sizes = np.bincount(runs.index[has_score], minlength=len(runs.names))
    ranked = np.flatnonzero(sizes >= max(minimum, 1))
    if len(ranked) < 2:
        return GapChange(int(sizes[ranked].sum()))
    is_ranked = has_score & np.isin(runs.index, ranked)
    index = np.searchsorted(ranked, runs.index[is_ranked])
    return compare_gaps(first[is_ranked], second[is_ranked], index, runs.patients[is_ranked], swaps, seed)


def _mean(first: np.ndarray, second: np.ndarray, draws: int, seed: int) -> MeanChange:
    """Return the mean change, f64[P] to f64[P], with its equal-tailed studentized bootstrap interval and matching p.

    The interval excludes 0 if p is below 5 %. If all patients change by the same amount, there is no standard error:
    the interval is a point, and p is 1 if the change is 0, else undefined.
    """
    changes = second - first
    if not len(changes):
        return MeanChange()
    value = float(changes.mean())
    change = MeanChange(float(first.mean()), float(second.mean()), value)
    if len(changes) < bootstrap.MIN_PATIENTS:
        return change
    # Sorted by size: the order of the patients changes no resample, and the order of the models only its sign.
    changes = changes[np.argsort(np.abs(changes), kind="stable")][None]
    sizes = np.array([changes.size])
    error = float(np.sqrt(patient_bootstrap.squared_errors(changes, sizes)[0, 0]))
    if error <= ROUNDING:
        return replace(change, interval=[value, value], p=1.0 if abs(value) <= ROUNDING else None)
    bootstrap_means, bootstrap_variance = patient_bootstrap.resample(
        changes, sizes, np.random.default_rng(seed), draws
    )
    shift, errors = bootstrap_means[:, 0, 0] - value, np.sqrt(bootstrap_variance[:, 0, 0])
    # A resample of equal changes has no standard error: its t is infinite.
    t = np.divide(shift, errors, out=np.where(shift > 0, np.inf, -np.inf), where=errors > ROUNDING)
    t = np.where(np.abs(shift) <= ROUNDING, 0.0, t)
    low, high = np.quantile(t, (0.975, 0.025), method="nearest")
    tail = min((t >= value / error).sum(), (t <= value / error).sum())
    ends = [value - float(low) * error, value - float(high) * error]
    interval = ends if np.isfinite(ends).all() else None
    return replace(change, interval=interval, p=min(1.0, 2 * float(tail + 1) / (draws + 1)))


LEVEL = 0.05
# Normal deviates of both models to estimate bias and error; each is also negated and used with the models exchanged.
_DEVIATES = 10


def compare_gaps(
    first: np.ndarray, second: np.ndarray, index: np.ndarray, patients: np.ndarray, swaps: int, seed: int
) -> GapChange:
    """Compare the gaps of two models.

    Args:
        first: f[R], the first model's scores of patients in groups; no NaN.
        second: f[R], the second model's scores of the same rows.
        index: i[R], the group of each row, 0 to G - 1 with G at least 2; each group has a row.
        patients: [R], the patient of each row; the rows of one patient are swapped together.
        swaps: random sets of patients whose scores are swapped, and (rounded up to even) draws of normal means.
        seed: of both.
    """
    sizes = np.bincount(index)
    means = [np.bincount(index, scores) / sizes for scores in (first, second)]
    first_gap, second_gap = (float(np.ptp(mean)) for mean in means)
    value = second_gap - first_gap
    gaps = GapChange(len(index), first_gap, second_gap, value)
    if sizes.min() < bootstrap.MIN_PATIENTS:
        return gaps
    first, second = first - first.mean(), second - second.mean()
    if np.abs(second - first).max() <= ROUNDING:
        return replace(gaps, interval=[value, value], p=1.0)
    # Groups are ordered by the models' average, so neither the groups' names nor the models' order change a draw.
    order = np.argsort(np.argsort(means[0] + means[1], kind="stable"))
    rng = np.random.default_rng(seed)
    deviates = rng.normal(size=(_DEVIATES, 2, len(sizes)))
    deviates = _add_exchanged(np.concatenate([deviates, -deviates]))
    sums = _SwapSums(first, second, order[index])
    observed = sums.means(np.ones((1, len(first))))
    change, error = (float(array[0]) for array in _statistic(observed, deviates))
    rows = max(1, bootstrap.CHUNK // max(len(first), 2 * deviates.size))
    chunks = chain(_swapped_means(sums, patients, swaps, rows, rng), _null_means(observed, swaps, rows, rng))
    reference = np.sort(np.concatenate([np.abs(np.divide(*_statistic(chunk, deviates))) for chunk in chunks]))
    reference_size = len(reference)
    p = (1 + reference_size - np.searchsorted(reference, abs(change / error) * (1 - TIE))) / (
        1 + reference_size
    )
    rejection_count = int(np.floor(LEVEL * (1 + reference_size) + 1e-9))
    if not rejection_count:
        return replace(gaps, p=float(p))
    # A change equal to the critical value is a tie, which the test does not reject.
    half = reference[reference_size - rejection_count] * (1 + TIE) * error
    missing_bias = _missing_bias(observed, deviates)
    low, high = change - half, change + half
    low, high = low - missing_bias[1] * (low < 0), high + missing_bias[0] * (high > 0)
    return replace(gaps, interval=[float(low), float(high)], p=float(p))


class _Means(NamedTuple):
    """Group means of both models in D sets of swaps or draws.

    Attributes:
        value: f[2, D, G].
        variance: f[2, D, G], squared standard errors.
        covariance: f[D, G], of the two models' means.
    """

    value: np.ndarray
    variance: np.ndarray
    covariance: np.ndarray


class _SwapSums:
    """Computes group means after swaps from sums that are linear in the signs."""

    def __init__(self, first: np.ndarray, second: np.ndarray, index: np.ndarray):
        """Take f[R] centered scores of both models and their groups i[R]."""
        sizes = np.bincount(index)
        member = index[:, None] == np.arange(len(sizes))
        average, half = (first + second) / 2, (second - first) / 2
        self.freedom = sizes - 1
        self.average = average @ member / sizes
        self.half = member * half[:, None] / sizes
        self.product = member * (average * half)[:, None] / sizes
        self.squares = (average**2 + half**2) @ member / sizes
        self.crossed = (average**2 - half**2) @ member / sizes

    def means(self, signs: np.ndarray) -> _Means:
        """Return the means under f[D, R] signs, -1 for a row whose scores are swapped."""
        shift, product = signs @ self.half, 2 * (signs @ self.product)
        value = np.stack([self.average - shift, self.average + shift])
        squares = np.stack([self.squares - product, self.squares + product])
        variance = np.maximum(squares - value**2, 0) / self.freedom
        return _Means(value, variance, (self.crossed - value[0] * value[1]) / self.freedom)


def _swapped_means(
    sums: _SwapSums, patients: np.ndarray, swaps: int, rows: int, rng: np.random.Generator
) -> Iterator[_Means]:
    """Yield means after swaps of random patients, at most `rows` sets of swaps at a time."""
    _, patient_index = np.unique(patients, return_inverse=True)
    for start in range(0, swaps, rows):
        signs = rng.choice(np.array([-1.0, 1.0]), (min(rows, swaps - start), patient_index.max() + 1))
        yield sums.means(signs[:, patient_index])


def _null_means(observed: _Means, draws: int, rows: int, rng: np.random.Generator) -> Iterator[_Means]:
    """Yield normal means of two models with the same true group means, at most `rows` or two at a time."""
    variance = (observed.variance.sum(0) + 2 * observed.covariance) / 4
    center = _shrink(observed.value.mean(0), variance)
    for start in range(0, draws, rows):
        pairs = (min(rows, draws - start) + 1) // 2
        deviates = _add_exchanged(rng.normal(size=(pairs, 2, center.shape[-1])))
        value = center + _mean_errors(observed, deviates)[:, 0]
        yield _Means(value, observed.variance, observed.covariance)


def _add_exchanged(deviates: np.ndarray) -> np.ndarray:
    """Add the deviates with the models exchanged, so the models' order changes only the sign: N -> 2 N rows."""
    return np.concatenate([deviates, deviates[:, ::-1]])


def _statistic(means: _Means, deviates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the change of the gap minus its bias, and its standard error, from f[N, 2, G] deviates: f[D] each."""
    excess = _excess(_shrink(means.value, means.variance), _mean_errors(means, deviates))
    first, second = np.ptp(means.value, axis=-1) - excess.mean(-1)
    return second - first, np.maximum((excess[1] - excess[0]).std(-1), ROUNDING)


def _excess(center: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return gaps of resampled means minus gaps of their centers: f[2, D, G], f[2, D, N, G] -> f[2, D, N]."""
    return np.ptp(center[:, :, None] + noise, axis=-1) - np.ptp(center, axis=-1)[..., None]


def _missing_bias(means: _Means, deviates: np.ndarray) -> np.ndarray:
    """Return by how much each gap's bias could be larger, f[2], 0 or more.

    The largest bias is at the smallest variance of true means that a chi-squared test does not reject.
    """
    freedom = means.value.shape[-1] - 1
    noise = _mean_errors(means, deviates)
    estimated_bias, largest_bias = (
        _excess(_shrink(means.value, means.variance, factor), noise).mean((1, 2))
        for factor in (1.0, stats.chi2.ppf(1 - LEVEL, freedom) / freedom)
    )
    return np.maximum(largest_bias - estimated_bias, 0)


def _shrink(means: np.ndarray, variance: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """Shrink means f[..., G] toward their common mean: their variance minus `factor` times the noise, at least 0."""
    center = means.mean(-1, keepdims=True)
    spread = np.maximum(means.var(-1, ddof=1, keepdims=True), ROUNDING**2)
    shrinkage = 1 - factor * variance.mean(-1, keepdims=True) / spread
    return center + np.maximum(shrinkage, 0) * (means - center)


def _mean_errors(means: _Means, deviates: np.ndarray) -> np.ndarray:
    """Return errors of both models' means, f[2, D, N, G], from f[N, 2, G] deviates.

    They use the symmetric square root of the covariance matrix C, (C + sqrt(det C) I) / sqrt(tr C + 2 sqrt(det C)),
    which treats both models alike.
    """
    product = means.variance[0] * means.variance[1]
    root = np.sqrt(np.maximum(product - means.covariance**2, 0))
    scale = np.maximum(np.sqrt(means.variance.sum(0) + 2 * root), ROUNDING)
    own_weight, cross_weight = (means.variance + root) / scale, means.covariance / scale
    return np.stack(
        [own_weight[k][:, None] * deviates[:, k] + cross_weight[:, None] * deviates[:, 1 - k] for k in (0, 1)]
    )
