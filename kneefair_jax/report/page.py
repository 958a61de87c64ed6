"""Write the report's files: `index.html`, a self-contained page, and its numbers as JSON and CSV."""

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from kneefair_jax import groups
from kneefair_jax.fairness import family, patient_table
from kneefair_jax.fairness.patient_table import LOWER_IS_BETTER, MILLIMETRES
from kneefair_jax.report import checklist, csv_tables
from kneefair_jax.report.figures import cohort_figures, forest, scatter
from kneefair_jax.report.overlays import ALL, CaseView, color, overlay
from kneefair_jax.report.schema import Endpoint, Rates, Report, Scores, StructureScores, json_schema
from kneefair_jax.report.text import cards, failures, findings, formatting, models, summary
from kneefair_jax.report.text import power as power_text
from kneefair_jax.report.text.methods import methods_text
from kneefair_jax.runtime import atomic

PAGE = "index.html"
REPORT = "report.json"
SCHEMA = "report.schema.json"


def write(
    directory: Path,
    report: Report,
    cases: pd.DataFrame,
    curves: list[dict[str, Any]],
    examples: list[CaseView],
    other_pages: Mapping[str, str] | None = None,
) -> Path:
    """Write `index.html`, `report.json` and its JSON Schema, the checklist, and the CSV files of `csv_tables`.

    The same input gives the same bytes: the page's date is the report's.

    Args:
        directory: where to write; created if absent.
        report: schema 2, with plain or numpy numbers; undefined numbers are None or NaN. `report["external"]`, if
            present, has `scores` of the same form.
        cases: the rows of the per-case table from which the scores were computed: one split, one model.
        curves: records of the training run; empty for an audit.
        examples: cases to show as pictures, chosen by `overlays.choose`.
        other_pages: model -> relative path of its page, for other models on the same cases.

    Returns:
        The page's path.
    """
    report = plain(report)
    directory.mkdir(parents=True, exist_ok=True)
    html = page(report, cases, plain(curves), examples, other_pages)
    tables = csv_tables.tables(report)
    for name in csv_tables.NAMES:
        if name in tables:
            atomic.write_text(directory / name, tables[name])
        else:  # left by an earlier report
            (directory / name).unlink(missing_ok=True)
    lines = checklist.items(report)
    atomic.write_text(directory / checklist.TABLE, checklist.table(lines))
    atomic.write_text(directory / checklist.PAGE, checklist_page(lines))
    atomic.write_text(directory / PAGE, html)
    atomic.write_text(directory / SCHEMA, json.dumps(json_schema(), indent=2) + "\n")
    # Written last: a study treats a run with this file as finished.
    text = json.dumps(report, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    atomic.write_text(directory / REPORT, text + "\n")
    return directory / PAGE


def checklist_page(lines: Sequence[checklist.Item]) -> str:
    """Return the HTML of the reporting checklist, `checklist.items`."""
    filled = sum(item.value != checklist.OPEN for item in lines)
    return template("checklist.html").render(page=PAGE, lines=lines, filled=filled, sources=checklist.SOURCES)


def page(
    report: Report,
    cases: pd.DataFrame,
    curves: Sequence[Mapping[str, Any]],
    examples: Sequence[CaseView],
    other_pages: Mapping[str, str] | None = None,
    *,
    files: Sequence[str] | None = None,
) -> str:
    """Return the page's HTML.

    Args:
        report: as for `write`, with plain numbers.
        cases: as for `write`.
        curves: as for `write`, with plain numbers.
        examples: as for `write`.
        other_pages: as for `write`.
        files: names of the files beside the page, which it lists; None for the files of `write`.
    """
    figures = _figures(report, cases, curves)
    return template("page.html", verdict_cell=findings.table_cell).render(
        report=report,
        # Figures are safe to insert: matplotlib and `svg.text` escape every name in them.
        figures={name: Markup(figure) for name, figure in figures.items()},
        files=[REPORT, SCHEMA, *csv_tables.tables(report)] if files is None else files,
        other_pages=other_pages or {},
        contents=_Contents([]),
        **_first_screen(report),
        **_texts(report),
        **_pictures(report, examples),
        **_helpers(report),
    )


def summary_page(report: Report) -> str:
    """Return the HTML of a summary for one printed page: the first screen alone; `report` with plain numbers."""
    return template("summary.html", verdict_cell=findings.table_cell).render(
        report=report, other_pages={}, **_first_screen(report), **_helpers(report)
    )


class _Contents(NamedTuple):
    """The headings of a page, which the template adds as it renders them."""

    items: list[tuple[str, str]]

    def add(self, title: str) -> str:
        """Add a heading and return its id."""
        slug = "section-" + re.sub(r"\W+", "-", title.lower()).strip("-")
        self.items.append((slug, title))
        return slug


def _first_screen(report: Report) -> dict[str, Any]:
    """Return the variables of `page_cards.html`."""
    primary = family.from_report(report)
    entries = cards.cards(report)
    return {
        "cards": entries,
        "axis": cards.axis(entries),
        "overall": report["scores"][primary.score]["overall"]["mean"],
        "lower_is_better": primary.score in LOWER_IS_BETTER,
        "title": _heading(report),
        "origin": summary.origin(report),
        "audited_model": formatting.audited_model(report),
        "data_warnings": summary.data_warnings(report),
        "model_rows": models.rows(report),
        "model_patients": models.patients(report),
        "model_changes": models.changes_by_group(report),
        "model_headline": [formatting.keep_together(text) for text in models.headline(report)],
        "model_gaps": formatting.keep_together(models.significant_gaps(report)),
    }


def _heading(report: Report) -> str:
    if title := report["run"].get("title"):
        return title
    rows = models.rows(report)
    model = f"{len(rows)} models" if rows else formatting.audited_model(report)
    title = "Segmentation accuracy by patient group"
    return f"{title}: {model}" if model else title


def _texts(report: Report) -> dict[str, Any]:
    """Return the paragraphs of the page, and its rows of text."""
    methods, references = methods_text(report)
    return {
        "summary": [formatting.keep_together(paragraph) for paragraph in summary.paragraphs(report)],
        "attribute_paragraphs": [
            formatting.keep_together(text) for text in summary.attribute_paragraphs(report)
        ],
        "methods": methods,
        "references": references,
        "power_paragraph": formatting.keep_together(power_text.paragraph(report)),
        "power_rows": power_text.rows(report),
        "cohort": _cohort(report["cohort"]["table"]),
        "config": json.dumps(report["run"].get("config"), indent=2, sort_keys=True, ensure_ascii=False),
    }


def _pictures(report: Report, examples: Sequence[CaseView]) -> dict[str, Any]:
    """Return the example cases, and the colors of the structures."""
    structures = report["run"].get("classes", report["cohort"]["structures"])
    by_group = [case for case in examples if case.group != ALL]
    return {
        "worst": [_view(case) for case in examples if case.group == ALL],
        "examples": _examples(by_group, report["cohort"]["attributes"]),
        "legend": [(name, color(label)) for label, name in enumerate(structures, start=1)],
    }


def _helpers(report: Report) -> dict[str, Any]:
    """Return the constants of the report, and the functions that the tables call."""
    attributes, primary = report["cohort"]["attributes"], family.from_report(report)
    primary_scores = report["scores"][primary.score]
    return {
        "attributes": attributes,
        "external": report.get("external"),
        "primary": primary.score,
        "primary_title": formatting.score_title(primary.score),
        "exploratory": [name for name in attributes if not primary.covers(name)],
        "margin": _any(primary_scores, "equivalence"),
        "distances": MILLIMETRES,
        "has_distances": any(score in report["scores"] for score in MILLIMETRES),
        "lower": LOWER_IS_BETTER,
        "judge": lambda groups, scores, key: findings.judge(
            groups,
            scores,
            lower_is_better=key in LOWER_IS_BETTER,
            primary=scores is primary_scores,  # not the same score of the external cohort
        ),
        "has_pairs": lambda names: any(
            "," in groups.key for groups in formatting.attribute_groups(names, attributes)
        ),
        "primary_first": lambda scores: sorted(scores.items(), key=lambda item: item[0] != primary.score),
        "has_tests": lambda scores: _any(scores, "test"),
        "gap_without_failures": findings.gap_without_failures,
        "is_corrected": _is_corrected,
        "has_group_pairs": lambda scores: _any(scores, "pairs"),
        "has_structures": _has_structures,
        "warnings": _warnings,
        "endpoint_title": failures.endpoint_title,
        "computed_endpoints": _computed_endpoints,
        "has_small_means": lambda rates: any(rates["small_groups"].values()),
    }


def _is_corrected(scores: StructureScores) -> bool:
    """Return whether any gap of the score has a corrected p."""
    tests = (summary["test"] for summary in scores["summaries"].values())
    return any(test["p_holm"] is not None for test in tests if test)


def _figures(report: Report, cases: pd.DataFrame, curves: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return name -> SVG of every figure that the report has numbers for."""
    score, attributes = family.from_report(report).score, report["cohort"]["attributes"]
    scores, title = report["scores"][score], formatting.TITLES.get(score, score)
    all_groups = formatting.attribute_groups(scores["groups"], attributes)
    by_attribute = [groups for groups in all_groups if groups.key in attributes]
    by_pair = [groups for groups in all_groups if "," in groups.key]
    failure_dice = report["rates"]["failure_dice"]
    values = macro_by_group(cases, attributes, score, failure_dice)
    marked = set().union(*(findings.worse_groups(verdict) for verdict in summary.verdicts(report)))
    figures = {"flow": cohort_figures.flow(report["cohort"]["flow"], "flow")}
    if attributes:
        figures["forest"] = forest.means(scores, all_groups, title, "forest", report["pooled"], marked)
        figures["distributions"] = cohort_figures.distributions(values, by_attribute, title, "cases")
    if attributes and _has_structures(scores):
        figures["heat_map"] = cohort_figures.heat_map(
            scores, all_groups, title, "heat", lower_is_better=score in LOWER_IS_BETTER
        )
    if _any(scores, "pairs"):
        figures["gaps"] = forest.gaps(scores, by_attribute, title, "gaps")
    distances = report["scores"].get("hd95_mm")
    if attributes and score != "hd95_mm" and distances and _any(distances, "test"):
        figures["forest_hd95_mm"] = forest.means(distances, all_groups, "HD95, mm", "forest_hd95")
    if by_pair:
        figures["intersections"] = scatter.intersections(scores, by_pair, title, "intersections")
    if by_attribute and (frame := scatter.areas(cases, attributes, "dice", failure_dice)) is not None:
        figures["size"] = scatter.size(frame, by_attribute, "Dice", "size")
    if calibration := report.get("calibration"):
        curve_groups = formatting.attribute_groups(calibration["curves"], attributes)
        slopes = {name: group["slope"] for name, group in calibration["groups"].items()}
        figures["calibration"] = scatter.reliability(
            calibration["curves"], curve_groups, slopes, "calibration"
        )
    if report.get("attribute_leakage"):
        figures["attribute_leakage"] = forest.aucs(report["attribute_leakage"], "attribute_leakage")
    if curves:
        figures["curves"] = cohort_figures.curves(curves, "curves")
    external = report.get("external")
    if external and (external_scores := external["scores"].get(score)):
        groups = formatting.attribute_groups(external_scores["groups"], attributes)
        figures["external"] = forest.means(external_scores, groups, title, "external", external["pooled"])
    return figures


def _any(scores: StructureScores, key: str) -> bool:
    """Return whether any summary of a score has an entry."""
    return any(summary[key] for summary in scores["summaries"].values())


def _has_structures(scores: Scores) -> bool:
    """Return whether a score has structures; a table of one score per case has not."""
    return set(scores["structures"]) != {patient_table.ALL_STRUCTURES}


def _computed_endpoints(rates: Rates) -> dict[str, Endpoint]:
    """Return the endpoints that can be computed from the scores."""
    return {name: endpoint for name, endpoint in rates["endpoints"].items() if endpoint["reason"] is None}


def _warnings(scores: StructureScores, attributes: Sequence[str]) -> list[str]:
    """Return the warnings on a score's intervals and tests, each with the attributes that it concerns."""
    titles: dict[str, list[str]] = {}
    for entry in formatting.attribute_groups(scores["groups"], attributes):
        for text in scores["summaries"][entry.key]["warnings"]:
            titles.setdefault(text, []).append(entry.title)
    return [f"By {formatting.listing(by)}: {text}" for text, by in titles.items()]


def macro_by_group(
    cases: pd.DataFrame,
    attributes: Sequence[str],
    score: str,
    failure_dice: float = patient_table.FAILURE_DICE,
) -> dict[str, np.ndarray]:
    """Return the macro score of each case, by group of one attribute.

    Args:
        cases: a row for each case and structure; NaN scores (absent from mask and prediction) are excluded.
        attributes: categorical columns.
        score: the column of the score.
        failure_dice: `failure_dice` of `patient_table.macro`.

    Returns:
        Group name -> f64[cases]; cases without any score are excluded.
    """
    levels = cases.groupby("case_id", sort=True)[list(attributes)].first()
    macro = patient_table.macro(cases, score, failure_dice).to_numpy()
    values = {}
    for attribute in attributes:
        partition = groups.partition(levels, [attribute], missing_as_level=True)
        for i, name in enumerate(partition.names):
            members = macro[partition.index == i]
            values[name] = members[~np.isnan(members)]
    return values


def plain(value: Any) -> Any:
    """Convert a value to the types of strict JSON; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def _examples(examples: Sequence[CaseView], attributes: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the title of each group -> its cases with their pictures."""
    views: dict[str, list[dict[str, Any]]] = {}
    for case in examples:
        views.setdefault(formatting.group_title(case.group, attributes), []).append(_view(case))
    return views


def _view(case: CaseView) -> dict[str, Any]:
    picture = overlay(case.image, case.label, case.prediction)
    return {"case_id": case.case_id, "rank": case.rank, "score": case.score, "picture": picture}


def _cohort(table: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the splits in order, and group -> split -> row."""
    by_group: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in table:
        by_group.setdefault(row["group"], {})[row["split"]] = row
    splits = dict.fromkeys(row["split"] for row in table if row["cases"])
    return {"splits": list(splits), "groups": by_group}


@functools.lru_cache(maxsize=4)
def template(name: str, **filters: Callable[[Any], Any]) -> jinja2.Template:
    """Load a page of `templates/`, with additional filters; every value is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": formatting.number,
        "count": formatting.count,
        "interval": formatting.interval,
        "amount": formatting.amount,
        "p_value": formatting.p_value,
        "p_equals": formatting.p_equals,
        "signed": formatting.signed,
        "percent": formatting.percent,
        "percent_interval": formatting.percent_interval,
        "confidence": formatting.confidence,
        "group_title": formatting.group_title,
        "step": formatting.step,
        "keep_together": formatting.keep_together,
        **filters,
    }
    environment.globals |= {"attribute_groups": formatting.attribute_groups, "titles": formatting.TITLES}
    return environment.get_template(name)
