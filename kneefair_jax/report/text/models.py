"""Compare the models of an audit: the paired differences, a row a model, and the significant gaps of each."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kneefair_jax.fairness import family
from kneefair_jax.fairness.patient_table import LOWER_IS_BETTER
from kneefair_jax.report.schema import (
    ModelAttribute,
    ModelPair,
    ModelSummary,
    Report,
)
from kneefair_jax.report.text import cards, failures, findings, summary
from kneefair_jax.report.text.findings import Verdict
from kneefair_jax.report.text.formatting import (
    attribute_groups,
    count,
    group_title,
    interval,
    listing,
    number,
    p_equals,
    percent,
    score_title,
    signed,
)

_SMALLEST = 0.0005  # smaller changes read 0.000


class Gap(NamedTuple):
    """The gap of a model by one attribute.

    Attributes:
        value: the gap over all patients, so that the changes are differences of gaps.
        is_significant: whether the tested gap, of patients without a failed segmentation, differs from zero, or the
            groups differ in their failure rates.
        change: the change of the gap from the first model, `−0.034`; "" for the first model.
        is_changed: whether the change is significant.
        result: the words of the attribute's card without its number, `significant without failures`.
    """

    value: float | None
    is_significant: bool
    change: str
    is_changed: bool
    result: str


class ModelRow(NamedTuple):
    """The row of a model.

    Attributes:
        name: the model.
        mean: the mean score over all patients.
        interval: its 95 % interval.
        change: the change of the mean from the first model, `−0.010`; "" for the first model.
        is_changed: whether the change is significant.
        worst: the ranked group of any attribute with the worst mean, with its mean.
        gaps: attribute -> gap.
        failed: the failure rate over all patients, `3 of 130 (2 %)`.
    """

    name: str
    mean: float | None
    interval: list[float] | None
    change: str
    is_changed: bool
    worst: str
    gaps: dict[str, Gap]
    failed: str


def summaries(reports: Mapping[str, Report]) -> dict[str, ModelSummary]:
    """Return the `summaries` of the comparison of models, in the primary score of the reports.

    Args:
        reports: model -> its report.
    """
    return {model: _summary(report) for model, report in reports.items()}


def rows(report: Report) -> list[ModelRow]:
    """Return a row for each model; empty for a report of one model."""
    models = report.get("models")
    if not models:
        return []
    first = models["order"][0]
    return [
        _row(
            name,
            entry,
            [pair for pair in models["pairs"] if pair["first"] == first and pair["second"] == name],
            report["cohort"]["attributes"],
            lower_is_better=family.from_report(report).score in LOWER_IS_BETTER,
        )
        for name, entry in models["summaries"].items()
    ]


def patients(report: Report) -> str:
    """State the patients with a score by each model, and by both of each compared pair; "" where all are the same."""
    models = report.get("models")
    if not models:
        return ""
    first = models["order"][0]
    by_model = {name: entry["overall"]["patients"] for name, entry in models["summaries"].items()}
    by_pair = {pair["second"]: pair["patients"] for pair in models["pairs"] if pair["first"] == first}
    if len({*by_model.values(), *by_pair.values()}) < 2:
        return ""
    by_each = listing(f"{name} {count(number)}" for name, number in by_model.items())
    by_both = listing(f"{name} {count(number)}" for name, number in by_pair.items())
    return (
        f"The models on the patients with a score by each: {by_each}. A change is over the patients with a score by "
        f"the model and by {first} ({by_both}), so it may differ from the difference of the two values."
    )


def changes_by_group(report: Report) -> list[tuple[str, dict[str, list[Mapping[str, Any]]]]]:
    """Return each attribute with, by group, the paired change of its mean from the first model to each other one."""
    models = report.get("models")
    if not models:
        return []
    first, tables = models["order"][0], []
    for attribute in report["cohort"]["attributes"]:
        pairs = [pair for pair in models["pairs"] if (pair["first"], pair["attribute"]) == (first, attribute)]
        changes = [{change["group"]: change for change in pair["change_by_group"]} for pair in pairs]
        for groups in attribute_groups(changes[0] if changes else (), [attribute]):
            labels = groups.labels.items()
            tables.append(
                (groups.title, {label: [by_group[name] for by_group in changes] for name, label in labels})
            )
    return tables


def headline(report: Report) -> list[str]:
    """Return two lines, the changes of the mean and those of the gaps; no line without a pair of models.

    The first line compares each model with the first. Both lines state the significant changes of all other pairs.
    """
    models = report.get("models")
    if not models or not models["pairs"]:
        return []
    first = models["order"][0]
    pairs = sorted(models["pairs"], key=lambda pair: pair["first"] != first)
    means = {(pair["first"], pair["second"]): pair["change_of_mean"] for pair in pairs}
    mean_texts = [
        _mean_text(second, baseline, change, models["score"])
        for (baseline, second), change in means.items()
        if baseline == first or is_significant(change)
    ]
    return [f"{'; '.join(mean_texts)}.", _gap_text(pairs, names_models=len(means) > 1)]


def significant_gaps(report: Report) -> str:
    """State the significant gaps of each model, those of models that have some first; "" for a single model."""
    models = report.get("models")
    if not models:
        return ""
    by_model = {
        name: [
            text for key, numbers in entry["attributes"].items() for text in _gap_texts(key, numbers, report)
        ]
        for name, entry in models["summaries"].items()
    }
    texts = [
        f"{name}: {listing(gaps) if gaps else _without_gap(models['summaries'][name])}"
        for name, gaps in sorted(by_model.items(), key=lambda item: not item[1])
    ]
    return f"{'; '.join(texts)}."


def _summary(report: Report) -> ModelSummary:
    score = report["scores"][family.from_report(report).score]
    failure = report["rates"]["endpoints"]["failure"]
    return {
        "overall": score["overall"],
        "failed": failure["count"],
        "scored": failure["overall"]["n"],
        "attributes": {
            verdict.groups.key: _attribute(report, verdict) for verdict in summary.verdicts(report)
        },
    }


def _attribute(report: Report, verdict: Verdict) -> ModelAttribute:
    score = report["scores"][family.from_report(report).score]
    return {
        "gap": verdict.summary["gap"]["value"],
        "gap_without_failures": findings.gap_without_failures(verdict.summary)["value"],
        "p_holm": verdict.summary["test"] and verdict.summary["test"]["p_holm"],
        "significant": verdict.kind in ("significant", "unlocated"),
        "pairs": [
            {"first": pair["first"], "second": pair["second"], "difference": pair["difference"]}
            for pair in (verdict.pairs if verdict.kind == "significant" else ())
        ],
        "failures_differ": failures.differs(report, verdict.groups.key),
        "verdict": cards.headline(verdict) + cards.condition(report, verdict),
        "result": cards.result(verdict) + cards.condition(report, verdict),
        "worst": verdict.worst,
        "worst_mean": score["groups"][verdict.worst]["mean"] if verdict.worst else None,
    }


def _row(
    name: str,
    entry: ModelSummary,
    changes: list[ModelPair],
    attributes: list[str],
    *,
    lower_is_better: bool,
) -> ModelRow:
    by_attribute = {pair["attribute"]: pair["change_of_gap"] for pair in changes}
    mean = changes[0]["change_of_mean"] if changes else None
    gaps = {}
    for attribute, numbers in entry["attributes"].items():
        change = by_attribute.get(attribute)
        gaps[attribute] = Gap(
            numbers["gap"],
            numbers["significant"] or numbers["failures_differ"],
            _signed(change),
            is_significant(change),
            # Without the tested gap: the cell states that of all patients, and two numbers would contradict each other.
            numbers["result"] + (", failure rates differ" if numbers["failures_differ"] else ""),
        )
    return ModelRow(
        name,
        entry["overall"]["mean"],
        entry["overall"]["interval"],
        _signed(mean),
        is_significant(mean),
        _worst(entry, attributes, lower_is_better=lower_is_better),
        gaps,
        _failed(entry),
    )


def _worst(entry: ModelSummary, attributes: list[str], *, lower_is_better: bool) -> str:
    means = {
        numbers["worst"]: mean
        for numbers in entry["attributes"].values()
        if numbers["worst"] is not None and (mean := numbers["worst_mean"]) is not None
    }
    if not means:
        return ""
    worst = (max if lower_is_better else min)(means, key=lambda name: means[name])
    return f"{group_title(worst, attributes)} {number(means[worst])}"


def _failed(entry: ModelSummary) -> str:
    failed, scored = entry["failed"], entry["scored"]
    if not scored:
        return ""
    return f"{count(failed)} of {count(scored)} ({percent(failed / scored, 0)})"


def _signed(change: Mapping[str, Any] | None) -> str:
    return signed(change["value"]) if change and change["value"] is not None else ""


def is_significant(change: Mapping[str, Any] | None) -> bool:
    """Return whether the corrected test of a change rejects."""
    return change is not None and change["p_holm"] is not None and change["p_holm"] < family.LEVEL


def _gap_texts(attribute: str, numbers: ModelAttribute, report: Report) -> list[str]:
    """Return `Dice 0.131 lower in F than in M (p < 0.001)`, and whether failure rates differ."""
    score, p_text = family.from_report(report).score, p_equals(numbers["p_holm"])
    texts = []
    if numbers["pairs"]:
        names = [name for pair in numbers["pairs"] for name in (pair["first"], pair["second"])]
        labels = {
            name: label
            for groups in attribute_groups(names, [attribute])
            for name, label in groups.labels.items()
        }
        word = "higher" if score in LOWER_IS_BETTER else "lower"
        differences = []
        for pair in numbers["pairs"]:
            is_first_worse = (pair["difference"] < 0) != (score in LOWER_IS_BETTER)
            worse, better = (pair["first"], pair["second"])[:: 1 if is_first_worse else -1]
            differences.append(
                f"{number(abs(pair['difference']))} {word} in {labels[worse]} than in {labels[better]}"
            )
        texts.append(f"{score_title(score)} {listing(differences)} ({p_text})")
    elif numbers["significant"]:
        texts.append(
            f"{score_title(score)} differs by {attribute} ({p_text}), between no single pair of groups"
        )
    if numbers["failures_differ"]:
        texts.append(f"failure rates differ significantly by {attribute}")
    return texts


def _without_gap(entry: ModelSummary) -> str:
    is_tested = any(numbers["p_holm"] is not None for numbers in entry["attributes"].values())
    return "no significant gap" if is_tested else "no gap was tested"


def _mean_text(name: str, first: str, change: Mapping[str, Any], score: str) -> str:
    """Return `B has a 0.010 lower mean Dice than A (p = 0.003)`."""
    mean = f"mean {score_title(score)}"
    if is_significant(change):
        word = "lower" if change["value"] < 0 else "higher"
        better = " (lower is better)" if score in LOWER_IS_BETTER else ""
        return f"{name} has a {_amount(change)} {word} {mean} than {first}{better} ({p_equals(change['p_holm'])})"
    if change["p_holm"] is None:  # few patients, or all change by the same amount
        return f"{name} was not tested against {first} in {mean}{_estimate(change)}"
    return f"{name} does not differ significantly from {first} in {mean}{_estimate(change)}"


def _gap_text(pairs: Sequence[ModelPair], *, names_models: bool) -> str:
    """Name the gaps that change significantly between two models; the others are in the table of all pairs."""
    texts = []
    for pair in pairs:
        change = pair["change_of_gap"]
        if is_significant(change):
            attribute, amount = pair["attribute"], _amount(change)
            word = "smaller" if change["value"] < 0 else "larger"
            text = (
                f"the {attribute} gap of {pair['second']} is {amount} {word} than that of {pair['first']}"
                if names_models
                else f"its {attribute} gap is {amount} {word}"
            )
            texts.append(f"{text} ({p_equals(change['p_holm'])})")
    is_tested = [pair["change_of_gap"]["p_holm"] is not None for pair in pairs]
    if len(texts) < sum(is_tested):
        rest = "no other gap changes significantly" if texts else "no gap changes significantly"
        texts.append(f"{rest} between two models" if names_models else rest)
    text = "; ".join(texts) or "no change of a gap was tested"
    return f"{text[0].upper()}{text[1:]}."


def _estimate(change: Mapping[str, Any]) -> str:
    """Format a change with its interval, `, +0.067 [−0.012, 0.198]`."""
    if change["value"] is None:
        return ""
    ends = change["interval"]
    return f", {signed(change['value'])}" + (f" {interval(ends)}" if ends else "")


def _amount(change: Mapping[str, Any]) -> str:
    value = abs(change["value"] or 0.0)
    return number(value, 3 if value >= _SMALLEST else 6)
