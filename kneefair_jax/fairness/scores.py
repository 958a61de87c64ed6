"""Computes the fairness numbers of a report from the per-case table, for each attribute and each pair of attributes."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import (
    bootstrap,
    equivalence,
    family,
    hypothesis_tests,
    inference,
    patient_table,
    two_part,
)
from kneefair_jax.fairness.family import Hypothesis, Primary
from kneefair_jax.fairness.inference import Description, Settings
from kneefair_jax.fairness.patient_table import MACRO, Column, GroupedScores, Table
from kneefair_jax.fairness.permutation_tests import PairDifferences
from kneefair_jax.fairness.results import (
    AttributeSummary,
    GroupMean,
    Mean,
    PairSummary,
    ScoreResult,
    StructureScores,
)


def scores(  # each option is one choice of the analysis, so there are more than eight
    cases: pd.DataFrame,
    structures: Sequence[str],
    attributes: Sequence[str],
    *,
    min_group_patients: int,
    draws: int,
    seed: int,
    equivalence_margin: Mapping[str, float] | None = None,
    failure_dice: float = patient_table.FAILURE_DICE,
    primary: Mapping[Hypothesis, float] | None = None,
    stated: Primary | None = None,
    intersections: bool = True,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Return the `scores` of `report.json` (schema 2) for one split and one model.

    Args:
        cases: the long per-case table: `case_id, patient_id, structure`, categorical attribute columns, and the
            columns of `patient_table.SCORES` that were measured, with `dice`.
        structures: in the order to report them.
        attributes: columns to group by.
        min_group_patients: smaller groups, and the level `missing`, are shown but not ranked.
        draws: permutations of the attribute over patients.
        seed: of the permutations; the same table and seed give the same numbers.
        equivalence_margin: score -> the prespecified margin, in the score's unit. Each attribute's groups are tested
            for equivalence at `equivalence.LEVEL` divided by the number of attributes with two or more ranked groups
            (Bonferroni), the groups of pairs of attributes at the same level.
        failure_dice: Dice below which a segmentation counts as failed; intervals of means treat failures separately
            (`two_part`).
        primary: p values of the other hypotheses of the primary family (`family.p_values`).
        stated: the primary score and attributes; gaps of other attributes in that score are not corrected.
        intersections: whether to describe pairs of attributes.
        advance: called after each attribute and each pair of attributes.

    Returns:
        Score -> `results.ScoreResult` as a dict. `p_holm` of the primary score is corrected over the primary
        family and is None for attributes outside it; that of other macro scores is corrected over attributes. `p_bh`
        corrects the structures' tests over structures and attributes. Intervals are at 95 %. Gaps of pairs of
        attributes are exploratory, because they follow wherever one attribute has a gap (`p_holm` None).

    Raises:
        InputError: a margin is of an unknown score or not above 0, or there are too few draws for an interval.
    """
    bootstrap.check_draws(draws)
    _check_margins(equivalence_margin or {})
    table = patient_table.table(cases, structures, failure_dice)
    partitions = groups.partitions(table.rows, attributes, intersections)
    groupings = [
        _Grouping(partition, patient_table.group_scores(table, partition)) for partition in partitions
    ]
    attribute_count = sum(
        _ranked_count(grouping.scores, table.columns, min_group_patients) > 1
        for grouping in groupings[: len(attributes)]
    )
    settings = Settings(
        min_group_patients,
        draws,
        dict(equivalence_margin or {}),
        equivalence.LEVEL / max(attribute_count, 1),
    )
    all_cases = np.ones(len(table.rows), bool)
    results = {
        column: StructureScores(overall=mean)
        for column, mean in zip(table.columns, _means(table, all_cases), strict=True)
    }
    differences: dict[tuple[str, str], PairDifferences] = {}
    for grouping in groupings:
        for g, name in enumerate(grouping.partition.names):
            means = _means(table, grouping.partition.index == g)
            for column, mean in zip(table.columns, means, strict=True):
                results[column].groups[name] = _group_mean(name, mean, min_group_patients)
        for column, description in zip(
            table.columns, grouping.describe(table.columns, seed, settings), strict=True
        ):
            summary = description.summary
            if column.structure == MACRO:
                summary = _add_warnings(summary, results, column, grouping.partition)
                if description.differences:
                    differences[column.score, grouping.key] = description.differences
            results[column].summaries[grouping.key] = summary
        advance()
    stated = stated or Primary()
    corrected = {}
    for score, result in _by_score(results).items():
        is_primary = score == stated.score
        compared = {
            key: differences[score, key]
            for key in attributes
            if (score, key) in differences and (not is_primary or stated.covers(key))
        }
        result = _require_every_structure(result)
        corrected[score] = _correct(result, compared, (primary or {}) if is_primary else {}).to_dict()
    return corrected


