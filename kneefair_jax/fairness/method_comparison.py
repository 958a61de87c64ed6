"""Mitigations compared on the same patients, over seeds: what each changes, and how sure one can be.

There are two kinds of interval and neither replaces the other. Over seeds (`seed_intervals`, Student's t): train again,
test on the same patients. Over patients (`patient_bootstrap`): test these trained models on other patients.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from kneefair_jax.errors import InputError
from kneefair_jax.fairness import multiplicity, patient_bootstrap, seed_intervals

# What a change is a change of.
CHANGES = {"mean": "mean", "worst": "worst", "gap": "gap", "ser": "ser", "es": "es", "hd95": "hd95"}
PRIMARY = "gap"
LEVEL = 0.05
# A repairable gap and its SD over seeds, for studies without their own (benchmarks/results/study_short.json).
REPAIRABLE, SD = 0.017, 0.004
# Statistics of patients, not of groups.
_OF_PATIENTS = ("mean", "hd95", "change_mean", "change_hd95")


def compare(
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
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Compares methods that were trained with the same seeds and tested on the same patients.

    A patient counts who has a score in every run, so that only the method differs. The *pair* is the baseline's best
    group minus its worst, fixed by the baseline's mean over seeds and signed, so that a method may turn it round. With
    two groups the gap is the pair. With more, the gap is each method's own max - min in every seed: changes of a pair
    that was chosen because the baseline does badly on it would flatter every other method. Changes, the repairable gap
    and its share are about the gap.

    The change of the gap is the primary family: its test and interval over seeds use a standard error that is shared by
    the methods (`seed_intervals.pooled_errors`), and Holm's correction is over the methods alone. Changes of the other
    statistics are secondary, each by the paired t-test over seeds.

    Args:
        scores: method -> f[S, P], patients' mean overlap scores by seed; NaN where undefined.
        index: i32[P], each patient's group; negative where unknown, which counts in the overall mean alone.
        names: the G groups' names.
        baseline: the method that the others are compared to.
        oracle: the method, if any, that shows what training can repair; it is not one of those compared.
        overall: where patients have cases in several groups: method -> f[S, N], the means over all cases of the N
            patients, and i32[N], their groups, negative where unknown or several. The P columns of `scores` are then
            one for each group that a patient is in, and means over patients are of these.
        hd95: as `scores` (as `overall` where it is given) for a distance, of which the mean alone is reported, over
            those of the patients who have it in every run; methods may be absent.
        pair: the names of the best and the worst group, instead of the baseline's own; the pair may be negative.
        min_group_patients: smaller groups are not ranked.
        draws: bootstrap resamples.
        seed: of the bootstrap.
        confidence: of every interval.

    Returns:
        Plain JSON, None for what is undefined. `over` stands for `{"value": float, "per_seed": [float], "seeds":
        [low, high], "patients": [low, high]}`: the mean over seeds and its two intervals, of which that over seeds
        needs two seeds and that over patients `bootstrap.MIN_PATIENTS` in every ranked group.

            {"baseline", "oracle", "confidence", "seeds": int, "patients": int, "left_out": int,
             "groups": {name: {"patients": int, "ranked": bool}},
             "pair": {"best": name, "worst": name} or None where fewer than two groups are ranked,
             "repairable": over + {"p", "significant": bool} or None without an oracle,
             "power": {"change", "sd", "own_change": bool, "own_sd": bool, "power"} or None,
             "methods": {name: {
                "groups": {name: float},
                "mean", "worst", "gap", "pair", "ser", "es", "hd95": over,
                "change": {"mean", "worst", "gap", "ser", "es", "hd95": over + {"p", "p_holm",
                           "family": "primary" or "secondary"}} or None for the baseline,
                "closed": {"value", "seeds", "reason": str or None, "left": {"value", "seeds"},
                           "half": {"value", "seeds", "p", "p_holm"} or None} or None for baseline and oracle,
                "front": {"worst": bool, "gap": bool} or None for the oracle}}}

        `worst` is the lowest group mean, and its change that of the lowest, whichever groups are lowest; the change
        of `gap` is that of max - min with more than two groups. Changes of `ser` and `es` have no interval over
        patients (`patient_bootstrap`).
        `p` is two-sided, by a t-test over seeds; that of `half` one-sided, of whether it closes more than half of
        the repairable gap. `p_holm` of a change of the gap corrects over the methods, that of another statistic over
        methods and these statistics together, that of `half` over the methods; the oracle's is None. `power` is that of
        the primary family to find one method's `change` of the gap, the whole repairable one where it is significant
        (else `REPAIRABLE`), whose SD over seeds is `sd`, that of this study where it has one (else `SD`); None for a
        single seed or no method. `left` is the method's gap minus the oracle's. `front`: no
        other method is better in one and as good in the other of the overall mean and the worst group mean (or the
        gap's distance from 0), by point estimates.

    Raises:
        InputError: the baseline or the oracle is not among the methods, no patient has a score in all runs, or a
            group of the given pair is not ranked.
        ValueError: arrays of unequal shapes.
    """
    for role, method in (("baseline", baseline), ("oracle", oracle)):
        if method is not None and method not in scores:
            raise InputError(f"the {role} {method} is not among the methods compared: {', '.join(scores)}")
    order = [baseline, *sorted(scores.keys() - {baseline})]
    values = np.stack([np.asarray(scores[name], float) for name in order])
    if values.ndim != 3 or values.shape[2:] != index.shape:
        raise ValueError(f"scores {values.shape[1:]} are not seeds x patients of {index.shape} groups")
    if np.isnan(values).any((0, 1)).all():
        raise InputError("no patient has a score in all runs: there is nothing to compare")
    strata = patient_bootstrap.stratify(values, index, min_group_patients, _numbers(pair, names))
    count = len(strata.groups)
    for name in pair or ():
        if names.index(name) not in strata.groups:
            raise InputError(
                f"the pair's group {name} has fewer than {min_group_patients} patients to rank it by"
            )

    everyone = strata
    if overall is not None and len(overall[1]) < len(index):
        whole = np.stack([np.asarray(overall[0][name], float) for name in order])
        everyone = patient_bootstrap.stratify(whole, overall[1], min_group_patients)
    by_stratum = patient_bootstrap.means(strata.values, strata.sizes)  # [M, S, K]
    mean = everyone.values.mean(-1)
    per_seed = patient_bootstrap.statistics(by_stratum, mean, count)
    measured = [name for name in order if hd95 and name in hd95]
    distances = _distances(hd95, measured, everyone.rows) if hd95 and measured else None
    over = patient_bootstrap.intervals(everyone, np.random.default_rng(seed), draws, confidence, distances)
    if everyone is not strata:
        of_groups = patient_bootstrap.intervals(strata, np.random.default_rng(seed), draws, confidence)
        over = {**of_groups, **{key: over[key] for key in _OF_PATIENTS if key in over}}
    distance = {} if distances is None else dict(zip(measured, np.nanmean(distances, -1), strict=True))

    def of(key: str, name: str) -> np.ndarray | None:
        if key == "hd95":
            return distance.get(name)
        return per_seed[key][order.index(name)] if key in per_seed else None

    def ends(key: str, name: str) -> list[float] | None:
        named = measured if key.endswith("hd95") else order
        return over[key][named.index(name)] if key in over and name in named else None

    methods: dict[str, dict[str, Any]] = {}
    for m, name in enumerate(order):
        described = {
            key: _over(of(key, name), ends(key, name), confidence)
            for key in ("mean", "worst", "gap", "pair", "ser", "es", "hd95")
        }
        change = {
            key: _over(_minus(of(what, name), of(what, baseline)), ends(f"change_{what}", name), confidence)
            for key, what in CHANGES.items()
        }
        methods[name] = {
            "groups": {
                names[g]: float(by_stratum[m, :, k].mean())
                for k, g in sorted(enumerate(strata.groups), key=itemgetter(1))
            },
            **described,
            "change": change if m else None,
            "closed": None,
            "front": None,
        }
    compared = [name for name in scores if name not in (baseline, oracle)]
    sd = _test_changes(methods, compared, baseline, oracle, confidence)
    repairable = _repair(methods, compared, baseline, oracle, confidence)
    _fronts(methods, [name for name in scores if name != oracle])
    known = ~np.isnan(values).any((0, 1))
    patients = len(index) if everyone is strata else len(overall[1])  # type: ignore[index]
    return {
        "baseline": baseline,
        "oracle": oracle,
        "confidence": confidence,
        "seeds": values.shape[1],
        "patients": everyone.values.shape[-1],
        "left_out": patients - everyone.values.shape[-1],
        "groups": {
            name: {"patients": int((known & (index == g)).sum()), "ranked": g in strata.groups}
            for g, name in enumerate(names)
        },
        "pair": {"best": names[strata.groups[-1]], "worst": names[strata.groups[0]]} if count >= 2 else None,
        "repairable": repairable,
        "power": _power(sd, repairable, len(compared), values.shape[1]) if count >= 2 else None,
        "methods": {name: methods[name] for name in scores},
    }


