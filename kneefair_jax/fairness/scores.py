"""The per-case table -> every fairness number of the report, for the groups of each attribute and each pair."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import bootstrap, inference, multiplicity, patient_table, two_part
from kneefair_jax.fairness.inference import Settings, describe
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
        delta: score -> the equivalence margin, stated in advance, in the score's unit.
        failure_dice: Dice below which a segmentation counts as failed; intervals of means take failures apart
            (`two_part`).

    Returns:
        `{score: {"overall", "groups", "summaries", "structures"}}`: `report.json`, schema 1, with `inference.describe`
        for each block's groups of one attribute or two. Undefined numbers are None. A group also says whether it is
        `ranked`, and if not, why (`unranked`). `p_holm` corrects the macro score's tests over all attributes and pairs
        of attributes, `p_bh` the structures' tests over structures and attributes.

    Raises:
        InputError: a margin of an unknown score, or one that is not above 0; or too few draws for an interval.
    """
    bootstrap.check_draws(draws)
    for score, margin in (delta or {}).items():
        if score not in patient_table.SCORES or not margin > 0:
            raise InputError(
                f"delta {score}={margin}: give a margin above 0 for any of {', '.join(patient_table.SCORES)}"
            )
    table = patient_table.table(cases, structures)
    failed = patient_table.failures(cases, table, failure_dice)
    settings = Settings(
        min_group_patients, draws if permutations is None else permutations, dict(delta or {})
    )

    def means(member: np.ndarray) -> list[dict[str, Any]]:
        return _means(table.values[member], failed[member], table.patients[member], table.columns)

    overall = means(np.ones(len(table.rows), bool))
    blocks: list[dict[str, Any]] = [{"overall": entry, "groups": {}, "summaries": {}} for entry in overall]
    for partition in groups.partitions(table.rows, attributes):
        key = ",".join(partition.attributes)
        for g, group in enumerate(partition.names):
            for block, entry in zip(blocks, means(partition.index == g), strict=True):
                entry["unranked"] = _why_unranked(group, entry["patients"], min_group_patients)
                entry["ranked"] = entry["unranked"] is None
                block["groups"][group] = entry
        known = np.array([not groups.is_missing(group) for group in partition.names])
        index = np.where(known[partition.index], partition.index, groups.UNKNOWN)
        values, patients, group_index = patient_table.by_patient_and_group(
            table.values, table.patients, index
        )
        described = describe(
            values,
            patient_table.any_by_patient_and_group(failed, table.patients, index),
            patients,
            group_index,
            partition.names,
            table.columns,
            [seed, zlib.crc32(key.encode())],
            settings,
        )
        for column, block, entry in zip(table.columns, blocks, described, strict=True):
            block["summaries"][key] = entry
            if column.structure == MACRO and (told := _lacking(table.columns, blocks, column, partition)):
                entry["warnings"] += told
                if entry["equivalence"]:
                    entry["equivalence"] |= {"equivalent": False, "reason": told[0]}
    result: dict[str, Any] = {column.score: {"structures": {}} for column in table.columns}
    for (score, structure), block in zip(table.columns, blocks, strict=True):
        if structure == MACRO:
            result[score].update(block)
        else:
            result[score]["structures"][structure] = block
    for block in result.values():
        _correct(block)
    return result


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


def _means(
    values: np.ndarray, failed: np.ndarray, patients: np.ndarray, columns: Sequence[Column]
) -> list[dict[str, Any]]:
    """Mean and interval over the patients of each column, from f64[N, K] and bool[N, K]."""
    by_patient = patient_table.by_patient(values, patients)
    failed_patients = patient_table.any_by_patient(failed, patients)
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


def _why_unranked(group: str, patients: int, minimum: int) -> str | None:
    if groups.is_missing(group):
        return "not a group: unknown"
    return f"too few to rank (n < {minimum})" if patients < max(minimum, 1) else None


def _correct(block: dict[str, Any]) -> None:
    """Fills one score's p values that are corrected over several tests."""
    macro = {key: entry for key, entry in block["summaries"].items() if entry["test"]}
    corrected = multiplicity.holm({key: entry["test"]["p"] for key, entry in macro.items()})
    of_pairs = multiplicity.holm_of_families(
        {key: [pair["p"] for pair in entry["pairs"]] for key, entry in macro.items()}
    )
    for key, entry in macro.items():
        entry["test"]["p_holm"] = corrected[key]
        for pair, p in zip(entry["pairs"], of_pairs[key], strict=True):
            pair["p_holm"] = p
    explored = {
        (structure, key): entry["test"]
        for structure, part in block["structures"].items()
        for key, entry in part["summaries"].items()
        if entry["test"]
    }
    discovered = multiplicity.benjamini_hochberg({where: test["p"] for where, test in explored.items()})
    for where, test in explored.items():
        test["p_bh"] = discovered[where]
