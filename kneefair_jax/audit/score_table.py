"""Convert a table of scores from any tool to the long per-case table of each model.

Long, as this package writes it: `case_id, structure, dice`, a row per case and structure. Or wide, a row per case, with
a column per score and structure: `case_id, dice_femur, dice_tibia, hd95_mm_femur`. Either may have `patient_id`, the
attributes, `model` (several are compared) and `split`. The background, averages and statistics among the structures
are excluded with a note (`structure_names`). Scores are those of `patient_table.MEASURES`: overlaps in [0, 1],
distances in mm; an empty cell, or NaN, is a structure absent from truth and prediction. If a distance alone is empty,
it is excluded from the means, with a note.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.audit import cases, structure_names
from kneefair_jax.audit.options import CaseOptions
from kneefair_jax.data import (
    ages,
    cell_text,
    column_names,
    identifiers,
    metadata,
    typed_tables,
    workbook,
)
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import patient_table
from kneefair_jax.report.text import formatting

# By how much a share may exceed 1 in float32.
_ROUNDING = 1e-6


class Scores(NamedTuple):
    """The content of a score table.

    Attributes:
        cohort: its cases, with attributes from it or from `--metadata`.
        tables: model -> long per-case table.
        structures: in the order of the table.
    """

    cohort: cases.Cohort
    tables: dict[str, pd.DataFrame]
    structures: tuple[str, ...]


def read(
    source: Path | pd.DataFrame,
    who: Path | pd.DataFrame | None,
    attributes: Sequence[str],
    options: CaseOptions,
) -> Scores:
    """Read and check a table of scores.

    Args:
        source: CSV or parquet, or the table itself, whose rows are counted from 0.
        who: `metadata.csv` with the attributes by `case_id`; None if the table has them itself.
        attributes: columns to report by.
        options: which cases to read; on_missing `skip` excludes cases without scores by a model for every model, `stop`
            and `zero` refuse them.

    Raises:
        InputError: the table cannot be used; the first problems by row.
    """
    path = source if isinstance(source, Path) else typed_tables.FRAME
    table, levels = typed_tables.read_as_text(source)
    text = table.cells
    if "case_id" not in text:
        near = column_names.suggestion("case_id", text.columns)
        raise InputError(f"{path}: column 'case_id' is missing{near}; there are: {', '.join(text.columns)}")
    if options.split is None and len(splits := sorted(set(text.get("split", ())))) > 1:
        raise InputError(f"{path}: holds the splits {', '.join(splits)}; choose one with --split")
    names = metadata.Options(similar="--allow-similar-ids", allow_similar=options.allow_similar_ids)
    cases.check_words(text, path, ("split", "model", "structure"), names)
    all_rows, text = text, cases.of_split(text, path, options.split)
    word_notes = _word_notes(table.raw.loc[text.index])
    numbers, structure_notes = read_scores(text, path)
    alike = identifiers.similar_identifiers(list(dict.fromkeys(numbers["structure"])), identifiers.canonical)
    if alike and not options.allow_similar_ids:
        raise InputError(
            f"{path}: the structures {' and '.join(alike[0])} look like the same one; write them alike"
        )
    cohort, confounder_notes = _cohort(table, all_rows, text, who, path, attributes, options)
    if who is not None:
        structure_notes = [*table.notes, *structure_notes]
    frame = cases.with_level_order(cohort.frame, levels)
    cohort = cohort._replace(
        frame=frame,
        listed=frame,
        notes=cohort.notes + word_notes + structure_notes + confounder_notes,
    )
    cohort = cases.with_scores(cohort, numbers, path, options.on_missing)
    numbers = numbers[numbers["case_id"].isin(cohort.frame["case_id"])]
    _require_dice(numbers, path)
    structures = tuple(dict.fromkeys(numbers["structure"]))
    models = dict.fromkeys(numbers["model"])
    tables = {model: _table(cohort, numbers, structures, model, options.split or "all") for model in models}
    return Scores(cohort, tables, structures)


def _cohort(
    table: metadata.Table,
    all_rows: pd.DataFrame,
    text: pd.DataFrame,
    who: Path | pd.DataFrame | None,
    path: Path,
    attributes: Sequence[str],
    options: CaseOptions,
) -> tuple[cases.Cohort, list[str]]:
    """Return the cases, described by the score table or by `who`, and notes on confounders.

    `all_rows` are the cells of the score table, `text` those of the chosen split; further arguments as for `read`.
    """
    births = ages.birth_columns(text)
    dates = [*births, *ages.exam_columns(text)] if births else []
    case_rows = _one_row_per_case(text, path, [*attributes, "patient_id", *dates])
    case_rows, notes = _constant_confounders(text, case_rows, path, attributes)
    if who is None:
        rows = metadata.Table(case_rows, table.raw.loc[case_rows.index], table.notes)
        cohort = cases.describe(rows, path, attributes, dataclasses.replace(options, split=None))
        return cohort._replace(excluded=cases.of_other_splits(all_rows, text)), notes
    names = cases.OPTIONS._replace(allow_similar=options.allow_similar_ids)
    _check_case_ids(text, path, names)
    split = options.split if options.split in _splits_of(who) else None
    cohort = cases.read(who, attributes, dataclasses.replace(options, split=split))
    return _with_confounders(cohort, case_rows, path), notes


def _check_case_ids(text: pd.DataFrame, path: Path, options: metadata.Options) -> None:
    """Refuse case ids that look alike or are damaged, if `--metadata` describes the cases."""
    problems: list[metadata.Problem] = []
    metadata.check_identifiers(text.drop_duplicates("case_id"), problems, ("case_id",), options)
    metadata.refuse(path, problems)


def _word_notes(written: pd.DataFrame) -> list[str]:
    """Return notes on words such as NaN in place of scores, which another tool may write for a failure."""
    notes = []
    for name in written:
        if name.startswith(patient_table.MEASURES):
            words = (written[name] != "") & (cell_text.without_missing_words(written[[name]])[name] == "")
            if words.any():
                first = written[words].iloc[0]
                cases_of_word = [f"case {case}" for case in written["case_id"][words].unique()]
                rows = f"{formatting.amount(int(words.sum()), 'row')} {'has' if words.sum() == 1 else 'have'}"
                notes.append(
                    f"{rows} {first[name]!r} for {name} ({formatting.examples(cases_of_word)}): read as an empty "
                    "cell, of a structure absent from truth and prediction"
                )
    return notes


def read_scores(text: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return `case_id, model, structure` and all `patient_table.MEASURES` (f64, checked) by row; and notes."""
    cases.check_models(text, path)
    long, notes = _melt(text, path)
    if "ece" in long and (long["ece"] != "").any():
        notes.append(
            "ece is in the table of cases but not compared, since it follows from the size of the structures"
        )
    return _numbers(long, path), notes


