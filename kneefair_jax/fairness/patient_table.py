"""Computes scores by patient from the long per-case table, for one run or many, and names the table's columns.

The macro score of a case is its mean over structures, standardized if some structures are missing. A mean over the
structures that a case has compares different structures. If the fibula scores lower than the others and is out of view
more often in one group, that group's plain means are higher although every structure scores alike. So a case's macro
score is the mean deviation of its structures from their expected scores, plus the mean of the expected scores over all
structures. This equals giving every missing structure its expected score plus the case's own mean deviation. A case
with every structure keeps its plain mean.

The expected scores are the structure effects of the linear model score = structure + case, by generalized least squares
(Aitken 1935; Searle, Casella and McCulloch, Variance Components, 1992). The scores of a case are correlated, so nearly
all of the comparison of two structures comes from cases that have both. (Cases that lack a structure may score lower or
higher in all others.) Structures that never occur together are compared by their means.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.errors import InputError

# Intraclass correlation of a case's structures in the model. At 0, plain means of structures miss 7 % of a gap of all
# structures if 80 % of the lower group lack one. Near 1, a single case that links structures decides, and equal groups
# differ significantly in 25 % of cohorts (docs/statistics.md).
CORRELATION = 0.75


def standardized_means(values: np.ndarray, typical: np.ndarray | None = None) -> np.ndarray:
    """Return the macro score of each case.

    Args:
        values: f64[N, S], scores of N cases and S structures; NaN where a case lacks a structure.
        typical: bool[N, S], the scores from which expected scores are estimated, such as those of segmentations that
            did not fail: a failed one is not informative of the cases that lack the structure. None for all. If a
            structure has no typical score, all of its scores are used.

    Returns:
        f64[N]: the plain mean of cases that have every structure that any case has; NaN for cases without a structure.
        Other values may lie outside the range of the score if expected scores differ widely.
    """
    has_score = ~np.isnan(values)
    count = has_score.sum(1)
    plain_means = np.full(len(values), np.nan)
    plain_means[count > 0] = np.nanmean(values[count > 0], axis=1)
    macro: np.ndarray = plain_means + adjustments(values, typical)
    return macro


def adjustments(values: np.ndarray, typical: np.ndarray | None = None) -> np.ndarray:
    """Return what `standardized_means` adds to each case's plain mean, f64[N]; 0 if no structure is missing."""
    has_any_score = ~np.isnan(values).all(0)
    values, has_score = values[:, has_any_score], ~np.isnan(values[:, has_any_score])
    incomplete = ~has_score.all(1) & has_score.any(1)
    adjustment = np.zeros(len(values))
    if incomplete.any():
        is_typical = has_score if typical is None else has_score & typical[:, has_any_score]
        expected = _structure_effects(values, np.where(is_typical.any(0), is_typical, has_score))
        own_expected = (has_score[incomplete] @ expected) / has_score[incomplete].sum(1)
        adjustment[incomplete] = expected.mean() - own_expected
    return adjustment


def incomplete_case_warnings(scored: Mapping[str, Mapping[str, int]], cases: Mapping[str, int]) -> list[str]:
    """Return a sentence that names the structures that some cases lack; an empty list if none is missing.

    Args:
        scored: structure -> group -> cases with a score of it.
        cases: group -> cases with a score of any structure.
    """
    missing_scores = [
        f"{structure} in {cases[group] - scored_count:,} of {cases[group]:,} of {group}"
        for structure, by_group in scored.items()
        for group, scored_count in by_group.items()
        if scored_count < cases[group]
    ]
    if not missing_scores:
        return []
    return [
        f"some cases lack a structure ({', '.join(missing_scores)}): their macro scores are standardized, so that a "
        "missing structure causes no gap; a gap in that structure counts in the other cases only"
    ]


