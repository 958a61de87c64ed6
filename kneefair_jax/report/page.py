"""The report's files: `index.html`, one page that needs nothing else, and its numbers as JSON and CSV."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from kneefair_jax import groups
from kneefair_jax.fairness import family, patient_table
from kneefair_jax.fairness.patient_table import LOWER_IS_BETTER, MILLIMETRES
from kneefair_jax.report import checklist, csv_tables
from kneefair_jax.report.examples import EVERYONE
from kneefair_jax.report.figures import distributions, flow_diagram, forest, scatter
from kneefair_jax.report.overlays import CaseView, colour, overlay
from kneefair_jax.report.text import failures, findings, formatting
from kneefair_jax.report.text import power as power_text
from kneefair_jax.report.text.methods import methods_text
from kneefair_jax.report.text.summary import details, opening
from kneefair_jax.runtime import atomic

PAGE = "index.html"


def write(
    directory: Path,
    report: dict[str, Any],
    cases: pd.DataFrame,
    curves: list[dict[str, Any]],
    examples: list[CaseView],
    others: Mapping[str, str] | None = None,
) -> Path:
    """Writes `index.html`, `report.json`, `checklist.html` and `.csv`, and the CSV files of `csv_tables`.

    The same input gives the same bytes: there is no date on the page.

    Args:
        directory: made if absent.
        report: schema 2, with plain or numpy numbers; undefined ones None or NaN. `report["external"]`, if
            present, holds `scores` of the same form.
        cases: the rows of the per-case table that the scores are of: one split, one model.
        curves: records of the training run; empty for an audit of foreign predictions.
        examples: cases to show as pictures, of `examples.choose`.
        others: the pages of other models on the same cases, by model: where they are, seen from here.

    Returns:
        The page's path.
    """
    report = plain(report)
    directory.mkdir(parents=True, exist_ok=True)
    html = page(report, cases, plain(curves), examples, others)
    written = csv_tables.tables(report)
    for name in csv_tables.NAMES:
        if name in written:
            atomic.write_text(directory / name, written[name])
        else:  # of an earlier report
            (directory / name).unlink(missing_ok=True)
    lines = checklist.items(report)
    atomic.write_text(directory / checklist.TABLE, checklist.table(lines))
    atomic.write_text(directory / checklist.PAGE, checklist_page(lines))
    atomic.write_text(directory / PAGE, html)
    # The last file: a study takes a run with this file for finished.
    text = json.dumps(report, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    atomic.write_text(directory / "report.json", text + "\n")
    return directory / PAGE


def checklist_page(lines: Sequence[checklist.Item]) -> str:
    """The HTML of the reporting checklist, `checklist.items`."""
    filled = sum(one.value != checklist.OPEN for one in lines)
    return template("checklist.html").render(page=PAGE, lines=lines, filled=filled, sources=checklist.SOURCES)


def page(
    report: dict[str, Any],
    cases: pd.DataFrame,
    curves: Sequence[Mapping[str, Any]],
    examples: Sequence[CaseView],
    others: Mapping[str, str] | None = None,
    *,
    files: Sequence[str] | None = None,
) -> str:
    """The page's HTML; the arguments are those of `write`, the numbers plain.

    `files` are those beside the page that it names; None for those of `write`.
    """
    attributes = report["cohort"]["attributes"]
    external = report.get("external") or {}
    primary = family.from_report(report)
    drawn = _figures(report, cases, curves)
    cited, references = methods_text(report)
    worst = [case for case in examples if case.group == EVERYONE]
    return template("page.html", reading=findings.reading).render(
        report=report,
        attributes=attributes,
        opening=[formatting.unbroken(paragraph) for paragraph in opening(report)],
        details=[formatting.unbroken(text) for text in details(report)],
        # Safe to insert as they are: matplotlib and `svg.text` escape every name in them.
        figures={name: Markup(figure) for name, figure in drawn.items()},
        worst=[_view(case) for case in worst],
        examples=_examples([case for case in examples if case.group != EVERYONE], attributes),
        legend=[
            (name, colour(label))
            for label, name in enumerate(
                report["run"].get("classes", report["cohort"]["structures"]), start=1
            )
        ],
        cohort=_cohort(report["cohort"]["table"]),
        config=json.dumps(report["run"].get("config"), indent=2, sort_keys=True, ensure_ascii=False),
        external=external,
        methods=cited,
        references=references,
        files=["report.json", *csv_tables.tables(report)] if files is None else files,
        judge=lambda block, scores, key: findings.judge(
            block,
            scores,
            lower_is_better=key in LOWER_IS_BETTER,
            primary=scores is report["scores"][primary.score],  # and not that of the external cohort
        ),
        primary=primary.score,
        primary_title=formatting.score_title(primary.score),
        outside=[name for name in attributes if not primary.covers(name)],
        crossed=lambda names: any("," in block.key for block in formatting.blocks(names, attributes)),
        primary_first=lambda scores: sorted(scores.items(), key=lambda item: item[0] != primary.score),
        tested=lambda scores: _any(scores, "test"),
        without_failures=findings.without_failures,
        corrected=_is_corrected,
        unbounded=MILLIMETRES,
        paired=lambda scores: _any(scores, "pairs"),
        margin=_any(report["scores"][primary.score], "equivalence"),
        warnings=_warnings,
        others=others or {},
        audited=formatting.audited(report),
        lower=LOWER_IS_BETTER,
        endpoint_title=failures.endpoint_title,
        computed=_computed,
        power_paragraph=formatting.unbroken(power_text.paragraph(report)),
        power_rows=power_text.rows(report),
        small_means=lambda rates: any(rates["small_groups"].values()),
    )


def _is_corrected(scores: Mapping[str, Any]) -> bool:
    """Whether any gap of the score has a corrected p."""
    return any(
        (summary.get("test") or {}).get("p_holm") is not None for summary in scores["summaries"].values()
    )


def _figures(
    report: dict[str, Any], cases: pd.DataFrame, curves: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Name -> SVG of every figure that the report has numbers for."""
    score, attributes = family.from_report(report).score, report["cohort"]["attributes"]
    scores, title = report["scores"][score], formatting.TITLES.get(score, score)
    shown = formatting.blocks(scores["groups"], attributes)
    single = [block for block in shown if block.key in attributes]
    crossed = [block for block in shown if "," in block.key]
    failure_dice = (report.get("rates") or {}).get("failure_dice", patient_table.FAILURE_DICE)
    values = macro_by_group(cases, attributes, score, failure_dice)
    drawn = {
        "forest": forest.means(scores, shown, title, "forest", report.get("pooled")),
        "distributions": distributions.distributions(values, single, title, "cases"),
        "heat_map": distributions.heat_map(
            scores, shown, title, "heat", lower_is_better=score in LOWER_IS_BETTER
        ),
    }
    if counts := report["cohort"].get("flow"):
        drawn["flow"] = flow_diagram.flow(counts, "flow")
    if _any(scores, "pairs"):
        drawn["gaps"] = forest.gaps(scores, single, title, "gaps")
    if score != "hd95_mm" and _any(report["scores"].get("hd95_mm") or {"summaries": {}}, "test"):
        far = report["scores"]["hd95_mm"]
        drawn["forest_hd95_mm"] = forest.means(far, shown, "HD95, mm", "forest_hd95")
    if crossed:
        drawn["intersections"] = scatter.intersections(scores, crossed, title, "intersections")
    if single and (frame := scatter.sized(cases, attributes, "dice", failure_dice)) is not None:
        drawn["size"] = scatter.size(frame, single, "Dice", "size")
    if calibration := (report.get("calibration") or {}).get("curves"):
        groups_of = formatting.blocks(calibration, attributes)
        of_groups = report["calibration"].get("groups") or {}
        slopes = {name: group["slope"] for name, group in of_groups.items()}
        drawn["calibration"] = scatter.reliability(calibration, groups_of, slopes, "calibration")
    if report.get("root_cause"):
        drawn["root_cause"] = forest.aucs(report["root_cause"], "root_cause")
    if curves:
        drawn["curves"] = distributions.curves(curves, "curves")
    if outside := ((report.get("external") or {}).get("scores") or {}).get(score):
        inside = formatting.blocks(outside["groups"], attributes)
        drawn["external"] = forest.means(outside, inside, title, "external", report["external"].get("pooled"))
    return drawn


