"""Lines for the terminal: the main numbers of reports."""

from collections.abc import Mapping
from typing import Any

from kneefair_jax import safe_text
from kneefair_jax.fairness import family
from kneefair_jax.report.schema import Report
from kneefair_jax.report.text import cards, failures, findings, formatting, measurements, models, summary


def scores(report: Report) -> str:
    """Return the lines for the terminal: the primary score by group, the gaps, and failed segmentations.

    Intersections of attributes are on the page alone.
    """
    primary = family.from_report(report)
    results = report["scores"][primary.score]
    attributes = report["cohort"]["attributes"]
    rows = [("", "patients", formatting.score_title(primary.score), "95 % interval")]
    group_names = {
        name
        for groups in formatting.attribute_groups(results["groups"], attributes)
        if "," not in groups.key
        for name in groups.labels
    }
    by_group = {name: entry for name, entry in results["groups"].items() if name in group_names}
    entries = {"all": results["overall"], **by_group}
    rows += [
        (
            formatting.group_title(name, attributes),
            formatting.count(entry["patients"]),
            formatting.number(entry["mean"]),
            formatting.interval(entry["interval"]),
        )
        for name, entry in entries.items()
    ]
    notes = ["", *(f"  {entry['unranked']}" if entry.get("unranked") else "" for entry in entries.values())]
    lines = [line + note for line, note in zip(safe_text.align_columns(rows), notes, strict=True)]
    for key in attributes:
        if (statistics := results["summaries"].get(key)) is None:
            continue
        test = statistics["test"]
        line = f"gap by {key}: {_gap(statistics['gap'])}"
        if not primary.covers(key):
            line += ", exploratory"
        elif test and test["p_holm"] is not None:
            line += f"; without failures {_gap(findings.gap_without_failures(statistics))}"
            line += f", {formatting.p_equals(test['p_holm'])} (interval and p after Holm's correction)"
        lines.append(line)
    if report["run"]["absent"]:
        lines.append("macro scores are standardized for the structures that some cases lack")
    return "\n".join([*lines, *failures.sentences(report)])


def predicted_dice(report: Report) -> list[str]:
    """Return the lines on predicted Dice by group; none without it."""
    if (predicted := report.get("predicted_dice")) is None:
        return []
    attributes = report["cohort"]["attributes"]
    is_measured = predicted["measured"]
    rows = [
        (
            "",
            "predicted Dice",
            "not trusted",
            *(("outside", "coverage", "measured - predicted") if is_measured else ()),
        )
    ]
    for name, entry in {"all": predicted["overall"], **predicted["groups"]}.items():
        cells = [
            formatting.group_title(name, attributes),
            formatting.number(entry["predicted"]["estimate"]),
            _share(entry["untrusted"]),
        ]
        if is_measured:
            error = entry["error"] or {"estimate": None, "interval": None}
            cells += [
                _share(entry["outside"]),
                formatting.percent(entry["covered"]),
                f"{formatting.signed(error['estimate'])} {formatting.interval(error['interval'])}",
            ]
        rows.append(tuple(cells))
    return ["", *safe_text.align_columns(rows), ""]


def _share(rate: Mapping[str, Any] | None) -> str:
    return "" if rate is None else f"{rate['count']} of {rate['rate']['n']}"


def _gap(gap: dict[str, Any]) -> str:
    ends = gap["interval"]
    return formatting.number(gap["value"]) + (f" {formatting.interval(ends)}" if ends else "")


def verdicts(reports: Mapping[str, Report]) -> list[str]:
    """Return the warnings on the data, the headline of several models, and the verdicts on each attribute.

    Args:
        reports: model -> its report.
    """
    first = next(iter(reports.values()))
    return [
        *(f"warning: {text}" for text in summary.data_warnings(first)),
        *models.headline(first),
        *filter(None, [models.significant_gaps(first)]),
        *(
            f"{f'{model}, ' if len(reports) > 1 else ''}{verdict.groups.title}: {_verdict(report, verdict)}"
            for model, report in reports.items()
            for verdict in summary.verdicts(report)
        ),
        *(
            f"{f'{model}, ' if len(reports) > 1 else ''}{text}"
            for model, report in reports.items()
            for text in measurements.headline(report)
        ),
    ]


def _verdict(report: Report, verdict: findings.Verdict) -> str:
    """Return `Gap 0.038, significant; equivalence within ±0.020 is not shown (reason)`."""
    text = cards.headline(verdict) + cards.condition(report, verdict)
    if verdict.equivalence in (None, "equivalent"):
        return text
    margin = f"±{formatting.margin_value(verdict.summary['equivalence']['delta'])}"
    if verdict.equivalence == "small":
        return f"{text}; within the margin of {margin}"
    return f"{text}; equivalence within {margin} is not shown{findings.equivalence_reason(verdict)}"
