"""Summaries, tests and comparisons of the groups of one partition of the patients, for each column of scores."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from kneefair_jax.fairness import (
    equivalence,
    hypothesis_tests,
    patient_table,
    permutation_tests,
    power,
    summaries,
    two_part,
)
from kneefair_jax.fairness.patient_bootstrap import Sample, samples
from kneefair_jax.fairness.patient_table import Column, GroupedScores
from kneefair_jax.fairness.permutation_tests import PairDifferences
from kneefair_jax.fairness.results import (
    AllPatients,
    AttributeSummary,
    ErrorRatio,
    GapWithoutFailures,
    GroupTest,
    PairSummary,
    RankTest,
    Summary,
    WorstError,
)
from kneefair_jax.fairness.two_part import Scores

# With fewer patients, an interval would span half of the score's range.
MIN_INTERVAL_PATIENTS = 5


class Settings(NamedTuple):
    """The settings that do not depend on the data.

    Attributes:
        minimum: smaller groups are not ranked.
        permutations: of the attribute.
        equivalence_margin: score -> margin in its unit; a score without a margin has no equivalence test.
        equivalence_level: of each of the two one-sided tests of equivalence of an attribute's groups.
    """

    minimum: int
    permutations: int
    equivalence_margin: Mapping[str, float]
    equivalence_level: float = equivalence.LEVEL


class Description(NamedTuple):
    """The comparison of one partition's groups in one column.

    Attributes:
        summary: its entry in `report.json`.
        differences: of the groups' means among patients without a failed segmentation; None if they are not tested.
    """

    summary: AttributeSummary
    differences: PairDifferences | None


class _GroupComparison(NamedTuple):
    """Groups of patients without a failed segmentation, compared in one column.

    Attributes:
        groups: the numbers of the groups with `MIN_INTERVAL_PATIENTS` or more, ascending.
        scores: f64[n] of each group.
        test: as in the summary.
        differences: of the groups.
        is_paired: whether each group has the same patients in the same order, compared within patients.
    """

    groups: list[int]
    scores: list[np.ndarray]
    test: GroupTest
    differences: PairDifferences
    is_paired: bool


def describe(
    grouped: GroupedScores, columns: Sequence[Column], seed: Sequence[int], settings: Settings
) -> list[Description]:
    """Summarize, test and compare groups, for each of K columns.

    `worst, gap, sd, es, ser` and `equivalence` are of all patients. `test`, `pairs`, `gap_without_failures` and
    `detectable` are of the patients without a failed segmentation. Whether failures are equally frequent in each group
    is another question with its own tests (`endpoints`). Means of all patients mix both questions: a few failures
    that happen not to be observed would make one group look better than the other.

    Args:
        grouped: the scores.
        columns: the K columns.
        seed: of the permutations.
        settings: the rest.

    Returns:
        Corrections over several columns are left to the caller (`p_holm`, `p_bh` and `interval_adjusted` are None).
    """
    descriptions: dict[int, Description] = {}
    for sample in samples(grouped.values, grouped.groups, settings.minimum):
        comparisons = _compare_without_failures(grouped, sample, columns, seed, settings)
        for k, number in enumerate(sample.columns.tolist()):
            comparison = comparisons.get(number)
            summary = _describe_column(grouped, sample, k, columns[number], comparison, settings)
            descriptions[number] = Description(summary, comparison and comparison.differences)
    return [descriptions[k] for k in range(len(columns))]


def strata(sample: Sample, k: int, column: Column, failed: np.ndarray) -> list[Scores]:
    """Return the scores of every stratum, the ranked groups in the order of their numbers, all other patients last.

    Args:
        sample: K columns of the same patients.
        k: the number of the column in the sample.
        column: its score and structure.
        failed: bool[P], in the sample's order.
    """
    ends = np.cumsum(sample.sizes)[:-1]
    parts = list(zip(np.split(sample.scores[k], ends), np.split(failed, ends), strict=True))
    worst, best = patient_table.bounds(column.score)
    return [
        two_part.summarize(values, flags, worst, best) for values, flags in (parts[g] for g in sample.order)
    ]


def missing_structure_warnings(patients: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a sentence for each structure that some groups have scores of and others do not.

    Args:
        patients: structure -> ranked group -> patients with a score of it.
    """
    return [
        f"{structure} has no score in {name}, so its mean over structures is not comparable with that of groups "
        "that have this structure"
        for structure, by_group in patients.items()
        for name, count in by_group.items()
        if not count and any(by_group.values())
    ]


