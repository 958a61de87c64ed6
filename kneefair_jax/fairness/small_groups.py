"""Tests the mean score of each small group against all other patients by permutation.

Means are of the patients without a failed segmentation, as in tests of ranked groups (`inference.describe`). A group is
small if it has too few patients to rank, or too few without a failure to be tested against single groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kneefair_jax import groups
from kneefair_jax.fairness import hypothesis_tests, inference, multiplicity, patient_table
from kneefair_jax.fairness.estimate import Estimate
from kneefair_jax.fairness.patient_table import MACRO, Table


@dataclass(frozen=True)
class DifferenceFromRest(Estimate):
    """The difference of the mean scores of a small group and of all other patients.

    Attributes:
        patients: of the group, among the `n`.
    """

    patients: int = 0


def tests(
    table: Table,
    failed: np.ndarray,
    partitions: Sequence[groups.Partition],
    minimum: int,
    draws: int,
    seed: int,
) -> dict[str, dict[str, dict[str, DifferenceFromRest]]]:
    """Test each small group against all other patients with a known attribute.

    Args:
        table: scores by case.
        failed: bool[N, K] of the same cases (`patient_table.failures`).
        partitions: of its rows, one attribute each.
        minimum: patients that a ranked group needs.
        draws: permutations.
        seed: of the permutations.

    Returns:
        Score -> attribute -> group -> the difference of mean scores over all structures (group minus rest) with its p
        value; `p_adjusted` is Holm's over all groups of a score. Attributes without a small group are absent.
    """
    columns = [k for k, column in enumerate(table.columns) if column.structure == MACRO]
    estimates: dict[str, dict[tuple[str, str], DifferenceFromRest]] = {
        table.columns[k].score: {} for k in columns
    }
    for partition in partitions:
        has_attribute = np.array([not groups.is_missing(name) for name in partition.names])
        index = np.where(has_attribute[partition.index], partition.index, groups.UNKNOWN)
        values, _, rows = patient_table.patient_group_means(table.values[:, columns], table.patients, index)
        flags = patient_table.patient_group_flags(failed[:, columns], table.patients, index)
        values, flags, rows = values[rows >= 0], flags[rows >= 0], rows[rows >= 0]
        for g, name in enumerate(partition.names):
            has_score, has_failure = ~np.isnan(values[rows == g]), flags[rows == g]
            is_small = (has_score.sum(0) < minimum) | (
                (has_score & ~has_failure).sum(0) < inference.MIN_INTERVAL_PATIENTS
            )
            small_scores = np.where(is_small & ~flags, values, np.nan)
            for k, test in _against_rest(small_scores, rows == g, draws, seed).items():
                estimates[table.columns[columns[k]].score][",".join(partition.attributes), name] = test
    return {score: _correct(of_score) for score, of_score in estimates.items()}


def _against_rest(
    values: np.ndarray, member: np.ndarray, draws: int, seed: int
) -> dict[int, DifferenceFromRest]:
    """Test members bool[R] against the rest, for each of K scores f64[R, K] that patients of both have."""
    scored = ~np.isnan(values)
    results = {}
    for columns in patient_table.columns_by_rows(scored):
        rows = scored[:, columns[0]]
        first, second = values[rows & member][:, columns].T, values[rows & ~member][:, columns].T
        if not first.shape[1] or not second.shape[1]:
            continue
        permutation = permutation_test(first, second, draws, seed)
        if permutation is None:
            continue
        p, method = permutation
        for position, k in enumerate(columns):
            gap = float(first[position].mean() - second[position].mean())
            n = first.shape[1] + second.shape[1]
            results[int(k)] = DifferenceFromRest(
                gap, None, n, float(p[position]), method=method, patients=first.shape[1]
            )
    return results


def permutation_test(
    first: np.ndarray, second: np.ndarray, draws: int, seed: int
) -> tuple[np.ndarray, str] | None:
    """Two-sided p values f64[K] of K scores of a group f64[K, n] against the rest, and the test's name.

    The difference is studentized. If a group of 3 to 9 patients has twice the standard deviation of the rest, a plain
    difference rejects 25 % of true nulls, the studentized one 4 to 6 % (120 other patients, normal scores). A single
    patient has no standard deviation and is compared by the distance from the mean over all patients. Returns None if
    there is only one other patient.
    """
    scores = np.concatenate([first, second], axis=1)
    sizes = np.array([first.shape[1], second.shape[1]])
    welch = hypothesis_tests.permuted_welch(scores, sizes, np.random.default_rng(seed), draws)
    if welch is not None:
        return welch.p, f"permuted Welch t, {draws:,} permutations"
    if sizes[1] == 1:
        return None
    distance = np.abs(scores - scores.mean(1, keepdims=True))
    return (distance >= distance[:, :1] * (1 - hypothesis_tests.TIE)).mean(
        1
    ), "exact permutation test of one patient"


def _correct(
    estimates: dict[tuple[str, str], DifferenceFromRest],
) -> dict[str, dict[str, DifferenceFromRest]]:
    adjusted_p = multiplicity.holm({key: test.p for key, test in estimates.items()})
    by_attribute: dict[str, dict[str, DifferenceFromRest]] = {}
    for (attribute, name), test in estimates.items():
        by_attribute.setdefault(attribute, {})[name] = replace(test, p_adjusted=adjusted_p[attribute, name])
    return by_attribute
