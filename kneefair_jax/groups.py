"""Attribute columns -> groups: bins, marginals, intersections, membership matrix, counts.

A group is named by what its members share: `sex=female` or `sex=female,race=Black`.
Cases whose attribute is missing form a level of their own, called `missing`; it is reported, and it never
becomes part of another group.
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
        index: i32[N], the group of each row, or `UNKNOWN` where it belongs to none.
    """

    attributes: tuple[str, ...]
    names: tuple[str, ...]
    index: np.ndarray  # type: ignore[assignment]  # hides tuple.index, which nobody needs here

    @property
    def counts(self) -> np.ndarray:
        """i64[G], the rows of each group."""
        return np.bincount(self.index[self.index != UNKNOWN], minlength=len(self.names))


def binned(values: pd.Series, edges: Sequence[float]) -> pd.Series:
    """Numbers -> ordered levels; edges 50 and 64 give `<=50`, `51-64`, `>=65`.

    Those names are for whole numbers; where a value or an edge is not whole, they are `<=50`, `50-64`, `>64`.

    Args:
        values: numbers; NaN becomes the level `missing`.
        edges: ascending upper ends, each belonging to the bin that it closes.

    Raises:
        InputError: there are no edges, or they do not ascend.
    """
    edges = list(edges)
    if not all(isinstance(edge, int | float) for edge in edges):
        raise InputError(f"bins {edges} of {values.name}: give numbers")
    if not edges or any(low >= high for low, high in pairwise(edges)):
        raise InputError(f"bins {edges} of {values.name}: give one or more ascending numbers")
    numbers = values.astype(float)
    whole = all(float(number).is_integer() for number in [*edges, *numbers.dropna()])

    def text(edge: float) -> str:
        return f"{edge:g}"

    names = [f"<={text(edges[0])}"]
    if whole:  # ages in years: people read 51-64, not (50, 64]
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
    """Strings -> an ordered categorical column, `missing` last and only where it occurs.

    Args:
        values: strings; empty, NaN and `missing` all mean missing.
        order: the levels in the order to show them in; sorted by name if absent.

    Raises:
        ValueError: a level is not in `order`, so that its rows would belong to no group.
    """
    filled = values.astype(object).where(values.notna() & (values.astype(str).str.strip() != ""), MISSING)
    filled = filled.astype(str).str.strip()
    found = set(filled)
    if order and (left_out := found - {*order, MISSING}):
        raise ValueError(f"levels {sorted(left_out)} of {values.name} are not in the order {list(order)}")
    levels = [level for level in (order or sorted(found - {MISSING})) if level in found]
    if MISSING in found:
        levels.append(MISSING)
    return pd.Series(pd.Categorical(filled, categories=levels, ordered=True), index=values.index)


def partition(cases: pd.DataFrame, attributes: Sequence[str], *, missing_as_level: bool = False) -> Partition:
    """The groups of one attribute, or of the intersection of several, as they occur in the table.

    Args:
        cases: a table whose `attributes` are categorical columns.
        attributes: one column, or several for their intersection.
        missing_as_level: True lists rows with a missing attribute as groups named `...=missing`; False, for
            mitigation, leaves them `UNKNOWN`.

    Returns:
        Groups in the order of their levels, the first attribute slowest; only those with a row.
    """
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


def indexed(cases: pd.DataFrame, like: Partition) -> np.ndarray:
    """The rows of another table in the groups of a partition, i32[N]; `UNKNOWN` where it has no such group."""
    there = partition(cases, like.attributes)
    number = {name: g for g, name in enumerate(like.names)}
    places = np.array([*(number.get(name, UNKNOWN) for name in there.names), UNKNOWN], np.int32)
    return places[there.index]


def partitions(cases: pd.DataFrame, attributes: Sequence[str], intersections: bool = True) -> list[Partition]:
    """Return what a report shows: every attribute alone, then every pair. Missing values are levels here.

    Args:
        cases: a table whose `attributes` are categorical columns.
        attributes: the columns.
        intersections: whether pairs are among them.
    """
    pairs = combinations(attributes, 2) if intersections else ()
    subsets = [*((attribute,) for attribute in attributes), *pairs]
    return [partition(cases, subset, missing_as_level=True) for subset in subsets]


def is_missing(name: str) -> bool:
    """Whether a group is one of cases with a missing attribute: a level of its name is `missing`."""
    return any(part.partition("=")[2] == MISSING for part in name.split(","))


def why_unranked(name: str, patients: int, minimum: int) -> str | None:
    """Return why a group is shown but not ranked; None where it is ranked."""
    if is_missing(name):
        return "not a group: unknown"
    return f"too few to rank (n < {minimum})" if patients < max(minimum, 1) else None


def membership(index: np.ndarray, groups: int) -> np.ndarray:
    """Group indices i32[N] -> f32[N, groups] of zeros and ones; `UNKNOWN` rows are all zero."""
    return (index[:, None] == np.arange(groups)).astype(np.float32)
