"""The summaries of one grouping of the patients, every column's entry in `report.json`, and warnings about them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from kneefair_jax.fairness import (
    equivalence,
    group_intervals,
    hypothesis_tests,
    pair_differences,
    paired_differences,
    patient_table,
    power,
    summaries,
    two_part,
)
from kneefair_jax.fairness.pair_differences import PairDifferences
from kneefair_jax.fairness.patient_bootstrap import Sample, samples
from kneefair_jax.fairness.patient_table import Column
from kneefair_jax.fairness.two_part import Scores

# Fewer patients have no interval: nobody would read one that spans half of the score's range.
MIN_INTERVAL_PATIENTS = 5


class Settings(NamedTuple):
    """What does not depend on the data.

    Attributes:
        minimum: smaller groups are not ranked.
        permutations: of the attribute.
        delta: score -> equivalence margin in its unit; scores without one claim nothing.
        equivalence_level: of each of the two one-sided tests of equivalence of an attribute's groups.
    """

    minimum: int
    permutations: int
    delta: Mapping[str, float]
    equivalence_level: float = equivalence.LEVEL


class Description(NamedTuple):
    """What one grouping of the patients shows of one column.

    Attributes:
        entry: its summaries in `report.json`.
        differences: of the groups' means among patients without a failed segmentation; None where they are not tested.
    """

    entry: dict[str, Any]
    differences: PairDifferences | None


def describe(
    values: np.ndarray,
    failed: np.ndarray,
    patients: np.ndarray,
    index: np.ndarray,
    names: Sequence[str],
    columns: Sequence[Column],
    seed: Sequence[int],
    settings: Settings,
) -> list[Description]:
    """Summaries, tests and comparisons of groups, one for each of K columns.

    `worst, gap, sd, es, ser` and `equivalence` are of all patients. `test`, `pairs`, `gap_without_failures` and
    `detectable` are of the patients without a failed segmentation: whether failures are as frequent in each group is
    another question, with tests of its own (`endpoint_rates`), and means of all patients answer both at once, so that a
    few failures that happen not to be observed would make one group look better than the other.

    Args:
        values: f64[R, K], patients' means within a group; NaN where undefined.
        failed: bool[R, K], whether a failed segmentation is among them (`patient_table.failures`).
        patients: the patient of each row.
        index: i[R], the row's group, negative where it cannot be ranked and counts in the overall mean alone.
        names: of the groups.
        columns: what the K are.
        seed: of the permutations.
        settings: the rest.

    Returns:
        For each column `worst, gap, gap_without_failures, sd, es, ser, test, rank, pairs, detectable, equivalence,
        warnings`; undefined numbers and parts are None. Corrections over several columns are left to the caller
        (`p_holm`, `p_bh` and `interval_adjusted` are None).
    """
    descriptions: dict[int, Description] = {}
    for sample in samples(values, index, settings.minimum):
        ranked = [names[g] for g in sorted(sample.groups)]
        tested = _without_failures(values, failed, patients, index, sample, columns, seed, settings)
        for k, column in enumerate(sample.columns):
            of_strata = strata(sample, k, columns[column], failed[sample.rows, column])
            groups = of_strata[: len(ranked)]
            entry = _summaries(sample, k, ranked, columns[column], of_strata, patients)
            entry |= _comparisons(sample, k, groups, names, tested.get(int(column)))
            delta = settings.delta.get(columns[column].score)
            entry["equivalence"] = None
            if delta is not None:
                groups_with_score = index[(index >= 0) & ~np.isnan(values[:, column])]
                unranked = len(np.unique(groups_with_score)) - len(ranked)
                entry["equivalence"] = asdict(
                    equivalence.tost(groups, ranked, delta, unranked, settings.equivalence_level)
                )
            compared = tested.get(int(column))
            entry["warnings"] = []
            if compared and compared.paired:
                patients_in_all = len(np.unique(patients[sample.ranked.rows]))
                entry["warnings"].append(paired_differences.note(len(compared.parts[0]), patients_in_all))
            elif len(ranked) >= 2:
                entry["warnings"] += shared_patient_warnings(patients[sample.ranked.rows])
            descriptions[int(column)] = Description(entry, compared and compared.differences)
    return [descriptions[k] for k in range(len(columns))]


def strata(sample: Sample, k: int, column: Column, failed: np.ndarray) -> list[Scores]:
    """Every stratum's scores, the ranked groups as they are numbered, all other patients last.

    Args:
        sample: K columns of the same patients.
        k: which of them.
        column: what it is.
        failed: bool[P], in the sample's order.
    """
    ends = np.cumsum(sample.sizes)[:-1]
    parts = list(zip(np.split(sample.scores[k], ends), np.split(failed, ends), strict=True))
    worst, best = patient_table.bounds(column.score)
    return [two_part.scores(values, flags, worst, best) for values, flags in (parts[g] for g in sample.order)]


def missing_structure_warnings(scored: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A sentence for each structure that some of the groups have scores of, and others none at all.

    Args:
        scored: structure -> ranked group -> patients with a score of it.
    """
    return [
        f"{structure} has no score in {name}, whose mean over structures is of the others alone: it cannot be compared "
        "with that of groups that have it"
        for structure, groups in scored.items()
        for name, patients in groups.items()
        if not patients and any(groups.values())
    ]


