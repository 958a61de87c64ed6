"""Groups from attribute columns: bins, single attributes, intersections, membership matrix, counts.

The name of a group lists the levels that its members share: `sex=female` or `sex=female,race=Black`.
Cases with a missing attribute form a level of their own, `missing`; reports show it, and it is never part of another
group.
"""

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax.errors import InputError

MISSING = "missing"
UNKNOWN = -1
# Columns that may explain a gap between groups, where a table has them.
COVARIATES = ("age", "bmi", "kl", "site")


class Partition(NamedTuple):
    """Disjoint groups of the rows of a table.

    Attributes:
        attributes: the columns that define the groups.
        names: the G groups' names, `attribute=level` joined by commas.
        index: i32[N], the group of each row, or `UNKNOWN` where it has none.
    """

    attributes: tuple[str, ...]
    names: tuple[str, ...]
    index: np.ndarray  # type: ignore[assignment]  # hides tuple.index, which is not used

    @property
    def counts(self) -> np.ndarray:
        """i64[G], the rows of each group."""
        return np.bincount(self.index[self.index != UNKNOWN], minlength=len(self.names))


def bin_values(values: pd.Series, edges: Sequence[float]) -> pd.Series:
    """Bin numbers into ordered levels; edges 50 and 64 give `<=50`, `51-64`, `>=65`.

    These names are for whole numbers; if a value or an edge is not whole, the names are `<=50`, `50-64`, `>64`.

    Args:
        values: numbers; NaN becomes the level `missing`.
        edges: ascending upper ends of the bins, inclusive.

    Raises:
        InputError: there are no edges, or they do not ascend.
    """
    edges = list(edges)
    if not all(isinstance(edge, int | float) for edge in edges):
        raise InputError(f"bins {edges} of {values.name}: give numbers")
    if not edges or any(low >= high for low, high in pairwise(edges)):
        raise InputError(f"bins {edges} of {values.name}: give one or more ascending numbers")
    numbers = values.astype(float)
    is_whole = all(float(number).is_integer() for number in [*edges, *numbers.dropna()])

    def text(edge: float) -> str:
        return f"{edge:g}"

    names = [f"<={text(edges[0])}"]
    if is_whole:  # ages in years: 51-64, not (50, 64]
        names += [
            f"{text(low + 1)}-{text(high)}" if low + 1 < high else text(high) for low, high in pairwise(edges)
        ]
        names += [f">={text(edges[-1] + 1)}"]
    else:
        names += [f"{text(low)}-{text(high)}" for low, high in pairwise(edges)]
        names += [f">{text(edges[-1])}"]
    code = np.searchsorted(edges, numbers, side="left")
    levels = np.array([*names, MISSING], dtype=object)[np.where(np.isnan(numbers), len(names), code)]
    return categorical(pd.Series(levels, index=values.index), names)


def categorical(values: pd.Series, order: Sequence[str] | None = None) -> pd.Series:
    """Convert strings to an ordered categorical column, with `missing` last if it occurs.

    Args:
        values: strings; empty, NaN and `missing` all mean missing.
        order: the levels in display order; sorted by name if None.

    Raises:
        ValueError: a level is not in `order`, so that its rows would belong to no group.
    """
    filled = values.astype(object).where(values.notna() & (values.astype(str).str.strip() != ""), MISSING)
    filled = filled.astype(str).str.strip()
    present = set(filled)
    if order and (unlisted := present - {*order, MISSING}):
        raise ValueError(f"levels {sorted(unlisted)} of {values.name} are not in the order {list(order)}")
    levels = [level for level in (order or sorted(present - {MISSING})) if level in present]
    if MISSING in present:
        levels.append(MISSING)
    return pd.Series(pd.Categorical(filled, categories=levels, ordered=True), index=values.index)


def partition(cases: pd.DataFrame, attributes: Sequence[str], *, missing_as_level: bool = False) -> Partition:
    """Return the groups of one attribute, or of the intersection of several, that occur in the table.

    Args:
        cases: a table whose `attributes` are categorical columns.
        attributes: one column, or several for their intersection; without any, all rows are one group, `all`.
        missing_as_level: whether rows with a missing attribute form groups named `...=missing`; if not, as for
            mitigation, their group is `UNKNOWN`.

    Returns:
        Groups in the order of their levels, the first attribute slowest; only those with a row.
    """
    if not attributes:
        return Partition((), ("all",), np.zeros(len(cases), np.int32))
    names: list[str] = []
    index = np.full(len(cases), UNKNOWN, np.int32)
    grouped = cases.groupby(list(attributes), observed=True, sort=True).indices
    for levels, rows in grouped.items():
        levels = levels if isinstance(levels, tuple) else (levels,)
        if MISSING in levels and not missing_as_level:
            continue
        index[rows] = len(names)
        names.append(",".join(f"{a}={level}" for a, level in zip(attributes, levels, strict=True)))
    return Partition(tuple(attributes), tuple(names), index)


def group_index(cases: pd.DataFrame, like: Partition) -> np.ndarray:
    """Return the index of each row of another table in the groups of a partition, i32[N]; `UNKNOWN` without a group."""
    own = partition(cases, like.attributes)
    index_of = {name: g for g, name in enumerate(like.names)}
    index = np.array([*(index_of.get(name, UNKNOWN) for name in own.names), UNKNOWN], np.int32)
    group: np.ndarray = index[own.index]
    return group


def partitions(cases: pd.DataFrame, attributes: Sequence[str], intersections: bool = True) -> list[Partition]:
    """Return the partitions of a report, by each attribute and then by each pair; missing values are levels.

    Args:
        cases: a table whose `attributes` are categorical columns.
        attributes: the columns.
        intersections: whether to include the pairs.
    """
    pairs = combinations(attributes, 2) if intersections else ()
    subsets = [*((attribute,) for attribute in attributes), *pairs]
    return [partition(cases, subset, missing_as_level=True) for subset in subsets]


def display_label(label: str) -> str:
    """Replace `<=` and `>=` by `≤` and `≥`; files keep the ASCII forms."""
    return label.replace("<=", "≤").replace(">=", "≥")


def is_missing(name: str) -> bool:
    """Whether a level in the name of a group is `missing`."""
    return any(part.partition("=")[2] == MISSING for part in name.split(","))


def unranked_reason(name: str, patients: int, minimum: int) -> str | None:
    """Return why a report shows a group without ranking it; None if it is ranked."""
    if is_missing(name):
        return "not a group: unknown"
    return f"too few to rank (n < {minimum})" if patients < max(minimum, 1) else None


def membership(index: np.ndarray, groups: int) -> np.ndarray:
    """Convert group indices i32[N] to f32[N, groups] of zeros and ones; `UNKNOWN` rows are all zero."""
    return np.asarray(index[:, None] == np.arange(groups), np.float32)
