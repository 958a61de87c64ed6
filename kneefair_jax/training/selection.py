"""Which checkpoint is the run's: rules over the validation scores of the checkpoints there are.

A record is `{"step": int, "overall": float, "groups": {name: float}}`: mean validation macro Dice over patients.
Ties go to the earlier step. Every rule is reported beside the one that the config selects, because the rule can
change the winner (MEDFAIR, Zong et al., ICLR 2023).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

Record = dict[str, Any]
Rule = Callable[[Sequence[Record]], Record]

LAST = 2  # checkpoints that are kept whatever their scores: the newest may turn out to be damaged


def overall(records: Sequence[Record]) -> Record:
    """The best mean over all validation patients."""
    return max(records, key=lambda record: (record["overall"], -record["step"]))


def worst_group(records: Sequence[Record]) -> Record:
    """The best mean of the group that is worst."""
    return max(records, key=lambda record: (worst(record), -record["step"]))


def utopia(records: Sequence[Record]) -> Record:
    """The smallest Euclidean distance to U, U_g being the best mean of group g over all records (MEDFAIR)."""
    # A group whose masks are all empty has a score only where something was predicted.
    names = set.intersection(*(set(record["groups"]) for record in records))
    best = {name: max(record["groups"][name] for record in records) for name in names}

    def distance(record: Record) -> float:
        return math.dist([record["groups"][name] for name in names], [best[name] for name in names])

    return min(records, key=lambda record: (distance(record), -record["overall"], record["step"]))


RULES: dict[str, Rule] = {"overall": overall, "worst_group": worst_group, "utopia": utopia}


def kept(records: Sequence[Record], last: int = LAST) -> set[int]:
    """The steps to keep on disk: the last few, each rule's choice, and all that no other dominates in every group.

    Those are enough for every rule to give, now and later, what it would give over all records.
    """
    steps = set(sorted(record["step"] for record in records)[-last:])
    steps |= {rule(records)["step"] for rule in RULES.values()}
    steps |= {r["step"] for r in records if not any(_dominates(other, r) for other in records)}
    return steps


def worst(record: Record) -> float:
    """The mean of the group that is worst; the overall mean where there is no group."""
    return min(record["groups"].values(), default=record["overall"])


def _dominates(a: Record, b: Record) -> bool:
    """Whether a is better than b in every group that both have."""
    names = a["groups"].keys() & b["groups"].keys()
    return bool(names) and all(a["groups"][name] > b["groups"][name] for name in names)