def shared_patient_warnings(patients: np.ndarray) -> list[str]:
    """Return a sentence about patients who have cases in several of the groups, if there are any.

    Args:
        patients: the patient of each row, a row for each group that a patient is in.
    """
    shared_count = int((np.unique(patients, return_counts=True)[1] > 1).sum()) if len(patients) else 0
    if not shared_count:
        return []
    subject = "1 patient has" if shared_count == 1 else f"{shared_count} patients have"
    return [
        f"{subject} cases in more than one of these groups and count once in each, as if they were different people: "
        "if such cases have similar scores, intervals of differences are too wide and tests reject too seldom"
    ]


def _describe_column(
    grouped: GroupedScores,
    sample: Sample,
    k: int,
    column: Column,
    comparison: _GroupComparison | None,
    settings: Settings,
) -> AttributeSummary:
    names = [grouped.names[g] for g in sorted(sample.groups)]
    number = sample.columns[k]
    all_strata = strata(sample, k, column, grouped.failed[sample.rows, number])
    group_scores = all_strata[: len(names)]
    summary = _summarize(sample, k, names, column, all_strata, grouped.patients)
    if comparison:
        summary = replace(summary, test=comparison.test)
    if len(group_scores) >= 2 and min(group.n for group in group_scores) >= 2:
        summary = _add_pairs(summary, sample, k, group_scores, grouped.names, comparison)
        if comparison:
            summary = _add_gap_without_failures(summary, comparison, grouped.names)
    margin = settings.equivalence_margin.get(column.score)
    if margin is not None:
        groups = grouped.groups[(grouped.groups >= 0) & ~np.isnan(grouped.values[:, number])]
        unranked = len(np.unique(groups)) - len(names)
        verdict = equivalence.tost(group_scores, names, margin, unranked, settings.equivalence_level)
        summary = replace(summary, equivalence=verdict)
    ranked_patients = grouped.patients[sample.ranked.rows]
    warnings: list[str] = []
    if comparison and comparison.is_paired:
        warnings = [hypothesis_tests.note(len(comparison.scores[0]), len(np.unique(ranked_patients)))]
    elif len(names) >= 2:
        warnings = shared_patient_warnings(ranked_patients)
    return replace(summary, warnings=warnings)


def _summarize(
    sample: Sample,
    k: int,
    names: Sequence[str],
    column: Column,
    all_strata: Sequence[Scores],
    patients: np.ndarray,
) -> AttributeSummary:
    """Return the summaries of all patients, with intervals if each group has enough patients."""
    if len(names) < 2:
        return AttributeSummary()
    means = np.array([scores.mean() for scores in sample.group_scores(k)])
    # A patient with a row in several groups counts once in the overall mean, in equal parts.
    _, patient_rows, rows = np.unique(patients[sample.rows], return_inverse=True, return_counts=True)
    patient_weights = 1 / (rows[patient_rows] * len(rows))
    overall = patient_weights @ sample.scores[k]
    error = _identity if column.lower_is_better else summaries.overlap_error
    values = {
        "worst": summaries.worst(means, error),
        "gap": summaries.gap(means),
        "sd": summaries.sd(means),
        "es": np.nan if column.lower_is_better else summaries.es(means, overall),
        "ser": summaries.ser(means, error),
    }
    value = {key: float(number) if np.isfinite(number) else None for key, number in values.items()}
    intervals: dict[str, list[float] | None] = {}
    groups = all_strata[: len(names)]
    if min(group.n for group in groups) >= MIN_INTERVAL_PATIENTS:
        low, high = two_part.differences(groups)
        intervals = {
            "gap": two_part.gap(low, high),
            "sd": two_part.sd(low, high, len(names)),
            "worst": two_part.worst_error(groups),
        }
        if not column.lower_is_better:
            weights = np.add.reduceat(patient_weights, np.cumsum(sample.sizes) - sample.sizes)[sample.order]
            intervals["es"] = two_part.es(all_strata, weights, len(names))
        if value["ser"] is not None:
            intervals["ser"] = two_part.ser(groups)
    return AttributeSummary(
        worst=WorstError(value["worst"], intervals.get("worst"), names[int(error(means).argmax())]),
        gap=Summary(value["gap"], intervals.get("gap")),
        sd=Summary(value["sd"], intervals.get("sd")),
        es=Summary(value["es"], intervals.get("es")),
        ser=ErrorRatio(value["ser"], intervals.get("ser")),
    )