def _structure_effects(values: np.ndarray, is_used: np.ndarray) -> np.ndarray:
    """Return the structure effects f64[S] by generalized least squares with a compound-symmetric covariance."""
    scores, weights = np.where(is_used, values, 0.0), is_used.astype(float)
    shared = weights / (weights.sum(1, keepdims=True) + (1 - CORRELATION) / CORRELATION)
    normal = np.diag(weights.sum(0)) - shared.T @ weights
    return np.linalg.solve(normal, scores.sum(0) - shared.T @ scores.sum(1))


MACRO = "macro"
# The name of the macro score in tables, and of a score without a structure.
ALL_STRUCTURES = "all structures"

# Scores that are compared by group, in the order to report them.
SCORES = ("dice", "iou", "hd95_mm", "assd_mm", "nsd")
# The measures of a case. The calibration error is not compared, because it follows from size (`group_calibration`).
MEASURES = (*SCORES, "ece")
# Scores in [0, 1]; distances are errors with 0 as the best value.
SHARES = ("dice", "iou", "nsd", "ece")
MILLIMETRES = ("hd95_mm", "assd_mm")
LOWER_IS_BETTER = frozenset(MILLIMETRES)
IDENTIFIERS = ("case_id", "patient_id", "split", "model", "structure")
# A segmentation with a lower Dice counts as failed by default.
FAILURE_DICE = 0.5
# Scores in float32 may differ from a threshold that they equal by less than this.
TOLERANCE = 1e-6
AREAS = ("true_area_mm2", "pred_area_mm2")


def bounds(score: str) -> tuple[float | None, float]:
    """Return the worst and the best possible value of a score; distances have no worst value."""
    return (None, 0.0) if score in MILLIMETRES else (0.0, 1.0)


class Column(NamedTuple):
    """A score of one structure, or of `MACRO`, a case's score over all structures (`macro`)."""

    score: str
    structure: str

    @property
    def lower_is_better(self) -> bool:
        """Whether the score is an error; otherwise its error is 1 - S."""
        return self.score in LOWER_IS_BETTER


class Table(NamedTuple):
    """Cases and their scores, sorted by case, so that the order of rows changes no resample.

    Attributes:
        rows: N rows by `case_id`, with `patient_id` and the attributes.
        patients: i[N], the number of each case's patient, in the order of the identifiers. Numbers sort many times
            faster than text.
        columns: the K scores.
        values: f64[N, K]; NaN where undefined.
        failed: bool[N, K], whether a score comes from a failed segmentation. A structure fails in a case if its Dice is
            below the threshold (an absent prediction of a present structure has Dice 0); `MACRO` fails if any structure
            does. Undefined Dice is no failure.
    """

    rows: pd.DataFrame
    patients: np.ndarray
    columns: tuple[Column, ...]
    values: np.ndarray
    failed: np.ndarray

    def macro_column(self, score: str) -> list[int]:
        """Return the position of a score's macro column, as a list to index columns by."""
        return [self.columns.index(Column(score, MACRO))]


class GroupedScores(NamedTuple):
    """Scores of K columns by patient and group; a patient with cases in several groups has a row in each.

    Attributes:
        values: f64[R, K], patients' means within a group; NaN where undefined.
        failed: bool[R, K], whether a failed segmentation is among them.
        patients: the patient of each row, [R].
        groups: i[R], each row's group, negative if it cannot be ranked and counts in the overall mean only.
        names: of the groups.
    """

    values: np.ndarray
    failed: np.ndarray
    patients: np.ndarray
    groups: np.ndarray
    names: Sequence[str]


def measured_scores(cases: pd.DataFrame) -> list[str]:
    """Return the scores of a long per-case table that are not all undefined; always with `dice`."""
    return [score for score in SCORES if score in cases and (score == "dice" or cases[score].notna().any())]


