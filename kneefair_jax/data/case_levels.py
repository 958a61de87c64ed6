"""The cases and the levels of a source: those that a config selects, and attributes as groups."""

from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kneefair_jax import groups
from kneefair_jax.data import metadata
from kneefair_jax.data.source import Files, Source, read_subset
from kneefair_jax.errors import InputError


def select_levels(source: Source, attribute: str, levels: tuple[str, ...], data: ConfigDict) -> Source:
    """Return a source with the cases of some levels of an attribute; it excludes all other cases.

    Raises:
        InputError: the cases do not have the attribute, or no case has a level.
    """
    if attribute not in source.cases:
        raise InputError(
            f"config.data.levels: the cases have no {attribute!r}; give one of {list(source.cases)}"
        )
    values = of_attribute(source.cases[attribute], data)
    if absent := [level for level in levels if level not in set(values)]:
        raise InputError(
            f"config.data.levels: no case has {attribute}={absent[0]}; give some of {sorted(set(values))}"
        )
    is_selected = values.isin(levels).to_numpy()
    rows = np.flatnonzero(is_selected)
    why = f"{attribute} is not among data.levels"
    return source._replace(
        cases=_without_empty_levels(source.cases[is_selected].reset_index(drop=True)),
        settings=source.settings | {f"levels of {attribute}": list(levels)},
        read=partial(read_subset, source.read, rows),
        read_native=source.read_native and partial(read_subset, source.read_native, rows),
        files=source.files and partial(_subset_files, source.files, rows),
        excluded=(*source.excluded, *((case, why) for case in source.cases["case_id"][~is_selected])),
    )


def _subset_files(files: Files, subset: np.ndarray, row: int) -> tuple[Path, ...]:
    return files(int(subset[row]))


def of_attribute(values: pd.Series, data: ConfigDict) -> pd.Series:
    """Return an attribute's column as groups: levels unchanged, numbers in the bins of `data.bins`."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values
    name = values.name
    edges = data.get("bins", {}).get(name)
    if edges is None:
        raise InputError(
            f"config.data.attributes: {name!r} holds {values.nunique()} different numbers; "
            f"{metadata.Options().set_bins(str(name))}, or name another attribute"
        )
    return groups.bin_values(values, edges)


def without_cases(source: Source, ids: Collection[str]) -> pd.DataFrame:
    """Return the table without some cases, and without levels that only they have."""
    if not len(source.cases):
        reasons = "".join(f"\n{item}: {why}" for item, why in source.excluded[:5])
        raise InputError(f"all {len(source.excluded)} cases are excluded{reasons and ':'}{reasons}")
    if not ids:
        return source.cases
    return _without_empty_levels(source.cases[~source.cases["case_id"].isin(set(ids))].reset_index(drop=True))


def _without_empty_levels(cases: pd.DataFrame) -> pd.DataFrame:
    columns = cases.select_dtypes("category")
    return cases.assign(**{name: columns[name].cat.remove_unused_categories() for name in columns})
