"""Find groups that are too small for a run's report to rank, with remedies, and count the void pixels of each group."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kneefair_jax import cohort as cohorts
from kneefair_jax import groups
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.errors import InputError

# Folds of a cross-validation to propose.
FOLDS = 5
# Test fractions to try lie below this, in steps of 0.01.
LARGEST_TEST_FRACTION = 0.5


@dataclass(frozen=True)
class Remedy:
    """A way to test enough patients of a group.

    Attributes:
        kind: `folds` tests every patient, `fractions` draws the smallest test split that is large enough, `merge` joins
            levels of the attribute.
        change: such as `config.data.folds=5` or `merging race=A and race=B`.
        patients: tested patients of the group, or of the merged levels, with this remedy.
    """

    kind: Literal["folds", "fractions", "merge"]
    change: str
    patients: int


@dataclass(frozen=True)
class SmallGroup:
    """A group with fewer tested patients than ranking needs.

    Attributes:
        group: its name.
        tested: patients in the report: those in the test split; with folds, all of them.
        patients: of the cohort.
        minimum: patients that ranking needs.
        remedies: those that reach the minimum; empty if only more patients would help.
    """

    group: str
    tested: int
    patients: int
    minimum: int
    remedies: tuple[Remedy, ...]


def small_groups(cohort: Cohort, data: ConfigDict, minimum: int) -> list[SmallGroup]:
    """Return the groups of each attribute that the report will show but not rank.

    Args:
        cohort: in splits.
        data: the config's `data` section, from which the cohort was loaded.
        minimum: `report.min_group_patients`.
    """
    cases = cohort.cases
    all_rows = np.ones(len(cases), bool)
    in_test = all_rows if data.folds else (cases["split"] == "test").to_numpy()
    partitions = [groups.partition(cases, [attribute]) for attribute in cohort.attributes]
    patients, tested = (
        {name: n for part in partitions for name, n in _patients(cases, part, rows).items()}
        for rows in (all_rows, in_test)
    )
    remedies: dict[str, list[Remedy]] = {name: [] for name, n in tested.items() if n < minimum}
    if not data.folds:
        ignore_split = "config.data.split_column='' and " if "split" in cohort.source.cases else ""
        possible = [name for name in remedies if patients[name] >= minimum]
        for name in possible:
            change = f"{ignore_split}config.data.folds={FOLDS}"
            remedies[name].append(Remedy("folds", change, patients[name]))
        for name, (fractions, n) in _larger_test(cases, partitions, possible, data, minimum).items():
            change = f"{ignore_split}config.data.fractions={fractions}"
            remedies[name].append(Remedy("fractions", change, n))
    for part in partitions:
        for name, remedy in _merged(cases, part, in_test, tested, minimum, data.get("bins") or ()).items():
            remedies[name].append(remedy)
    return [
        SmallGroup(name, tested[name], patients[name], minimum, tuple(changes))
        for name, changes in remedies.items()
    ]


def lines(small: Sequence[SmallGroup]) -> Iterator[str]:
    """Yield a note on each group of `small_groups`."""
    for group in small:
        remedies = "; ".join(f"{remedy.change} would test {remedy.patients}" for remedy in group.remedies)
        yield (
            f"note: {groups.display_label(group.group)}: {group.tested} of {group.patients} patients are tested, fewer "
            f"than the {group.minimum} that ranking needs; {remedies or 'only more patients would help'}"
        )


def _patients(cases: pd.DataFrame, part: groups.Partition, rows: np.ndarray) -> dict[str, int]:
    """Return the number of patients of each group among some rows, bool[N]."""
    return {
        name: cases["patient_id"][rows & (part.index == number)].nunique()
        for number, name in enumerate(part.names)
    }


def _larger_test(
    cases: pd.DataFrame,
    partitions: Sequence[groups.Partition],
    names: Collection[str],
    data: ConfigDict,
    minimum: int,
) -> dict[str, tuple[tuple[float, ...], int]]:
    """Split the patients with larger test fractions; validation keeps its share.

    Returns:
        Group -> the fractions of the smallest split in which it reaches the minimum, and its patients in that split.
    """
    reached: dict[str, tuple[tuple[float, ...], int]] = {}
    attributes = [part.attributes[0] for part in partitions]
    validation = data.fractions[1]
    for percent in range(int(100 * data.fractions[2]) + 1, round(100 * LARGEST_TEST_FRACTION)):
        fractions = (round(1 - validation - percent / 100, 4), validation, percent / 100)
        if len(reached) == len(names) or fractions[0] <= 0:
            break
        try:
            split = cohorts.split(cases.drop(columns="split"), fractions, data.seed, attributes)
        except InputError:  # too few patients for these fractions
            continue
        in_test = (split == "test").to_numpy()
        for part in partitions:
            for name, n in _patients(cases, part, in_test).items():
                if name in names and name not in reached and n >= minimum:
                    reached[name] = (fractions, n)
    return reached


def _merged(
    cases: pd.DataFrame,
    part: groups.Partition,
    in_test: np.ndarray,
    tested: dict[str, int],
    minimum: int,
    bins: Collection[str],
) -> dict[str, Remedy]:
    """Merge a small bin of numbers with its smaller neighbor, and any other small level with all other small levels."""
    small = [name for name in part.names if tested[name] < minimum]
    remedies = {}
    for name in small:
        if part.attributes[0] in bins:
            place = part.names.index(name)
            neighbors = [part.names[k] for k in (place - 1, place + 1) if 0 <= k < len(part.names)]
            joined = {name, *sorted(neighbors, key=lambda neighbor: tested[neighbor])[:1]}
        else:
            joined = set(small)
        members = [number for number, level in enumerate(part.names) if level in joined]
        n = cases["patient_id"][in_test & np.isin(part.index, members)].nunique()
        # Merging all levels of an attribute leaves nothing to compare.
        if 1 < len(joined) < len(part.names) and n >= minimum:
            levels = " and ".join(part.names[number] for number in members)
            remedies[name] = Remedy("merge", f"merging {levels}", n)
    return remedies


def void_of_groups(
    shares: Sequence[float], cases: pd.DataFrame, attributes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Count the void pixels of each group: its scores are about the rest of the pixels.

    Args:
        shares: of each case's pixels that are void, in [0, 1].
        cases: the cohort's table, a row per case.
        attributes: names of its attribute columns.

    Returns:
        Group (`all` first) -> `cases`; `void_cases`, those with a void pixel; `share`, the mean share of void pixels.
        Empty if no case has any.
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


def void_lines(counts: Mapping[str, Mapping[str, float]], of: str) -> Iterator[str]:
    """Yield a line for each group; none without void pixels.

    Args:
        counts: of `void_of_groups`.
        of: "" or the name of the cohort, for the first line.
    """
    if counts:
        yield f"void pixels{of}, excluded from losses and scores (cases with any, mean share of the pixels):"
    for name, group in counts.items():
        yield f"  {groups.display_label(name)}: {group['void_cases']} of {group['cases']} cases, {group['share']:.1%}"
