"""Comparison of mitigation methods on the same patients, over seeds.

There are two kinds of interval, and neither replaces the other. Intervals over seeds (`seed_intervals`, Student's t)
are about training again and testing on the same patients. Intervals over patients (`patient_bootstrap`) are about
testing these trained models on other patients.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from kneefair_jax.errors import InputError
from kneefair_jax.fairness import hypothesis_tests, patient_bootstrap, seed_intervals
from kneefair_jax.fairness.patient_bootstrap import PatientIntervals, Statistics, Strata
from kneefair_jax.fairness.results import Interval
from kneefair_jax.fairness.seed_intervals import (
    CONFIDENCE,
    Change,
    ClosedShare,
    Comparison,
    Front,
    GroupSize,
    HalfTest,
    Method,
    Pair,
    Power,
    RemainingGap,
    RepairableGap,
    SeedEstimate,
)

# The statistics of which changes are reported; `pair` is reported for each method only.
CHANGES = ("mean", "worst", "gap", "ser", "es", "hd95")
PRIMARY = "gap"
LEVEL = 0.05
# A repairable gap and its SD over seeds, for studies without their own (benchmarks/results/study_short.json).
REPAIRABLE, SD = 0.017, 0.004


class _Statistic(NamedTuple):
    """One statistic of every method that has it: per-seed values f64[S] and intervals over patients, by method."""

    per_seed: Mapping[str, np.ndarray] = {}
    intervals: Mapping[str, Interval | None] = {}
    change_intervals: Mapping[str, Interval | None] = {}

    def estimate(self, method: str) -> SeedEstimate:
        return _estimate(self.per_seed.get(method), self.intervals.get(method))

    def change(self, method: str, baseline: str) -> SeedEstimate:
        values, reference = self.per_seed.get(method), self.per_seed.get(baseline)
        difference = None if values is None or reference is None else values - reference
        return _estimate(difference, self.change_intervals.get(method))


def compare_methods(  # each option is one choice of the analysis, so there are more than eight
    scores: Mapping[str, np.ndarray],
    index: np.ndarray,
    names: Sequence[str],
    *,
    baseline: str = "erm",
    oracle: str | None = None,
    overall: tuple[Mapping[str, np.ndarray], np.ndarray] | None = None,
    hd95: Mapping[str, np.ndarray] | None = None,
    pair: tuple[str, str] | None = None,
    min_group_patients: int = 10,
    draws: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare methods that were trained with the same seeds and tested on the same patients.

    Only patients with a score in every run count, so that only the method differs. The *pair* is the baseline's best
    group minus its worst, fixed by the baseline's mean over seeds. It is signed, because a method may reverse it. With
    two groups the gap is the pair. With more, the gap is each method's own max - min in every seed: changes of a pair
    that was chosen because the baseline does badly on it would favor every other method. Changes, the repairable gap
    and its share are about the gap.

    The change of the gap is the primary family: its test and interval over seeds use a standard error that the methods
    share (`seed_intervals.pooled_errors`), and Holm's correction is over the methods only. Changes of the other
    statistics are secondary, each by the paired t-test over seeds. The change of `worst` is that of the lowest group
    mean, whichever groups are lowest.

    Args:
        scores: method -> f[S, P], patients' mean overlap scores by seed; NaN where undefined.
        index: i32[P], each patient's group; negative where unknown, which counts in the overall mean only.
        names: of the G groups.
        baseline: the method with which the others are compared.
        oracle: the method, if any, that shows what training can repair; it is not one of those compared.
        overall: where patients have cases in several groups: method -> f[S, N], the means over all cases of the N
            patients, and i32[N], their groups, negative where unknown or several. The P columns of `scores` then
            have one column for each group of a patient, and means over patients come from `overall`.
        hd95: as `scores` (as `overall` where it is given) for a distance, of which only the mean is reported, over
            the patients who have it in every run; methods may be absent.
        pair: the names of the best and the worst group, instead of the baseline's own; the pair may be negative.
        min_group_patients: smaller groups are not ranked.
        draws: bootstrap resamples.
        seed: of the bootstrap.

    Raises:
        InputError: the baseline or the oracle is not among the methods, no patient has a score in all runs, or a
            group of the given pair is not ranked.
        ValueError: the shapes of the arrays differ.
    """
    order, values = _stacked_scores(scores, index, baseline, oracle)
    strata = patient_bootstrap.stratify(values, index, min_group_patients, _pair_numbers(pair, names))
    _require_ranked(pair or (), names, strata, min_group_patients)
    patients, patient_count = strata, len(index)
    if overall is not None and len(overall[1]) < len(index):
        patient_count = len(overall[1])
        patient_values = np.stack([np.asarray(overall[0][name], float) for name in order])
        patients = patient_bootstrap.stratify(patient_values, overall[1], min_group_patients)
    group_means = patient_bootstrap.means(strata.values, strata.sizes)  # [M, S, K]
    statistics = _statistics(order, strata, patients, group_means, hd95, (seed, draws))

    compared = [name for name in scores if name not in (baseline, oracle)]
    changes, sd = _changes(statistics, compared, baseline, oracle)
    repairable = _repairable_gap(changes, oracle)
    closed = _closed_shares(changes, compared, repairable)
    fronts = _fronts(statistics, [name for name in scores if name != oracle])
    ranked = strata.groups if len(strata.groups) >= 2 else None
    methods = {
        name: Method(
            groups=_means_by_group(group_means[order.index(name)], strata, names),
            **{key: statistic.estimate(name) for key, statistic in statistics.items()},
            change=changes.get(name),
            closed=closed.get(name),
            front=fronts.get(name),
        )
        for name in scores
    }
    return Comparison(
        baseline=baseline,
        oracle=oracle,
        confidence=CONFIDENCE,
        seeds=values.shape[1],
        patients=patients.values.shape[-1],
        excluded=patient_count - patients.values.shape[-1],
        groups=_group_sizes(values, index, strata, names),
        pair=Pair(names[ranked[-1]], names[ranked[0]]) if ranked else None,
        repairable=repairable,
        power=_power(sd, repairable, len(compared), values.shape[1]) if ranked else None,
        methods=methods,
    )


