"""The summaries of one way to group the patients: every column's entry in `report.json`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kneefair_jax.fairness import (
    cautions,
    equivalence,
    null_ser,
    permutation,
    rank_tests,
    simultaneous,
    summaries,
    welch,
)
from kneefair_jax.fairness.patient_table import MACRO, Column
from kneefair_jax.fairness.sample import Sample, resampled, samples
from kneefair_jax.fairness.simultaneous import Means


class Settings(NamedTuple):
    """What does not depend on the data.

    Attributes:
        minimum: smaller groups are not ranked.
        draws: bootstrap resamples.
        permutations: of the attribute.
        delta: score -> equivalence margin in its unit; scores without one claim nothing.
    """

    minimum: int
    draws: int
    permutations: int
    delta: Mapping[str, float]


def describe(
    values: np.ndarray,
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
        patients: the patient of each row.
        index: i[R], the row's group, negative where it cannot be ranked and counts in the overall mean alone.
        names: of the groups.
        columns: what the K are.
        seed: of resamples and permutations.
        settings: the rest.

    Returns:
        For each column `worst, gap, sd, es, ser, test, rank, pairs, detectable, equivalence, warnings`; undefined
        numbers and parts are None. Corrections over several columns are left to the caller (`p_holm`, `p_bh` None).
    """
    found: dict[int, dict[str, Any]] = {}
    for sample in samples(values, index, settings.minimum):
        means = resampled(sample, np.random.default_rng([*seed, 0]), settings.draws)
        tests = permutation.welch(
            sample.ranked.scores,
            sample.ranked.sizes,
            np.random.default_rng([*seed, 1]),
            settings.permutations,
        )
        ranked = [names[g] for g in sorted(sample.groups)]
        for k, (column, drawn) in enumerate(zip(sample.columns, means, strict=True)):
            entry = _summaries(sample, k, ranked, columns[column], drawn, patients)
            entry |= _comparisons(sample, k, ranked, drawn, tests)
            delta = settings.delta.get(columns[column].score)
            sizes = sample.ranked.sizes[np.argsort(sample.groups)]
            entry["equivalence"] = None
            # A margin is stated for the score of all structures.
            if delta is not None and columns[column].structure == MACRO:
                groups = drawn and drawn.ranked(len(ranked))
                has = index[(index >= 0) & ~np.isnan(values[:, column])]
                smallest = int(np.unique(has, return_counts=True)[1].min(initial=len(has)))
                entry["equivalence"] = equivalence.tost(groups, sizes, delta, smallest)
            entry["warnings"] = []
            if len(ranked) >= 2:
                entry["warnings"] += cautions.cautions(dict(zip(ranked, sample.parts(k), strict=True)))
                entry["warnings"] += cautions.crossing(patients[sample.ranked.rows])
            found[int(column)] = entry
    return [found[k] for k in range(len(columns))]


def _summaries(
    sample: Sample, k: int, ranked: list[str], column: Column, means: Means | None, patients: np.ndarray
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        key: {"value": None, "interval": None} for key in ("worst", "gap", "sd", "es", "ser")
    }
    entry["worst"]["group"] = None
    entry["ser"] |= {"null95": None, "size": None}
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
    if means is None:
        return entry
    groups = means.ranked(len(ranked))
    errors = groups if column.lower_is_better else groups.errors()
    entry["worst"]["interval"] = simultaneous.worst_error(errors)
    entry["gap"]["interval"] = simultaneous.gap(groups)
    entry["sd"]["interval"] = simultaneous.sd(groups)
    if not column.lower_is_better:
        weights = np.add.reduceat(part, np.cumsum(sample.sizes) - sample.sizes)[sample.order]
        entry["es"]["interval"] = simultaneous.es(means, weights, len(ranked))
    if entry["ser"]["value"] is not None:
        entry["ser"]["interval"] = simultaneous.ratio(errors)
        entry["ser"]["null95"] = null_ser.percentile(errors, sample.sizes[sample.order][: len(ranked)])
    return entry


def _comparisons(
    sample: Sample, k: int, ranked: list[str], means: Means | None, tests: permutation.Tests | None
) -> dict[str, Any]:
    if tests is None:
        return {"test": None, "rank": None, "pairs": [], "detectable": None}
    count = len(ranked)
    parts = sample.parts(k)
    ranks = rank_tests.tests(parts)
    assert ranks is not None  # both need two patients in each group
    together, sizes = np.concatenate(parts)[None], np.array([len(part) for part in parts])
    ends = means and simultaneous.contrasts(means.ranked(count), simultaneous.pairs(count))
    intervals = np.stack([end[0] for end in ends], axis=1).tolist() if ends else None
    welchs = welch.intervals(together, sizes)[0].tolist()
    # The test has the groups in the sample's order: a pair may be turned round there.
    place = np.argsort(sample.groups)
    pairs_p = np.zeros((count, count))
    pairs_p[np.triu_indices(count, 1)] = tests.pairs_p[k]
    pairs_p += pairs_p.T
    turned = -1.0 if count == 2 and place[0] == 1 else 1.0
    pairs = [
        {
            "first": ranked[a],
            "second": ranked[b],
            "difference": float(parts[a].mean() - parts[b].mean()),
            "interval": intervals and intervals[j],
            "welch": welchs[j],
            "p": float(pairs_p[place[a], place[b]]),
            "p_holm": None,
            "p_brunner_munzel": ranks.brunner_munzel[j],
            "p_mann_whitney": ranks.mann_whitney[j],
            "cliffs_delta": ranks.cliffs_delta[j],
        }
        for j, (a, b) in enumerate(zip(*np.triu_indices(count, 1), strict=True))
    ]
    return {
        "test": {
            "name": tests.name,
            "statistic": float(turned * tests.statistic[k]),
            "p": float(tests.p[k]),
            "p_holm": None,
            "p_bh": None,
        },
        "rank": {"name": ranks.name, "p": ranks.p},
        "pairs": pairs,
        "detectable": float(welch.detectable(together, sizes)[0]),
    }


def _itself(error: Any) -> Any:
    return error
