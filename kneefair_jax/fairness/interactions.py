"""Does the gap of one attribute differ between the levels of another? The contrast of a 2 x 2 intersection."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.fairness import group_intervals, inference, patient_table
from kneefair_jax.fairness.multiplicity import holm
from kneefair_jax.fairness.patient_bootstrap import samples
from kneefair_jax.fairness.patient_table import MACRO, by_patient_and_group, table

# (a1 b1 - a1 b2) - (a2 b1 - a2 b2)
CONTRAST = np.array([1.0, -1.0, -1.0, 1.0])


def interactions(
    cases: pd.DataFrame,
    structures: Sequence[str],
    attributes: Sequence[str],
    *,
    min_group_patients: int,
    failure_dice: float = patient_table.FAILURE_DICE,
) -> dict[str, dict[str, Any]]:
    """The `interactions` of `report.json`: of every pair of attributes whose ranked cells are 2 x 2.

    Args:
        cases: as `scores.scores`.
        structures: of which the macro score is the mean.
        attributes: columns to cross.
        min_group_patients: smaller cells are not ranked.
        failure_dice: Dice below which a segmentation counts as failed.

    Returns:
        `{"sex,race": {score: {"cells": [4 names], "contrast", "interval", "p", "p_holm"}}}`; pairs without four cells
        absent. `p_holm` is corrected over the pairs of attributes, for each score.
    """
    known = table(cases, structures)
    macro = [k for k, column in enumerate(known.columns) if column.structure == MACRO]
    failed = patient_table.failures(cases, known, failure_dice)[:, macro]
    found: dict[str, dict[str, Any]] = {}
    for part in groups.partitions(known.rows, attributes):
        if len(part.attributes) != 2:
            continue
        key = ",".join(part.attributes)
        rankable = np.array([not groups.is_missing(name) for name in part.names])
        index = np.where(rankable[part.index], part.index, groups.UNKNOWN)
        flags = patient_table.any_by_patient_and_group(failed, known.patients, index)
        values, _, index = by_patient_and_group(known.values[:, macro], known.patients, index)
        for sample in samples(values, index, min_group_patients):
            cells = _two_by_two(known.rows, part, sample.groups)
            if cells is None or sample.ranked.sizes.min() < inference.MIN_INTERVAL_PATIENTS:
                continue
            for k, column in enumerate(sample.columns):
                of_score = known.columns[macro[column]]
                strata = inference.strata(sample, k, of_score, flags[sample.rows, column])
                contrast, interval, p = group_intervals.tested_contrast(strata[:4], CONTRAST)
                entry = {
                    "cells": [part.names[g] for g in cells],
                    "contrast": contrast,
                    "interval": interval,
                    "p": p,
                }
                found.setdefault(key, {})[of_score.score] = entry
    order = list(dict.fromkeys(column.score for column in known.columns))
    for score in order:
        corrected = holm({key: entry[score]["p"] for key, entry in found.items() if score in entry})
        for key, p_holm in corrected.items():
            found[key][score] |= {"p_holm": p_holm}
    return {
        key: dict(sorted(entry.items(), key=lambda one: order.index(one[0]))) for key, entry in found.items()
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
