"""Bootstrap over patients within groups, with the same resamples for every method.

The intervals are about testing the same trained models on other patients. Every statistic is a function of the means of
strata: the ranked groups, and one stratum of all other patients, who count in the overall mean only. `samples` gives
the same strata for several scores of one model, as `inference` needs them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kneefair_jax.fairness import bootstrap, patient_table, summaries
from kneefair_jax.fairness.bootstrap import Means
from kneefair_jax.fairness.results import Interval


class Strata(NamedTuple):
    """Scores of the patients whom every run scored, stratum by stratum.

    Attributes:
        values: f64[M, S, P], methods x seeds x patients; the baseline first.
        sizes: i64[K], the patients of each stratum, in the order of `values`.
        groups: the partition's number of each of the G ranked groups, worst to best by the baseline. They are the
            first G strata; one more stratum holds all other patients, if there are any. A given pair is the last and
            the first.
        rows: i64[P], the position of each of these patients before sorting.
    """

    values: np.ndarray
    sizes: np.ndarray
    groups: tuple[int, ...]
    rows: np.ndarray

    @property
    def smallest(self) -> int:
        """The number of patients of the smallest ranked group; of all patients if fewer than two are ranked."""
        return int(self.sizes[: len(self.groups)].min() if len(self.groups) > 1 else self.sizes.sum())


@dataclass(frozen=True)
class Statistics[Value]:
    """A value for each statistic of the group means; None for one that is undefined or not computed.

    Attributes:
        mean: over all patients.
        worst: the lowest group mean.
        pair: the signed gap of the pair, the last minus the first ranked stratum.
        gap: the highest minus the lowest group mean; with two groups the signed `pair`.
        ser: skewed error ratio.
        es: equity-scaled score.
    """

    mean: Value
    worst: Value | None = None
    pair: Value | None = None
    gap: Value | None = None
    ser: Value | None = None
    es: Value | None = None


class PatientIntervals(NamedTuple):
    """Intervals over patients; None for one that is undefined.

    Attributes:
        methods: of each of the M methods, in the order of `Strata.values`.
        changes: of each method against the baseline. `ser` and `es` have none: on either side of a tie between groups
            they move differently.
        distances: of the mean of each of the D distances.
        distance_changes: of each distance against the first.
    """

    methods: list[Statistics[Interval | None]]
    changes: list[Statistics[Interval | None]]
    distances: list[Interval | None]
    distance_changes: list[Interval | None]


def stratify(
    values: np.ndarray, index: np.ndarray, minimum: int, pair: tuple[int, int] | None = None
) -> Strata:
    """Sort patients into strata, so that neither their order nor the groups' names change a resample.

    Args:
        values: f64[M, S, P], the baseline first; patients with a NaN are excluded.
        index: i32[P], the group of each patient, negative where unknown.
        minimum: groups of fewer patients are not ranked.
        pair: the numbers of the best and the worst group, in place of the baseline's own; both must be ranked.
    """
    is_complete = ~np.isnan(values).any((0, 1))
    values, index = values[:, :, is_complete], index[is_complete]
    # A patient's scores in ascending order: the order of methods, seeds or columns changes no resample either.
    flat = np.sort(values.reshape(values.shape[0] * values.shape[1], values.shape[2]), axis=0)

    def sorted_rows(mask: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(mask)
        return rows[np.lexsort(flat[:, rows])]

    rows_by_group = [(int(g), sorted_rows(index == g)) for g in np.unique(index) if g >= 0]
    ranked = [(g, rows) for g, rows in rows_by_group if len(rows) >= max(minimum, 1)]
    ranked.sort(key=lambda group: (values[0][:, group[1]].mean(), len(group[1])))
    if pair is not None:
        ranked.sort(key=lambda group: (group[0] == pair[0]) - (group[0] == pair[1]))
    unranked_rows = sorted_rows(~np.isin(index, [g for g, _ in ranked]))
    strata = [rows for _, rows in ranked] + ([unranked_rows] if len(unranked_rows) else [])
    order = np.concatenate(strata) if strata else np.arange(0)
    return Strata(
        values[:, :, order],
        np.array([len(rows) for rows in strata], int),
        tuple(g for g, _ in ranked),
        np.flatnonzero(is_complete)[order],
    )


def means(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the mean of each stratum: f[..., P] -> f[..., K]."""
    strata = np.split(values, np.cumsum(sizes)[:-1], axis=-1)
    return np.stack([scores.mean(-1) for scores in strata], axis=-1)


