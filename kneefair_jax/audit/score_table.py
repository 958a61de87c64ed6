"""A table of scores from any tool -> the long per-case table, one a model.

Long, as this package writes it: `case_id, structure, dice`, a row per case and structure. Or wide, a row per case, with
a column per score and structure: `case_id, dice_femur, dice_tibia, hd95_mm_femur`. Either may have `patient_id`, the
attributes, `model` (several are compared) and `split`. The background, averages and statistics among the structures
are left out with a note (`structure_names`). Scores are those of `patient_table.MEASURES`: overlaps in [0, 1],
distances in mm; an empty cell, or NaN, is a structure absent from truth and prediction. A distance alone that is empty
is left out of the means, with a note.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.audit import cases, missing_scores, structure_names
from kneefair_jax.data import ages, cell_text, identifiers, metadata, typed_tables
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import patient_table
from kneefair_jax.report.text import formatting

# What a share may lie above 1 by float32.
_ROUNDING = 1e-6


class Scores(NamedTuple):
    """What a score table holds.

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
    who: Path | None,
    attributes: Sequence[str],
    bins: Mapping[str, Sequence[float]],
    split: str | None = None,
    on_missing: str = "stop",
    allow_similar: bool = False,
) -> Scores:
    """Reads and checks a table of scores.

    Args:
        source: CSV or parquet, or the table itself, whose rows are counted from 0.
        who: `metadata.csv` with the attributes by `case_id`; None where the table has them itself.
        attributes: columns to report by.
        bins: attribute -> ascending edges, for numbers.
        split: the value of the column `split` to keep.
        on_missing: `stop` refuses cases of `who` without scores, `skip` leaves them out.
        allow_similar: whether identifiers, levels and names may look alike.

    Raises:
        InputError: the table cannot be used; the first problems by row.
    """
    path = source if isinstance(source, Path) else Path("frame")
    table, levels = _read(source)
    text = table.cells
    if "case_id" not in text:
        raise InputError(f"{path}: column 'case_id' is missing; there are: {', '.join(text.columns)}")
    if split is None and len(splits := sorted(set(text.get("split", ())))) > 1:
        raise InputError(f"{path}: holds the splits {', '.join(splits)}; choose one with --split")
    options = metadata.Options(similar="--allow-similar-ids", allow_similar=allow_similar)
    cases.check_words(text, path, ("split", "model", "structure"), options)
    every, text = text, cases.of_split(text, path, split)
    worded = _worded(table.raw.loc[text.index])
    numbers, dropped = read_scores(text, path)
    models = dict.fromkeys(numbers["model"])
    structures = tuple(dict.fromkeys(numbers["structure"]))
    if not allow_similar and (alike := identifiers.similar_identifiers(structures, identifiers.canonical)):
        raise InputError(
            f"{path}: the structures {' and '.join(alike[0])} look like the same one; write them alike"
        )
    births = ages.birth_columns(text)
    dates = [*births, *ages.exam_columns(text)] if births else []
    one_a_case = _one_row_a_case(text, path, [*attributes, "patient_id", *dates])
    one_a_case, varying = _constant_confounders(text, one_a_case, path, attributes)
    if who is None:
        part = metadata.Table(one_a_case, table.raw.loc[one_a_case.index], table.notes)
        cohort = cases.describe(part, path, attributes, bins, allow_similar=allow_similar)
        cohort = cohort._replace(excluded=cases.of_other_splits(every, text))
    else:
        _check_case_ids(text, path, options)
        cohort = cases.read(who, attributes, bins, split if split in _splits_of(who) else None, allow_similar)
        dropped = [*table.notes, *dropped]
        cohort = _with_confounders(cohort, one_a_case, path)
    cohort = cohort._replace(
        frame=cases.ordered(cohort.frame, levels), notes=cohort.notes + worded + dropped + varying
    )
    scored = list(dict.fromkeys(text["case_id"]))
    known, with_scores = set(cohort.frame["case_id"]), set(scored)
    if unknown := [case for case in scored if case not in known]:
        twins = identifiers.across(list(cohort.frame["case_id"]), unknown[:1])
        hint = f", which has {twins[0][0]!r}; write them alike" if twins else "; add its row"
        raise InputError(
            f"{path}: case {unknown[0]!r} ({len(unknown)} such cases) is not in {cohort.path}{hint}"
        )
    if without := [case for case in cohort.frame["case_id"] if case not in with_scores]:
        if on_missing != "skip":
            raise InputError(
                f"{cohort.path}: case {without[0]!r} ({len(without)} such cases) has no scores in {path}; add them, or "
                "leave such cases out with --on-missing skip"
            )
        cohort.notes.append(
            f"left out for want of scores: {formatting.amount(len(without), 'case')} (such as {without[0]})"
        )
    cohort = cohort.of(scored, "no scores")
    tables = {model: _table(cohort, numbers, structures, model, split or "all", path) for model in models}
    return Scores(cohort, tables, structures)


