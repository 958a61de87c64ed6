"""Describe a comparison of methods: the changes that its tests support, and how far training converged."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kneefair_jax.report.text.formatting import (
    amount,
    group_title,
    listing,
    number,
    p_equals,
    percent,
    signed,
)
from kneefair_jax.report.text.power import study_power

LEVEL = 0.05

# The range of each statistic; Student's interval of few seeds can exceed it.
LIMITS = {
    **dict.fromkeys(("mean", "worst", "es"), (0.0, 1.0)),
    **dict.fromkeys(("gap", "pair"), (-1.0, 1.0)),
    "ser": (1.0, math.inf),
    "hd95": (0.0, math.inf),
}
# Statistics at the end of a method's description: title, digits, unit.
FURTHER = {"ser": ("SER", 3, ""), "es": ("ES-Dice", 3, ""), "hd95": ("HD95", 2, " mm")}
FEW_SEEDS = 3
STILL_RISING = 0.01  # of validation Dice, between the last two evaluations
LOW_DICE = 0.7  # of mean test Dice


def clip_intervals(estimate: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return an estimate with its intervals clipped to the range of its statistic."""
    lower, upper = LIMITS[key]
    clipped = {
        kind: [min(max(end, lower), upper) for end in estimate[kind]]
        for kind in ("seeds", "patients")
        if estimate.get(kind)
    }
    return {**estimate, **clipped}


def label(study: Mapping[str, Any], name: str) -> str:
    """Return a method's name for a reader."""
    return (study["methods"].get(name) or {}).get("label") or name


def summary(study: Mapping[str, Any]) -> str:
    """Describe what was compared, the baseline's gap, its repairable part, and the significant changes."""
    comparison = study["comparison"]
    compared = [
        name for name in comparison["methods"] if name not in (comparison["baseline"], comparison["oracle"])
    ]
    base, baseline = comparison["methods"][comparison["baseline"]], label(study, comparison["baseline"])
    sentences = [
        f"{amount(len(compared), 'mitigation')} and the baseline, {baseline}, were trained with the same "
        f"{amount(comparison['seeds'], 'seed')} and tested on the same {amount(comparison['patients'], 'patient')}.",
        f"The baseline reaches a mean Dice of {number(base['mean']['value'])}{_intervals(base, 'mean')}.",
    ]
    if comparison["pair"] is None:
        sentences.append(
            "Fewer than two groups have the patients that ranking needs, so there is no gap to compare."
        )
        return " ".join(sentences)
    best, worst = pair_titles(study)
    gap = f"{number(base['gap']['value'])}{_intervals(base, 'gap')}"
    if has_two_groups(comparison):
        sentences.append(f"Its mean Dice is higher in {best} than in {worst}, a gap of {gap}.")
    else:
        sentences.append(
            f"The gap between its highest and lowest group mean ({best} and {worst} over seeds) is {gap}."
        )
    if not excludes_zero(base["gap"]["patients"]):
        sentences.append("With this sample of patients, the gap is not distinguishable from zero.")
    if comparison["repairable"]:
        sentences.append(_repairable(study, baseline))
    sentences += _changes(study, compared)
    if comparison.get("power"):
        sentences.append(study_power(comparison["power"], len(compared)))
    return " ".join(sentences)


def warnings(study: Mapping[str, Any]) -> list[str]:
    """Return reasons why the results may not hold for well-trained models."""
    comparison, training = study["comparison"], study.get("training") or {}
    texts = []
    if comparison["seeds"] == 1:
        texts.append("There is one seed: no result has an interval over seeds, and no change is tested.")
    elif comparison["seeds"] < FEW_SEEDS:
        texts.append(
            f"There are {comparison['seeds']} seeds, fewer than {FEW_SEEDS}: intervals over seeds are so wide that "
            "almost no change can be significant."
        )
    unconverged = [
        label(study, name)
        for name, entry in training.items()
        if entry["rise"] is not None and np.mean(entry["rise"]) > STILL_RISING
    ]
    if unconverged:
        texts.append(
            f"The validation Dice of {listing(unconverged)} still rose by more than {STILL_RISING} between the last "
            "two "
            "evaluations (mean over seeds): longer training may change these results."
        )
    means = {name: method["mean"]["value"] for name, method in comparison["methods"].items()}
    if weak := [label(study, name) for name, mean in means.items() if mean is not None and mean < LOW_DICE]:
        texts.append(
            f"The mean test Dice of {listing(weak)} is below {LOW_DICE}: training was too short, or the network is not "
            "suited to the task. These results do not apply to well-trained models."
        )
    return texts