def _any(scores: Mapping[str, Any], key: str) -> bool:
    """Whether any summary of a score has what later versions of the audit add."""
    return any(summary.get(key) for summary in scores["summaries"].values())


def _computed(rates: Mapping[str, Any]) -> dict[str, Any]:
    """The endpoints that the scores allow."""
    return {name: endpoint for name, endpoint in rates["endpoints"].items() if endpoint["reason"] is None}


def _warnings(scores: Mapping[str, Any], attributes: Sequence[str]) -> list[str]:
    """What a reader must know of a score's intervals and tests, each sentence once."""
    found: dict[str, list[str]] = {}
    for block in formatting.blocks(scores["groups"], attributes):
        for text in (scores["summaries"].get(block.key) or {}).get("warnings") or []:
            found.setdefault(text, []).append(block.title)
    return [f"By {formatting.listing(titles)}: {text}" for text, titles in found.items()]


def macro_by_group(
    cases: pd.DataFrame,
    attributes: Sequence[str],
    score: str,
    failure_dice: float = patient_table.FAILURE_DICE,
) -> dict[str, np.ndarray]:
    """The macro score of each case, by group of one attribute.

    Args:
        cases: a row per case and structure; a NaN score (absent in mask and prediction) is left out.
        attributes: categorical columns.
        score: the column.
        failure_dice: that of `patient_table.macro`.

    Returns:
        Group name -> f64[cases]; cases without any score are left out.
    """
    first = cases.groupby("case_id", sort=True)[list(attributes)].first()
    macro = patient_table.macro(cases, score, failure_dice).to_numpy()
    values = {}
    for attribute in attributes:
        part = groups.partition(first, [attribute], missing_as_level=True)
        for i, name in enumerate(part.names):
            members = macro[part.index == i]
            values[name] = members[~np.isnan(members)]
    return values


