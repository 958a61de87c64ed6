"""What the test patients allow to say: bootstrap over patients within group, the same resamples for every method.

Every statistic here is a function of the means of strata: the ranked groups, and all other patients together, who
count in the overall mean alone.
"""

from typing import NamedTuple

import numpy as np

from kneefair_jax.fairness import bootstrap, summaries

# A Student's t that only resamples without any spread reach: the interval would be made of them.
_FAR = 1e3


class Strata(NamedTuple):
    """Scores of the patients that every run scored, stratum by stratum.

    Attributes:
        values: f64[M, S, P], methods x seeds x patients; the baseline first.
        sizes: i64[K], the patients of each stratum, in the order of `values`.
        groups: the partition's number of each of the G ranked groups, worst to best by the baseline. They are the
            first G strata; one more holds everybody else, if there is anybody.
    """

    values: np.ndarray
    sizes: np.ndarray
    groups: tuple[int, ...]

    @property
    def smallest(self) -> int:
        """The patients of the smallest ranked group; all patients where there is nothing to rank."""
        return int(self.sizes[: len(self.groups)].min() if len(self.groups) > 1 else self.sizes.sum())


def stratify(values: np.ndarray, index: np.ndarray, minimum: int) -> Strata:
    """Sorts patients into strata, so that neither their order nor the groups' names change a resample.

    Args:
        values: f64[M, S, P], the baseline first; patients with a NaN are left out.
        index: i32[P], the group of each patient, negative where unknown.
        minimum: groups of fewer patients are not ranked.
    """
    known = ~np.isnan(values).any((0, 1))
    values, index = values[:, :, known], index[known]
    flat = values[::-1].reshape(-1, values.shape[-1])

    def members(chosen: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(chosen)
        return rows[np.lexsort(flat[:, rows])]

    found = [(int(g), members(index == g)) for g in np.unique(index) if g >= 0]
    ranked = [(g, rows) for g, rows in found if len(rows) >= max(minimum, 1)]
    ranked.sort(key=lambda group: (values[0][:, group[1]].mean(), len(group[1])))
    others = members(~np.isin(index, [g for g, _ in ranked]))
    strata = [rows for _, rows in ranked] + ([others] if len(others) else [])
    return Strata(
        values[:, :, np.concatenate(strata)] if strata else values,
        np.array([len(rows) for rows in strata], int),
        tuple(g for g, _ in ranked),
    )


def means(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """f[..., P] -> f[..., K], the mean of each stratum."""
    parts = np.split(values, np.cumsum(sizes)[:-1], axis=-1)
    return np.stack([part.mean(-1) for part in parts], axis=-1)


def resample(
    averages: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap means of strata, and the squared standard errors of those means.

    Args:
        averages: f64[M, P], each method's scores averaged over seeds.
        sizes: i64[K], patients of each stratum.
        rng: draws the patients, the same for all methods.
        draws: resamples.

    Returns:
        Two f64[draws, M, K].
    """
    shape = (draws, len(averages), len(sizes))
    drawn, squared = np.empty(shape), np.empty(shape)
    for k, part in enumerate(np.split(averages, np.cumsum(sizes)[:-1], axis=-1)):
        n = part.shape[1]
        middle = part.mean(1)
        centred = (part - middle[:, None]).T
        rows = max(1, bootstrap.CHUNK // n)
        for start in range(0, draws, rows):
            chunk = slice(start, min(start + rows, draws))
            weights = rng.multinomial(n, np.full(n, 1 / n), chunk.stop - start) / n
            shift = weights @ centred
            drawn[chunk, :, k] = middle + shift
            squared[chunk, :, k] = np.clip(weights @ centred**2 - shift**2, 0, None) / max(n - 1, 1)
    return drawn, squared


def statistics(by_stratum: np.ndarray, sizes: np.ndarray, groups: int) -> dict[str, np.ndarray]:
    """Overall mean, worst group mean, signed gap of the pair, and ES of f[..., K] means of strata.

    The pair is the baseline's best group minus its worst: the last minus the first of the G ranked strata. With
    fewer than two ranked groups there is a mean alone.
    """
    mean = by_stratum @ (sizes / sizes.sum())
    if groups < 2:
        return {"mean": mean}
    ranked = by_stratum[..., :groups]
    return {
        "mean": mean,
        "worst": ranked.min(-1),
        "pair": ranked[..., -1] - ranked[..., 0],
        "es": summaries.es(ranked, mean),
    }


def intervals(
    strata: Strata, rng: np.random.Generator, draws: int, confidence: float = 0.95
) -> dict[str, list[list[float] | None]]:
    """Intervals over patients of every method's statistics, and of their change against the baseline.

    Expanded percentile (Hesterberg 2015) with n the smallest ranked group, for what `statistics` names and, as
    `change_mean`, `change_worst` and `change_pair`, for the paired changes. `gap` (max - min) is the signed pair for
    two groups; for more, the union of simultaneous intervals of all signed pairs by the bootstrap of max |t|. `ser`
    is the studentised bootstrap of the log of the ratio, its two groups fixed on the method's own full sample.

    Returns:
        Statistic -> M intervals, None for an undefined one; nothing at all where a ranked group has fewer than
        `bootstrap.MIN_PATIENTS` patients.
    """
    if strata.smallest < bootstrap.MIN_PATIENTS:
        return {}
    averages = strata.values.mean(1)
    groups = len(strata.groups)
    drawn, squared = resample(averages, strata.sizes, rng, draws)
    samples = statistics(drawn, strata.sizes, groups)
    for key in ("mean", "worst", "pair"):
        if key in samples:
            samples[f"change_{key}"] = samples[key] - samples[key][:, :1]
    levels = bootstrap.expanded_levels(strata.smallest, confidence)
    found = {key: [_ends(column) for column in np.quantile(s, levels, 0).T] for key, s in samples.items()}
    if groups >= 2:
        point = means(averages, strata.sizes)[:, :groups]
        spread = _squared_errors(averages, strata.sizes)[:, :groups]
        each = [
            (point[m], spread[m], drawn[:, m, :groups], squared[:, m, :groups]) for m in range(len(point))
        ]
        found["gap"] = (
            found["pair"] if groups == 2 else [_simultaneous(*method, confidence) for method in each]
        )
        found["ser"] = [_ratio(*method, confidence) for method in each]
    return found


def _squared_errors(averages: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    parts = np.split(averages, np.cumsum(sizes)[:-1], axis=-1)
    return np.stack([part.var(-1) / max(part.shape[-1] - 1, 1) for part in parts], axis=-1)


def _simultaneous(
    point: np.ndarray, spread: np.ndarray, drawn: np.ndarray, squared: np.ndarray, confidence: float
) -> list[float] | None:
    """[max(0, largest lower end), largest upper end] over all ordered pairs of groups."""
    first, second = np.nonzero(~np.eye(len(point), dtype=bool))
    difference = point[first] - point[second]
    error = np.sqrt(spread[first] + spread[second])
    shift = drawn[:, first] - drawn[:, second] - difference
    t = _studentised(shift, np.sqrt(squared[:, first] + squared[:, second]))
    quantile = np.quantile(np.abs(t).max(1), confidence)
    if quantile > _FAR:
        return None
    reach = quantile * error
    return _ends(np.array([max(0.0, (difference - reach).max()), (difference + reach).max()]))


def _ratio(
    point: np.ndarray, spread: np.ndarray, drawn: np.ndarray, squared: np.ndarray, confidence: float
) -> list[float] | None:
    """Of the largest error over the smallest, the two groups fixed on the full sample."""
    high, low = int(point.argmin()), int(point.argmax())
    error, errors = 1 - point, 1 - drawn
    if min(error[low], errors[:, [high, low]].min()) <= 0:
        return None
    value = np.log(error[high] / error[low])
    se = np.sqrt(spread[high] / error[high] ** 2 + spread[low] / error[low] ** 2)
    shift = np.log(errors[:, high] / errors[:, low]) - value
    ses = np.sqrt(squared[:, high] / errors[:, high] ** 2 + squared[:, low] / errors[:, low] ** 2)
    t = np.quantile(_studentised(shift, ses), [(1 + confidence) / 2, (1 - confidence) / 2])
    return _ends(np.exp(value - t * se)) if np.abs(t).max() < _FAR else None


def _studentised(shift: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Shift over its standard error; a resample that drew equal scores alone has none, and lies far out."""
    return np.divide(shift, error, out=np.sign(shift) * _FAR**2, where=error > 0)


def _ends(ends: np.ndarray) -> list[float] | None:
    return ends.tolist() if np.isfinite(ends).all() else None
