"""The summaries of one grouping of the patients, every column's entry in `report.json`, and warnings about them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from kneefair_jax.fairness import (
    equivalence,
    group_intervals,
    hypothesis_tests,
    patient_table,
    summaries,
    two_part,
)
from kneefair_jax.fairness.patient_bootstrap import Sample, samples
from kneefair_jax.fairness.patient_table import Column
from kneefair_jax.fairness.two_part import Scores

# Below this a group is small, above these its scores are skewed and its spread is large. Estimates from few patients
# vary, so both lie well below what defeats the intervals, log-normal errors with a doubled spread: of such cohorts with
# 60 and 15 patients 65 % are warned of, of normal ones with doubled spread 6 %, of skewed ones with equal spread 6 %
# (benchmarks/calibration.py, 3,000 cohorts).
SMALL_GROUP = 20
# Fewer patients have no interval: nobody would read one that spans half of the score's range.
MIN_INTERVAL_PATIENTS = 5
SKEWED_SCORES = 0.5
WIDER_SPREAD = 1.4


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


def describe(
    values: np.ndarray,
    failed: np.ndarray,
    patients: np.ndarray,
    index: np.ndarray,
    names: Sequence[str],
    columns: Sequence[Column],
    seed: Sequence[int],
    settings: Settings,
) -> list[dict[str, Any]]:
    """Summaries, tests and comparisons of groups, a dict for each of K columns.

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
        For each column `worst, gap, sd, es, ser, test, rank, pairs, detectable, equivalence, warnings`; undefined
        numbers and parts are None. Corrections over several columns are left to the caller (`p_holm`, `p_bh` None).
    """
    entries: dict[int, dict[str, Any]] = {}
    for sample in samples(values, index, settings.minimum):
        tests = hypothesis_tests.permuted_welch(
            sample.ranked.scores,
            sample.ranked.sizes,
            np.random.default_rng([*seed, 1]),
            settings.permutations,
        )
        ranked = [names[g] for g in sorted(sample.groups)]
        for k, column in enumerate(sample.columns):
            of_strata = strata(sample, k, columns[column], failed[sample.rows, column])
            entry = _summaries(sample, k, ranked, columns[column], of_strata, patients)
            comparisons, limits = _comparisons(sample, k, ranked, of_strata, tests)
            entry |= comparisons
            if limits is not None:
                entry["gap"]["interval"] = group_intervals.gap(*limits)
                entry["sd"]["interval"] = group_intervals.sd(*limits, len(ranked))
            delta = settings.delta.get(columns[column].score)
            entry["equivalence"] = None
            if delta is not None:
                has = index[(index >= 0) & ~np.isnan(values[:, column])]
                unranked = len(np.unique(has)) - len(ranked)
                entry["equivalence"] = asdict(
                    equivalence.tost(
                        of_strata[: len(ranked)], ranked, delta, unranked, settings.equivalence_level
                    )
                )
            entry["warnings"] = []
            if len(ranked) >= 2:
                entry["warnings"] += small_group_warnings(dict(zip(ranked, sample.parts(k), strict=True)))
                entry["warnings"] += shared_patient_warnings(patients[sample.ranked.rows])
            entries[int(column)] = entry
    return [entries[k] for k in range(len(columns))]


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


def small_group_warnings(groups: Mapping[str, np.ndarray]) -> list[str]:
    """Sentences about small groups whose scores are skewed and spread far more than another group's.

    Their 95 % intervals may cover as little as 90 %, whichever method they come from.

    Args:
        groups: patient means by name of the group.
    """
    spreads = {name: float(scores.std(ddof=1)) for name, scores in groups.items() if len(scores) > 2}
    shapes = [
        (groups[name] - groups[name].mean()) / spread for name, spread in spreads.items() if spread > 1e-12
    ]
    if len(shapes) < 2:
        return []
    # Of all groups, each centred and scaled: that of a small group alone says little.
    skewness = abs(float(stats.skew(np.concatenate(shapes))))
    if skewness < SKEWED_SCORES:
        return []
    narrowest = min(spreads.values())
    return [
        f"{name} has {len(groups[name])} patients, with skewed scores that are spread {spread / narrowest:.1f} times "
        "as far as another group's: its 95 % intervals may cover as little as 90 %"
        for name, spread in spreads.items()
        if len(groups[name]) < SMALL_GROUP and spread >= WIDER_SPREAD * narrowest > 0
    ]


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
    twice = int((np.unique(patients, return_counts=True)[1] > 1).sum()) if len(patients) else 0
    if not twice:
        return []
    who = "1 patient has" if twice == 1 else f"{twice} patients have"
    return [
        f"{who} cases in more than one of these groups and count once in each, as if they were different people: "
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
    point = np.array([part.mean() for part in sample.parts(k)])
    # Of all patients: one who has a row in several groups counts once, in equal parts.
    _, who, rows = np.unique(patients[sample.rows], return_inverse=True, return_counts=True)
    part = 1 / (rows[who] * len(rows))
    overall = part @ sample.scores[k]
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
    entry["worst"]["interval"] = group_intervals.worst_error(groups)
    if not column.lower_is_better:
        weights = np.add.reduceat(part, np.cumsum(sample.sizes) - sample.sizes)[sample.order]
        entry["es"]["interval"] = group_intervals.es(strata, weights, len(ranked))
    if entry["ser"]["value"] is not None:
        entry["ser"]["interval"] = group_intervals.ser(groups)
    return entry


type _Limits = tuple[np.ndarray, np.ndarray]


def _comparisons(
    sample: Sample,
    k: int,
    ranked: list[str],
    strata: list[Scores],
    tests: hypothesis_tests.PermutationTests | None,
) -> tuple[dict[str, Any], _Limits | None]:
    """Tests and pairs of the groups, and the limits of the pairs' differences where there are any."""
    if tests is None:
        return {"test": None, "rank": None, "pairs": [], "detectable": None}, None
    count = len(ranked)
    parts = sample.parts(k)
    ranks = hypothesis_tests.rank_tests(parts)
    assert ranks is not None  # both need two patients in each group
    together, sizes = np.concatenate(parts)[None], np.array([len(part) for part in parts])
    welchs = hypothesis_tests.welch_intervals(together, sizes)[0].tolist()
    # The tests have the groups in the sample's order, where a pair may be turned round.
    place = np.argsort(sample.groups)
    in_order = [strata[g] for g in np.argsort(place)]
    low, high, p = (_by_name(part, place) for part in group_intervals.tested_differences(in_order, tests, k))
    first, second = np.triu_indices(count, 1)
    turned = place[first] > place[second]
    low, high = np.where(turned, -high, low), np.where(turned, -low, high)
    known = sizes.min() >= MIN_INTERVAL_PATIENTS
    pairs = [
        {
            "first": ranked[a],
            "second": ranked[b],
            "difference": float(parts[a].mean() - parts[b].mean()),
            "interval": [float(low[j]), float(high[j])] if known else None,
            "welch": welchs[j],
            "p": float(p[j]),
            "p_holm": None,
            "p_brunner_munzel": ranks.brunner_munzel[j],
            "p_mann_whitney": ranks.mann_whitney[j],
            "cliffs_delta": ranks.cliffs_delta[j],
        }
        for j, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    return {
        "test": {
            "name": tests.name,
            "statistic": float((-1.0 if count == 2 and turned[0] else 1.0) * tests.statistic[k]),
            "p": float(p[0] if count == 2 else tests.p[k]),
            "p_holm": None,
            "p_bh": None,
        },
        "rank": {"name": ranks.name, "p": ranks.p},
        "pairs": pairs,
        "detectable": float(hypothesis_tests.detectable_gap(together, sizes)[0]),
    }, ((low, high) if known else None)


def _by_name(of_pairs: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Numbers of pairs in the sample's order -> in the order of the groups' numbers, f64[J]."""
    count = len(place)
    square = np.zeros((count, count))
    square[np.triu_indices(count, 1)] = of_pairs
    square += square.T
    first, second = np.triu_indices(count, 1)
    return square[place[first], place[second]]


def _itself(error: Any) -> Any:
    return error
