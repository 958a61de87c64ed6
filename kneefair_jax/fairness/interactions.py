"""Does the gap of one attribute differ between the levels of another? The contrast of a 2 x 2 intersection."""

import zlib
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.fairness import simultaneous_intervals
from kneefair_jax.fairness.multiplicity import holm
from kneefair_jax.fairness.patient_bootstrap import resampled, samples
from kneefair_jax.fairness.patient_table import MACRO, by_patient_and_group, table
from kneefair_jax.fairness.simultaneous_intervals import Means


def interactions(
    cases: pd.DataFrame,
    structures: Sequence[str],
    attributes: Sequence[str],
    *,
    min_group_patients: int,
    draws: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """The `interactions` of `report.json`: of every pair of attributes whose ranked cells are 2 x 2.

    Args:
        cases: as `scores.scores`.
        structures: of which the macro score is the mean.
        attributes: columns to cross.
        min_group_patients: smaller cells are not ranked.
        draws: bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        `{"sex,race": {score: {"cells": [4 names], "contrast", "interval", "p", "p_holm"}}}`; pairs without four cells
        absent. `p_holm` is corrected over the pairs of attributes, for each score.
    """
    known = table(cases, structures)
    macro = [k for k, column in enumerate(known.columns) if column.structure == MACRO]
    found: dict[str, dict[str, Any]] = {}
    for part in groups.partitions(known.rows, attributes):
        if len(part.attributes) != 2:
            continue
        key = ",".join(part.attributes)
        rankable = np.array([not groups.is_missing(name) for name in part.names])
        index = np.where(rankable[part.index], part.index, groups.UNKNOWN)
        values, _, index = by_patient_and_group(known.values[:, macro], known.patients, index)
        rng_seed = [seed, zlib.crc32(key.encode()), 0]
        for sample in samples(values, index, min_group_patients):
            cells = _two_by_two(known.rows, part, sample.groups)
            if cells is None:
                continue
            means = resampled(sample, np.random.default_rng(rng_seed), draws)
            for column, drawn in zip(sample.columns, means, strict=True):
                if drawn is not None:
                    entry = {"cells": [part.names[g] for g in cells], **contrast(drawn.ranked(4))}
                    found.setdefault(key, {})[known.columns[macro[column]].score] = entry
    order = list(dict.fromkeys(column.score for column in known.columns))
    for score in order:
        corrected = holm({key: entry[score]["p"] for key, entry in found.items() if score in entry})
        for key, p in corrected.items():
            found[key][score] |= {"p_holm": p}
    return {
        key: dict(sorted(entry.items(), key=lambda one: order.index(one[0]))) for key, entry in found.items()
    }


def contrast(means: Means) -> Mapping[str, Any]:
    """(a1 b1 - a1 b2) - (a2 b1 - a2 b2) with its studentised bootstrap interval, and p from the same resamples.

    A permutation would have to keep both main effects, and none does so exactly.

    Args:
        means: of the four cells in that order.
    """
    matrix = np.array([[1.0, -1.0, -1.0, 1.0]])
    point, error, t = simultaneous_intervals.studentised(means, matrix)
    ends = simultaneous_intervals.contrasts(means, matrix)
    observed = np.abs(point) / np.where(error > 0, error, np.inf)
    return {
        "contrast": point.item(),
        "interval": [end.item() for end in ends] if ends else None,
        "p": float((1 + (t >= observed).sum()) / (1 + len(t))) if error.item() > 0 else None,
    }


def _two_by_two(rows: pd.DataFrame, part: groups.Partition, ranked: Sequence[int]) -> list[int] | None:
    """The ranked groups if they are all combinations of two levels and two."""
    if len(ranked) != 4:
        return None
    cells = sorted(ranked)
    first = [np.flatnonzero(part.index == g)[0] for g in cells]
    levels = [tuple(rows[attribute].iloc[row] for attribute in part.attributes) for row in first]
    crossed = set(product(*({level[side] for level in levels} for side in (0, 1))))
    return cells if len(crossed) == 4 and crossed == set(levels) else None
