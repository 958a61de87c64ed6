"""How many void pixels the masks of each group hold: scores of a group with many are of a part of its pixels."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from kneefair_jax import cohort as cohorts
from kneefair_jax import groups


def of_groups(
    shares: Sequence[float], cases: pd.DataFrame, attributes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Count the void pixels of each group.

    Args:
        shares: of each case's pixels that are void, in [0, 1].
        cases: the cohort's table, a row per case.
        attributes: names of its attribute columns.

    Returns:
        Group (`all` first) -> `cases`; `void_cases`, those with a void pixel; `share`, the mean share of void pixels.
        Nothing where no case has any.
    """
    share = np.asarray(shares, float)
    if not share.any():
        return {}
    members = {cohorts.ALL: np.ones(len(share), bool)} | {
        name: part.index == number
        for attribute in attributes
        for part in [groups.partition(cases, [attribute], missing_as_level=True)]
        for number, name in enumerate(part.names)
    }
    return {
        name: {
            "cases": int(member.sum()),
            "void_cases": int((share[member] > 0).sum()),
            "share": float(share[member].mean()),
        }
        for name, member in members.items()
        if member.any()
    }


def lines(counts: Mapping[str, Mapping[str, float]], of: str) -> Iterator[str]:
    """The lines of `--mode=check`, one a group; none without void pixels.

    Args:
        counts: of `of_groups`.
        of: "" or the name of the cohort, for the first line.
    """
    if counts:
        yield f"void pixels{of}, left out of losses and scores (cases with any, mean share of the pixels):"
    for name, group in counts.items():
        yield f"  {name}: {group['void_cases']} of {group['cases']} cases, {group['share']:.1%}"