def pareto(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return which points no other dominates, more being better in both: f[M], f[M] -> bool[M]."""
    points = np.stack([first, second], 1)
    is_as_good = (points[:, None] >= points).all(-1)
    is_better = (points[:, None] > points).any(-1)
    return ~(is_as_good & is_better).any(0)


def _stacked_scores(
    scores: Mapping[str, np.ndarray], index: np.ndarray, baseline: str, oracle: str | None
) -> tuple[list[str], np.ndarray]:
    """Return the methods, the baseline first, and their scores f64[M, S, P], checked."""
    for role, method in (("baseline", baseline), ("oracle", oracle)):
        if method is not None and method not in scores:
            raise InputError(f"the {role} {method} is not among the methods compared: {', '.join(scores)}")
    order = [baseline, *sorted(scores.keys() - {baseline})]
    values = np.stack([np.asarray(scores[name], float) for name in order])
    if values.ndim != 3 or values.shape[2:] != index.shape:
        raise ValueError(f"scores {values.shape[1:]} are not seeds x patients of {index.shape} groups")
    if np.isnan(values).any((0, 1)).all():
        raise InputError("no patient has a score in all runs: there is nothing to compare")
    return order, values


def _pair_numbers(pair: tuple[str, str] | None, names: Sequence[str]) -> tuple[int, int] | None:
    if pair is None:
        return None
    for name in pair:
        if name not in names:
            raise InputError(f"the pair's group {name} is none of {', '.join(names)}")
    return names.index(pair[0]), names.index(pair[1])


def _require_ranked(pair: Sequence[str], names: Sequence[str], strata: Strata, minimum: int) -> None:
    for name in pair:
        if names.index(name) not in strata.groups:
            raise InputError(f"the pair's group {name} has fewer than {minimum} patients to rank it by")


def _means_by_group(means: np.ndarray, strata: Strata, names: Sequence[str]) -> dict[str, float]:
    """Return the means over seeds of one method, f64[S, K], by ranked group in the order of `names`."""
    return {
        names[g]: float(means[:, k].mean()) for k, g in sorted(enumerate(strata.groups), key=itemgetter(1))
    }


def _group_sizes(
    values: np.ndarray, index: np.ndarray, strata: Strata, names: Sequence[str]
) -> dict[str, GroupSize]:
    """Return the patients of each group with a score in every run, of f64[M, S, P], and whether it is ranked."""
    is_complete = ~np.isnan(values).any((0, 1))
    return {
        name: GroupSize(int((is_complete & (index == g)).sum()), g in strata.groups)
        for g, name in enumerate(names)
    }


def _statistics(
    order: Sequence[str],
    strata: Strata,
    patients: Strata,
    group_means: np.ndarray,
    hd95: Mapping[str, np.ndarray] | None,
    sampling: tuple[int, int],
) -> dict[str, _Statistic]:
    """Return every statistic; means over patients come from `patients`, statistics of groups from `strata`.

    Args:
        order: the methods.
        strata: a column for each group of a patient.
        patients: a column for each patient; the same as `strata` if no patient is in several groups.
        group_means: f64[M, S, K].
        hd95: method -> distances.
        sampling: seed and draws of the bootstrap.
    """
    seed, draws = sampling
    measured = [name for name in order if hd95 and name in hd95]
    distances = _distances(hd95, measured, patients.rows) if hd95 and measured else None

    def intervals(cohort: Strata, distances: np.ndarray | None = None) -> PatientIntervals | None:
        rng = np.random.default_rng(seed)
        return patient_bootstrap.intervals(cohort, rng, draws, distances)

    empty: list[Statistics[Interval | None]] = [Statistics(None)] * len(order)
    patient_ends = intervals(patients, distances)
    group_ends = patient_ends if patients is strata else intervals(strata)
    group_ends = group_ends or PatientIntervals(empty, empty, [], [])
    patient_ends = patient_ends or group_ends
    values = patient_bootstrap.statistics(group_means, patients.values.mean(-1), len(strata.groups))
    statistics = {}
    for key in ("mean", "worst", "gap", "pair", "ser", "es"):
        ends = patient_ends if key == "mean" else group_ends
        per_seed = getattr(values, key)
        statistics[key] = _Statistic(
            {} if per_seed is None else dict(zip(order, per_seed, strict=True)),
            {name: getattr(entry, key) for name, entry in zip(order, ends.methods, strict=True)},
            {name: getattr(entry, key) for name, entry in zip(order, ends.changes, strict=True)},
        )
    statistics["hd95"] = _Statistic()
    if distances is not None:
        statistics["hd95"] = _Statistic(
            dict(zip(measured, np.nanmean(distances, -1), strict=True)),
            dict(zip(measured, patient_ends.distances, strict=False)),
            dict(zip(measured, patient_ends.distance_changes, strict=False)),
        )
    return statistics


def _distances(hd95: Mapping[str, np.ndarray], methods: Sequence[str], rows: np.ndarray) -> np.ndarray | None:
    """Return f64[D, S, P], NaN in every run for a patient without a distance in any run; None if no patient is left."""
    values = np.stack([np.asarray(hd95[name], float)[:, rows] for name in methods])
    is_complete = ~np.isnan(values).any((0, 1))
    return np.where(is_complete, values, np.nan) if is_complete.any() else None


def _estimate(per_seed: np.ndarray | None, patients: Interval | None) -> SeedEstimate:
    if per_seed is None or not np.isfinite(per_seed).all():
        return SeedEstimate(None, None, None, None)
    seeds = seed_intervals.interval(per_seed)
    return SeedEstimate(float(per_seed.mean()), per_seed.tolist(), seeds, patients)


def _changes(
    statistics: Mapping[str, _Statistic],
    compared: Sequence[str],
    baseline: str,
    oracle: str | None,
) -> tuple[dict[str, dict[str, Change]], float | None]:
    """Return the tested changes by method and statistic, and the pooled SD of a change of the gap over seeds."""
    names = [*compared, oracle] if oracle else list(compared)
    estimates = {(name, key): statistics[key].change(name, baseline) for name in names for key in CHANGES}
    p_values = {
        test: None if estimate.per_seed is None else seed_intervals.p_value(np.array(estimate.per_seed))
        for test, estimate in estimates.items()
    }
    intervals = {test: estimate.seeds for test, estimate in estimates.items()}
    sd = None
    gaps = statistics[PRIMARY].per_seed
    if compared and baseline in gaps and len(gaps[baseline]) > 1:
        ordered = sorted(compared)
        errors, freedom, sd = seed_intervals.pooled_errors(
            np.array([gaps[name] for name in (baseline, *ordered)])
        )
        for name, error in zip(ordered, errors, strict=True):
            differences = np.array(estimates[name, PRIMARY].per_seed)
            pooled = (float(error), freedom)
            intervals[name, PRIMARY] = seed_intervals.interval(differences, pooled)
            p_values[name, PRIMARY] = seed_intervals.p_value(differences, shared=pooled)
    p_holm: dict[tuple[str, str], float | None] = {}
    for is_primary in (True, False):
        p_holm |= hypothesis_tests.holm(
            {
                (name, key): p
                for (name, key), p in p_values.items()
                if (key == PRIMARY) == is_primary and name != oracle
            }
        )
    changes: dict[str, dict[str, Change]] = {name: {} for name in names}
    for (name, key), estimate in estimates.items():
        changes[name][key] = Change(
            estimate.value,
            estimate.per_seed,
            intervals[name, key],
            estimate.patients,
            p_values[name, key],
            p_holm.get((name, key)),
            "primary" if key == PRIMARY else "secondary",
        )
    return changes, sd


def _repairable_gap(changes: Mapping[str, Mapping[str, Change]], oracle: str | None) -> RepairableGap | None:
    """Return the oracle's change of the gap with the opposite sign, baseline minus oracle."""
    if oracle is None or (change := changes[oracle]["gap"]).value is None or change.per_seed is None:
        return None
    seeds, patients = (ends and [-ends[1], -ends[0]] for ends in (change.seeds, change.patients))
    per_seed = [-value for value in change.per_seed]
    return RepairableGap(-change.value, per_seed, seeds, patients, change.p, bool(seeds and seeds[0] > 0))


def _closed_shares(
    changes: Mapping[str, Mapping[str, Change]],
    compared: Sequence[str],
    repairable: RepairableGap | None,
) -> dict[str, ClosedShare]:
    """Return the share of the repairable gap that each method closes."""
    if repairable is None:
        return {}
    reason = None
    if repairable.seeds is None:
        reason = "one seed has no interval"
    elif not repairable.significant:
        reason = "nothing to repair that these seeds could tell from none"
    repairable_gap = np.array(repairable.per_seed)
    closed_gaps = {name: -np.array(changes[name]["gap"].per_seed) for name in compared}
    excess = {name: gap - 0.5 * repairable_gap for name, gap in closed_gaps.items()}
    p_values = {name: seed_intervals.p_value(excess[name], greater=True) for name in compared}
    p_holm = hypothesis_tests.holm(p_values)
    shares = {}
    for name, gap in closed_gaps.items():
        remainder = repairable_gap - gap
        left = RemainingGap(float(remainder.mean()), seed_intervals.interval(remainder))
        if reason:
            shares[name] = ClosedShare(None, None, reason, left, None)
            continue
        half_ends = seed_intervals.interval(excess[name])
        half = HalfTest(float(excess[name].mean()), half_ends, p_values[name], p_holm[name])
        ends = seed_intervals.fieller(gap, repairable_gap)
        value = float(gap.mean() / repairable_gap.mean())
        shares[name] = ClosedShare(value, list(ends) if ends else None, None, left, half)
    return shares


def _power(sd: float | None, repairable: RepairableGap | None, methods: int, seeds: int) -> Power | None:
    """Return the power to find the whole repairable gap, from the study's own numbers where it has them."""
    if not methods or seeds < 2:
        return None
    own_change = repairable is not None and repairable.significant
    change = REPAIRABLE
    if repairable and repairable.value is not None and own_change:
        change = repairable.value
    sd_of_change = sd or SD
    power = seed_intervals.power(change, sd_of_change, methods, seeds, LEVEL)
    return Power(change, sd_of_change, own_change, bool(sd), power)


def _fronts(statistics: Mapping[str, _Statistic], names: Sequence[str]) -> dict[str, Front]:
    """Return which methods are on the Pareto fronts."""
    mean, worst, gap = (
        [statistics[key].per_seed[name].mean() for name in names] if statistics[key].per_seed else None
        for key in ("mean", "worst", "gap")
    )
    if mean is None or worst is None or gap is None:
        return {name: Front(None, None) for name in names}
    on_worst = pareto(np.array(mean), np.array(worst))
    on_gap = pareto(np.array(mean), -np.abs(gap))
    return {name: Front(bool(on_worst[k]), bool(on_gap[k])) for k, name in enumerate(names)}
