"""Patient means of several columns in groups -> what every statistic of them takes: sorted, complete, resampled."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kneefair_jax.fairness import bootstrap, over_patients
from kneefair_jax.fairness.simultaneous import Means


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
    known, of_column = np.unique(~np.isnan(values), axis=1, return_inverse=True)
    for pattern in range(known.shape[1]):
        columns = np.flatnonzero(of_column == pattern)
        strata = over_patients.stratify(values[:, columns].T[None], index, minimum)
        yield Sample(columns, strata.values[0], strata.sizes, strata.groups, strata.rows)


def resampled(sample: Sample, rng: np.random.Generator, draws: int) -> list[Means | None]:
    """The means of each column's strata, in the sample's `order`.

    None where fewer than two groups are ranked, or one has fewer than `bootstrap.MIN_PATIENTS` patients.
    """
    if len(sample.groups) < 2 or sample.ranked.sizes.min() < bootstrap.MIN_PATIENTS:
        return [None] * len(sample.columns)
    point = over_patients.means(sample.scores, sample.sizes)
    spread = over_patients.squared_errors(sample.scores, sample.sizes)
    drawn, squared = over_patients.resample(sample.scores, sample.sizes, rng, draws)
    order = sample.order
    return [
        Means(*(part[..., k : k + 1, order] for part in (point, spread, drawn, squared)))
        for k in range(len(sample.columns))
    ]
