"""Fill items of reporting guidelines for studies of artificial intelligence from a report.

Item numbers are those of CLAIM 2024 (Tejani et al., doi:10.1148/ryai.240300), TRIPOD+AI (Collins et al.,
doi:10.1136/bmj-2023-078378), STARD-AI (Sounderajah et al., doi:10.1038/s41591-025-03953-8) and FUTURE-AI (Lekadir et
al., doi:10.1136/bmj-2024-081554). The topics are paraphrased; the guidelines have the exact wording.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass

from kneefair_jax.fairness import family
from kneefair_jax.report.schema import Exclusion, Report, Scores
from kneefair_jax.report.text.formatting import amount, estimate, group_sizes, listing, percent, score_title
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
        topic: its subject, paraphrased.
        value: the fact in the report; `OPEN` where only the author can state it.
        section: section of the report; empty where open.
    """

    guideline: str
    number: str
    topic: str
    value: str
    section: str


type _Fact = Callable[[Report], str]


def items(report: Report) -> list[Item]:
    """Return the items, by guideline and number; items without a fact in the report are left open.

    Args:
        report: `report.json` of a run or an audit.
    """
    lines = []
    for guideline, number, topic, fact in _ITEMS:
        value, section = "", ""
        if fact is not None:
            describe, section = _FACTS[fact]
            value = strip_paths(describe(report))
        lines.append(Item(guideline, number, topic, value or OPEN, section if value else ""))
    return lines