def _compare_without_failures(
    grouped: GroupedScores,
    sample: Sample,
    columns: Sequence[Column],
    seed: Sequence[int],
    settings: Settings,
) -> dict[int, _GroupComparison]:
    """Test the ranked groups of a sample, failures excluded, column by column.

    Groups of fewer than `MIN_INTERVAL_PATIENTS` take no part: the largest |t| of two patients would hide the gaps of
    all other groups. `small_groups` compares them with all other patients.
    """
    is_compared = np.isin(grouped.groups, sample.groups)[:, None] & ~grouped.failed[:, sample.columns]
    values = np.where(is_compared, grouped.values[:, sample.columns], np.nan)
    comparisons = {}
    for part in samples(values, grouped.groups, MIN_INTERVAL_PATIENTS):
        shared = hypothesis_tests.complete_patients(part.ranked, grouped.patients[part.ranked.rows])
        groups = shared or part.ranked
        test_groups = hypothesis_tests.sign_flips if shared else permutation_tests.permuted_welch
        rng = np.random.default_rng([*seed, 1])
        tests = test_groups(groups.scores, groups.sizes, rng, settings.permutations)
        if tests is None:
            continue
        # The tests have the groups in the order of their means, the comparison in the order of their numbers.
        test_order = np.argsort(groups.groups)
        sign = -1.0 if len(test_order) == 2 and test_order[0] > test_order[1] else 1.0
        for k, number in enumerate(sample.columns[part.columns].tolist()):
            worst, best = patient_table.bounds(columns[number].score)
            span = np.inf if worst is None else abs(worst - best)
            scores = groups.group_scores(k)
            comparisons[number] = _GroupComparison(
                sorted(groups.groups),
                scores,
                GroupTest(tests.name, float(sign * tests.statistic[k]), float(tests.p[k])),
                permutation_tests.group_differences(
                    scores, test_order, tests, k, span, is_paired=shared is not None
                ),
                shared is not None,
            )
    return comparisons


def _add_gap_without_failures(
    summary: AttributeSummary, comparison: _GroupComparison, names: Sequence[str]
) -> AttributeSummary:
    """Add the gap among patients without failures, and the difference that its test detects."""
    means = [scores.mean() for scores in comparison.scores]
    limits = comparison.differences.limits()
    gap = GapWithoutFailures(
        value=float(max(means) - min(means)),
        interval=limits and two_part.gap(*limits),
        patients={
            names[g]: len(scores) for g, scores in zip(comparison.groups, comparison.scores, strict=True)
        },
    )
    return replace(summary, gap_without_failures=gap, detectable=_detectable(comparison))


def _add_pairs(
    summary: AttributeSummary,
    sample: Sample,
    k: int,
    groups: Sequence[Scores],
    names: Sequence[str],
    comparison: _GroupComparison | None,
) -> AttributeSummary:
    """Add the pairs of ranked groups and the rank tests, of two patients or more in each group."""
    ranks = hypothesis_tests.rank_tests(sample.group_scores(k))
    assert ranks is not None  # both need two patients in each group
    low, high = two_part.differences(groups)
    has_interval = min(group.n for group in groups) >= MIN_INTERVAL_PATIENTS
    compared = _compared_pairs(comparison) if comparison else {}
    undefined = dict.fromkeys(("difference", "interval", "welch", "p"))
    pairs = [
        PairSummary(
            first=names[first],
            second=names[second],
            interval_adjusted=None,
            p_holm=None,
            **compared.get((first, second), undefined),
            all_patients=AllPatients(
                groups[a].mean - groups[b].mean, [float(low[j]), float(high[j])] if has_interval else None
            ),
            p_brunner_munzel=ranks.brunner_munzel[j],
            p_mann_whitney=ranks.mann_whitney[j],
            cliffs_delta=ranks.cliffs_delta[j],
        )
        for j, ((a, first), (b, second)) in enumerate(combinations(enumerate(sorted(sample.groups)), 2))
    ]
    return replace(summary, rank=RankTest(ranks.name, ranks.p), pairs=pairs)


def _compared_pairs(comparison: _GroupComparison) -> dict[tuple[int, int], dict[str, Any]]:
    """Return the fields of `PairSummary` that are of patients without failures, by pair of group numbers."""
    sizes = np.array([len(scores) for scores in comparison.scores])
    pair_intervals = (
        hypothesis_tests.student_intervals if comparison.is_paired else hypothesis_tests.welch_intervals
    )
    welch = pair_intervals(np.concatenate(comparison.scores)[None], sizes)[0].tolist()
    limits = comparison.differences.limits()
    return {
        pair: {
            "difference": float(comparison.differences.estimates[j]),
            "interval": [float(end[j]) for end in limits] if limits else None,
            "welch": welch[j],
            "p": float(comparison.differences.p[j]),
        }
        for j, pair in enumerate(combinations(comparison.groups, 2))
    }


def _detectable(comparison: _GroupComparison) -> float:
    """Return the difference that a single test detects with 80 % power, of the pair with the least power."""
    if comparison.is_paired:
        sizes = np.array([len(scores) for scores in comparison.scores])
        return float(hypothesis_tests.detectable_gap(np.concatenate(comparison.scores)[None], sizes)[0])
    return max(
        power.mean_difference((len(a), len(b)), (float(a.std(ddof=1)), float(b.std(ddof=1))))
        for a, b in combinations(comparison.scores, 2)
    )


def _identity(error: Any) -> Any:
    return error
