"""Set the models of an audit side by side: a row a model, and a sentence a pair on the paired differences."""

from collections.abc import Mapping
from typing import NamedTuple

from kneefair_jax.fairness import family
from kneefair_jax.report.schema import Change, ModelAttribute, ModelPair, ModelSummary, Report
from kneefair_jax.report.text import summary
from kneefair_jax.report.text.formatting import (
    count,
    group_title,
    listing,
    number,
    p_equals,
    percent,
    signed,
)

_SMALLEST = 0.0005  # smaller changes read 0.000


class Gap(NamedTuple):
    """The gap of a model by one attribute.

    Attributes:
        value: the gap over all patients, so that the changes are differences of gaps.
        is_significant: whether the tested gap, of patients without a failed segmentation, differs from zero.
        change: the change of the gap from the first model, `−0.034`; "" for the first model.
        is_changed: whether the change is significant.
    """

    value: float | None
    is_significant: bool
    change: str
    is_changed: bool


class ModelRow(NamedTuple):
    """The row of a model.

    Attributes:
        name: the model.
        mean: the mean score over all patients.
        interval: its 95 % interval.
        change: the change of the mean from the first model, `−0.010`; "" for the first model.
        is_changed: whether the change is significant.
        worst: the ranked group with the lowest mean of any attribute, with its mean.
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
    if not models or "summaries" not in models:
        return []
    first = models["order"][0]
    return [
        _row(
            name,
            entry,
            [pair for pair in models["pairs"] if pair["first"] == first and pair["second"] == name],
            report["cohort"]["attributes"],
        )
        for name, entry in models["summaries"].items()
    ]


def sentences(report: Report) -> list[str]:
    """Return a sentence for each pair of models: the paired difference of the mean, and the gaps that change."""
    models = report.get("models")
    if not models:
        return []
    pairs: dict[tuple[str, str], list[ModelPair]] = {}
    for pair in models["pairs"]:
        pairs.setdefault((pair["first"], pair["second"]), []).append(pair)
    return [_sentence(first, second, by_attribute) for (first, second), by_attribute in pairs.items()]


def _summary(report: Report) -> ModelSummary:
    score = report["scores"][family.from_report(report).score]
    rates = report.get("rates")
    failure = rates["endpoints"]["failure"] if rates else None
    by_attribute: dict[str, ModelAttribute] = {
        verdict.groups.key: {
            "gap": (verdict.summary.get("gap") or {}).get("value"),
            "significant": verdict.kind in ("significant", "unlocated"),
            "worst": verdict.worst,
            "worst_mean": score["groups"][verdict.worst]["mean"] if verdict.worst else None,
        }
        for verdict in summary.verdicts(report)
    }
    return {
        "overall": score["overall"],
        "failed": failure["count"] if failure else None,
        "scored": failure["overall"]["n"] if failure and failure["overall"] else None,
        "attributes": by_attribute,
    }


def _row(name: str, entry: ModelSummary, changes: list[ModelPair], attributes: list[str]) -> ModelRow:
    by_attribute = {pair["attribute"]: pair["change_of_gap"] for pair in changes}
    mean = changes[0]["change_of_mean"] if changes else None
    gaps = {}
    for attribute, numbers in entry["attributes"].items():
        change = by_attribute.get(attribute)
        gaps[attribute] = Gap(numbers["gap"], numbers["significant"], _signed(change), is_significant(change))
    return ModelRow(
        name,
        entry["overall"]["mean"],
        entry["overall"]["interval"],
        _signed(mean),
        is_significant(mean),
        _worst(entry, attributes),
        gaps,
        _failed(entry),
    )


def _worst(entry: ModelSummary, attributes: list[str]) -> str:
    ranked = {
        numbers["worst"]: numbers["worst_mean"]
        for numbers in entry["attributes"].values()
        if numbers["worst"] is not None and numbers["worst_mean"] is not None
    }
    if not ranked:
        return ""
    worst = min(ranked, key=lambda name: ranked[name] or 0.0)
    return f"{group_title(worst, attributes)} {number(ranked[worst])}"


def _failed(entry: ModelSummary) -> str:
    failed, scored = entry["failed"], entry["scored"]
    if failed is None or not scored:
        return ""
    return f"{count(failed)} of {count(scored)} ({percent(failed / scored, 0)})"


def _signed(change: Change | None) -> str:
    return signed(change["value"]) if change and change["value"] is not None else ""


def is_significant(change: Change | None) -> bool:
    """Return whether the corrected test of a change rejects."""
    return change is not None and change["p_holm"] is not None and change["p_holm"] < family.LEVEL


def _sentence(first: str, second: str, pairs: list[ModelPair]) -> str:
    mean = pairs[0]["change_of_mean"]
    average = f"{second} does not differ significantly from {first} on average ({_signed(mean) or 'unknown'})"
    if is_significant(mean) and mean and mean["value"] is not None:
        average = f"{second} is {_amount(mean)} {'lower' if mean['value'] < 0 else 'higher'} on average than {first}"
    changed = [
        f"its {pair['attribute']} gap is {_amount(change)} {'smaller' if (change['value'] or 0) < 0 else 'larger'} "
        f"({p_equals(change['p_holm'])})"
        for pair in pairs
        if (change := pair["change_of_gap"]) and is_significant(change)
    ]
    gaps = listing(changed) if changed else "no gap differs significantly"
    joint = "and" if is_significant(mean) == bool(changed) else "but"
    return f"Over all patients, {average}, {joint} {gaps}."


def _amount(change: Change) -> str:
    value = abs(change["value"] or 0.0)
    return number(value, 3 if value >= _SMALLEST else 6)
