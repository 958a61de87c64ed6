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

from kneefair_jax.fairness import family
from kneefair_jax.fairness.patient_table import LOWER_IS_BETTER, MILLIMETRES
from kneefair_jax.report import checklist, csv_tables
from kneefair_jax.report.figures import draw
from kneefair_jax.report.overlays import ALL, CaseView, color, overlay
from kneefair_jax.report.schema import Endpoint, Rates, Report, StructureScores, json_schema
from kneefair_jax.report.text import (
    cards,
    failures,
    findings,
    formatting,
    measurements,
    models,
    summary,
)
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
    measurement_rows: pd.DataFrame | None = None,
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
        measurement_rows: as for `figures.draw.figures_of`.

    Returns:
        The page's path.
    """
    report = plain(report)
    directory.mkdir(parents=True, exist_ok=True)
    html = page(report, cases, plain(curves), examples, other_pages, measurement_rows)
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
    measurement_rows: pd.DataFrame | None = None,
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
        measurement_rows: as for `write`.
        files: names of the files beside the page, which it lists; None for the files of `write`.
    """
    figures = draw.figures_of(report, cases, curves, measurement_rows)
    return template("page.html", verdict_cell=findings.table_cell).render(
        report=report,
        # Figures are safe to insert: matplotlib and `svg.text` escape every name in them.
        figures={name: Markup(figure) for name, figure in figures.items()},
        files=[REPORT, SCHEMA, *csv_tables.tables(report)] if files is None else files,
        other_pages=other_pages or {},
        contents=Contents([]),
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


class Contents(NamedTuple):
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
        "measurement_headline": measurements.headline(report),
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
        "measurement_findings": measurements.sentences(report) if "measurements" in report else [],
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
        "margin": draw.has_summary(primary_scores, "equivalence"),
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
        "has_tests": lambda scores: draw.has_summary(scores, "test"),
        "gap_without_failures": findings.gap_without_failures,
        "is_corrected": _is_corrected,
        "has_group_pairs": lambda scores: draw.has_summary(scores, "pairs"),
        "has_structures": draw.has_structures,
        "warnings": _warnings,
        "endpoint_title": failures.endpoint_title,
        **measurement_helpers(report),
        "computed_endpoints": _computed_endpoints,
        "has_small_means": lambda rates: any(rates["small_groups"].values()),
    }


def measurement_helpers(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the constants and functions of `page_measurements.html`."""
    return {
        "measurement_title": measurements.title,
        "measurement_differences": lambda name: measurements.differences(report, name),
        "drawn_measurements": measurements.MAIN,
    }


def _is_corrected(scores: StructureScores) -> bool:
    """Return whether any gap of the score has a corrected p."""
    tests = (summary["test"] for summary in scores["summaries"].values())
    return any(test["p_holm"] is not None for test in tests if test)


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
        "number2": measurements.digits,
        "signed2": measurements.signed_digits,
        "interval2": measurements.ends,
        "limits2": measurements.limits,
        "short": "{:g}".format,
        **filters,
    }
    environment.globals |= {"attribute_groups": formatting.attribute_groups, "titles": formatting.TITLES}
    return environment.get_template(name)