def shared_patient_warnings(patients: np.ndarray) -> list[str]:
    """A sentence about patients who have cases in several of the groups.

    Args:
        patients: the patient of each row, a row for each group that a patient is in.
    """
    shared_count = int((np.unique(patients, return_counts=True)[1] > 1).sum()) if len(patients) else 0
    if not shared_count:
        return []
    subject = "1 patient has" if shared_count == 1 else f"{shared_count} patients have"
    return [
        f"{subject} cases in more than one of these groups and count once in each, as if they were different people: "
        "where such cases score alike, intervals of differences are too wide and tests reject too seldom"
    ]


def _summaries(
    sample: Sample, k: int, ranked: list[str], column: Column, strata: list[Scores], patients: np.ndarray
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        key: {"value": None, "interval": None} for key in ("worst", "gap", "sd", "es", "ser")
    }
    entry["worst"]["group"] = None
    entry["ser"]["size"] = None
    if len(ranked) < 2:
        return entry
    point = np.array([patient_weights.mean() for patient_weights in sample.group_scores(k)])
    # Of all patients: one who has a row in several groups counts once, in equal parts.
    _, patient_rows, rows = np.unique(patients[sample.rows], return_inverse=True, return_counts=True)
    patient_weights = 1 / (rows[patient_rows] * len(rows))
    overall = patient_weights @ sample.scores[k]
    error = _itself if column.lower_is_better else summaries.overlap_error
    values = {
        "worst": summaries.worst(point, error),
        "gap": summaries.gap(point),
        "sd": summaries.sd(point),
        "es": np.nan if column.lower_is_better else summaries.es(point, overall),
        "ser": summaries.ser(point, error),
    }
    for key, value in values.items():
        entry[key]["value"] = float(value) if np.isfinite(value) else None
    entry["worst"]["group"] = ranked[int(error(point).argmax())]
    groups = strata[: len(ranked)]
    if min(group.n for group in groups) < MIN_INTERVAL_PATIENTS:
        return entry
    low, high = group_intervals.differences(groups)
    entry["gap"]["interval"] = group_intervals.gap(low, high)
    entry["sd"]["interval"] = group_intervals.sd(low, high, len(ranked))
    entry["worst"]["interval"] = group_intervals.worst_error(groups)
    if not column.lower_is_better:
        weights = np.add.reduceat(patient_weights, np.cumsum(sample.sizes) - sample.sizes)[sample.order]
        entry["es"]["interval"] = group_intervals.es(strata, weights, len(ranked))
    if entry["ser"]["value"] is not None:
        entry["ser"]["interval"] = group_intervals.ser(groups)
    return entry


class _Tested(NamedTuple):
    """Groups of patients without a failed segmentation, compared in one column.

    Attributes:
        groups: the numbers of those with `MIN_INTERVAL_PATIENTS` or more, ascending.
        parts: f64[n], the scores of each.
        test: as in the entry.
        differences: of the groups.
        paired: whether each group has the same patients in the same order, compared within patients.
    """

    groups: list[int]
    parts: list[np.ndarray]
    test: dict[str, Any]
    differences: PairDifferences
    paired: bool


