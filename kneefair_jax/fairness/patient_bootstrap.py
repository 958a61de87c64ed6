"""What the test patients allow to say: bootstrap over patients within group, the same resamples for every method.

Every statistic here is a function of the means of strata: the ranked groups, and all other patients together, who
count in the overall mean alone. `samples` and `resampled` do the same for several columns of scores of one model, as
`inference` needs them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kneefair_jax.fairness import bootstrap, patient_table, simultaneous_intervals, summaries
from kneefair_jax.fairness.simultaneous_intervals import Means


class Strata(NamedTuple):
    """Scores of the patients that every run scored, stratum by stratum.

    Attributes:
        values: f64[M, S, P], methods x seeds x patients; the baseline first.
        sizes: i64[K], the patients of each stratum, in the order of `values`.
        groups: the partition's number of each of the G ranked groups, worst to best by the baseline. They are the
            first G strata; one more holds everybody else, if there is anybody. A given pair is the last and the first.
        rows: i64[P], where each of these patients was before sorting.
    """

    values: np.ndarray
    sizes: np.ndarray
    groups: tuple[int, ...]
    rows: np.ndarray

    @property
    def smallest(self) -> int:
        """The patients of the smallest ranked group; all patients where there is nothing to rank."""
        return int(self.sizes[: len(self.groups)].min() if len(self.groups) > 1 else self.sizes.sum())


def stratify(
    values: np.ndarray, index: np.ndarray, minimum: int, pair: tuple[int, int] | None = None
) -> Strata:
    """Sorts patients into strata, so that neither their order nor the groups' names change a resample.

    Args:
        values: f64[M, S, P], the baseline first; patients with a NaN are left out.
        index: i32[P], the group of each patient, negative where unknown.
        minimum: groups of fewer patients are not ranked.
        pair: the two groups, best and worst, that are so whatever this baseline says; both must be ranked.
    """
    known = ~np.isnan(values).any((0, 1))
    values, index = values[:, :, known], index[known]
    # A patient's scores in ascending order: the order of methods, seeds or columns changes no resample either.
    flat = np.sort(values.reshape(values.shape[0] * values.shape[1], values.shape[2]), axis=0)

    def members(chosen: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(chosen)
        return rows[np.lexsort(flat[:, rows])]

    found = [(int(g), members(index == g)) for g in np.unique(index) if g >= 0]
    ranked = [(g, rows) for g, rows in found if len(rows) >= max(minimum, 1)]
    ranked.sort(key=lambda group: (values[0][:, group[1]].mean(), len(group[1])))
    if pair is not None:
        ranked.sort(key=lambda group: (group[0] == pair[0]) - (group[0] == pair[1]))
    others = members(~np.isin(index, [g for g, _ in ranked]))
    strata = [rows for _, rows in ranked] + ([others] if len(others) else [])
    order = np.concatenate(strata) if strata else np.arange(0)
    return Strata(
        values[:, :, order],
        np.array([len(rows) for rows in strata], int),
        tuple(g for g, _ in ranked),
        np.flatnonzero(known)[order],
    )


def means(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """f[..., P] -> f[..., K], the mean of each stratum."""
    parts = np.split(values, np.cumsum(sizes)[:-1], axis=-1)
    return np.stack([part.mean(-1) for part in parts], axis=-1)


def resample(
    scores: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap means of strata, and the squared standard errors of those means.

    Args:
        scores: f64[R, P], a row a run (or a difference of runs).
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
    drawn, squared = np.empty(shape), np.empty(shape)
    for k, part in enumerate(np.split(scores, np.cumsum(sizes)[:-1], axis=-1)):
        n = part.shape[1]
        middle = part.mean(1)
        centred = (part - middle[:, None]).T
        rows = max(1, bootstrap.CHUNK // n)
        for start in range(0, draws, rows):
            chunk = slice(start, min(start + rows, draws))
            weights = bootstrap.counts(n, chunk.stop - start, rng) / n
            shift = weights @ centred
            drawn[chunk, :, k] = middle + shift
            squared[chunk, :, k] = np.clip(weights @ centred**2 - shift**2, 0, None) / max(n - 1, 1)
    return drawn, squared


def statistics(by_stratum: np.ndarray, mean: np.ndarray, groups: int) -> dict[str, np.ndarray]:
    """Overall mean f[...], worst group mean, signed gap of the pair, gap, SER and ES of f[..., K] means of strata.

    The pair is the last minus the first of the G ranked strata, and with two groups it is the gap. With fewer there
    is a mean alone.
    """
    if groups < 2:
        return {"mean": mean}
    ranked = by_stratum[..., :groups]
    pair = ranked[..., -1] - ranked[..., 0]
    return {
        "mean": mean,
        "worst": ranked.min(-1),
        "pair": pair,
        "gap": pair if groups == 2 else summaries.gap(ranked),
        "ser": summaries.ser(ranked),
        "es": summaries.es(ranked, mean),
    }


def intervals(
    strata: Strata,
    rng: np.random.Generator,
    draws: int,
    confidence: float = 0.95,
    distances: np.ndarray | None = None,
) -> dict[str, list[list[float] | None]]:
    """Intervals over patients of every method's statistics, and of their change against the baseline.

    What is linear in the scores has the expanded percentile (Hesterberg 2015) with n the smallest ranked group:
    `mean`, `pair`, `hd95` and their paired changes, `change_mean` and so on. `gap` is the signed pair for two groups.
    All else is of `simultaneous_intervals`: `worst`, `change_worst`, `ser`, `es`, and `gap` and `change_gap` of more
    than two groups. Changes of `ser` and `es` have none: either side of a tie between groups they move differently.

    Args:
        strata: the scores.
        rng: draws the patients.
        draws: resamples.
        confidence: of each interval.
        distances: f64[D, S, P] of the same patients in the same order, the first of them the one that the others are
            compared to; NaN for a patient without one, who is left out of all.

    Returns:
        Statistic -> M (or D) intervals, None for an undefined one; nothing at all where a ranked group has fewer than
        `bootstrap.MIN_PATIENTS` patients.
    """
    if strata.smallest < bootstrap.MIN_PATIENTS:
        return {}
    count, seeds, patients = strata.values.shape
    groups, sizes = len(strata.groups), strata.sizes
    scores = np.stack([strata.values, strata.values - strata.values[:1]]).reshape(-1, patients)
    extra = np.empty((0, patients)) if distances is None else _rows(distances)
    runs = len(scores)
    drawn, squared = resample(np.concatenate([scores, extra]), sizes, rng, draws)
    shape = (2, count, seeds, len(sizes))
    every = Means(
        means(scores, sizes).reshape(shape),
        squared_errors(scores, sizes).reshape(shape),
        drawn[:, :runs].reshape(-1, *shape),
        squared[:, :runs].reshape(-1, *shape),
    )

    def of(method: int, change: int = 0) -> Means:
        return Means(
            every.point[change, method],
            every.spread[change, method],
            every.drawn[:, change, method],
            every.squared[:, change, method],
        )

    levels = bootstrap.expanded_levels(strata.smallest, confidence)

    def percentiles(drawn: np.ndarray) -> list[list[float] | None]:
        return [_ends(column) for column in np.nanquantile(drawn, levels, 0).T]

    averaged = every.drawn.mean(3)
    found: dict[str, list[list[float] | None]] = {}
    for change, prefix in enumerate(("", "change_")):
        found[f"{prefix}mean"] = percentiles(averaged[:, change] @ (sizes / sizes.sum()))
        if groups >= 2:
            found[f"{prefix}pair"] = percentiles(
                averaged[:, change, :, groups - 1] - averaged[:, change, :, 0]
            )
    if distances is not None:
        found |= dict.fromkeys(("hd95", "change_hd95"), [None] * len(distances))
        if extra[-1].sum() >= bootstrap.MIN_PATIENTS:
            # A mean over the patients that have the distance: how many do varies with the resample.
            totals = drawn[:, runs:] @ sizes
            with np.errstate(invalid="ignore", divide="ignore"):
                either = percentiles(totals[:, :-1] / totals[:, -1:])
            found["hd95"], found["change_hd95"] = either[: len(distances)], either[len(distances) :]
    if groups >= 2:
        weights, methods = sizes / sizes.sum(), range(count)
        ranked = [of(m).ranked(groups) for m in methods]
        found["worst"] = [simultaneous_intervals.worst(part, confidence) for part in ranked]
        found["change_worst"] = [
            simultaneous_intervals.change_of_worst(ranked[m], ranked[0], of(m, 1).ranked(groups), confidence)
            for m in methods
        ]
        if groups == 2:
            found["gap"], found["change_gap"] = found["pair"], found["change_pair"]
        else:
            found["gap"] = [simultaneous_intervals.gap(part, confidence) for part in ranked]
            found["change_gap"] = [
                simultaneous_intervals.change_of_gap(
                    ranked[m], ranked[0], of(m, 1).ranked(groups), confidence
                )
                for m in methods
            ]
        found["ser"] = [simultaneous_intervals.ser(part, confidence) for part in ranked]
        found["es"] = [simultaneous_intervals.es(of(m), weights, groups, confidence) for m in methods]
    return found


def _rows(distances: np.ndarray) -> np.ndarray:
    """Seeds' averages, their differences from the first, and who has them all: f64[2 D + 1, P], 0 where undefined."""
    known = ~np.isnan(distances).any((0, 1))
    averages = np.where(known, distances, 0.0).mean(1)
    return np.concatenate([averages, averages - averages[:1], known[None].astype(float)])