def _melt(text: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return `case_id, model, structure` and scores as text by row, of a long or wide table; and notes."""
    table_columns = ", ".join(text.columns)
    text = text if "model" in text else text.assign(model="")
    keys = ["case_id", "model"]
    plain = [score for score in patient_table.MEASURES if score in text]
    if "structure" in text and "dice" in text:
        if (empty := text.index[text["structure"] == ""]).size:
            raise InputError(f"{path} row {empty[0]}: structure is empty; fill it in")
        kinds = structure_names.excluded(text["structure"])
        excluded = text["structure"].isin(kinds)
        if excluded.all():
            raise InputError(
                f"{path}: column structure names no structure, but {', '.join(kinds)}; add the scores by structure"
            )
        rows = text["structure"].value_counts().to_dict()
        return text.loc[~excluded, [*keys, "structure", *plain]], structure_names.notes(kinds, rows)
    wide = {
        (score, name.removeprefix(f"{score}_")): name
        for score in patient_table.MEASURES
        for name in text.columns
        if name.startswith(f"{score}_") and len(name) > len(score) + 1
    }
    kinds = structure_names.excluded(structure for _, structure in wide)
    structures = list(dict.fromkeys(structure for score, structure in wide if score == "dice"))
    structures = [structure for structure in structures if structure not in kinds]
    columns = {
        structure: [name for (_, of), name in wide.items() if of == structure]
        for structure in (*kinds, *structures)
    }
    rows = {structure: int((text[names] != "").any(axis=1).sum()) for structure, names in columns.items()}
    notes = structure_names.notes(kinds, rows)
    if not structures and "dice" in text:
        return text[[*keys, *plain]].assign(structure=patient_table.ALL_STRUCTURES), notes
    if not structures and kinds:
        raise InputError(
            f"{path}: the columns of scores name no structure, but {', '.join(kinds)}; add a column for each "
            "structure, such as dice_femur"
        )
    if not structures:
        raise InputError(
            f"{path}: has no scores; name them structure and dice (a row per case and structure) or dice_femur, "
            f"dice_tibia, ... (a row per case){structure_names.suggestion(text.columns)}; there are: {table_columns}"
        )
    frames = [
        text[keys].assign(
            structure=structure,
            **{score: text[name] for (score, of), name in wide.items() if of == structure},
        )
        for structure in structures
    ]
    if plain:
        notes.append(
            f"the columns without a structure ({', '.join(plain)}) are excluded, since the table has those of "
            "structures: a case's macro score is the mean over its structures"
        )
    return pd.concat(frames).fillna(""), notes


def _numbers(long: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the scores as f64, checked; the index is the row in the table."""
    problems: list[metadata.Problem] = []
    result = long[["case_id", "model", "structure"]].copy()
    rows = long.index.to_numpy()
    for score in patient_table.MEASURES:
        text = long[score].to_numpy(str) if score in long else np.full(len(long), "")
        values = cell_text.to_numbers(pd.Series(text, dtype=object)).to_numpy()
        is_filled = text != ""
        for bad in np.flatnonzero(is_filled & ~np.isfinite(values)):
            remedy = "write a number, or nothing where the structure is absent from truth and prediction"
            if "," in text[bad]:
                remedy = "the column has points and commas as decimal signs; write all with points"
            cell = str(text[bad])[:60]
            problems.append((int(rows[bad]), f"{score} {cell!r} is not a finite number; {remedy}"))
        if score in patient_table.SHARES and (values > 1 + _ROUNDING).any():
            above = np.flatnonzero(values > 1 + _ROUNDING)
            percent = _percent(values, result)[above]
            remedies = {
                "looks like percent; divide the column by 100": above[percent][:1],
                "correct it": above[~percent],
            }
            for remedy, cells in remedies.items():
                for bad in cells:
                    problems.append((int(rows[bad]), f"{score} {text[bad]} is above 1; {remedy}"))
        for bad in np.flatnonzero(values < 0):
            problems.append((int(rows[bad]), f"{score} {text[bad]} is negative; correct it"))
        result[score] = np.minimum(values, 1.0) if score in patient_table.SHARES else values
    repeated = long.duplicated(["case_id", "model", "structure"]).to_numpy()
    for row, case, structure in zip(
        rows[repeated], long["case_id"][repeated], long["structure"][repeated], strict=True
    ):
        remedy = "give each case its own row, and the models or seeds of a case a column 'model'"
        problems.append((int(row), f"case_id {case!r} has {structure!r} twice; {remedy}"))
    metadata.refuse(path, problems)
    _require_dice(result, path)
    return result


def _require_dice(numbers: pd.DataFrame, path: Path) -> None:
    """Refuse a model without any Dice, whose page would have no number."""
    has_dice = numbers["dice"].notna().groupby(numbers["model"], sort=False).any()
    if without := has_dice.index[~has_dice].tolist():
        by = f" by {without[0]}" if without[0] else ""
        raise InputError(f"{path}: dice{by} is empty in every row; fill it in")


def _percent(values: np.ndarray, long: pd.DataFrame) -> np.ndarray:
    """Return bool[N], whether the scores of a row's model and structure are percent: most above 1, none above 100.

    A column of a wide table is one structure. A single score above 1 among shares is not percent but an error.

    Args:
        values: f64[N], scores; NaN where a cell is empty.
        long: N rows with `model` and `structure`.
    """
    by = pd.Series(values, index=long.index).groupby([long["model"].to_numpy(), long["structure"].to_numpy()])
    is_percent: np.ndarray = ((by.transform("median") > 1) & (by.transform("max") <= 100)).to_numpy()
    return is_percent


def _one_row_per_case(text: pd.DataFrame, path: Path, names: Sequence[str]) -> pd.DataFrame:
    """Return the first row of each case; the other rows must agree with it in some columns."""
    first = text.drop_duplicates("case_id")
    for name in names:
        if name in text:
            counts = text.groupby("case_id")[name].nunique()
            if (different := counts.index[counts > 1]).size:
                values = text.loc[text["case_id"] == different[0], name].unique()
                raise InputError(
                    f"{path}: the rows of case {different[0]!r} differ in {name} ({', '.join(map(repr, values[:2]))}); "
                    "write one value per case"
                )
    return first


def _constant_confounders(
    text: pd.DataFrame, case_rows: pd.DataFrame, path: Path, attributes: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Drop confounders that differ between the rows of a case, such as an anatomical `site`; return notes too."""
    names = [name for name in text if name.lower() in groups.COVARIATES and name not in attributes]
    varying = [name for name in names if (text.groupby("case_id")[name].nunique() > 1).any()]
    notes = [
        f"the adjusted model does not adjust for {name}, which differs between the rows of a case in {path.name}"
        for name in varying
    ]
    return case_rows.drop(columns=varying), notes


def _with_confounders(cohort: cases.Cohort, case_rows: pd.DataFrame, path: Path) -> cases.Cohort:
    """Add the confounders of the score table that `--metadata` lacks."""
    problems: list[metadata.Problem] = []
    table, notes = metadata.with_ages(case_rows, path, ())
    names = [*cohort.attributes, *cohort.confounders.columns]
    more = metadata.confounders(table, names, problems, cases.OPTIONS)
    metadata.refuse(path, problems)
    more = more.set_axis(table["case_id"]).reindex(cohort.frame["case_id"]).set_axis(cohort.frame.index)
    return cohort._replace(
        confounders=pd.concat([cohort.confounders, more], axis=1), notes=[*cohort.notes, *notes]
    )


def _splits_of(who: Path | pd.DataFrame) -> set[str]:
    if isinstance(who, pd.DataFrame):
        return set(who["split"].dropna().astype(str)) if "split" in who else set()
    return set(metadata.read(who).cells.get("split", ())) if workbook.exists(who) else set()


def _table(
    cohort: cases.Cohort, numbers: pd.DataFrame, structures: Sequence[str], model: str, split: str
) -> pd.DataFrame:
    """Return the long per-case table of one model, and note structures without a row, which the means exclude."""
    about = cohort.frame.assign(model=model, split=split, true_area_mm2=np.nan, pred_area_mm2=np.nan)
    rows = numbers[numbers["model"] == model]
    frames = []
    for structure in structures:
        scores = rows[rows["structure"] == structure].drop(columns=["model"])
        absent = sorted(set(about["case_id"]) - set(scores["case_id"]))
        if absent:
            count = formatting.amount(len(absent), "case")
            cohort.notes.append(
                f"{structure} has no row for {count} ({formatting.examples(absent)}): excluded"
            )
        frames.append(
            about.assign(structure=structure).merge(scores, on=["case_id", "structure"], how="left")
        )
    table = pd.concat(frames, ignore_index=True)[patient_table.column_order(cohort.attributes)]
    cohort.notes.extend(notes_on_missing_scores(table, model))
    return table


def notes_on_missing_scores(table: pd.DataFrame, model: str) -> list[str]:
    """Return notes on empty scores: other tools may write nothing where a model fails, which flatters it.

    Args:
        table: the long per-case table of one model.
        model: its name; "" if there is only one.
    """
    of = f" by {model}" if model else ""
    overlaps = table[["dice", "iou", "nsd"]].notna().any(axis=1)
    notes = []
    if not overlaps.all():
        rows = formatting.amount(int((~overlaps).sum()), "row")
        by_case = (~overlaps).groupby(table["case_id"].to_numpy()).all()
        of_cases = f", and all of {formatting.amount(int(by_case.sum()), 'case')}" if by_case.any() else ""
        notes.append(
            f"{rows}{of}{of_cases} ({formatting.examples(table['case_id'][~overlaps].unique())}) have no score and "
            "are excluded from the means, as a structure that is absent from truth and prediction; where the model "
            "failed, write 0, since otherwise the means flatter it"
        )
    for score in patient_table.MILLIMETRES:  # some tools (MONAI) write NaN where the model misses a bone
        missing = table[overlaps & table[score].isna()]
        if len(missing) and table[score].notna().any():
            cells = [
                f"case {case}, {structure}"
                for case, structure in missing[["case_id", "structure"]].to_numpy()
            ]
            notes.append(
                f"{formatting.amount(len(missing), 'row')}{of} {'has' if len(missing) == 1 else 'have'} an overlap but "
                f"no {score} ({formatting.examples(cells)}): its means are over the other "
                "rows, and flatter a model that misses bones"
            )
    return notes
