"""The table of cases: who they are and which groups they are in."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import cohort, groups
from kneefair_jax.data import ages, identifiers, metadata
from kneefair_jax.errors import InputError
from kneefair_jax.fairness.patient_table import AREAS, IDENTIFIERS, MEASURES
from kneefair_jax.report.text import formatting

OPTIONS = metadata.Options("--attributes", "--bins", "--allow-similar-ids")


class Cohort(NamedTuple):
    """Cases to audit.

    Attributes:
        path: the table they come from.
        frame: a row per case, on the line in the table: `case_id`, `patient_id` (strings) and categorical attributes.
        attributes: columns of `frame` to report by.
        confounders: on the index of `frame`, what the adjusted model adjusts for beside the attributes.
        spacing: f32[N, 2], mm per pixel as the table has it; NaN where it does not say.
        paths: of each row, as the table has them: `mask` and `image`, "" where it has none.
        notes: what a reader of the numbers should know.
        excluded: (reason, cases of the table that are not in `frame`).
    """

    path: Path
    frame: pd.DataFrame
    attributes: tuple[str, ...]
    confounders: pd.DataFrame
    spacing: np.ndarray
    paths: pd.DataFrame
    notes: list[str]
    excluded: tuple[tuple[str, int], ...] = ()

    def of(self, cases: Sequence[str], reason: str = "") -> "Cohort":
        """Some of the cases, in the table's order; why the others are excluded, for the flow of patients."""
        kept = self.frame["case_id"].isin(cases).to_numpy()
        return self._replace(
            excluded=self.excluded + (((reason, int((~kept).sum())),) if not kept.all() else ()),
            frame=_without_empty_levels(self.frame[kept], self.attributes),
            confounders=self.confounders[kept],
            spacing=self.spacing[kept],
            paths=self.paths[kept],
        )


def read(
    path: Path,
    attributes: Sequence[str],
    bins: Mapping[str, Sequence[float]],
    split: str | None = None,
    allow_similar: bool = False,
) -> Cohort:
    """`metadata.csv`: `case_id`, the attributes, and optionally `patient_id`, `mask`, `image`, `spacing_mm`, `split`.

    Args:
        path: the table.
        attributes: its columns to report by.
        bins: attribute -> ascending edges, for numbers.
        split: the value of its column `split` to keep; None for all rows.
        allow_similar: whether identifiers and levels may look alike.

    Raises:
        InputError: the table cannot be used; the first five problems, by row, and how many there are.
    """
    if not os.path.lexists(path):
        raise InputError(f"{path}: no such file; give the table of cases as --metadata")
    return describe(metadata.read(path), path, attributes, bins, split, allow_similar)


def describe(
    source: metadata.Table,
    path: Path,
    attributes: Sequence[str],
    bins: Mapping[str, Sequence[float]],
    split: str | None = None,
    allow_similar: bool = False,
) -> Cohort:
    """The same for a table that was read."""
    options = OPTIONS._replace(allow_similar=allow_similar)
    check_words(source.cells, path, ("split",), options)
    table, of_ages = metadata.with_ages(of_split(source.cells, path, split), path, attributes)
    _require_columns(table, path, attributes, bins)
    notes = [*source.notes, *metadata.word_notes(source.raw.loc[table.index], attributes)]
    if "patient_id" not in table:
        table = table.assign(patient_id=table["case_id"])
        notes.append(
            f"{path.name} has no column patient_id, so every case counts as a patient of its own; where a patient has "
            "several cases (two knees, two visits), the intervals are too short"
        )
    problems: list[metadata.Problem] = []
    metadata.check_identifiers(table, problems, ("case_id", "patient_id"), options)
    columns = {name: table[name] for name in ("case_id", "patient_id")}
    for name in attributes:
        columns[name] = metadata.attribute(table[name], bins.get(name), problems, options)
        metadata.check_merged(table, name, problems)
    spacing = metadata.spacings(table, problems)
    confounders = metadata.confounders(table, attributes, problems, options)
    metadata.refuse(path, problems)
    frame = pd.DataFrame(columns)
    if allow_similar:
        notes += _similar_notes(frame, attributes)
    paths = pd.DataFrame({name: table.get(name, "") for name in ("mask", "image")}, index=table.index)
    return Cohort(
        path,
        frame,
        tuple(attributes),
        confounders,
        spacing,
        paths,
        notes
        + of_ages
        + ages.implausible_age_notes(table)
        + cohort.varying_attributes(frame, attributes)
        + cohort.similar_levels(frame, attributes),
        of_other_splits(source.cells, table),
    )


