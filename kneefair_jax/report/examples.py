"""Which cases a report shows as pictures."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from kneefair_jax import groups


class Choice(NamedTuple):
    """A case as an example of its group: its rank there (`best`, `median`, `worst` or `only`) and its macro Dice."""

    case_id: str
    group: str
    rank: str
    score: float


def choose(table: pd.DataFrame, attributes: Sequence[str]) -> list[Choice]:
    """The best, median and worst case of each level of each attribute; fewer where there are fewer.

    Args:
        table: the long per-case table: `case_id, dice` and the categorical attributes.
        attributes: its columns to group by.
    """
    macro = table.groupby("case_id")["dice"].mean().dropna()
    rows = table.drop_duplicates("case_id").set_index("case_id").loc[macro.index]
    choices = []
    for attribute in attributes:
        partition = groups.partition(rows, [attribute], missing_as_level=True)
        for g, name in enumerate(partition.names):
            ranked = macro[partition.index == g].sort_values(kind="stable", ascending=False)
            places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
            if len(ranked) < len(places):
                places = {"only": 0} if len(ranked) == 1 else {"best": 0, "worst": 1}
            choices += [
                Choice(ranked.index[place], name, rank, float(ranked.iloc[place]))
                for rank, place in places.items()
            ]
    return choices
