"""Suppression of small counts in the files of an export: one rule for the model card and for the description.

A count of patients below the minimum is hidden. The sum over splits, over the groups of an attribute, or over those of
a pair of attributes would give a single hidden count by subtraction, so each sum with one gets a second.

Reference: Hundepool et al. (2012), Statistical Disclosure Control, chapter 4, DOI 10.1002/9781118348239.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

MIN_PATIENTS = 10  # if the report does not say
TEST, EXTERNAL, ALL = "test", "external", "all"

type Cell = tuple[str, str]


class Suppression(NamedTuple):
    """The counts of patients that an export hides, by group and split.

    Attributes:
        minimum: the smallest count that is shown.
        small: cells below it, whose scores are hidden too.
        complementary: cells that would give a small one by subtraction.
    """

    minimum: int
    small: frozenset[Cell]
    complementary: frozenset[Cell]

    @property
    def hidden(self) -> frozenset[Cell]:
        """The cells whose count is not shown."""
        return self.small | self.complementary


def suppression(report: Mapping[str, Any]) -> Suppression:
    """Return the hidden counts of a run's report, of its external cohort too.

    Args:
        report: `report.json` of a run. Without groups nothing is hidden.
    """
    minimum = report["cohort"].get("min_group_patients", MIN_PATIENTS)
    cells: dict[Cell, int] = {
        (row["group"], row["split"]): row["patients"] for row in report["cohort"].get("table") or ()
    }
    for split, cohort in ((TEST, report), (EXTERNAL, report.get("external"))):
        for structure in cohort["scores"]["dice"]["structures"].values() if cohort else ():
            for group, entry in structure["groups"].items():
                scored = entry["patients"] or 0
                cells[group, split] = min(
                    filter(None, (scored, cells.get((group, split), scored))), default=0
                )
    return suppress(cells, minimum)


def suppress(cells: Mapping[Cell, int], minimum: int) -> Suppression:
    """Hide counts below the minimum, and the smallest other count of each sum that has a single hidden one.

    Example: of train 22, validation 7 and test 15 with their sum, validation is small and test complementary.

    Args:
        cells: (group, split) -> patients; groups are named as in `groups`. Zeros are shown.
        minimum: the smallest count that is shown.
    """
    counts = {cell: count for cell, count in cells.items() if count}
    small = frozenset(cell for cell, count in counts.items() if count < minimum)
    hidden = set(small)
    sums = _sums(counts)
    is_done = False
    while not is_done:
        is_done = True
        for terms in sums:
            concealed = [cell for cell in terms if cell in hidden]
            visible = [cell for cell in terms if cell not in hidden]
            total = sum(counts[cell] for cell in concealed)
            if visible and concealed and (len(concealed) == 1 or total < minimum):
                hidden.add(min(visible, key=lambda cell: (counts[cell], cell)))
                is_done = False
    return Suppression(minimum, small, frozenset(hidden - small))


def _sums(counts: Mapping[Cell, int]) -> list[list[Cell]]:
    """Return the cells of each sum that a reader knows: a total, if it is a cell, and its terms."""
    sums: dict[tuple[str, ...], list[Cell]] = {}
    for group, split in counts:
        if split != EXTERNAL:
            sums.setdefault(("splits", group), []).append((group, split))
        levels = re.split(r",(?=[^,=]+=)", group)
        attributes = ",".join(level.partition("=")[0] for level in levels)
        sums.setdefault(("groups", attributes, split), []).append((group, split))
        for level in levels if len(levels) > 1 else ():
            total = [(level, split)] if (level, split) in counts else []
            sums.setdefault(("levels", attributes, level, split), total).append((group, split))
    return [terms for key, terms in sums.items() if key[0] != "splits" or (key[1], ALL) in terms]
