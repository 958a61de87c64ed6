"""Read the table of cases: their patients, groups, pixel spacings and paths."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import cohort, groups
from kneefair_jax.audit.mask_faults import REFERENCE
from kneefair_jax.audit.options import CaseOptions
from kneefair_jax.data import (
    ages,
    cell_text,
    column_names,
    identifiers,
    label_map,
    metadata,
    typed_tables,
    workbook,
)
from kneefair_jax.errors import InputError
from kneefair_jax.fairness.patient_table import AREAS, IDENTIFIERS, MEASURES
from kneefair_jax.report.text import formatting

OPTIONS = metadata.Options("--attributes", "--bins", "--allow-similar-ids")
EXCLUDED = "excluded.csv"
# What to do about cases without scores, by on_missing.
_REMEDY = {
    "stop": "add their rows, or exclude these cases for all models with --on-missing skip",
    "zero": "--on-missing zero needs masks: audit them (--truth and --pred), or add rows of these cases with dice 0 "
    "(and iou 0, nsd 0) and empty distances",
}


class Excluded(NamedTuple):
    """A row of `excluded.csv`: a case that is not scored, or a file that belongs to no case.

    Attributes:
        case_id: the case; "" for a file.
        mask: `reference` or the name of a model, where the reason is a mask.
        reason: why it is excluded.
        file: name of the file that belongs to no case.
    """

    case_id: str
    mask: str
    reason: str
    file: str = ""


class Cohort(NamedTuple):
    """Cases to audit.

    Attributes:
        path: the table of the cases.
        frame: a row per case, indexed by its row in the table: `case_id`, `patient_id` (strings) and categorical
            attributes.
        listed: the rows of `frame` before any case was excluded.
        attributes: columns of `frame` to report by.
        confounders: on the index of `frame`, what the adjusted model adjusts for beside the attributes.
        spacing: f32[N, 2], mm per pixel as the table states it; NaN where it states none.
        paths: of each row, as the table states them: `mask` and `image`, "" where it states none.
        knees: the same of what measurements need: `side` and `magnification`.
        notes: for the reader of the numbers.
        excluded: the cases of the table that are not in `frame`, a row per missing mask, and files without a case.
        annotated: the cells of the column of annotated structures; None without such a column.
    """

    path: Path
    frame: pd.DataFrame
    listed: pd.DataFrame
    attributes: tuple[str, ...]
    confounders: pd.DataFrame
    spacing: np.ndarray
    paths: pd.DataFrame
    knees: pd.DataFrame
    notes: list[str]
    excluded: tuple[Excluded, ...] = ()
    annotated: pd.Series | None = None

    def of(self, cases: Sequence[str], excluded: Iterable[Excluded] = ()) -> "Cohort":
        """Return some of the cases, in the table's order; `excluded` says why the others are not scored."""
        is_included = self.frame["case_id"].isin(cases).to_numpy()
        return self._replace(
            excluded=(*self.excluded, *excluded),
            frame=_without_empty_levels(self.frame[is_included], self.attributes),
            confounders=self.confounders[is_included],
            spacing=self.spacing[is_included],
            paths=self.paths[is_included],
            knees=self.knees[is_included],
            annotated=None if self.annotated is None else self.annotated[is_included],
        )

    def unmatched(self, files: Sequence[str], mask: str, source: str) -> list[Excluded]:
        """Note and return files that belong to no case.

        Args:
            files: their names.
            mask: `reference` or the name of a model.
            source: what matches none of them, such as `no row of metadata.csv`.
        """
        noun = "reference mask" if mask == REFERENCE else f"prediction by {mask}".removesuffix(" by ")
        if files:
            self.notes.append(
                f"excluded, since {source} matches them: {len(files)} x {noun} ({formatting.examples(files)}; "
                f"all in {EXCLUDED})"
            )
        return [Excluded("", mask, f"{source} matches the {noun}", file) for file in files]


def read(
    source: Path | pd.DataFrame, attributes: Sequence[str], options: CaseOptions, annotated: str = ""
) -> Cohort:
    """Read the table of cases.

    Its columns are `case_id`, the attributes, and optionally `patient_id`, `mask`, `image`, `spacing_mm` and `split`.

    Args:
        source: the table, a file or a data frame, whose rows are counted from 0.
        attributes: its columns to report by.
        options: which cases to read.
        annotated: the column of annotated structures; "" for none.

    Raises:
        InputError: the table cannot be used; the first five problems, by row, and their number.
    """
    if isinstance(source, pd.DataFrame):
        return describe(
            typed_tables.read_as_text(source)[0], typed_tables.FRAME, attributes, options, annotated
        )
    if not workbook.exists(source):
        raise InputError(f"{source}: no such file; give the table of cases as --metadata")
    return describe(metadata.read(source), source, attributes, options, annotated)