def table(cases: pd.DataFrame, structures: Sequence[str], failure_dice: float = FAILURE_DICE) -> Table:
    """Return the measured scores of a long per-case table.

    Args:
        cases: the table, of one split and one model.
        structures: in the order to report them.
        failure_dice: Dice below which a segmentation counts as failed, also in `macro`.
    """
    rows = cases.drop_duplicates("case_id").set_index("case_id").sort_index()
    columns = tuple(
        Column(score, structure) for score in measured_scores(cases) for structure in (MACRO, *structures)
    )
    values = [_column(cases, rows.index, column, failure_dice) for column in columns]
    failed = cases[cases["dice"] < failure_dice - TOLERANCE]
    has_failure = {
        structure: rows.index.isin(failures["case_id"]) for structure, failures in failed.groupby("structure")
    }
    has_failure[MACRO] = rows.index.isin(failed["case_id"])
    no_failure = np.zeros(len(rows), bool)
    return Table(
        rows,
        np.unique(rows["patient_id"], return_inverse=True)[1],
        columns,
        np.stack(values, axis=1),
        np.stack([has_failure.get(structure, no_failure) for _, structure in columns], axis=1),
    )


def group_scores(
    table: Table, partition: groups.Partition, columns: Sequence[int] | slice = slice(None)
) -> GroupedScores:
    """Return some columns of a table by patient and group; groups of a missing attribute have the number -1."""
    has_attribute = np.array([not groups.is_missing(name) for name in partition.names])
    index = np.where(has_attribute[partition.index], partition.index, groups.UNKNOWN)
    means, patients, rows = patient_group_means(table.values[:, columns], table.patients, index)
    flags = patient_group_flags(table.failed[:, columns], table.patients, index)
    return GroupedScores(means, flags, patients, rows, partition.names)


def macro(cases: pd.DataFrame, score: str, failure_dice: float = FAILURE_DICE) -> pd.Series:
    """Return the macro score of every case: its mean over structures, standardized if some are missing.

    The expected score of a missing structure comes from segmentations that did not fail. The result stays inside the
    range of the score.

    Args:
        cases: the long per-case table of one model; a NaN score is that of a missing structure.
        score: the column.
        failure_dice: Dice below which a segmentation counts as failed, if there is a column `dice`.

    Returns:
        f64[N] by `case_id`, sorted; NaN for cases without any score.
    """
    plain_means = cases.groupby("case_id", sort=True)[score].mean()
    if not cases[score].isna().any() and len(plain_means) * cases["structure"].nunique() == len(cases):
        return plain_means
    values = cases.pivot(index="case_id", columns="structure", values=score).reindex(plain_means.index)
    typical = None
    if "dice" in cases:
        dice = cases.pivot(index="case_id", columns="structure", values="dice").reindex(plain_means.index)
        typical = ~(dice.to_numpy(float) < failure_dice - TOLERANCE)
    worst, best = bounds(score)
    low, high = sorted((best, np.inf if worst is None else worst))
    return (plain_means + adjustments(values.to_numpy(float), typical)).clip(low, high)