def train_scores(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each method and group: mean Dice of training and of test patients over seeds.

    Methods without training scores have no rows.
    """
    training = study.get("training") or {}
    return [
        {
            "method": name,
            "group": group,
            "train": _mean(entry["dice"]),
            "test": method["groups"].get(group),
            "cases": entry["cases"],
        }
        for name, method in study["comparison"]["methods"].items()
        for group, entry in ((training.get(name) or {}).get("train_scores") or {}).items()
    ]


def convergence(study: Mapping[str, Any]) -> str:
    """State how much of the baseline's gap is present on training patients; "" without training scores."""
    comparison = study["comparison"]
    train = {
        row["group"]: row["train"] for row in train_scores(study) if row["method"] == comparison["baseline"]
    }
    if not comparison["pair"]:
        return ""
    best_mean, worst_mean = (train.get(comparison["pair"][side]) for side in ("best", "worst"))
    if best_mean is None or worst_mean is None:
        return ""
    train_gap, test_gap = (
        best_mean - worst_mean,
        comparison["methods"][comparison["baseline"]]["pair"]["value"],
    )
    worst, baseline = pair_titles(study)[1], label(study, comparison["baseline"])
    text = (
        f"The gap of {baseline} is {number(train_gap)} on training patients and {number(test_gap)} on test patients "
        "(means over seeds)."
    )
    if test_gap <= 0:
        return text
    if train_gap >= test_gap / 2:
        return (
            f"{text} At least half of the gap is present on training patients (short-budget regime): {worst} is not "
            "yet fitted, or is harder to segment regardless of training length."
        )
    return (
        f"{text} Less than half of the gap is present on training patients (long-budget regime): the training cases "
        f"are fitted, and {worst} has too few patients, which balancing only repeats."
    )


def _repairable(study: Mapping[str, Any], baseline: str) -> str:
    repairable = study["comparison"]["repairable"]
    oracle = label(study, study["comparison"]["oracle"])
    size = f"{number(repairable['value'])}{_interval(repairable['seeds'], 'seeds')}"
    if repairable["significant"]:
        return (
            f"The gap of the {oracle} is smaller by {size}: training can repair this part of the gap; equal "
            f"representation at this training budget does not repair the rest"
            f"{_patient_caveat(repairable['patients'])}."
        )
    if repairable["seeds"] is None:
        return f"The gap of the {oracle} is smaller by {size}; one seed does not show whether this differs from zero."
    return (
        f"The gap of {baseline} minus that of the {oracle} is {size}, which is not distinguishable from zero: no part "
        "of the gap is shown to be repairable."
    )


def _changes(study: Mapping[str, Any], compared: Sequence[str]) -> list[str]:
    """Name the methods that change the gap significantly, and those that do not."""
    changes = {name: study["comparison"]["methods"][name]["change"]["gap"] for name in compared}
    if not changes:
        return []
    if all(change["p_holm"] is None for change in changes.values()):
        return ["There is one seed, so no change is tested."]
    significant = {name: change for name, change in changes.items() if is_significant(change)}
    decreasing = [label(study, name) for name, change in significant.items() if change["value"] < 0]
    increasing = [label(study, name) for name, change in significant.items() if change["value"] > 0]
    unchanged = [label(study, name) for name in changes if name not in significant]
    uncertain = [
        label(study, name)
        for name, change in significant.items()
        if change["patients"] and not excludes_zero(change["patients"])
    ]
    seeds = f"over {amount(study['comparison']['seeds'], 'seed')}"
    sentences = []
    for verb, names in (("decreases", decreasing), ("increases", increasing)):
        if names:
            sentences.append(f"The gap {verb} significantly with {listing(names)}.")
    if uncertain:
        sentences.append(f"The interval over patients of the change includes zero for {listing(uncertain)}.")
    if unchanged:
        methods = listing(unchanged) if significant else "any method"
        sentences.append(f"The gap does not change significantly with {methods} ({seeds}).")
    return sentences


def method_text(study: Mapping[str, Any], name: str) -> str:
    """Describe one method: gap, worst group, overall mean, share of the repairable gap, and further statistics."""
    comparison = study["comparison"]
    method = comparison["methods"][name]
    titles = {"mean": "the overall mean"}
    if comparison["pair"] is not None:
        titles = {"gap": "the gap", "worst": "the worst group's mean"} | titles
    changes = {key: method["change"][key] for key in titles}
    clauses = [
        _gap_change(study, method) if key == "gap" else _significant_change(change, titles[key])
        for key, change in changes.items()
        if is_significant(change)
    ]
    unchanged = [
        f"{titles[key]} {_estimate(change)}" for key, change in changes.items() if not is_significant(change)
    ]
    subject = f"{label(study, name)} ({amount(comparison['seeds'], 'seed')})"
    verb = _unchanged_verb(changes.values(), len(unchanged))
    parts = [f"{subject} {listing(clauses)}"] if clauses else []
    parts += [f"{listing(unchanged)} {verb}"] if unchanged else []
    text = f"{'; '.join(parts)}." if clauses else f"{subject}: {parts[0]}."
    closed = method["closed"]
    if closed and closed["value"] is not None:
        intervals = (method["change"]["gap"]["patients"], comparison["repairable"]["patients"])
        includes_zero = any(ends and not excludes_zero(ends) for ends in intervals)
        caveat = "; the interval over patients includes zero" if includes_zero else ""
        text += f" It closes {_closed_share(closed)}{caveat}."
    return text + _further(method["change"])


def _unchanged_verb(changes: Iterable[Mapping[str, Any]], count: int) -> str:
    if all(change["p_holm"] is None for change in changes):
        return "is not tested" if count == 1 else "are not tested"
    return "does not change significantly" if count == 1 else "do not change significantly"


def _further(changes: Mapping[str, Any]) -> str:
    """Describe the changes of SER, ES-Dice and HD95."""
    measured = {key: changes[key] for key in FURTHER if changes[key]["value"] is not None}
    clauses = [
        _significant_change(change, *FURTHER[key])
        for key, change in measured.items()
        if is_significant(change)
    ]
    unchanged = [FURTHER[key][0] for key, change in measured.items() if not is_significant(change)]
    text = f" It also {listing(clauses)}." if clauses else ""
    if not unchanged:
        return text
    return f"{text} {listing(unchanged)} {_unchanged_verb(measured.values(), len(unchanged))}."


def _gap_change(study: Mapping[str, Any], method: Mapping[str, Any]) -> str:
    """Describe a significant change of the gap."""
    comparison = study["comparison"]
    change, difference = method["change"]["gap"], method["pair"]
    best, worst = pair_titles(study)
    value, ends = change["value"], change["seeds"]
    baseline = comparison["methods"][comparison["baseline"]]
    if has_two_groups(comparison) and not excludes_zero(baseline["gap"]["patients"]):
        # The sign of the baseline's own gap is unknown, and so is the direction that is narrower.
        text = f"changes the difference {best} minus {worst} by {signed(value)} [{signed(ends[0])}, {signed(ends[1])}]"
    elif value < 0 and difference["seeds"][1] < 0:
        reverse = f"{worst} exceeds {best} by {number(-difference['value'])}"
        text = f"changes the gap by {_size(change)} and reverses it: {reverse}"
    else:
        text = f"{'narrows' if value < 0 else 'widens'} the gap by {_size(change)}"
    return f"{text} ({p_equals(change['p_holm'])}{_patient_caveat(change['patients'])})"


def _significant_change(change: Mapping[str, Any], title: str, digits: int = 3, unit: str = "") -> str:
    verb = "raises" if change["value"] > 0 else "lowers"
    p_text = f"secondary, {p_equals(change['p_holm'])}{_patient_caveat(change['patients'], digits)}"
    return f"{verb} {title} by {_size(change, digits)}{unit} ({p_text})"


def _patient_caveat(ends: Sequence[float] | None, digits: int = 3) -> str:
    """Return the interval over patients where it includes zero."""
    if ends is None or excludes_zero(ends):
        return ""
    return (
        f"; the interval over patients, {signed(ends[0], digits)} to {signed(ends[1], digits)}, includes zero"
    )


def _estimate(change: Mapping[str, Any]) -> str:
    """Format a change that is not significant, with its interval and p."""
    if change["seeds"] is None:
        return f"({signed(change['value'])})"
    ends = f"[{signed(change['seeds'][0])}, {signed(change['seeds'][1])}]"
    return f"({signed(change['value'])} {ends}, {p_equals(change['p_holm'])})"


def _closed_share(closed: Mapping[str, Any]) -> str:
    ends, half = closed["seeds"], closed["half"]
    text = percent(closed["value"], 0)
    if ends:
        text += f" [{percent(ends[0], 0)}, {percent(ends[1], 0)}]"
    text += " of the repairable gap"
    if is_significant(half):
        return f"{text}, more than half ({p_equals(half['p_holm'])})"
    if ends and ends[1] < 0.5:
        return f"{text}, less than half"
    return f"{text}, not significantly more or less than half"


def selection_rules(study: Mapping[str, Any]) -> str:
    """State whether the rule that selects a checkpoint changes which method has the smallest gap (point estimate)."""
    smallest = {rule: smallest_gap(comparison) for rule, comparison in study["rules"].items()}
    methods = {rule: label(study, name) for rule, name in smallest.items() if name is not None}
    if not methods:
        return ""
    if len({*smallest.values()} - {None}) == 1:
        return f"{next(iter(methods.values()))} has the smallest gap (point estimate) by every rule."
    by_rule = [f"{method} by {rule.replace('_', ' ')}" for rule, method in methods.items()]
    return f"The method with the smallest gap (point estimate) depends on the rule: {listing(by_rule)}."


def excluded_methods(study: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each method that is excluded because a run of it diverged."""
    return [
        f"{label(study, name)} is excluded because {amount(len(directories), 'run')} diverged "
        f"({listing(directories)})."
        for name, directories in (study.get("diverged") or {}).items()
    ]


def smallest_gap(comparison: Mapping[str, Any]) -> str | None:
    """Return the method, other than the oracle, whose gap is nearest to 0."""
    gaps = {
        name: abs(method["gap"]["value"])
        for name, method in comparison["methods"].items()
        if name != comparison["oracle"] and method["gap"]["value"] is not None
    }
    return min(gaps, key=gaps.__getitem__) if gaps else None


def has_two_groups(comparison: Mapping[str, Any]) -> bool:
    """Return whether a comparison's gap is the signed difference of its only two ranked groups."""
    return len([group for group in comparison["groups"].values() if group["ranked"]]) == 2


def pair_titles(study: Mapping[str, Any]) -> tuple[str, str]:
    """Return the titles of the baseline's best and worst group."""
    pair, attributes = study["comparison"]["pair"], study["attribute"].split(",")
    return group_title(pair["best"], attributes), group_title(pair["worst"], attributes)


def _size(change: Mapping[str, Any], digits: int = 3) -> str:
    """Format the absolute value of a change, with its interval reflected accordingly."""
    ends = change["seeds"]
    lower, upper = ends if change["value"] > 0 else (-ends[1], -ends[0])
    return f"{number(abs(change['value']), digits)} [{number(lower, digits)}, {number(upper, digits)}]"


def is_significant(change: Mapping[str, Any]) -> bool:
    """Return whether the corrected test of a change rejects."""
    return change["p_holm"] is not None and change["p_holm"] < LEVEL


def excludes_zero(ends: Sequence[float] | None) -> bool:
    """Return whether an interval excludes zero; False where it is undefined."""
    return ends is not None and (ends[0] > 0 or ends[1] < 0)


def _intervals(method: Mapping[str, Any], key: str) -> str:
    """Format the intervals of one statistic over patients and over seeds."""
    estimate = clip_intervals(method[key], key)
    return ",".join(_interval(estimate[kind], kind) for kind in ("patients", "seeds") if estimate[kind])


def _interval(ends: Sequence[float] | None, kind: str) -> str:
    return f" [{number(ends[0])}, {number(ends[1])}] over {kind}" if ends else ""


def _mean(values: list[float | None]) -> float | None:
    return None if None in values else float(np.mean([value for value in values if value is not None]))