def describe(
    source: metadata.Table, path: Path, attributes: Sequence[str], options: CaseOptions, annotated: str = ""
) -> Cohort:
    """Check the table of cases, and return the cohort.

    Args:
        source: the table as text.
        path: its file, for messages.
        attributes: its columns to report by.
        options: which cases to read.
        annotated: as for `read`.

    Raises:
        InputError: as for `read`.
    """
    bins, names = options.bins, OPTIONS._replace(allow_similar=options.allow_similar_ids)
    check_words(source.cells, path, ("split",), names)
    rows_of_split = of_split(source.cells, path, options.split)
    table, of_ages = metadata.with_ages(rows_of_split, path, attributes)
    _require_columns(table, path, attributes, bins)
    notes = [*source.notes, *metadata.word_notes(source.raw.loc[table.index], attributes)]
    if "patient_id" not in table:
        table = table.assign(patient_id=table["case_id"])
        notes.append(
            f"{path.name} has no column patient_id, so every case counts as a patient of its own; where a patient has "
            "several cases (two knees, two visits), the intervals are too short"
            f"{column_names.suggestion('patient_id', source.cells.columns)}"
        )
    problems: list[metadata.Problem] = []
    frame, confounders, spacing = metadata.case_columns(
        table, attributes, bins, problems, cell_text.IDENTIFIERS, names
    )
    metadata.refuse(path, problems)
    if options.allow_similar_ids:
        notes += _similar_notes(frame, attributes)
    paths, knees = (
        pd.DataFrame({name: table.get(name, "") for name in names}, index=table.index)
        for names in (("mask", "image"), ("side", "magnification"))
    )
    return Cohort(
        path,
        frame,
        frame,
        tuple(attributes),
        confounders,
        spacing,
        paths,
        knees,
        notes
        + of_ages
        + ages.implausible_age_notes(table)
        + cohort.varying_attributes(frame, attributes)
        + cohort.similar_levels(frame, attributes),
        of_other_splits(source.cells, table),
        _annotated(rows_of_split, path, annotated),
    )


def _annotated(table: pd.DataFrame, path: Path, name: str) -> pd.Series | None:
    """Return the cells of the column that `--annotated` names."""
    if not name:
        return None
    if name not in table:
        raise InputError(
            f"{path}: --annotated names {name!r}, which is not a column; the columns are {', '.join(table.columns)}"
            f"{column_names.suggestion(name, table.columns)}"
        )
    return table[name]


def _similar_notes(frame: pd.DataFrame, attributes: Sequence[str]) -> list[str]:
    """Return notes on the identifiers and levels that look alike, which `--allow-similar-ids` counts as different."""
    notes = []
    for name in ("patient_id", "case_id", *attributes):
        form = identifiers.canonical if name in attributes else identifiers.canonical_identifier
        values = [value for value in frame[name].astype(str).unique() if value != groups.MISSING]
        alike = identifiers.similar_identifiers(values, form)
        if alike and not (name == "case_id" and frame["case_id"].equals(frame["patient_id"])):
            pairs = [f"{a!r} and {b!r}" for group in alike for a, b in combinations(group, 2)]
            count = (
                f"{formatting.amount(len(pairs), 'pair')} of {name} {'looks' if len(pairs) == 1 else 'look'}"
            )
            noun = {"patient_id": "patients", "case_id": "cases"}.get(name, "groups")
            notes.append(
                f"--allow-similar-ids: {count} alike ({formatting.examples(pairs)}), counted as different {noun}"
            )
    return notes


def check_words(
    table: pd.DataFrame, path: Path, names: Sequence[str], options: metadata.Options = OPTIONS
) -> None:
    """Refuse columns in which one name, of a split or a structure, is written in several ways."""
    if not options.allow_similar:
        problems: list[metadata.Problem] = []
        for name in names:
            if name in table:
                cells = dict(table[name].items())
                problems += identifiers.similar(
                    cells, name, name, options.similar, form=identifiers.canonical
                )
        metadata.refuse(path, problems)


def check_models(table: pd.DataFrame, path: Path) -> None:
    """Refuse a score table whose rows of a case differ by a column such as `vendor`, in place of `model`."""
    keys = [name for name in ("case_id", "structure") if name in table]
    if "model" in table or not table.duplicated(keys).any():
        return
    near = column_names.synonyms("model", table.columns)
    if names := [name for name in near if not table.duplicated([*keys, name]).any()]:
        raise InputError(
            f"{path}: has several rows of a case and structure but no column 'model'; rename {names[0]!r} to 'model' "
            "if its values are the compared models"
        )