def patient_means(values: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Return means over each patient's cases, NaN excluded: f[N, K] -> f[P, K]."""
    return np.asarray(pd.DataFrame(values).groupby(patients, sort=True).mean(), float)


def patient_group_means(
    values: np.ndarray, patients: np.ndarray, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return means over the cases that a patient has in each group.

    A patient whose cases lie in several groups (visits before and after an age limit) has a row in each.

    Returns:
        f64[R, K], the R rows' patients, and the rows' groups.
    """
    means = pd.DataFrame(values).groupby([patients, index], sort=True).mean()
    return means.to_numpy(float), *(means.index.get_level_values(level).to_numpy() for level in (0, 1))


def columns_by_rows(has_score: np.ndarray) -> list[np.ndarray]:
    """Return the sets of columns with a score in the same rows, i64[k] each, in the order of their first column.

    Args:
        has_score: bool[R, K].
    """
    sets: dict[bytes, list[int]] = {}
    for k, bits in enumerate(np.packbits(has_score, axis=0).T):
        sets.setdefault(bits.tobytes(), []).append(k)
    return [np.array(columns) for columns in sets.values()]


def patient_flags(flags: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Return whether any of a patient's cases has a flag, bool[N, K] -> bool[P, K]; rows as in `patient_means`."""
    return np.asarray(pd.DataFrame(flags).groupby(patients, sort=True).any(), bool)


def patient_group_flags(flags: np.ndarray, patients: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return flags as `patient_flags`; rows as in `patient_group_means`."""
    return np.asarray(pd.DataFrame(flags).groupby([patients, index], sort=True).any(), bool)


def _column(cases: pd.DataFrame, index: pd.Index, column: Column, failure_dice: float) -> np.ndarray:
    score, structure = column
    if structure == MACRO:
        return np.asarray(macro(cases, score, failure_dice).reindex(index), float)
    structure_rows = cases[cases["structure"] == structure]
    return np.asarray(structure_rows.set_index("case_id")[score].reindex(index), float)


class Runs(NamedTuple):
    """One score of P patients in every run, and of R rows, a row for each group in which a patient has cases.

    Attributes:
        scores: method -> f64[S, R], means over the cases that a patient has in a group; NaN where undefined.
        index: i32[R], the rows' groups, -1 if the attribute is missing.
        names: the groups' names.
        patients: [R], the rows' patients.
        overall: method -> f64[S, P], means over all cases of a patient.
        patient_groups: i[P], the patients' groups, -1 if the attribute is missing or a patient is in several groups.
    """

    scores: dict[str, np.ndarray]
    index: np.ndarray  # type: ignore[assignment]  # hides tuple.index
    names: tuple[str, ...]
    patients: np.ndarray
    overall: dict[str, np.ndarray]
    patient_groups: np.ndarray


def stack_runs(
    tables: Mapping[str, Sequence[pd.DataFrame]],
    attributes: Sequence[str],
    score: str = "dice",
    failure_dice: float = FAILURE_DICE,
) -> Runs:
    """Return means of macro scores over a patient's cases in a group, for every run.

    Args:
        tables: method -> its S long per-case tables, one per seed and in the same order of seeds, each of one split
            and one model: `case_id, patient_id, structure, <attributes>, <score>`.
        attributes: the columns that define the groups of cases: one, or several for their intersection.
        score: the column.
        failure_dice: Dice below which a segmentation counts as failed (`macro`).

    Raises:
        InputError: two runs do not hold the same cases of the same patients, or methods differ in seeds.
    """
    first_method, first = next((name, runs[0]) for name, runs in tables.items())
    cases = first.drop_duplicates("case_id").set_index("case_id").sort_index()
    seeds = len(tables[first_method])
    columns = []
    for method, runs in tables.items():
        if len(runs) != seeds:
            raise InputError(
                f"{method} has {len(runs)} seeds and {first_method} {seeds}; finish the runs of both"
            )
        for seed, run_table in enumerate(runs):
            case_rows = run_table.groupby("case_id").agg({"patient_id": "first"})
            case_rows[score] = macro(run_table, score, failure_dice)
            if not case_rows["patient_id"].equals(cases["patient_id"]):
                raise InputError(
                    f"run {seed + 1} of {method} was not tested on the cases of run 1 of {first_method}; "
                    "prepare the cohort once and run both on it"
                )
            columns.append(case_rows[score].to_numpy(float))
    partition = groups.partition(cases, attributes)
    patients = cases["patient_id"].to_numpy()
    values = np.stack(columns, axis=1)
    by_row, row_patients, index = patient_group_means(values, patients, partition.index)
    overall = patient_means(values, patients)
    _, start, rows = np.unique(row_patients, return_index=True, return_counts=True)
    return Runs(
        dict(zip(tables, by_row.T.reshape(len(tables), seeds, -1), strict=True)),
        index,
        partition.names,
        row_patients,
        dict(zip(tables, overall.T.reshape(len(tables), seeds, -1), strict=True)),
        np.where(rows == 1, index[start], groups.UNKNOWN),
    )


def column_order(attributes: tuple[str, ...]) -> list[str]:
    """Return the columns of the long per-case table in order."""
    return [*IDENTIFIERS, *attributes, *MEASURES, *AREAS]
