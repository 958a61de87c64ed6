"""The per-case table -> every fairness number of the report, for the groups of each attribute and each pair."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import (
    bootstrap,
    equivalence,
    family,
    group_intervals,
    inference,
    macro_score,
    multiplicity,
    patient_table,
    two_part,
)
from kneefair_jax.fairness.family import Hypothesis, Primary
from kneefair_jax.fairness.inference import Description, Settings, describe
from kneefair_jax.fairness.pair_differences import PairDifferences
from kneefair_jax.fairness.patient_table import MACRO, Column


def scores(
    cases: pd.DataFrame,
    structures: Sequence[str],
    attributes: Sequence[str],
    *,
    min_group_patients: int,
    draws: int,
    seed: int,
    permutations: int | None = None,
    delta: Mapping[str, float] | None = None,
    failure_dice: float = patient_table.FAILURE_DICE,
    primary: Mapping[Hypothesis, float] | None = None,
    stated: Primary | None = None,
    intersections: bool = True,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The `scores` of `report.json` for one split and one model.

    Args:
        cases: the long per-case table: `case_id, patient_id, structure`, categorical attribute columns, and those of
            `patient_table.SCORES` that were measured, `dice` among them.
        structures: in the order to report them.
        attributes: columns to group by.
        min_group_patients: smaller groups, and the level `missing`, are shown but not ranked.
        draws: permutations of the attribute over patients.
        seed: of the permutations; the same table and seed give the same numbers.
        permutations: in place of `draws`.
        delta: score -> the equivalence margin, stated in advance, in the score's unit. Each attribute's groups are
            tested for equivalence at `equivalence.LEVEL` divided by the number of attributes with two or more ranked
            groups (Bonferroni), those of pairs of attributes at the same level.
        failure_dice: Dice below which a segmentation counts as failed; intervals of means take failures apart
            (`two_part`).
        primary: p values of the other hypotheses of the primary family (`family.p_values`).
        stated: its score and its attributes; gaps of other attributes in that score are not corrected.
        intersections: whether to describe pairs of attributes.
        advance: called after each attribute and each pair of attributes.

    Returns:
        `{score: {"overall", "groups", "summaries", "structures"}}`: `report.json`, schema 2, with `inference.describe`
        for each block's groups of one attribute or two. Undefined numbers are None. A group also says whether it is
        `ranked`, and if not, why (`unranked`). `p_holm` of the primary score corrects over the primary family and is
        None for attributes outside of it, that of other macro scores corrects over attributes; intervals are at 95 %;
        `p_bh` corrects the structures' tests over structures and attributes. Gaps of pairs of attributes are
        exploratory: they follow wherever one attribute's do (`p_holm` None).

    Raises:
        InputError: a margin of an unknown score, or one that is not above 0; or too few draws for an interval.
    """
    bootstrap.check_draws(draws)
    for score, margin in (delta or {}).items():
        if score not in patient_table.SCORES or not margin > 0:
            raise InputError(
                f"delta {score}={margin}: give a margin above 0 for any of {', '.join(patient_table.SCORES)}"
            )
    table = patient_table.table(cases, structures, failure_dice)
    failed = patient_table.failures(cases, table, failure_dice)
    # Numbers in the order of the identifiers, which sort many times faster than text.
    patients = np.unique(table.patients, return_inverse=True)[1]

    def means(member: np.ndarray) -> list[dict[str, Any]]:
        return _means(table.values[member], failed[member], patients[member], table.columns)

    overall = means(np.ones(len(table.rows), bool))
    differences: dict[tuple[str, str], PairDifferences] = {}
    blocks: list[dict[str, Any]] = [{"overall": entry, "groups": {}, "summaries": {}} for entry in overall]
    groupings = [
        _grouping(table.values, failed, patients, partition, seed)
        for partition in groups.partitions(table.rows, attributes, intersections)
    ]
    compared = sum(
        grouping.ranked_groups(table.columns, min_group_patients) > 1
        for grouping in groupings[: len(attributes)]
    )
    settings = Settings(
        min_group_patients,
        draws if permutations is None else permutations,
        dict(delta or {}),
        equivalence.LEVEL / max(compared, 1),
    )
    for grouping in groupings:
        partition = grouping.partition
        for g, group in enumerate(partition.names):
            for block, entry in zip(blocks, means(partition.index == g), strict=True):
                entry["unranked"] = groups.unranked_reason(group, entry["patients"], min_group_patients)
                entry["ranked"] = entry["unranked"] is None
                block["groups"][group] = entry
        described = grouping.describe(table.columns, settings)
        for column, block, (entry, of_pairs) in zip(table.columns, blocks, described, strict=True):
            block["summaries"][grouping.key] = entry
            if column.structure == MACRO and of_pairs:
                differences[column.score, grouping.key] = of_pairs
            if column.structure == MACRO and (missing := _lacking(table.columns, blocks, column, partition)):
                entry["warnings"] += missing
                if entry["equivalence"]:
                    entry["equivalence"] |= {"equivalent": False, "reason": missing[0]}
            if column.structure == MACRO and len(partition.attributes) == 1:
                entry["warnings"] += _incomplete(table.columns, blocks, column, partition)
        advance()
    result: dict[str, Any] = {column.score: {"structures": {}} for column in table.columns}
    for (score, structure), block in zip(table.columns, blocks, strict=True):
        if structure == MACRO:
            result[score].update(block)
        else:
            result[score]["structures"][structure] = block
    for block in result.values():
        _require_every_structure(block)
    stated = stated or Primary()
    for score, block in result.items():
        own = {key: differences[score, key] for key in attributes if (score, key) in differences}
        if score == stated.score:
            _correct(block, {key: one for key, one in own.items() if stated.covers(key)}, primary or {})
        else:
            _correct(block, own, {})
    return result