class _Grouping(NamedTuple):
    """A partition of the cases and its scores by patient and group."""

    partition: groups.Partition
    scores: GroupedScores

    @property
    def key(self) -> str:
        return ",".join(self.partition.attributes)

    def describe(self, columns: Sequence[Column], seed: int, settings: Settings) -> list[Description]:
        return inference.describe(self.scores, columns, [seed, zlib.crc32(self.key.encode())], settings)


def _check_margins(margins: Mapping[str, float]) -> None:
    for score, margin in margins.items():
        if score not in patient_table.SCORES or not margin > 0:
            raise InputError(
                f"equivalence_margin {score}={margin}: give a margin above 0 for any of "
                f"{', '.join(patient_table.SCORES)}"
            )


def _ranked_count(scores: GroupedScores, columns: Sequence[Column], minimum: int) -> int:
    """Return how many groups have enough patients with a Dice to be ranked."""
    has_dice = ~np.isnan(scores.values[:, columns.index(Column("dice", MACRO))])
    patients = np.bincount(scores.groups[has_dice & (scores.groups >= 0)])
    return int((patients >= max(minimum, 1)).sum())


def _means(table: Table, member: np.ndarray) -> list[Mean]:
    """Return the mean and interval over the patients of the cases bool[N], for each column."""
    values = table.values[member]
    by_patient = patient_table.patient_means(values, table.patients[member])
    failed_patients = patient_table.patient_flags(table.failed[member], table.patients[member])
    has_score = ~np.isnan(by_patient)
    means = []
    for k, column in enumerate(table.columns):
        rows = has_score[:, k]
        mean, interval = None, None
        if rows.any():
            worst, best = patient_table.bounds(column.score)
            group = two_part.summarize(by_patient[rows, k], failed_patients[rows, k], worst, best)
            mean = group.mean
            if group.n >= inference.MIN_INTERVAL_PATIENTS:
                interval = list(two_part.limits(group, 0.025))
        means.append(Mean(mean, interval, int(rows.sum()), int((~np.isnan(values[:, k])).sum())))
    return means


def _group_mean(name: str, mean: Mean, minimum: int) -> GroupMean:
    reason = groups.unranked_reason(name, mean.patients, minimum)
    return GroupMean(mean.mean, mean.interval, mean.patients, mean.cases, reason, reason is None)


def _add_warnings(
    summary: AttributeSummary,
    results: Mapping[Column, StructureScores],
    macro: Column,
    partition: groups.Partition,
) -> AttributeSummary:
    """Add the warnings about structures that ranked groups, or some of their cases, lack.

    Groups that lack a structure are not equivalent, because their macro scores compare different structures.
    """
    ranked = [name for name in partition.names if results[macro].groups[name].ranked]
    structures = {
        column.structure: result.groups
        for column, result in results.items()
        if column.score == macro.score and column.structure != MACRO
    }
    patients = {
        structure: {name: means[name].patients for name in ranked} for structure, means in structures.items()
    }
    warnings = inference.missing_structure_warnings(patients)
    if warnings and summary.equivalence:
        verdict = replace(summary.equivalence, equivalent=False, reason=warnings[0])
        summary = replace(summary, equivalence=verdict)
    if len(partition.attributes) == 1:
        cases = {name: results[macro].groups[name].cases for name in ranked}
        scored = {
            structure: {name: means[name].cases for name in ranked} for structure, means in structures.items()
        }
        warnings += patient_table.incomplete_case_warnings(scored, cases)
    return replace(summary, warnings=[*summary.warnings, *warnings])