def squared_errors(scores: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the squared standard errors of the means of strata: f64[R, P] -> f64[R, K]."""
    strata = np.split(scores, np.cumsum(sizes)[:-1], axis=-1)
    return np.stack([part.var(-1) / max(part.shape[-1] - 1, 1) for part in strata], axis=-1)


def resample(
    scores: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return bootstrap means of strata and the squared standard errors of those means.

    Args:
        scores: f64[R, P], a row per run (or per difference of runs).
        sizes: i64[K], patients of each stratum.
        rng: draws the patients, the same for all rows.
        draws: resamples.

    Returns:
        Two f64[draws, R, K].

    Raises:
        InputError: there are too few draws for an interval (`bootstrap.check_draws`).
    """
    bootstrap.check_draws(draws)
    shape = (draws, len(scores), len(sizes))
    resampled_means, variances = np.empty(shape), np.empty(shape)
    for k, stratum in enumerate(np.split(scores, np.cumsum(sizes)[:-1], axis=-1)):
        n = stratum.shape[1]
        center = stratum.mean(1)
        centered = (stratum - center[:, None]).T
        rows = max(1, bootstrap.CHUNK // n)
        for start in range(0, draws, rows):
            chunk = slice(start, min(start + rows, draws))
            weights = bootstrap.counts(n, chunk.stop - start, rng) / n
            shift = weights @ centered
            resampled_means[chunk, :, k] = center + shift
            variances[chunk, :, k] = np.clip(weights @ centered**2 - shift**2, 0, None) / max(n - 1, 1)
    return resampled_means, variances


def statistics(by_stratum: np.ndarray, mean: np.ndarray, groups: int) -> Statistics[np.ndarray]:
    """Return the statistics of f[..., K] means of strata and f[...] overall means.

    The pair is the last minus the first of the G ranked strata. With fewer than two, only the mean is defined.
    """
    if groups < 2:
        return Statistics(mean)
    ranked = by_stratum[..., :groups]
    pair = ranked[..., -1] - ranked[..., 0]
    return Statistics(
        mean=mean,
        worst=ranked.min(-1),
        pair=pair,
        gap=pair if groups == 2 else summaries.gap(ranked),
        ser=summaries.ser(ranked),
        es=summaries.es(ranked, mean),
    )


def intervals(
    strata: Strata,
    rng: np.random.Generator,
    draws: int,
    distances: np.ndarray | None = None,
) -> PatientIntervals | None:
    """Return intervals over patients of every method's statistics and of their changes against the baseline.

    Statistics that are linear in the scores (`mean`, `pair`, distances and their paired changes) have the expanded
    percentile (Hesterberg 2015), with n the size of the smallest ranked group. With two groups `gap` is the signed
    pair. All others are simultaneous (`bootstrap.contrasts`): `worst` and its change, `ser`, `es`, and with more than
    two groups `gap` and its change.

    Args:
        strata: the scores.
        rng: draws the patients.
        draws: resamples.
        distances: f64[D, S, P] of the same patients in the same order; the others are compared with the first. A
            patient with a NaN is excluded from all.

    Returns:
        None if a ranked group has fewer than `bootstrap.MIN_PATIENTS` patients.
    """
    if strata.smallest < bootstrap.MIN_PATIENTS:
        return None
    group_count, sizes = len(strata.groups), strata.sizes
    levels = bootstrap.expanded_levels(strata.smallest)
    values, changes, distance_rows, distance_draws = _resample_runs(strata, rng, draws, distances)
    weights = sizes / sizes.sum()
    mean_ends, pair_ends = zip(
        *(_linear_intervals(runs, weights, group_count, levels) for runs in (values, changes)), strict=True
    )
    per_method, per_change = [], []
    baseline, *_ = method_means = _by_method(values)
    for m, (method, change) in enumerate(zip(method_means, _by_method(changes), strict=True)):
        per_method.append(_method_intervals(method, weights, group_count, mean_ends[0][m], pair_ends[0][m]))
        per_change.append(
            _change_intervals((method, baseline, change), group_count, mean_ends[1][m], pair_ends[1][m])
        )
    distance_ends = _distance_intervals(distance_rows, distance_draws, sizes, levels)
    count = 0 if distances is None else len(distances)
    return PatientIntervals(per_method, per_change, distance_ends[:count], distance_ends[count:])


def _resample_runs(
    strata: Strata, rng: np.random.Generator, draws: int, distances: np.ndarray | None
) -> tuple[Means, Means, np.ndarray, np.ndarray]:
    """Resample scores, their changes against the baseline, and distances with the same patients.

    Returns:
        `Means` of the scores and of their changes, with axes ([draws,] M, S, K); the rows of `_distance_rows`; and
        their resampled means f64[draws, 2 D + 1, K].
    """
    patients = strata.values.shape[-1]
    scores = np.stack([strata.values, strata.values - strata.values[:1]]).reshape(-1, patients)
    distance_rows = np.empty((0, patients)) if distances is None else _distance_rows(distances)
    sizes, runs = strata.sizes, len(scores)
    resampled_means, variances = resample(np.concatenate([scores, distance_rows]), sizes, rng, draws)
    shape = (2, *strata.values.shape[:2], len(sizes))
    estimate, variance = means(scores, sizes).reshape(shape), squared_errors(scores, sizes).reshape(shape)
    run_means, run_variances = (part[:, :runs].reshape(-1, *shape) for part in (resampled_means, variances))
    values, changes = (
        Means(estimate[k], variance[k], run_means[:, k], run_variances[:, k]) for k in range(2)
    )
    return values, changes, distance_rows, resampled_means[:, runs:]


def _distance_rows(distances: np.ndarray) -> np.ndarray:
    """Return averages over seeds, their differences from the first, and which patients have all distances.

    Returns:
        f64[2 D + 1, P], 0 where undefined.
    """
    is_complete = ~np.isnan(distances).any((0, 1))
    averages = np.where(is_complete, distances, 0.0).mean(1)
    return np.concatenate([averages, averages - averages[:1], is_complete[None].astype(float)])


def _by_method(runs: Means) -> list[Means]:
    """Split axes ([draws,] M, S, K) by method."""
    return [
        Means(runs.estimate[m], runs.variance[m], runs.bootstrap[:, m], runs.bootstrap_variance[:, m])
        for m in range(len(runs.estimate))
    ]


def _linear_intervals(
    runs: Means, weights: np.ndarray, groups: int, levels: tuple[float, float]
) -> tuple[list[Interval | None], list[Interval | None]]:
    """Return the intervals of the overall mean and of the pair, by method."""
    averages = runs.bootstrap.mean(2)  # over seeds: f64[draws, M, K]
    mean_ends = _percentiles(averages @ weights, levels)
    if groups < 2:
        return mean_ends, [None] * len(mean_ends)
    return mean_ends, _percentiles(averages[..., groups - 1] - averages[..., 0], levels)


def _method_intervals(
    method: Means,
    weights: np.ndarray,
    groups: int,
    mean: Interval | None,
    pair: Interval | None,
) -> Statistics[Interval | None]:
    if groups < 2:
        return Statistics(mean)
    ranked = method.ranked(groups)
    return Statistics(
        mean=mean,
        worst=bootstrap.worst(ranked),
        pair=pair,
        gap=pair if groups == 2 else bootstrap.gap(ranked),
        ser=bootstrap.ser(ranked),
        es=bootstrap.es(method, weights, groups),
    )


def _change_intervals(
    runs: tuple[Means, Means, Means],
    groups: int,
    mean: Interval | None,
    pair: Interval | None,
) -> Statistics[Interval | None]:
    """Return the intervals of the changes, from the method, the baseline and their paired differences."""
    if groups < 2:
        return Statistics(mean)
    method, baseline, change = (run.ranked(groups) for run in runs)
    return Statistics(
        mean=mean,
        worst=bootstrap.change_of_worst(method, baseline, change),
        pair=pair,
        gap=pair if groups == 2 else bootstrap.change_of_gap(method, baseline, change),
    )


def _distance_intervals(
    rows: np.ndarray, resampled_means: np.ndarray, sizes: np.ndarray, levels: tuple[float, float]
) -> list[Interval | None]:
    """Return the intervals of D mean distances and then of their D changes; None with too few patients."""
    if not len(rows) or rows[-1].sum() < bootstrap.MIN_PATIENTS:
        return [None] * max(len(rows) - 1, 0)
    # The number of patients who have the distance varies with the resample.
    totals = resampled_means @ sizes
    with np.errstate(invalid="ignore", divide="ignore"):
        return _percentiles(totals[:, :-1] / totals[:, -1:], levels)


def _percentiles(draws: np.ndarray, levels: tuple[float, float]) -> list[Interval | None]:
    """Return the quantiles of each column of f64[draws, N]; None for one that is not finite."""
    ends = np.nanquantile(draws, levels, 0).T
    return [pair.tolist() if np.isfinite(pair).all() else None for pair in ends]


class Sample(NamedTuple):
    """Patients who have all of K columns. Groups that are too small, and unknown ones, make one last stratum.

    Attributes:
        columns: i64[K], which of the columns.
        scores: f64[K, P], stratum by stratum, in an order that neither names nor rows change.
        sizes: i64[G] of the ranked groups, or i64[G + 1] where there are other patients.
        groups: the numbers of the G ranked groups, in the order of their strata.
        rows: i64[P], the row of the values of each of these patients.
    """

    columns: np.ndarray
    scores: np.ndarray
    sizes: np.ndarray
    groups: tuple[int, ...]
    rows: np.ndarray

    @property
    def ranked(self) -> "Sample":
        """The patients of the ranked groups only."""
        sizes = self.sizes[: len(self.groups)]
        ranked_patients = slice(sizes.sum())
        return self._replace(
            scores=self.scores[:, ranked_patients], sizes=sizes, rows=self.rows[ranked_patients]
        )

    @property
    def order(self) -> np.ndarray:
        """The strata in the order of the groups' numbers, the stratum of other patients last."""
        return np.array([*np.argsort(self.groups), *range(len(self.groups), len(self.sizes))], int)

    def group_scores(self, column: int) -> list[np.ndarray]:
        """Return one column's scores by ranked group, in the order of the groups' numbers."""
        strata = np.split(self.scores[column], np.cumsum(self.sizes)[:-1])
        return [strata[k] for k in np.argsort(self.groups)]


def samples(values: np.ndarray, index: np.ndarray, minimum: int) -> Iterator[Sample]:
    """Yield a sample for each set of columns that the same patients have.

    Args:
        values: f64[R, K], NaN where undefined.
        index: i[R], each row's group, negative where it has none that can be ranked.
        minimum: smaller groups are not ranked.
    """
    for columns in patient_table.columns_by_rows(~np.isnan(values)):
        strata = stratify(values[:, columns].T[None], index, minimum)
        yield Sample(columns, strata.values[0], strata.sizes, strata.groups, strata.rows)