class _Grouping(NamedTuple):
    """Scores by patient and group of one partition of the cases: the arguments of `inference.describe`."""

    partition: groups.Partition
    values: np.ndarray
    failed: np.ndarray
    patients: np.ndarray
    groups: np.ndarray
    seed: int

    @property
    def key(self) -> str:
        return ",".join(self.partition.attributes)

    def ranked_groups(self, columns: Sequence[Column], minimum: int) -> int:
        """Return how many groups have enough patients with a Dice to be ranked."""
        scored = ~np.isnan(self.values[:, columns.index(Column("dice", MACRO))])
        return int((np.bincount(self.groups[scored & (self.groups >= 0)]) >= max(minimum, 1)).sum())

    def describe(self, columns: Sequence[Column], settings: Settings) -> list[Description]:
        return describe(
            self.values,
            self.failed,
            self.patients,
            self.groups,
            self.partition.names,
            columns,
            [self.seed, zlib.crc32(self.key.encode())],
            settings,
        )


def _grouping(
    values: np.ndarray, failed: np.ndarray, patients: np.ndarray, partition: groups.Partition, seed: int
) -> _Grouping:
    known = np.array([not groups.is_missing(group) for group in partition.names])
    index = np.where(known[partition.index], partition.index, groups.UNKNOWN)
    flags = patient_table.patient_group_flags(failed, patients, index)
    means, of_rows, rows = patient_table.patient_group_means(values, patients, index)
    return _Grouping(partition, means, flags, of_rows, rows, seed)


def _require_every_structure(block: dict[str, Any]) -> None:
    """Groups are equivalent in a score only where they are in every structure: opposite gaps cancel in the mean."""
    for key, entry in block["summaries"].items():
        whole = entry["equivalence"]
        if whole is None or not whole["equivalent"]:
            continue
        of_structures = {
            name: part["summaries"][key]["equivalence"] for name, part in block["structures"].items()
        }
        if unmet := [
            f"{name}: {own['reason']}" for name, own in of_structures.items() if not own["equivalent"]
        ]:
            whole |= {"equivalent": False, "reason": "; ".join(unmet)}


