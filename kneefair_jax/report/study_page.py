"""The study's two files: `study.json` for programs and `index.html`, one page that needs nothing else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from kneefair_jax.report.figures import study_figures
from kneefair_jax.report.page import plain, template
from kneefair_jax.report.text import formatting, study_text
from kneefair_jax.report.text.study_text import unbroken
from kneefair_jax.runtime import atomic


def write(directory: Path, study: Mapping[str, Any]) -> Path:
    """Writes `study.json` and `index.html` into the directory.

    The same input gives the same bytes: there is no date on the page.

    Args:
        directory: made if absent.
        study: plain or numpy numbers, undefined ones None or NaN:

            {"title": str, "description": str,    # what is studied, one line and one paragraph; "" for none
             "attribute": "race",                 # columns of the groups, joined by commas
             "conditions": {term: value},         # what all runs share: cohort, patients by split, steps, network
             "methods": {name: {"label": str, "changes": {config field: [the baseline's, this method's]},
                                "steps": int,          # of the optimiser in one run, all stages and models; optional
                                "seconds": float}},    # of training one run; optional
             "comparison": {...},                 # of `fairness.method_comparison.compare_methods`, by the rule below
             "rule": "overall",                   # which chose the checkpoints that are compared
             "rules": {rule: comparison},         # the same runs by every rule, with the same pair; {} for none
             "sweep": {"field": config field, "label": str, "points": [{"share": float, "comparison": {...}}]} or None,
                                                   # all points with the pair of the comparison
             "training": {method: {"rise": [float], "fit": {group: {"cases": int, "dice": [float]}}}},
                                                   # of `runs.study.summary.convergence`; optional
             "diverged": {method: [directory]},    # left out, since these runs diverged; optional
             "notes": [str],                       # sentences on how runs differ, such as devices; optional
             "runs": {"seeds": [int], "seconds": float, "device", "versions": {package: version}, "commit",
                      "command", "config": {...}}}  # the baseline's config; None for what is unknown

            Every method of the comparison has an entry in `methods`; the baseline's changes are empty. What diverged
            is in no comparison, and may have an entry.

    Returns:
        The page's path.
    """
    study = plain(study)
    html = page(study)
    text = json.dumps({"schema": 1, **study}, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    directory.mkdir(parents=True, exist_ok=True)
    atomic.write_text(directory / "study.json", text + "\n")
    return atomic.write_text(directory / "index.html", html)


def page(study: Mapping[str, Any]) -> str:
    """The page's HTML; the argument is that of `write`, the numbers plain."""
    found = study["comparison"]
    compared = [name for name in found["methods"] if name not in (found["baseline"], found["oracle"])]
    drawn = {}
    if found["pair"]:
        drawn["plane"] = study_figures.plane(study, "plane")
    if study["sweep"] and study["sweep"]["points"]:
        drawn["sweep"] = study_figures.sweep(study, "sweep")
    points = (study["sweep"] or {}).get("points") or []
    filters = {name: getattr(study_text, name) for name in ("signed", "p_value", "percent")}
    return template("study.html", **filters, json=_json).render(
        study=study,
        found=found,
        labels={name: study_text.label(study, name) for name in found["methods"]},
        warnings=study_text.warnings(study),
        regime=study_text.regime(study),
        fit=study_text.fit(study),
        within=study_text.within,
        opening=unbroken(study_text.opening(study)),
        sentences={name: unbroken(study_text.sentence(study, name)) for name in compared},
        diverged=[unbroken(text) for text in study_text.diverged(study)],
        rules=study_text.rules(study),
        smallest={rule: study_text.smallest_gap(part) for rule, part in study["rules"].items()},
        # Safe to insert as they are: matplotlib and `svg.text` escape every name in them.
        figures={name: Markup(figure) for name, figure in drawn.items()},
        swept=study_figures.gap,
        in_sweep=[
            name for name in found["methods"] if any(study_figures.gap(point, name) for point in points)
        ],
        numbered=study_figures.numbered(study),
        readable=lambda name: formatting.group(name, study["attribute"].split(",")),
        config=json.dumps(study["runs"].get("config"), indent=2, sort_keys=True, ensure_ascii=False),
    )


def _json(value: Any) -> str:
    """A setting as the config writes it."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