def squared_errors(scores: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Squared standard errors of the means of strata: f64[R, P] -> f64[R, K]."""
    parts = np.split(scores, np.cumsum(sizes)[:-1], axis=-1)
    return np.stack([part.var(-1) / max(part.shape[-1] - 1, 1) for part in parts], axis=-1)


def _ends(ends: np.ndarray) -> list[float] | None:
    return ends.tolist() if np.isfinite(ends).all() else None


class Sample(NamedTuple):
    """Patients who have all of K columns. Groups that are too small, and unknown ones, make one last stratum.

    Attributes:
        columns: which of the columns.
        scores: f64[K, P], stratum by stratum, in an order that neither names nor rows change.
        sizes: i64[G] of the ranked groups, or i64[G + 1] where there is somebody else.
        groups: the numbers of the G ranked groups, in the order of their strata.
        rows: i64[P], which row of the values each of these patients is.
    """

    columns: np.ndarray
    scores: np.ndarray
    sizes: np.ndarray
    groups: tuple[int, ...]
    rows: np.ndarray

    @property
    def ranked(self) -> "Sample":
        """The patients of the ranked groups alone."""
        sizes = self.sizes[: len(self.groups)]
        some = slice(sizes.sum())
        return self._replace(scores=self.scores[:, some], sizes=sizes, rows=self.rows[some])

    @property
    def order(self) -> np.ndarray:
        """The strata in the order in which the groups are numbered, somebody else last."""
        return np.array([*np.argsort(self.groups), *range(len(self.groups), len(self.sizes))], int)

    def parts(self, column: int) -> list[np.ndarray]:
        """One column's scores by ranked group, as the groups are numbered."""
        parts = np.split(self.scores[column], np.cumsum(self.sizes)[:-1])
        return [parts[k] for k in np.argsort(self.groups)]


def samples(values: np.ndarray, index: np.ndarray, minimum: int) -> Iterator[Sample]:
    """A sample for each set of columns that the same patients have.

    Args:
        values: f64[R, K], NaN where undefined.
        index: i[R], each row's group, negative where it has none that can be ranked.
        minimum: smaller groups are not ranked.
    """
    for columns in patient_table.with_same_rows(~np.isnan(values)):
        strata = stratify(values[:, columns].T[None], index, minimum)
        yield Sample(columns, strata.values[0], strata.sizes, strata.groups, strata.rows)


def resampled(sample: Sample, rng: np.random.Generator, draws: int) -> list[Means | None]:
    """The means of each column's strata, in the sample's `order`.

    None where fewer than two groups are ranked, or one has fewer than `bootstrap.MIN_PATIENTS` patients.
    """
    if len(sample.groups) < 2 or sample.ranked.sizes.min() < bootstrap.MIN_PATIENTS:
        return [None] * len(sample.columns)
    point = means(sample.scores, sample.sizes)
    spread = squared_errors(sample.scores, sample.sizes)
    drawn, squared = resample(sample.scores, sample.sizes, rng, draws)
    order = sample.order
    return [
        Means(*(part[..., k : k + 1, order] for part in (point, spread, drawn, squared)))
        for k in range(len(sample.columns))
    ]
