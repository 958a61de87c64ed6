"""Reporting checklist: items of guidelines for studies of artificial intelligence that a report can fill.

Item numbers are those of CLAIM 2024 (Tejani et al., doi:10.1148/ryai.240300), TRIPOD+AI (Collins et al.,
doi:10.1136/bmj-2023-078378), STARD-AI (Sounderajah et al., doi:10.1038/s41591-025-03953-8) and FUTURE-AI (Lekadir et
al., doi:10.1136/bmj-2024-081554). The topics are our words: the guidelines' own are to be read there.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from kneefair_jax.fairness import family
from kneefair_jax.report.text.formatting import amount, by_group, estimate, listing, percent, score_title
from kneefair_jax.safe_text import spreadsheet_cell, strip_paths

PAGE, TABLE = "checklist.html", "checklist.csv"
OPEN = "open: for the author"
CLAIM, TRIPOD, STARD, FUTURE = "CLAIM 2024", "TRIPOD+AI", "STARD-AI", "FUTURE-AI"
SOURCES = {
    CLAIM: "Tejani et al., Radiology: Artificial Intelligence 2024; 6: e240300, doi:10.1148/ryai.240300",
    TRIPOD: "Collins et al., BMJ 2024; 385: e078378, doi:10.1136/bmj-2023-078378",
    STARD: "Sounderajah et al., Nature Medicine 2025; 31: 3283, doi:10.1038/s41591-025-03953-8",
    FUTURE: "Lekadir et al., BMJ 2025; 388: e081554, doi:10.1136/bmj-2024-081554",
}


@dataclass(frozen=True)
class Item:
    """One line of the checklist.

    Attributes:
        guideline: its name.
        number: of the item.
        topic: what it asks for, in our words.
        value: what the report says; `OPEN` where only the author can say it.
        where: in the report; empty where open.
    """

    guideline: str
    number: str
    topic: str
    value: str
    where: str


type _Fact = Callable[[Mapping[str, Any]], str]


def items(report: Mapping[str, Any]) -> list[Item]:
    """Return the lines, by guideline and number; facts that a report does not hold are left open.

    Args:
        report: `report.json`, of a run or an audit.
    """
    lines = []
    for guideline, number, topic, fact in _ITEMS:
        value, where = "", ""
        if fact is not None:
            state, where = _FACTS[fact]
            value = strip_paths(state(report))
        lines.append(Item(guideline, number, topic, value or OPEN, where if value else ""))
    return lines


def table(lines: list[Item]) -> str:
    """Return the checklist as CSV with a header; text that a spreadsheet would run starts with an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("guideline", "item", "topic", "value", "where"))
    writer.writerows([spreadsheet_cell(cell) for cell in astuple(one)] for one in lines)
    return buffer.getvalue()


def _scores(report: Mapping[str, Any]) -> Mapping[str, Any]:
    scores: Mapping[str, Any] = report["scores"][family.from_report(report).score]
    return scores


def _excluded(report: Mapping[str, Any]) -> str:
    flow = report["cohort"].get("flow")
    if not flow:
        return ""
    reasons = [f"{amount(one['records'], 'record')} ({one['reason']})" for one in flow["excluded"]]
    return f"{amount(flow['listed'], 'record')} listed; excluded: {listing(reasons) if reasons else 'none'}"


def _flow(report: Mapping[str, Any]) -> str:
    flow = report["cohort"].get("flow")
    if not flow:
        return ""
    return (
        f"{amount(flow['listed'], 'record')} listed, {amount(flow['cohort']['cases'], 'case')} in the cohort, "
        f"{amount(flow['tested']['cases'], 'case')} of {amount(flow['tested']['patients'], 'patient')} tested, "
        f"{amount(flow['failed'], 'patient')} with a failed segmentation"
    )


def _partitions(report: Mapping[str, Any]) -> str:
    if report["run"].get("folds"):
        return f"cross-validation of {report['run']['folds']} folds"
    splits = (report["cohort"].get("flow") or {}).get("splits") or {}
    return (
        listing(f"{name} {amount(one['patients'], 'patient')}" for name, one in splits.items())
        if splits
        else ""
    )