def _by_score(results: Mapping[Column, StructureScores]) -> dict[str, ScoreResult]:
    by_score = {}
    for column, macro in results.items():
        if column.structure == MACRO:
            structures = {
                structure: result
                for (score, structure), result in results.items()
                if score == column.score and structure != MACRO
            }
            by_score[column.score] = ScoreResult(
                structures=structures, overall=macro.overall, groups=macro.groups, summaries=macro.summaries
            )
    return by_score


def _require_every_structure(result: ScoreResult) -> ScoreResult:
    """Withdraw equivalence in a score unless it holds in every structure: opposite gaps cancel in the mean."""
    summaries = {}
    for key, summary in result.summaries.items():
        verdict = summary.equivalence
        if verdict is not None and verdict.equivalent:
            structures = {name: part.summaries[key].equivalence for name, part in result.structures.items()}
            reasons = [f"{name}: {part.reason}" for name, part in structures.items() if part and part.reason]
            if reasons:
                verdict = replace(verdict, equivalent=False, reason="; ".join(reasons))
                summary = replace(summary, equivalence=verdict)
        summaries[key] = summary
    return replace(result, summaries=summaries)


def _correct(
    result: ScoreResult, differences: Mapping[str, PairDifferences], hypotheses: Mapping[Hypothesis, float]
) -> ScoreResult:
    """Correct one score's p values and intervals over several tests.

    An adjusted interval has the level at which the correction judged its p: `family.LEVEL` p / p_adjusted. So it
    excludes zero if and only if the corrected p is below `family.LEVEL`.

    Args:
        result: of the score.
        differences: by attribute whose gap is corrected together with `hypotheses`, without pairs of attributes.
        hypotheses: p values of other hypotheses of the same family.
    """
    tests = {key: test for key in differences if (test := result.summaries[key].test)}
    p_values = {Hypothesis(family.MEAN, key): test.p for key, test in tests.items()}
    p_adjusted = family.adjust({**p_values, **hypotheses})
    summaries = {
        key: _correct_summary(summary, differences[key], p_adjusted[Hypothesis(family.MEAN, key)])
        if key in tests
        else summary
        for key, summary in result.summaries.items()
    }
    exploratory = {
        (name, key): summary.test
        for name, part in result.structures.items()
        for key, summary in part.summaries.items()
        if summary.test
    }
    p_bh = hypothesis_tests.benjamini_hochberg({where: test.p for where, test in exploratory.items()})
    structures = {
        name: replace(
            part,
            summaries={
                key: replace(summary, test=summary.test and replace(summary.test, p_bh=p_bh[name, key]))
                for key, summary in part.summaries.items()
            },
        )
        for name, part in result.structures.items()
    }
    return replace(result, summaries=summaries, structures=structures)


def _correct_summary(
    summary: AttributeSummary, differences: PairDifferences, p_holm: float
) -> AttributeSummary:
    """Add the corrected p and the adjusted intervals of an attribute's gap and of its pairs."""
    assert summary.test is not None
    p = summary.test.p
    gap = summary.gap_without_failures
    if gap.interval:
        limits = differences.limits(family.LEVEL * p / p_holm)
        gap = replace(gap, interval_adjusted=limits and two_part.gap(*limits))
    pairs: list[PairSummary] = []
    position = 0  # among the pairs that are compared without failures
    for pair in summary.pairs:
        if pair.p is not None:
            pair = _correct_pair(pair, pair.p, position, differences, p_holm, p)
            position += 1
        pairs.append(pair)
    test = replace(summary.test, p_holm=p_holm)
    return replace(summary, test=test, gap_without_failures=gap, pairs=pairs)


def _correct_pair(
    pair: PairSummary,
    p: float,
    position: int,
    differences: PairDifferences,
    test_p_holm: float,
    test_p: float,
) -> PairSummary:
    """Add the p that pays for the rest of the family like its test; `p` is corrected within the attribute."""
    p_holm = min(1.0, max(test_p_holm, p * test_p_holm / test_p))
    interval = pair.interval_adjusted
    if pair.interval:
        limits = differences.limits(family.LEVEL * p / p_holm)
        interval = limits and [float(end[position]) for end in limits]
    return replace(pair, p_holm=p_holm, interval_adjusted=interval)
