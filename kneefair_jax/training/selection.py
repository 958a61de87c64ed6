"""Checkpoint selection: rules over the validation scores of a run's checkpoints.

A record is `{"step": int, "overall": float, "groups": {name: float}}`: mean validation macro Dice over patients.
Ties go to the earlier step. Every rule is reported beside the one that the config selects, because the rule can
change the winner (MEDFAIR, Zong et al., ICLR 2023).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

Record = dict[str, Any]
Rule = Callable[[Sequence[Record]], Record]

RECENT = 2  # newest checkpoints that stay whatever their scores: the newest may turn out to be damaged


def overall(records: Sequence[Record]) -> Record:
    """Return the record with the best mean over all validation patients."""
    return max(records, key=lambda record: (record["overall"], -record["step"]))


def worst_group(records: Sequence[Record]) -> Record:
    """Return the record with the best mean of its worst group."""
    return max(records, key=lambda record: (worst(record), -record["step"]))


def utopia(records: Sequence[Record]) -> Record:
    """Return the record nearest to U, where U_g is the best mean of group g over all records.

    Reference: MEDFAIR, Zong et al., ICLR 2023.
    """
    # A group whose masks are all empty has a score only where something was predicted.
    names = set.intersection(*(set(record["groups"]) for record in records))
    best = {name: max(record["groups"][name] for record in records) for name in names}

    def distance(record: Record) -> float:
        return math.dist([record["groups"][name] for name in names], [best[name] for name in names])

    return min(records, key=lambda record: (distance(record), -record["overall"], record["step"]))


RULES: dict[str, Rule] = {"overall": overall, "worst_group": worst_group, "utopia": utopia}


def preserved_steps(records: Sequence[Record], recent: int = RECENT) -> set[int]:
    """Return the steps to keep on disk: the newest, each rule's selection, and all that no other step dominates.

    With these, every rule selects, now and later, the record that it would select from all records.
    """
    steps = set(sorted(record["step"] for record in records)[-recent:])
    steps |= {rule(records)["step"] for rule in RULES.values()}
    steps |= {r["step"] for r in records if not any(_dominates(other, r) for other in records)}
    return steps


def worst(record: Record) -> float:
    """Return the mean of the worst group; the overall mean without groups."""
    return float(min(record["groups"].values(), default=record["overall"]))


def _dominates(a: Record, b: Record) -> bool:
    """Return whether a is better than b in every group that both have."""
    names = a["groups"].keys() & b["groups"].keys()
    return bool(names) and all(a["groups"][name] > b["groups"][name] for name in names)
