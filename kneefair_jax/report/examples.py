"""Which cases a report shows as pictures."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from kneefair_jax import groups
from kneefair_jax.fairness import patient_table

EVERYONE = "all"
WORST = 6


class Choice(NamedTuple):
    """A case to show, as an example of which group, at which rank, with its macro Dice."""

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
    """The worst cases of all, then the best, median and worst of each level of each attribute.

    Args:
        table: the long per-case table: `case_id, structure, dice` and the categorical attributes; a case without any
            score is left out.
        attributes: its columns to group by.
        worst: how many of the worst cases of all, from the worst up.
        failure_dice: that of `patient_table.macro`.

    Returns:
        Those of all in the group `all`, ranked `1`, `2`, ...; a level of two cases has no median, one of a single
        case only that one, ranked `only`.
    """
    macro = patient_table.macro(table, "dice", failure_dice).dropna()
    known = table.drop_duplicates("case_id").set_index("case_id").loc[macro.index]
    lowest = macro.sort_values(kind="stable").head(worst)
    chosen = [
        Choice(str(case), EVERYONE, str(rank), float(score))
        for rank, (case, score) in enumerate(lowest.items(), 1)
    ]
    for attribute in attributes:
        partition = groups.partition(known, [attribute], missing_as_level=True)
        for g, name in enumerate(partition.names):
            ranked = macro[partition.index == g].sort_values(kind="stable", ascending=False)
            places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
            if len(ranked) < len(places):
                places = {"only": 0} if len(ranked) == 1 else {"best": 0, "worst": 1}
            chosen += [
                Choice(str(ranked.index[place]), name, rank, float(ranked.iloc[place]))
                for rank, place in places.items()
            ]
    return chosen
