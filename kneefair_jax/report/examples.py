"""Choose the cases that a report shows as pictures."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from kneefair_jax import groups
from kneefair_jax.fairness import patient_table

ALL = "all"  # the group of all cases
WORST = 6  # cases


class Choice(NamedTuple):
    """A case to show: its id, its group, its rank in the group, and its macro Dice."""

    case_id: str
    group: str
    rank: str
    score: float


def choose(
    table: pd.DataFrame,
    attributes: Sequence[str],
    worst: int = WORST,
    failure_dice: float = patient_table.FAILURE_DICE,
) -> list[Choice]:
    """Choose the worst cases of all, then the best, median and worst case of each level of each attribute.

    Args:
        table: the long per-case table: `case_id, structure, dice` and the categorical attributes; cases without any
            score are excluded.
        attributes: columns to group by.
        worst: the number of worst cases of all, in ascending order of score.
        failure_dice: `failure_dice` of `patient_table.macro`.

    Returns:
        The worst cases of all have the group `all` and the ranks `1`, `2`, ... A level of two cases has no median; the
        case of a level with a single one has the rank `only`.
    """
    macro = patient_table.macro(table, "dice", failure_dice).dropna()
    cases = table.drop_duplicates("case_id").set_index("case_id").loc[macro.index]
    lowest = macro.sort_values(kind="stable").head(worst)
    choices = [
        Choice(str(case), ALL, str(rank), float(score))
        for rank, (case, score) in enumerate(lowest.items(), 1)
    ]
    for attribute in attributes:
        partition = groups.partition(cases, [attribute], missing_as_level=True)
        for g, name in enumerate(partition.names):
            ranked = macro[partition.index == g].sort_values(kind="stable", ascending=False)
            positions = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
            if len(ranked) < len(positions):
                positions = {"only": 0} if len(ranked) == 1 else {"best": 0, "worst": 1}
            choices += [
                Choice(str(ranked.index[position]), name, rank, float(ranked.iloc[position]))
                for rank, position in positions.items()
            ]
    return choices