def _similar_notes(frame: pd.DataFrame, attributes: Sequence[str]) -> list[str]:
    """Notes on the identifiers and levels that look alike, which `--allow-similar-ids` keeps apart."""
    notes = []
    for name in ("patient_id", "case_id", *attributes):
        form = identifiers.canonical if name in attributes else identifiers.canonical_identifier
        values = [value for value in frame[name].astype(str).unique() if value != groups.MISSING]
        alike = identifiers.similar_identifiers(values, form)
        if alike and not (name == "case_id" and frame["case_id"].equals(frame["patient_id"])):
            pairs = formatting.amount(sum(math.comb(len(group), 2) for group in alike), "pair")
            noun = {"patient_id": "patients", "case_id": "cases"}.get(name, "groups")
            notes.append(
                f"--allow-similar-ids: {pairs} of {name} {'looks' if pairs == '1 pair' else 'look'} alike (such as "
                f"{alike[0][0]!r} and {alike[0][1]!r}), counted as different {noun}"
            )
    return notes


def check_words(
    table: pd.DataFrame, path: Path, names: Sequence[str], options: metadata.Options = OPTIONS
) -> None:
    """Refuses columns in which one name, of a split or a structure, is written in several ways."""
    if not options.allow_similar:
        problems: list[metadata.Problem] = []
        for name in names:
            if name in table:
                cells = dict(table[name].items())
                problems += identifiers.similar(
                    cells, name, name, options.similar, form=identifiers.canonical
                )
        metadata.refuse(path, problems)


def of_split(table: pd.DataFrame, path: Path, split: str | None) -> pd.DataFrame:
    """The rows of one split; all, where no split is asked for."""
    if split is None:
        return table
    found = sorted(set(table.get("split", ())))
    if split not in found:
        has = f"its splits are {', '.join(found)}" if found else "it has no column split"
        raise InputError(f"{path}: --split {split!r} is not in it; {has}")
    return table[table["split"] == split]


def of_other_splits(table: pd.DataFrame, kept: pd.DataFrame) -> tuple[tuple[str, int], ...]:
    """Return why and how many cases of a table are not among those of one split, for `Cohort.excluded`.

    Args:
        table: with `case_id`, a row per case or several; with `split`, if rows are cut.
        kept: its rows of one split.
    """
    if len(kept) == len(table):
        return ()
    cases = table[["case_id", "split"]].drop_duplicates()
    return (("another split", len(cases) - kept["case_id"].nunique()),)


def _require_columns(
    table: pd.DataFrame, path: Path, attributes: Sequence[str], bins: Mapping[str, Sequence[float]]
) -> None:
    columns = ", ".join(table.columns)
    if "case_id" not in table:
        raise InputError(f"{path}: column 'case_id' is missing; there are: {columns}")
    if not attributes:
        raise InputError("--attributes names nothing; give the columns to report by, such as sex race")
    taken = {*IDENTIFIERS, *MEASURES, *AREAS, "mask", "image", "spacing_mm"}
    for name in attributes:
        if name not in table or name in taken:
            there = ", ".join(column for column in table.columns if column not in taken) or "none"
            raise InputError(
                f"{path}: --attributes names {name!r}, which is not an attribute column; there are: {there}"
            )
        if list(attributes).count(name) > 1:
            raise InputError(f"--attributes names {name!r} twice")
    if unknown := sorted(set(bins) - set(attributes)):
        raise InputError(f"--bins names {unknown[0]!r}, which is not among --attributes")


def _without_empty_levels(frame: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].cat.remove_unused_categories() for name in attributes})


def ordered(frame: pd.DataFrame, levels: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Attributes with their levels in a given order, where one is known."""
    return frame.assign(
        **{
            name: groups.categorical(frame[name].astype(str), [*order])
            for name, order in levels.items()
            if name in frame and set(frame[name].astype(str)) <= {*order, groups.MISSING}
        }
    )
