"""The per-case table -> every fairness number of the report, for the groups of each attribute and each pair."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.fairness import bootstrap, summaries

SCORES = ("dice", "iou")
MACRO = "macro"


def scores(
    cases: pd.DataFrame,
    structures: Sequence[str],
    attributes: Sequence[str],
    *,
    min_group_patients: int,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """The `scores` of `report.json` for one split and one model.

    Args:
        cases: the long per-case table: `case_id, patient_id, structure`, categorical attribute columns, and one
            column for each of `SCORES`.
        structures: in the order to report them.
        attributes: columns to group by.
        min_group_patients: smaller groups, and the level `missing`, are shown but not ranked.
        draws: bootstrap resamples for each interval.
        seed: of the bootstrap; the same table and seed give the same numbers.

    Returns:
        `{score: {"overall", "groups", "summaries", "structures"}}`: `report.json`, schema 1. Undefined numbers are
        None, as are the intervals of summaries in this version. A group also says whether it is `ranked`, and if
        not, why (`unranked`).
    """
    # Sorted, so that neither the order of rows nor that of batches changes a resample.
    rows = cases.drop_duplicates("case_id").set_index("case_id").sort_index()
    columns = [(score, structure) for score in SCORES for structure in (MACRO, *structures)]
    values = np.stack([_column(cases, rows.index, *column) for column in columns], axis=1)
    patients = rows["patient_id"].to_numpy()

    def describe(member: np.ndarray, group: str) -> list[dict[str, Any]]:
        """Mean and interval of each column over the patients of one group."""
        by_patient = _patient_means(values[member], patients[member])
        # Drawn by name: what other groups there are changes nothing.
        rng = np.random.default_rng([seed, zlib.crc32(group.encode())])
        intervals = bootstrap.mean_intervals(by_patient, rng, draws)
        known = ~np.isnan(by_patient)
        return [
            {
                "mean": _number(by_patient[known[:, k], k].mean() if known[:, k].any() else np.nan),
                "interval": None if np.isnan(intervals[k]).any() else intervals[k].tolist(),
                "patients": int(known[:, k].sum()),
                "cases": int((~np.isnan(values[member, k])).sum()),
            }
            for k in range(len(columns))
        ]

    overall = describe(np.ones(len(rows), bool), "all")
    blocks = [{"overall": overall[k], "groups": {}, "summaries": {}} for k in range(len(columns))]
    for partition in groups.partitions(rows, attributes):
        name = ",".join(partition.attributes)
        ranked: list[list[tuple[str, float]]] = [[] for _ in columns]
        for g, group in enumerate(partition.names):
            for k, entry in enumerate(describe(partition.index == g, group)):
                entry["unranked"] = _why_unranked(group, entry["patients"], min_group_patients)
                entry["ranked"] = entry["unranked"] is None
                blocks[k]["groups"][group] = entry
                if entry["ranked"]:
                    ranked[k].append((group, entry["mean"]))
        for k in range(len(columns)):
            blocks[k]["summaries"][name] = _summaries(ranked[k], overall[k]["mean"])
    result: dict[str, Any] = {score: {"structures": {}} for score in SCORES}
    for (score, structure), block in zip(columns, blocks, strict=True):
        if structure == MACRO:
            result[score].update(block)
        else:
            result[score]["structures"][structure] = block
    return result


def _column(cases: pd.DataFrame, index: pd.Index, score: str, structure: str) -> np.ndarray:
    """One score of one structure for each case of `index`; macro is the mean over the structures it has."""
    if structure == MACRO:
        return cases.groupby("case_id")[score].mean().reindex(index).to_numpy(float)
    one = cases[cases["structure"] == structure]
    return one.set_index("case_id")[score].reindex(index).to_numpy(float)


def _patient_means(values: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """f[N, K] scores of cases -> f[P, K] means over each patient's cases, NaN left out."""
    frame = pd.DataFrame(values).groupby(patients, sort=True).mean()
    return frame.to_numpy(float)


def _why_unranked(group: str, patients: int, minimum: int) -> str | None:
    if groups.is_missing(group):
        return "not a group: unknown"
    return f"too few to rank (n < {minimum})" if patients < max(minimum, 1) else None


def _summaries(ranked: list[tuple[str, float]], overall: float | None) -> dict[str, Any]:
    """Worst group, gap, SD, SER and ES of the ranked groups; None where fewer than two are."""
    if len(ranked) < 2 or overall is None:
        entries: dict[str, Any] = {
            key: {"value": None, "interval": None} for key in ("worst", "gap", "sd", "ser", "es")
        }
        entries["worst"]["group"] = None
        return entries
    means = np.array([mean for _, mean in ranked])
    numbers = {
        "worst": summaries.worst(means),
        "gap": summaries.gap(means),
        "sd": summaries.sd(means),
        "ser": summaries.ser(means),
        "es": summaries.es(means, np.asarray(overall)),
    }
    entries = {key: {"value": _number(value), "interval": None} for key, value in numbers.items()}
    entries["worst"]["group"] = ranked[int(means.argmin())][0]
    return entries


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
