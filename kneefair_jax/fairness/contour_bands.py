"""Errors along a contour by group: means over patients with simultaneous bands over all points.

A band holds at all points at once with probability 95 %: its half-width is the bootstrap's quantile of the largest |t|
over points (and groups, or pairs of groups), times the standard error of each point. A part of a bone whose band of
differences excludes zero differs significantly between groups; the band already accounts for the number of parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.fairness import bootstrap, patient_bootstrap, patient_table
from kneefair_jax.fairness.bootstrap import Means

DRAWS = 2000  # of the bootstrap; the quantile of a maximum over many points needs no more


@dataclass(frozen=True)
class Band:
    """A mean at every point, and its simultaneous band.

    Attributes:
        patients: of the mean.
        mean: of the errors.
        low: lower ends; None with too few patients.
        high: upper ends.
    """

    patients: int
    mean: list[float]
    low: list[float] | None
    high: list[float] | None


@dataclass(frozen=True)
class PairBand:
    """The difference of two groups' means at every point, the first minus the second, and its band."""

    first: str
    second: str
    difference: Band


@dataclass(frozen=True)
class ContourBands:
    """The errors of one bone's contour.

    Attributes:
        places: mean places of the points, in bicondylar widths: to the lateral side, and downwards.
        overall: of all patients.
        groups: by name, without a band where a group is too small to rank.
        pairs: of the ranked groups of each attribute.
    """

    places: list[list[float]]
    overall: Band
    groups: dict[str, Band]
    pairs: dict[str, list[PairBand]]


def contour_bands(
    errors: np.ndarray,
    places: np.ndarray,
    cases: pd.DataFrame,
    attributes: Sequence[str],
    *,
    minimum: int = 10,
    draws: int = DRAWS,
    seed: int = 0,
) -> ContourBands:
    """Describe the errors of one bone.

    Args:
        errors: f64[N, J], of N knees at J points; positive outwards.
        places: f64[N, J, 2].
        cases: a row per knee with `patient_id` and categorical attributes.
        attributes: columns to group by.
        minimum: patients of a group that is compared.
        draws: of the bootstrap.
        seed: of the bootstrap.
    """
    all_cases = groups.Partition((), ("all",), np.zeros(len(cases), np.int32))
    overall = _by_group(errors, cases, all_cases, 1, draws, seed)[0]["all"]
    by_group: dict[str, Band] = {}
    pairs: dict[str, list[PairBand]] = {}
    for attribute in attributes:
        partition = groups.partition(cases, [attribute], missing_as_level=True)
        bands, pairs[attribute] = _by_group(errors, cases, partition, minimum, draws, seed)
        by_group |= bands
    return ContourBands(places.mean(axis=0).tolist(), overall, by_group, pairs)


def _by_group(
    errors: np.ndarray,
    cases: pd.DataFrame,
    partition: groups.Partition,
    minimum: int,
    draws: int,
    seed: int,
) -> tuple[dict[str, Band], list[PairBand]]:
    """Return the bands of groups, and of all pairs of ranked groups."""
    values, _, rows = patient_table.patient_group_means(
        errors, cases["patient_id"].to_numpy(), partition.index
    )
    of_group = {name: values[rows == g] for g, name in enumerate(partition.names)}
    fewest = max(minimum, bootstrap.MIN_PATIENTS)
    ranked = [
        name for name, part in of_group.items() if groups.unranked_reason(name, len(part), fewest) is None
    ]
    bands = {
        name: Band(len(part), part.mean(axis=0).tolist(), None, None)
        for name, part in of_group.items()
        if len(part)
    }
    if not ranked:
        return bands, []
    scores = np.concatenate([of_group[name] for name in ranked]).T
    sizes = np.array([len(of_group[name]) for name in ranked])
    means = Means(
        patient_bootstrap.means(scores, sizes),
        patient_bootstrap.squared_errors(scores, sizes),
        *patient_bootstrap.resample(scores, sizes, np.random.default_rng(seed), draws),
    )
    for name, band in zip(ranked, _bands(means, np.eye(len(ranked)), sizes[:, None]), strict=True):
        bands[name] = band
    if len(ranked) < 2:
        return bands, []
    members = np.array([[sizes[i], sizes[j]] for i, j in combinations(range(len(ranked)), 2)])
    differences = _bands(means, bootstrap.pairs(len(ranked)), members)
    return bands, [
        PairBand(first, second, band)
        for (first, second), band in zip(combinations(ranked, 2), differences, strict=True)
    ]


def _bands(means: Means, matrix: np.ndarray, patients: np.ndarray) -> list[Band]:
    """Return the bands of linear functions of the groups' means, one for each row of f64[R, K]."""
    estimates = means.estimate @ matrix.T
    ends = bootstrap.contrasts(means, matrix)
    return [
        Band(
            int(patients[row].sum()),
            estimates[:, row].tolist(),
            None if ends is None else ends[0][:, row].tolist(),
            None if ends is None else ends[1][:, row].tolist(),
        )
        for row in range(len(matrix))
    ]