def _without_failures(
    values: np.ndarray,
    failed: np.ndarray,
    patients: np.ndarray,
    index: np.ndarray,
    sample: Sample,
    columns: Sequence[Column],
    seed: Sequence[int],
    settings: Settings,
) -> dict[int, _Tested]:
    """Test the ranked groups of a sample, failures left out, column by column.

    Groups of fewer than `MIN_INTERVAL_PATIENTS` take no part: the largest |t| of two patients would hide the gaps of
    all other groups. `small_groups` compares them with all other patients.
    """
    kept = np.isin(index, sample.groups)[:, None] & ~failed[:, sample.columns]
    tested = {}
    for part in samples(np.where(kept, values[:, sample.columns], np.nan), index, MIN_INTERVAL_PATIENTS):
        shared = paired_differences.complete_patients(part.ranked, patients[part.ranked.rows])
        groups = shared or part.ranked
        test_groups = paired_differences.sign_flips if shared else hypothesis_tests.permuted_welch
        of_groups = (paired_differences if shared else pair_differences).group_differences
        rng = np.random.default_rng([*seed, 1])
        tests = test_groups(groups.scores, groups.sizes, rng, settings.permutations)
        if tests is None:
            continue
        place = np.argsort(groups.groups)
        sign = -1.0 if len(place) == 2 and place[0] > place[1] else 1.0
        for k, number in enumerate(sample.columns[part.columns]):
            worst, best = patient_table.bounds(columns[number].score)
            span = np.inf if worst is None else abs(worst - best)
            parts = groups.group_scores(k)
            test = {
                "name": tests.name,
                "statistic": float(sign * tests.statistic[k]),
                "p": float(tests.p[k]),
                "p_holm": None,
                "p_bh": None,
            }
            differences = of_groups(parts, place, tests, k, span)
            tested[int(number)] = _Tested(sorted(groups.groups), parts, test, differences, shared is not None)
    return tested


def _comparisons(
    sample: Sample, k: int, groups: list[Scores], names: Sequence[str], tested: _Tested | None
) -> dict[str, Any]:
    """Tests and pairs of the ranked groups, of all patients and of those without a failed segmentation."""
    entry: dict[str, Any] = {
        "test": tested and tested.test,
        "gap_without_failures": dict.fromkeys(("value", "interval", "interval_adjusted", "patients")),
        "rank": None,
        "pairs": [],
        "detectable": None,
    }
    if len(groups) < 2 or min(group.n for group in groups) < 2:
        return entry
    ranks = hypothesis_tests.rank_tests(sample.group_scores(k))
    assert ranks is not None  # both need two patients in each group
    entry["rank"] = {"name": ranks.name, "p": ranks.p}
    of_all = group_intervals.differences(groups)
    enough = min(group.n for group in groups) >= MIN_INTERVAL_PATIENTS
    own = _tested_pairs(tested) if tested else {}
    for j, ((a, first), (b, second)) in enumerate(combinations(enumerate(sorted(sample.groups)), 2)):
        entry["pairs"].append(
            {
                "first": names[first],
                "second": names[second],
                "difference": None,
                "interval": None,
                "interval_adjusted": None,
                "welch": None,
                "p": None,
                "p_holm": None,
                **own.get((first, second), {}),
                "all_patients": {
                    "difference": groups[a].mean - groups[b].mean,
                    "interval": [float(end[j]) for end in of_all] if enough else None,
                },
                "p_brunner_munzel": ranks.brunner_munzel[j],
                "p_mann_whitney": ranks.mann_whitney[j],
                "cliffs_delta": ranks.cliffs_delta[j],
            }
        )
    if tested:
        means = [part.mean() for part in tested.parts]
        limits = tested.differences.limits()
        entry["detectable"] = _detectable(tested)
        entry["gap_without_failures"] |= {
            "value": float(max(means) - min(means)),
            "interval": limits and group_intervals.gap(*limits),
            "patients": {names[g]: len(part) for g, part in zip(tested.groups, tested.parts, strict=True)},
        }
    return entry


def _detectable(tested: _Tested) -> float:
    """The difference of the pair that is hardest to tell apart which a single test finds with 80 % power."""
    if tested.paired:
        sizes = np.array([len(part) for part in tested.parts])
        return float(paired_differences.detectable_gap(np.concatenate(tested.parts)[None], sizes)[0])
    return max(
        power.mean_difference((len(a), len(b)), (float(a.std(ddof=1)), float(b.std(ddof=1))))
        for a, b in combinations(tested.parts, 2)
    )


def _tested_pairs(tested: _Tested) -> dict[tuple[int, int], dict[str, Any]]:
    """Of each pair of group numbers, what its entry holds of patients without failures."""
    sizes = np.array([len(part) for part in tested.parts])
    own = paired_differences.student_intervals if tested.paired else hypothesis_tests.welch_intervals
    welch = own(np.concatenate(tested.parts)[None], sizes)[0].tolist()
    limits = tested.differences.limits()
    return {
        pair: {
            "difference": float(tested.differences.estimates[j]),
            "interval": [float(end[j]) for end in limits] if limits else None,
            "welch": welch[j],
            "p": float(tested.differences.p[j]),
        }
        for j, pair in enumerate(combinations(tested.groups, 2))
    }


def _itself(error: Any) -> Any:
    return error
