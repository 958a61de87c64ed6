"""Computes the power of each attribute's groups from the per-case table: the `power` of `report.json`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.fairness import equivalence, patient_table, power
from kneefair_jax.fairness.power import PatientsNeeded

SCORE = "dice"
# The margin if none is stated.
EXAMPLE_MARGIN = 0.02


@dataclass(frozen=True)
class AttributePower:
    """The power of the two ranked groups of an attribute whose means have the largest detectable difference.

    Every power is 80 %, and every test is a single, uncorrected test at the 5 % level, except that equivalence uses the
    level that attributes share (`equivalence.LEVEL`).

    Attributes:
        groups: their names, the group with fewer patients first.
        patients: of each group.
        detectable: the difference of mean Dice that Welch's test detects, among patients without a failed segmentation.
        failure_rate: observed share of patients with a failed segmentation, over all ranked groups of the attribute.
        detectable_failure_rate: the higher rate of the first group that Fisher's exact test detects, if the second has
            `failure_rate`; None if it would not detect that all patients of the first group fail.
        margin_stated: whether the margin of `needed` is prespecified; otherwise it is `EXAMPLE_MARGIN`.
        needed: patients of the smaller group needed at the margin.
    """

    groups: tuple[str, str]
    patients: tuple[int, int]
    detectable: float
    failure_rate: float
    detectable_failure_rate: float | None
    margin_stated: bool
    needed: PatientsNeeded


class _Group(NamedTuple):
    """A ranked group: patients with a score, and the scores of those without a failed segmentation."""

    name: str
    patients: int
    scores: np.ndarray


def attribute_power(
    cases: pd.DataFrame,
    structures: Sequence[str],
    attributes: Sequence[str],
    *,
    min_group_patients: int,
    failure_dice: float = patient_table.FAILURE_DICE,
    equivalence_margin: float | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the `power` of `report.json` for one split and one model.

    Args:
        cases: the long per-case table, as `fairness.scores.scores` takes it.
        structures: in the order to report them.
        attributes: columns to group by.
        min_group_patients: smaller groups, and the level `missing`, are not ranked.
        failure_dice: Dice below which a segmentation counts as failed.
        equivalence_margin: of mean Dice and of failure rates, prespecified; None for `EXAMPLE_MARGIN`.

    Returns:
        Attribute -> `AttributePower` as a dict, for attributes with two ranked groups or more that have two patients or
        more without a failed segmentation.
    """
    table = patient_table.table(cases, structures, failure_dice)
    groups_by_attribute: dict[str, list[_Group]] = {}
    for attribute in attributes:
        grouped = patient_table.group_scores(
            table, groups.partition(table.rows, [attribute]), table.macro_column(SCORE)
        )
        values, failed = grouped.values[:, 0], grouped.failed[:, 0]
        ranked = []
        for g, name in enumerate(grouped.names):
            members = ~np.isnan(values) & (grouped.groups == g)
            group = _Group(name, int(members.sum()), values[members & ~failed])
            if groups.unranked_reason(name, group.patients, min_group_patients) is None:
                ranked.append(group)
        if sum(len(group.scores) > 1 for group in ranked) > 1:
            groups_by_attribute[attribute] = ranked
    level = equivalence.LEVEL / max(len(groups_by_attribute), 1)
    return {
        attribute: asdict(_power(ranked, equivalence_margin, level))
        for attribute, ranked in groups_by_attribute.items()
    }


def _power(ranked: Sequence[_Group], margin: float | None, equivalence_level: float) -> AttributePower:
    pairs = combinations((group for group in ranked if len(group.scores) > 1), 2)
    hardest_pair = max(pairs, key=lambda pair: _detectable(*pair))
    small_group, large_group = sorted(hardest_pair, key=lambda group: group.patients)
    sizes = (small_group.patients, large_group.patients)
    patients = sum(group.patients for group in ranked)
    rate = sum(group.patients - len(group.scores) for group in ranked) / patients
    residuals = np.concatenate([group.scores - group.scores.mean() for group in hardest_pair])
    return AttributePower(
        groups=(small_group.name, large_group.name),
        patients=sizes,
        detectable=_detectable(*hardest_pair),
        failure_rate=rate,
        detectable_failure_rate=power.failure_difference(sizes, rate),
        margin_stated=margin is not None,
        needed=power.patients_needed(
            EXAMPLE_MARGIN if margin is None else margin,
            float(np.sqrt((residuals**2).sum() / (len(residuals) - 2))),
            rate,
            ratio=sizes[1] / sizes[0],
            equivalence_level=equivalence_level,
            # The worst Dice is 0; the span of a mean of 0 must still be positive.
            span=max(float(np.concatenate([group.scores for group in hardest_pair]).mean()), 1e-12),
        ),
    )


def _detectable(first: _Group, second: _Group) -> float:
    sizes = (len(first.scores), len(second.scores))
    return power.mean_difference(sizes, (float(first.scores.std(ddof=1)), float(second.scores.std(ddof=1))))