def _lacking(
    columns: Sequence[Column], blocks: Sequence[dict[str, Any]], macro: Column, partition: groups.Partition
) -> list[str]:
    """`missing_structure_warnings` of one score and the ranked groups of a partition."""
    ranked = [name for name in partition.names if blocks[columns.index(macro)]["groups"][name]["ranked"]]
    return inference.missing_structure_warnings(
        {
            column.structure: {name: block["groups"][name]["patients"] for name in ranked}
            for column, block in zip(columns, blocks, strict=True)
            if column.score == macro.score and column.structure != MACRO
        }
    )


def _incomplete(
    columns: Sequence[Column], blocks: Sequence[dict[str, Any]], macro: Column, partition: groups.Partition
) -> list[str]:
    """`macro_score.incomplete_case_warnings` of one score and the ranked groups of a partition."""
    of_macro = blocks[columns.index(macro)]["groups"]
    cases = {name: of_macro[name]["cases"] for name in partition.names if of_macro[name]["ranked"]}
    scored = {
        column.structure: {name: block["groups"][name]["cases"] for name in cases}
        for column, block in zip(columns, blocks, strict=True)
        if column.score == macro.score and column.structure != MACRO
    }
    return macro_score.incomplete_case_warnings(scored, cases)


def _means(
    values: np.ndarray, failed: np.ndarray, patients: np.ndarray, columns: Sequence[Column]
) -> list[dict[str, Any]]:
    """Mean and interval over the patients of each column, from f64[N, K] and bool[N, K]."""
    by_patient = patient_table.patient_means(values, patients)
    failed_patients = patient_table.patient_flags(failed, patients)
    known = ~np.isnan(by_patient)
    entries = []
    for k, column in enumerate(columns):
        scored = known[:, k]
        group = None
        if scored.any():
            group = two_part.scores(
                by_patient[scored, k], failed_patients[scored, k], *patient_table.bounds(column.score)
            )
        entries.append(
            {
                "mean": group and group.mean,
                "interval": list(two_part.limits(group, 0.025))
                if group and group.n >= inference.MIN_INTERVAL_PATIENTS
                else None,
                "patients": int(scored.sum()),
                "cases": int((~np.isnan(values[:, k])).sum()),
            }
        )
    return entries


def _correct(
    block: dict[str, Any], differences: Mapping[str, PairDifferences], others: Mapping[Hypothesis, float]
) -> None:
    """Fill one score's p values and intervals that are corrected over several tests.

    An adjusted interval has the level at which the correction judged its p: `family.LEVEL` p / p_adjusted. So it
    excludes zero where the corrected p is below `family.LEVEL`, and nowhere else.

    Args:
        block: of the score.
        differences: by attribute whose gap is corrected together with `others`; gaps of intersections are not.
        others: p values of hypotheses of the same family.
    """
    tested = {key: block["summaries"][key] for key in differences}
    hypotheses = {Hypothesis(family.MEAN, key): entry["test"]["p"] for key, entry in tested.items()}
    corrected = family.adjust({**hypotheses, **others})
    for key, entry in tested.items():
        p, p_holm = entry["test"]["p"], corrected[Hypothesis(family.MEAN, key)]
        entry["test"]["p_holm"] = p_holm
        gap = entry["gap_without_failures"]
        if gap["interval"]:
            limits = differences[key].limits(family.LEVEL * p / p_holm)
            gap["interval_adjusted"] = limits and group_intervals.gap(*limits)
        compared = [pair for pair in entry["pairs"] if pair["p"] is not None]
        for j, pair in enumerate(compared):
            # Pairs are corrected within the attribute already, and pay for the rest of the family like its test.
            pair["p_holm"] = min(1.0, max(p_holm, pair["p"] * p_holm / p))
            if pair["interval"]:
                limits = differences[key].limits(family.LEVEL * pair["p"] / pair["p_holm"])
                pair["interval_adjusted"] = limits and [float(end[j]) for end in limits]
    explored = {
        (structure, key): entry["test"]
        for structure, part in block["structures"].items()
        for key, entry in part["summaries"].items()
        if entry["test"]
    }
    discovered = multiplicity.benjamini_hochberg({where: test["p"] for where, test in explored.items()})
    for where, test in explored.items():
        test["p_bh"] = discovered[where]