def table(lines: list[Item]) -> str:
    """Return the checklist as CSV with a header; text that a spreadsheet would run starts with an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("guideline", "item", "topic", "value", "where"))
    writer.writerows([spreadsheet_cell(cell) for cell in astuple(item)] for item in lines)
    return buffer.getvalue()


def _scores(report: Report) -> Scores:
    return report["scores"][family.from_report(report).score]


def _excluded(report: Report) -> str:
    cohort = report["cohort"]
    excluded = list(cohort["flow"]["excluded"])
    if number := cohort["flow"]["not_scored"]["cases"]:
        excluded.append({"reason": "no Dice of any structure", "records": number})
    reasons = _reasons(excluded, "record")
    texts = [f"{amount(cohort['flow']['listed'], 'record')} listed; excluded: {reasons or 'none'}"]
    if unmatched := _reasons(cohort.get("unmatched", []), "file"):
        texts.append(f"files without a case, not scored: {unmatched}")
    return "; ".join(texts)


def _reasons(exclusions: Sequence[Exclusion], noun: str) -> str:
    """Return `3 records (no prediction) and 1 record (no reference mask)`; "" if nothing is excluded."""
    reasons = [f"{amount(entry['records'], noun)} ({entry['reason']})" for entry in exclusions]
    return listing(reasons) if reasons else ""


def _flow(report: Report) -> str:
    flow = report["cohort"]["flow"]
    return (
        f"{amount(flow['listed'], 'record')} listed, {amount(flow['cohort']['cases'], 'case')} in the cohort, "
        f"{amount(flow['tested']['cases'], 'case')} of {amount(flow['tested']['patients'], 'patient')} tested, "
        f"{amount(flow['failed'], 'patient')} with a failed segmentation"
    )


def _partitions(report: Report) -> str:
    if report["run"].get("folds"):
        return f"cross-validation of {report['run']['folds']} folds"
    splits = report["cohort"]["flow"]["splits"].items()
    return (
        listing(f"{name} {amount(split['patients'], 'patient')}" for name, split in splits) if splits else ""
    )


def _disjoint(report: Report) -> str:
    return "by patient: no patient is in two splits" if _partitions(report) else ""


def _demographics(report: Report) -> str:
    sizes = group_sizes(_scores(report), report["cohort"]["attributes"])
    return listing(sizes) if sizes else ""


def _performance(report: Report) -> str:
    overall = _scores(report)["overall"]
    title = score_title(family.from_report(report).score)
    mean = estimate(overall["mean"], overall["interval"])
    return f"mean {title} {mean} over {amount(overall['patients'], 'patient')}"


def _fairness(report: Report) -> str:
    gaps = []
    for attribute in report["cohort"]["attributes"]:
        gap = _scores(report)["summaries"][attribute]["gap"]
        if gap["value"] is not None:
            gaps.append(f"{attribute} {estimate(gap['value'], gap['interval'])}")
    return f"gap between groups, by {listing(gaps)}" if gaps else ""


def _fairness_methods(report: Report) -> str:
    count = len(report["primary"]["hypotheses"])
    return f"primary family of {count} hypotheses about groups, corrected together"


def _failures(report: Report) -> str:
    failure = report["rates"]["endpoints"]["failure"]
    rate = percent(failure["overall"]["estimate"])
    return f"{amount(failure['count'], 'patient')} ({rate}) with a failed segmentation"


def _metrics(report: Report) -> str:
    primary = family.from_report(report).score
    secondary = [score_title(score) for score in report["scores"] if score != primary]
    return f"primary: {score_title(primary)}" + (f"; also {listing(secondary)}" if secondary else "")


def _uncertainty(report: Report) -> str:
    correction = report["primary"]["correction"]
    return f"95 % intervals over patients; p values of the primary family after {correction}'s correction"


def _software(report: Report) -> str:
    versions = report["run"].get("versions") or {}
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _source(report: Report) -> str:
    data = (report["run"].get("config") or {}).get("data") or {}
    return "synthetic radiographs of the phantom generator" if data.get("source") == "phantom" else ""


def _model(report: Report) -> str:
    model = (report["run"].get("config") or {}).get("model")
    if not model or not report["run"].get("grid"):
        return ""
    size = " x ".join(str(pixels) for pixels in report["run"]["grid"])
    widths = listing(str(width) for width in model["widths"])
    classes = report["run"].get("classes", report["cohort"]["structures"])
    outputs = listing(["background", *classes])
    return f"{model['name']} of widths {widths}, input of {size} pixels, output of {outputs}"


def _readers(report: Report) -> str:
    agreements = report.get("readers") or {}
    differences = [
        f"{score_title(score)} {estimate(agreement['mean_difference'], agreement['interval'])}"
        for score, agreement in agreements.items()
    ]
    return f"mean difference of two readers: {listing(differences)}" if differences else ""


def _training(report: Report) -> str:
    config = report["run"].get("config") or {}
    return "configuration, step and seed of the run are in the report" if config.get("train") else ""


def _selection(report: Report) -> str:
    rules = report.get("selection")
    return f"checkpoint by the rule {str(report['run'].get('model')).replace('_', ' ')}" if rules else ""


def _mitigation(report: Report) -> str:
    mitigation = (report["run"].get("config") or {}).get("mitigation") or {}
    parts = [
        f"{part} {mitigation[part]['name']}"
        for part in ("sampler", "objective", "head", "schedule")
        if part in mitigation
    ]
    return f"training with {listing(parts)}" if parts else ""


def _external(report: Report) -> str:
    external = report.get("external")
    scores = external["scores"].get(family.from_report(report).score) if external else None
    if not scores:
        return ""
    return (
        f"{amount(scores['overall']['cases'], 'case')} of {amount(scores['overall']['patients'], 'patient')}"
    )


def _missing(report: Report) -> str:
    unknown = [
        f"{attribute} {amount(entry['patients'], 'patient')}"
        for attribute in report["cohort"]["attributes"]
        if (entry := _scores(report)["groups"].get(f"{attribute}=missing"))
    ]
    attributes = (
        f"attribute unknown, shown separately and not ranked: {listing(unknown)}"
        if unknown
        else "no attribute of a tested case is unknown"
    )
    return "; ".join([attributes, *_missing_scores(report), *_missing_cases(report)])


def _missing_cases(report: Report) -> Iterator[str]:
    cohort = report["cohort"]
    if excluded := _reasons(cohort["flow"]["excluded"], "record"):
        yield f"excluded cases are not counted here: {excluded}, listed in excluded.csv"
    if unmatched := _reasons(cohort.get("unmatched", []), "file"):
        yield f"files without a case, not scored: {unmatched}, listed in excluded.csv"


def _missing_scores(report: Report) -> Iterator[str]:
    if absent_cases := report["run"]["absent"]:
        cases = listing(f"{structure} {amount(number, 'case')}" for structure, number in absent_cases.items())
        yield f"structure without Dice: {cases}; macro scores are standardized for missing structures"
    else:
        yield "every structure has a Dice"
    by_structure = {score: entry["structures"] for score, entry in report["scores"].items()}
    missing = [
        f"{score_title(score)} of {structure} {amount(number, 'case')}"
        for score, structures in by_structure.items()
        for structure, entry in structures.items()
        if (number := by_structure["dice"][structure]["overall"]["cases"] - entry["overall"]["cases"]) > 0
    ]
    if missing:
        yield f"Dice without another score, excluded from that score's means: {listing(missing)}"
    not_scored = report["cohort"]["flow"]["not_scored"]
    if not_scored["cases"]:
        of_patients = f" of {amount(not_scored['patients'], 'patient')}" if not_scored["patients"] else ""
        yield f"not tested, without a Dice of any structure: {amount(not_scored['cases'], 'case')}{of_patients}"


def _sample_size(report: Report) -> str:
    if not report["power"]:
        return ""
    return "detectable gaps and required numbers of patients, by attribute; the author states how the size was chosen"


_COHORT, _GROUPS, _SUMMARIES = "Cohort", "Scores by group", "Inequality by attribute"
_METHODS, _RATES = "Methods", "Failed segmentations and thresholds by group"
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