def pareto(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which points no other dominates, more being better in both: f[M], f[M] -> bool[M]."""
    points = np.stack([first, second], 1)
    as_good = (points[:, None] >= points).all(-1)
    better = (points[:, None] > points).any(-1)
    return ~(as_good & better).any(0)


def _over(per_seed: np.ndarray | None, patients: list[float] | None, confidence: float) -> dict[str, Any]:
    if per_seed is None or not np.isfinite(per_seed).all():
        return {"value": None, "per_seed": None, "seeds": None, "patients": None}
    return {
        "value": float(per_seed.mean()),
        "per_seed": per_seed.tolist(),
        "seeds": seed_intervals.interval(per_seed, confidence),
        "patients": patients,
    }


def _minus(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    return None if one is None or other is None else one - other


def _numbers(pair: tuple[str, str] | None, names: Sequence[str]) -> tuple[int, int] | None:
    if pair is None:
        return None
    for name in pair:
        if name not in names:
            raise InputError(f"the pair's group {name} is none of {', '.join(names)}")
    return names.index(pair[0]), names.index(pair[1])


def _distances(
    hd95: Mapping[str, np.ndarray], measured: Sequence[str], rows: np.ndarray
) -> np.ndarray | None:
    """f64[D, S, P] of the patients who are compared, NaN in every run for one who lacks it in any; None for nobody."""
    values = np.stack([np.asarray(hd95[name], float)[:, rows] for name in measured])
    known = ~np.isnan(values).any((0, 1))
    return np.where(known, values, np.nan) if known.any() else None


def _test_changes(
    methods: dict[str, dict[str, Any]],
    compared: list[str],
    baseline: str,
    oracle: str | None,
    confidence: float,
) -> float | None:
    """Add p values to the changes, and the shared standard error to the gap's; return its SD over seeds."""
    raw = {
        (name, key): _test(methods[name]["change"][key]["per_seed"])
        for name in ([*compared, oracle] if oracle else compared)
        for key in CHANGES
    }
    sd = None
    per_seed = {name: methods[name]["gap"]["per_seed"] for name in (baseline, *sorted(compared))}
    if compared and per_seed[baseline] and len(per_seed[baseline]) > 1:
        errors, freedom, sd = seed_intervals.pooled_errors(np.array(list(per_seed.values())))
        for name, error in zip(sorted(compared), errors, strict=True):
            change = methods[name]["change"][PRIMARY]
            differences, shared = np.array(change["per_seed"]), (float(error), freedom)
            change["seeds"] = seed_intervals.interval(differences, confidence, shared)
            raw[name, PRIMARY] = seed_intervals.p_value(differences, shared=shared)
    for primary in (True, False):
        family = {test: p for test, p in raw.items() if (test[1] == PRIMARY) == primary}
        corrected = multiplicity.holm({test: p for test, p in family.items() if test[0] != oracle})
        for (name, key), p in family.items():
            methods[name]["change"][key] |= {
                "p": p,
                "p_holm": corrected.get((name, key)),
                "family": "primary" if primary else "secondary",
            }
    return sd


def _power(
    sd: float | None, repairable: Mapping[str, Any] | None, methods: int, seeds: int
) -> dict[str, Any] | None:
    """The power to find the whole repairable gap, with the study's own numbers where it has them."""
    if not methods or seeds < 2:
        return None
    own = bool(repairable and repairable["significant"])
    change, spread = repairable["value"] if repairable and own else REPAIRABLE, sd or SD
    power = seed_intervals.power(change, spread, methods, seeds, LEVEL)
    return {"change": change, "sd": spread, "own_change": own, "own_sd": bool(sd), "power": power}


def _test(per_seed: list[float] | None, *, greater: bool = False) -> float | None:
    return None if per_seed is None else seed_intervals.p_value(np.array(per_seed), greater=greater)


def _repair(
    methods: dict[str, dict[str, Any]],
    compared: list[str],
    baseline: str,
    oracle: str | None,
    confidence: float,
) -> dict[str, Any] | None:
    """Adds to each method the share of the repairable gap that it closes; returns the repairable gap."""
    if oracle is None or methods[baseline]["gap"]["value"] is None:
        return None
    # What the oracle changes, with the sign turned: erm - oracle.
    change = methods[oracle]["change"]["gap"]
    repairable = {
        "value": -change["value"],
        "per_seed": [-value for value in change["per_seed"]],
        "seeds": _turned(change["seeds"]),
        "patients": _turned(change["patients"]),
        "p": change["p"],
    }
    low = repairable["seeds"][0] if repairable["seeds"] else None
    repairable["significant"] = low is not None and low > 0
    reason = None
    if low is None:
        reason = "one seed has no interval"
    elif not repairable["significant"]:
        reason = "nothing to repair that these seeds could tell from none"
    whole = np.array(repairable["per_seed"])
    halves: dict[str, float | None] = {}
    for name in compared:
        part = -np.array(methods[name]["change"]["gap"]["per_seed"])
        left = {
            "value": float((whole - part).mean()),
            "seeds": seed_intervals.interval(whole - part, confidence),
        }
        if reason:
            methods[name]["closed"] = {
                "value": None,
                "seeds": None,
                "reason": reason,
                "left": left,
                "half": None,
            }
            continue
        beyond = part - 0.5 * whole
        halves[name] = seed_intervals.p_value(beyond, greater=True)
        ends = seed_intervals.fieller(part, whole, confidence)
        methods[name]["closed"] = {
            "value": float(part.mean() / whole.mean()),
            "seeds": list(ends) if ends else None,
            "reason": None,
            "left": left,
            "half": {
                "value": float(beyond.mean()),
                "seeds": seed_intervals.interval(beyond, confidence),
                "p": halves[name],
            },
        }
    for name, p in multiplicity.holm(halves).items():
        methods[name]["closed"]["half"]["p_holm"] = p
    return repairable


def _turned(ends: list[float] | None) -> list[float] | None:
    return None if ends is None else [-ends[1], -ends[0]]


def _fronts(methods: dict[str, dict[str, Any]], on_it: list[str]) -> None:
    mean = np.array([methods[name]["mean"]["value"] for name in on_it])
    sides = {"worst": lambda method: method["worst"]["value"], "gap": lambda method: method["gap"]["value"]}
    for name in on_it:
        methods[name]["front"] = dict.fromkeys(sides)
    for side, read in sides.items():
        heights = [read(methods[name]) for name in on_it]
        if None in heights:
            continue
        values = np.array(heights)
        for name, best in zip(on_it, pareto(mean, -np.abs(values) if side == "gap" else values), strict=True):
            methods[name]["front"][side] = bool(best)