def of_split(table: pd.DataFrame, path: Path, split: str | None) -> pd.DataFrame:
    """Return the rows of one split; all rows if `split` is None."""
    if split is None:
        return table
    splits = sorted(set(table.get("split", ())))
    if split not in splits:
        hint = f"its splits are {', '.join(splits)}" if splits else "it has no column split"
        raise InputError(f"{path}: --split {split!r} is not in it; {hint}")
    return table[table["split"] == split]


def of_other_splits(table: pd.DataFrame, split: pd.DataFrame) -> tuple[Excluded, ...]:
    """Return the cases that are not in one split.

    Args:
        table: with `case_id`, one or several rows per case.
        split: its rows of one split.
    """
    case_ids = table.loc[~table["case_id"].isin(split["case_id"]), "case_id"]
    return tuple(Excluded(case_id, "", "another split") for case_id in case_ids.unique())


def with_scores(cohort: Cohort, numbers: pd.DataFrame, path: Path, on_missing: str) -> Cohort:
    """Return the cases with scores by every model; refuse the others, or note and exclude them for all models.

    Args:
        cohort: all cases.
        numbers: `case_id` and `model` by row of the table of scores.
        path: the table of scores, for messages.
        on_missing: of `options.CaseOptions`.

    Raises:
        InputError: a case has no scores, or is not in the cohort.
    """
    listed = list(cohort.frame["case_id"])
    if unknown := list(dict.fromkeys(numbers.loc[~numbers["case_id"].isin(listed), "case_id"])):
        twins = identifiers.across(listed, unknown[:1])
        hint = f"which has {twins[0][0]!r}; write them alike" if twins else "add their rows"
        raise InputError(
            f"{path}: {formatting.amount(len(unknown), 'case')} ({label_map.first_values(unknown)}) not in "
            f"{cohort.path}; {hint}"
        )
    excluded = []
    for model, of_model in numbers.groupby("model", sort=False)["case_id"]:
        if without := cohort.frame.loc[~cohort.frame["case_id"].isin(of_model), "case_id"].tolist():
            by = f" by {model}" if model else ""
            text = f"no scores{by} for {len(without)} of {len(listed)} cases"
            if on_missing != "skip":
                raise InputError(f"{path}: {text} ({label_map.first_values(without)}); {_REMEDY[on_missing]}")
            cohort.notes.append(f"{text} ({formatting.examples(without)}): excluded")
            excluded += [Excluded(case, str(model), "no scores") for case in without]
    scored = set(listed) - {entry.case_id for entry in excluded}
    if not scored:
        raise InputError(f"{path}: no case has scores by every model; write the case ids of all models alike")
    return cohort.of(list(scored), excluded)


def _require_columns(
    table: pd.DataFrame, path: Path, attributes: Sequence[str], bins: Mapping[str, Sequence[float]]
) -> None:
    columns = ", ".join(table.columns)
    if "case_id" not in table:
        near = column_names.suggestion("case_id", table.columns)
        raise InputError(f"{path}: column 'case_id' is missing{near}; there are: {columns}")
    if not attributes:
        raise InputError("--attributes names nothing; give the columns to report by, such as sex race")
    reserved = {*IDENTIFIERS, *MEASURES, *AREAS, "mask", "image", "spacing_mm"}
    for name in attributes:
        if name not in table or name in reserved:
            columns_left = [column for column in table.columns if column not in reserved]
            candidates, near = ", ".join(columns_left) or "none", column_names.suggestion(name, columns_left)
            raise InputError(
                f"{path}: --attributes names {name!r}, which is not an attribute column{near}; there are: "
                f"{candidates}"
            )
        if list(attributes).count(name) > 1:
            raise InputError(f"--attributes names {name!r} twice")
    if unknown := sorted(set(bins) - set(attributes)):
        raise InputError(f"--bins names {unknown[0]!r}, which is not among --attributes")


def _without_empty_levels(frame: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].cat.remove_unused_categories() for name in attributes})


def with_level_order(frame: pd.DataFrame, levels: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return the frame with the levels of its attributes in a stated order, if all of them are in it."""
    return frame.assign(
        **{
            name: groups.categorical(frame[name].astype(str), [*order])
            for name, order in levels.items()
            if name in frame and set(frame[name].astype(str)) <= {*order, groups.MISSING}
        }
    )