def as_table(path: Path) -> metadata.Table:
    """Every cell as text on its line."""
    return _read(path)[0]


def _read(source: Path | pd.DataFrame) -> tuple[metadata.Table, dict[str, list[str]]]:
    """Every cell as text on its line; the order of levels, where the table states one."""
    if isinstance(source, pd.DataFrame):
        return _as_text(_plain_columns(source), Path("frame"), first_row=0)
    if not os.path.lexists(source):
        raise InputError(f"{source}: no such file; give a CSV or parquet file of scores by case")
    if source.suffix.lower() not in (".parquet", ".pq"):
        return metadata.read(source), {}
    return _as_text(
        typed_tables.read_parquet(source), source, first_row=2
    )  # as though line 1 named the columns


def _plain_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the named levels of its index as columns.

    Raises:
        InputError: the columns have several levels, or two of them the same name.
    """
    if frame.columns.nlevels > 1:
        raise InputError("frame: its columns have several levels; give them one, such as dice_femur")
    frame = frame.reset_index([name for name in frame.index.names if name is not None])
    names = frame.columns.map(str)
    if (twice := names[names.duplicated()]).size:
        raise InputError(f"frame: has the column {twice[0]!r} twice; drop one of them")
    return frame


def _as_text(frame: pd.DataFrame, path: Path, first_row: int) -> tuple[metadata.Table, dict[str, list[str]]]:
    if frame.empty:
        raise InputError(f"{path}: holds no rows")
    levels = {
        str(name): [str(level) for level in frame[name].cat.categories]
        for name in frame
        if isinstance(frame[name].dtype, pd.CategoricalDtype) and frame[name].cat.ordered
    }
    frame = frame.rename(columns=str).reset_index(drop=True)
    text = frame.astype(object).where(frame.notna(), "").map(str)
    text.index = pd.RangeIndex(first_row, first_row + len(text))
    written = text.map(str.strip)
    return metadata.Table(cell_text.without_missing_words(written), written, []), levels


def _check_case_ids(text: pd.DataFrame, path: Path, options: metadata.Options) -> None:
    """Refuses case ids that look alike or are damaged, where `--metadata` says who the cases are."""
    problems: list[metadata.Problem] = []
    metadata.check_identifiers(text.drop_duplicates("case_id"), problems, ("case_id",), options)
    metadata.refuse(path, problems)


def _worded(written: pd.DataFrame) -> list[str]:
    """Notes on scores in whose place stands a word such as NaN, which another tool may write for a failure."""
    notes = []
    for name in written:
        if name.startswith(patient_table.MEASURES):
            words = (written[name] != "") & (cell_text.without_missing_words(written[[name]])[name] == "")
            if words.any():
                first = written[words].iloc[0]
                has = f"{formatting.amount(int(words.sum()), 'row')} {'has' if words.sum() == 1 else 'have'}"
                notes.append(
                    f"{has} {first[name]!r} for {name} (such as case {first['case_id']}): read as an empty cell, of a "
                    "structure absent from truth and prediction"
                )
    return notes


def read_scores(text: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """`case_id, model, structure` and all `patient_table.MEASURES` (f64, checked) on the table's lines; and notes."""
    long, notes = _melted(text, path)
    if "ece" in long and (long["ece"] != "").any():
        notes.append(
            "ece is kept in the table of cases and not compared: it follows from the size of the structures"
        )
    return _numbers(long, path), notes