def _disjoint(report: Mapping[str, Any]) -> str:
    return "by patient: no patient is in two splits" if _partitions(report) else ""


def _demographics(report: Mapping[str, Any]) -> str:
    grouped = by_group(_scores(report), report["cohort"]["attributes"])
    return listing(grouped) if grouped else ""


def _performance(report: Mapping[str, Any]) -> str:
    overall = _scores(report)["overall"]
    title = score_title(family.from_report(report).score)
    mean = estimate(overall["mean"], overall["interval"])
    return f"mean {title} {mean} over {amount(overall['patients'], 'patient')}"


def _fairness(report: Mapping[str, Any]) -> str:
    gaps = []
    for attribute in report["cohort"]["attributes"]:
        gap = (_scores(report)["summaries"].get(attribute) or {}).get("gap") or {}
        if gap.get("value") is not None:
            gaps.append(f"{attribute} {estimate(gap['value'], gap.get('interval'))}")
    return f"gap between groups, by {listing(gaps)}" if gaps else ""


def _fairness_methods(report: Mapping[str, Any]) -> str:
    hypotheses = (report.get("primary") or {}).get("hypotheses")
    if not hypotheses:
        return ""
    return f"primary family of {len(hypotheses)} hypotheses about groups, corrected together"


def _failures(report: Mapping[str, Any]) -> str:
    endpoint = ((report.get("rates") or {}).get("endpoints") or {}).get("failure") or {}
    if not endpoint.get("overall"):
        return ""
    rate = percent(endpoint["overall"]["estimate"])
    return f"{amount(endpoint['count'], 'patient')} ({rate}) with a failed segmentation"


def _metrics(report: Mapping[str, Any]) -> str:
    primary = family.from_report(report).score
    others = [score_title(score) for score in report["scores"] if score != primary]
    return f"primary: {score_title(primary)}" + (f"; also {listing(others)}" if others else "")


def _uncertainty(report: Mapping[str, Any]) -> str:
    correction = (report.get("primary") or {}).get("correction")
    intervals = "95 % intervals over patients"
    return (
        f"{intervals}; p values of the primary family after {correction}'s correction"
        if correction
        else intervals
    )


def _software(report: Mapping[str, Any]) -> str:
    versions = report["run"].get("versions") or {}
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _source(report: Mapping[str, Any]) -> str:
    data = (report["run"].get("config") or {}).get("data") or {}
    return "synthetic radiographs of the phantom generator" if data.get("source") == "phantom" else ""


def _model(report: Mapping[str, Any]) -> str:
    model = (report["run"].get("config") or {}).get("model")
    if not model or not report["run"].get("grid"):
        return ""
    size = " x ".join(str(pixels) for pixels in report["run"]["grid"])
    widths = listing(str(width) for width in model["widths"])
    classes = report["run"].get("classes", report["cohort"]["structures"])
    outputs = listing(["background", *classes])
    return f"{model['name']} of widths {widths}, input of {size} pixels, output of {outputs}"


def _readers(report: Mapping[str, Any]) -> str:
    agreements = report.get("readers") or {}
    differences = [
        f"{score_title(score)} {estimate(one['mean_difference'], one['interval'])}"
        for score, one in agreements.items()
    ]
    return f"mean difference of two readers: {listing(differences)}" if differences else ""


def _training(report: Mapping[str, Any]) -> str:
    config = report["run"].get("config") or {}
    return "configuration, step and seed of the run are in the report" if config.get("train") else ""


def _selection(report: Mapping[str, Any]) -> str:
    rules = report.get("selection")
    return f"checkpoint by the rule {str(report['run'].get('model')).replace('_', ' ')}" if rules else ""