def plain(value: Any) -> Any:
    """Numbers, strings, lists and dicts as strict JSON has them: NaN and infinity become None."""
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
    """Group for a reader -> its cases, the pictures drawn."""
    views: dict[str, list[dict[str, Any]]] = {}
    for case in examples:
        views.setdefault(formatting.group(case.group, attributes), []).append(_view(case))
    return views


def _view(case: CaseView) -> dict[str, Any]:
    picture = overlay(case.image, case.label, case.prediction)
    return {"case_id": case.case_id, "rank": case.rank, "score": case.score, "picture": picture}


def _cohort(table: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of group and split -> the splits in order, and group -> split -> its row."""
    by_group: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in table:
        by_group.setdefault(row["group"], {})[row["split"]] = row
    splits = dict.fromkeys(row["split"] for row in table if row["cases"])
    return {"splits": list(splits), "groups": by_group}


@functools.lru_cache(maxsize=4)
def template(name: str, **filters: Callable[[Any], Any]) -> jinja2.Template:
    """One of the pages in `templates/`, with filters beyond those that all have; every value is escaped."""
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
        "signed": formatting.signed,
        "percent": formatting.percent,
        "percents": formatting.percents,
        "confidence": formatting.confidence,
        "group_name": formatting.group,
        "step": formatting.step,
        **filters,
    }
    environment.globals |= {"blocks": formatting.blocks, "titles": formatting.TITLES}
    return environment.get_template(name)