def _melted(text: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Long or wide -> long: `case_id, model, structure` and scores as text, on the lines of the table; and notes."""
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
    columns = {one: [name for (_, of), name in wide.items() if of == one] for one in (*kinds, *structures)}
    rows = {one: int((text[names] != "").any(axis=1).sum()) for one, names in columns.items()}
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
            f"dice_tibia, ... (a row per case); there are: {', '.join(text.columns)}"
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
            f"the columns without a structure ({', '.join(plain)}) are left out beside those of structures: a case's "
            "macro score is the mean over its structures"
        )
    return pd.concat(frames).fillna(""), notes


def _numbers(long: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Scores as f64, checked; lines are kept as the index."""
    problems: list[metadata.Problem] = []
    result = long[["case_id", "model", "structure"]].copy()
    rows = long.index.to_numpy()
    for score in patient_table.MEASURES:
        text = long[score].to_numpy(str) if score in long else np.full(len(long), "")
        values = cell_text.to_numbers(pd.Series(text, dtype=object)).to_numpy()
        given = text != ""
        for bad in np.flatnonzero(given & ~np.isfinite(values)):
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
    again = long.duplicated(["case_id", "model", "structure"]).to_numpy()
    for row, case, structure in zip(
        rows[again], long["case_id"][again], long["structure"][again], strict=True
    ):
        remedy = "give each case its own row, and the models or seeds of a case a column 'model'"
        problems.append((int(row), f"case_id {case!r} has {structure!r} twice; {remedy}"))
    metadata.refuse(path, problems)
    if result["dice"].isna().all():
        raise InputError(f"{path}: dice is empty in every row; fill it in")
    return result


def _percent(values: np.ndarray, long: pd.DataFrame) -> np.ndarray:
    """Return bool[N], whether the scores of a row's model and structure are percent.

    So they are where most are above 1 and none is above 100. A column of a wide table is one structure; a single score
    above 1 among shares is an error of its own.

    Args:
        values: f64[N], scores; NaN where a cell is empty.
        long: N rows with `model` and `structure`.
    """
    by = pd.Series(values, index=long.index).groupby([long["model"].to_numpy(), long["structure"].to_numpy()])
    most: np.ndarray = ((by.transform("median") > 1) & (by.transform("max") <= 100)).to_numpy()
    return most


def _one_row_a_case(text: pd.DataFrame, path: Path, names: Sequence[str]) -> pd.DataFrame:
    """The first line of each case, of which the others must say the same."""
    first = text.drop_duplicates("case_id")
    for name in names:
        if name in text:
            differing = text.groupby("case_id")[name].nunique()
            if (several := differing.index[differing > 1]).size:
                found = text.loc[text["case_id"] == several[0], name].unique()
                raise InputError(
                    f"{path}: the rows of case {several[0]!r} differ in {name} ({', '.join(map(repr, found[:2]))}); "
                    "a case has one"
                )
    return first


def _constant_confounders(
    text: pd.DataFrame, one_a_case: pd.DataFrame, path: Path, attributes: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Without confounders that differ between the rows of a case, such as an anatomical `site`; and notes."""
    names = [name for name in text if name.lower() in groups.COVARIATES and name not in attributes]
    differing = [name for name in names if (text.groupby("case_id")[name].nunique() > 1).any()]
    notes = [
        f"the adjusted model does not adjust for {name}, which differs between the rows of a case in {path.name}"
        for name in differing
    ]
    return one_a_case.drop(columns=differing), notes


def _with_confounders(cohort: cases.Cohort, one_a_case: pd.DataFrame, path: Path) -> cases.Cohort:
    """Those of the score table too, where `--metadata` has none of that name."""
    problems: list[metadata.Problem] = []
    table, notes = metadata.with_ages(one_a_case, path, ())
    known = [*cohort.attributes, *cohort.confounders.columns]
    more = metadata.confounders(table, known, problems, cases.OPTIONS)
    metadata.refuse(path, problems)
    more = more.set_axis(table["case_id"]).reindex(cohort.frame["case_id"]).set_axis(cohort.frame.index)
    return cohort._replace(
        confounders=pd.concat([cohort.confounders, more], axis=1), notes=[*cohort.notes, *notes]
    )


def _splits_of(path: Path) -> set[str]:
    return set(metadata.read(path).cells.get("split", ())) if os.path.isfile(path) else set()


def _table(
    cohort: cases.Cohort, numbers: pd.DataFrame, structures: Sequence[str], model: str, split: str, path: Path
) -> pd.DataFrame:
    """The long per-case table of one model; a structure without a row is noted, since it is left out of means."""
    about = cohort.frame.assign(model=model, split=split, true_area_mm2=np.nan, pred_area_mm2=np.nan)
    mine = numbers[numbers["model"] == model]
    if lacking := sorted(set(about["case_id"]) - set(mine["case_id"])):
        raise InputError(
            f"{path}: model {model!r} has no scores of case {lacking[0]!r} ({len(lacking)} such cases); models are "
            "compared on the same cases"
        )
    frames = []
    for structure in structures:
        part = mine[mine["structure"] == structure].drop(columns=["model"])
        absent = sorted(set(about["case_id"]) - set(part["case_id"]))
        if absent:
            cohort.notes.append(
                f"{structure} has no row for {formatting.amount(len(absent), 'case')} (such as {absent[0]}), left out"
            )
        frames.append(about.assign(structure=structure).merge(part, on=["case_id", "structure"], how="left"))
    table = pd.concat(frames, ignore_index=True)[patient_table.column_order(cohort.attributes)]
    cohort.notes.extend(missing_scores.notes(table, model))
    return table