def _mitigation(report: Mapping[str, Any]) -> str:
    mitigation = (report["run"].get("config") or {}).get("mitigation") or {}
    parts = [
        f"{part} {mitigation[part]['name']}"
        for part in ("sampler", "objective", "head", "schedule")
        if part in mitigation
    ]
    return f"training with {listing(parts)}" if parts else ""


def _external(report: Mapping[str, Any]) -> str:
    external = (report.get("external") or {}).get("scores") or {}
    overall = (external.get(family.from_report(report).score) or {}).get("overall")
    return (
        f"{amount(overall['cases'], 'case')} of {amount(overall['patients'], 'patient')}" if overall else ""
    )


def _missing(report: Mapping[str, Any]) -> str:
    unknown = [
        f"{attribute} {amount(entry['patients'], 'patient')}"
        for attribute in report["cohort"]["attributes"]
        if (entry := _scores(report)["groups"].get(f"{attribute}=missing"))
    ]
    attributes = (
        f"attribute unknown, shown apart and not ranked: {listing(unknown)}"
        if unknown
        else "no attribute is unknown"
    )
    return "; ".join([attributes, *_missing_scores(report)])


def _missing_scores(report: Mapping[str, Any]) -> Iterator[str]:
    absent = report["run"].get("absent")
    if absent:
        cases = listing(f"{structure} {amount(number, 'case')}" for structure, number in absent.items())
        yield f"structure without Dice: {cases}; macro scores are standardized for missing structures"
    elif absent is not None:
        yield "no structure lacks Dice"
    by_structure = {score: entry["structures"] for score, entry in report["scores"].items()}
    lacking = [
        f"{score_title(score)} of {structure} {amount(number, 'case')}"
        for score, structures in by_structure.items()
        for structure, entry in structures.items()
        if (number := by_structure["dice"][structure]["overall"]["cases"] - entry["overall"]["cases"]) > 0
    ]
    if lacking:
        yield f"Dice without another score, left out of that score's means: {listing(lacking)}"
    if number := (report["cohort"].get("flow") or {}).get("not_scored"):
        yield f"without any score, excluded from the means: {amount(number, 'patient')}"


def _sample_size(report: Mapping[str, Any]) -> str:
    if not report.get("power"):
        return ""
    return "gaps that this sample detects and patients needed, by attribute; how the size was chosen is open"


_COHORT, _GROUPS, _SUMMARIES = "Cohort", "Scores by group", "How unequal"
_METHODS, _RATES = "How this was measured", "Failed segmentations and thresholds by group"
# What a report states, and the section that holds it.
_FACTS: dict[str, tuple[_Fact, str]] = {
    "excluded": (_excluded, _COHORT),
    "flow": (_flow, _COHORT),
    "partitions": (_partitions, _COHORT),
    "disjoint": (_disjoint, _COHORT),
    "demographics": (_demographics, _COHORT),
    "performance": (_performance, _GROUPS),
    "fairness": (_fairness, _SUMMARIES),
    "fairness methods": (_fairness_methods, _METHODS),
    "failures": (_failures, _RATES),
    "metrics": (_metrics, _METHODS),
    "uncertainty": (_uncertainty, _METHODS),
    "software": (_software, _METHODS),
    "source": (_source, _METHODS),
    "model": (_model, _METHODS),
    "readers": (_readers, _METHODS),
    "training": (_training, _METHODS),
    "selection": (_selection, "Training"),
    "mitigation": (_mitigation, _METHODS),
    "external": (_external, "External cohort"),
    "missing": (_missing, _COHORT),
    "sample size": (_sample_size, "Power and sample size"),
}
# Guideline, item, topic, and the fact that fills it; None for the author.
_ITEMS: tuple[tuple[str, str, str, str | None], ...] = (
    (CLAIM, "5", "prospective or retrospective design", None),
    (CLAIM, "7", "where the data come from", "source"),
    (CLAIM, "8", "criteria of inclusion and exclusion", None),
    (CLAIM, "11", "how data were de-identified", None),
    (CLAIM, "12", "treatment of missing data", "missing"),
    (CLAIM, "13", "how images were acquired", None),
    (CLAIM, "14", "definition of the reference standard", None),
    (CLAIM, "16", "who annotated", None),
    (CLAIM, "18", "variability between and within annotators", "readers"),
    (CLAIM, "19", "assignment of data to partitions", "partitions"),
    (CLAIM, "20", "level at which partitions share nothing", "disjoint"),
    (CLAIM, "21", "size of the test set", "sample size"),
    (CLAIM, "22", "the model in detail", "model"),
    (CLAIM, "23", "software and versions", "software"),
    (CLAIM, "25", "how the model was trained", "training"),
    (CLAIM, "26", "how the final model was chosen", "selection"),
    (CLAIM, "28", "measures of performance", "metrics"),
    (CLAIM, "29", "significance and uncertainty", "uncertainty"),
    (CLAIM, "30", "robustness or sensitivity", None),
    (CLAIM, "33", "test on external data", "external"),
    (CLAIM, "35", "numbers included and excluded", "excluded"),
    (CLAIM, "36", "characteristics of the cases", "demographics"),
    (CLAIM, "37", "performance with its uncertainty", "performance"),
    (CLAIM, "39", "analysis of failures", "failures"),
    (CLAIM, "40", "limitations", None),
    (CLAIM, "43", "availability of software, model and data", None),
    (CLAIM, "44", "funding", None),
    (TRIPOD, "3c", "known health inequalities", None),
    (TRIPOD, "5a", "sources of data and whom they represent", "source"),
    (TRIPOD, "6b", "eligibility of participants", None),
    (TRIPOD, "10", "study size", "sample size"),
    (TRIPOD, "11", "missing and omitted data", "missing"),
    (TRIPOD, "12a", "use and partition of the data", "partitions"),
    (TRIPOD, "12e", "measures and plots of performance", "metrics"),
    (TRIPOD, "14", "approaches to fairness", "mitigation"),
    (TRIPOD, "17", "ethical approval", None),
    (TRIPOD, "18e", "data sharing", None),
    (TRIPOD, "18f", "code sharing", None),
    (TRIPOD, "20a", "flow of participants", "flow"),
    (TRIPOD, "20b", "characteristics by group", "demographics"),
    (TRIPOD, "21", "participants in each analysis", "flow"),
    (TRIPOD, "23a", "performance with intervals, subgroups included", "fairness"),
    (TRIPOD, "25", "interpretation, fairness included", None),
    (TRIPOD, "26", "limitations", None),
    (STARD, "6", "ethical approval", None),
    (STARD, "7", "eligibility of participants and of data", None),
    (STARD, "11", "source of the data", "source"),
    (STARD, "12", "annotation of the data", None),
    (STARD, "15b", "development of the index test", "training"),
    (STARD, "18", "statistical methods", "uncertainty"),
    (STARD, "20", "missing data", "missing"),
    (STARD, "22", "sample size", "sample size"),
    (STARD, "23", "methods of error and fairness analysis", "fairness methods"),
    (STARD, "24", "flow of participants as a diagram", "flow"),
    (STARD, "25", "baseline characteristics of the sets", "demographics"),
    (STARD, "29", "how an external set differs", None),
    (STARD, "31", "accuracy with its precision", "performance"),
    (STARD, "33", "limitations", None),
    (STARD, "35", "ethics and fairness", None),
    (STARD, "40a", "availability of data and code", None),
    (FUTURE, "Fairness 1", "sources of bias", None),
    (FUTURE, "Fairness 2", "attributes of patients", "demographics"),
    (FUTURE, "Fairness 3", "evaluation of fairness", "fairness"),
    (FUTURE, "Universality 1", "intended clinical settings", None),
    (FUTURE, "Universality 3", "evaluation on external data", "external"),
    (FUTURE, "Traceability 2", "documentation of tool and evaluation", "software"),
    (FUTURE, "Robustness 3", "evaluation of robustness", None),
    (FUTURE, "Explainability 1", "need of explanations", None),
    (FUTURE, "General 4", "plan of the evaluation", "metrics"),
)
