"""Write a study's two files, `study.json` for programs and `index.html`, and recommend one of its methods."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from kneefair_jax.report.figures import study_figures
from kneefair_jax.report.page import plain, template
from kneefair_jax.report.text import formatting, study_text
from kneefair_jax.report.text.formatting import interval, number, p_equals, signed
from kneefair_jax.runtime import atomic

CRITERION = (
    "Criterion: the gap decreases significantly (p < 0.05 after Holm's correction over the methods), its interval over "
    "patients excludes zero, the gap is not reversed, and the mean does not decrease significantly. Of several such "
    "methods, the one with the gap closest to zero is recommended."
)


def write(directory: Path, study: Mapping[str, Any]) -> Path:
    """Write `study.json` and `index.html` into the directory.

    The same input gives the same bytes: the page has no date.

    Args:
        directory: where to write; created if absent.
        study: with plain or numpy numbers; undefined numbers are None or NaN:

            {"title": str, "description": str,    # the study's topic, one line and one paragraph; "" for none
             "attribute": "race",                 # columns of the groups, joined by commas
             "conditions": {term: value},         # settings that all runs share: cohort, patients by split, steps
             "methods": {name: {"label": str, "changes": {config field: [the baseline's, this method's]},
                                "steps": int,          # of the optimiser in one run, all stages and models; optional
                                "seconds": float}},    # of training one run; optional
             "comparison": {...},                 # `fairness.method_comparison.compare_methods` of the rule below
             "rule": "overall",                   # the selection rule of the compared checkpoints
             "rules": {rule: comparison},         # the same runs by every rule, with the same pair; {} for none
             "sweep": {"field": config field, "label": str, "points": [{"share": float, "comparison": {...}}]} or None,
                                                   # all points with the pair of the comparison
             "training": {method: {"rise": [float], "train_scores": {group: {"cases": int, "dice": [float]}}}},
                                                   # of `runs.study_summary.convergence`; optional
             "diverged": {method: [directory]},    # methods excluded because of diverged runs; optional
             "notes": [str],                       # sentences on differences between runs, such as devices; optional
             "folders": {method: {"path": str, "validation": float}},
                                                   # the run of the seed with the best validation score; optional
             "runs": {"seeds": [int], "seconds": float, "device", "versions": {package: version}, "commit",
                      "command", "config": {...}}}  # the baseline's config; unknown values are None

            Every method of the comparison has an entry in `methods`; the baseline's changes are empty. Diverged methods
            are in no comparison, and may have an entry.

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
    """Return the page's HTML; `study` as for `write`, with plain numbers."""
    comparison = study["comparison"]
    compared = [
        name for name in comparison["methods"] if name not in (comparison["baseline"], comparison["oracle"])
    ]
    figures = {}
    if comparison["pair"]:
        figures["plane"] = study_figures.plane(study, "plane")
    if study["sweep"] and study["sweep"]["points"]:
        figures["sweep"] = study_figures.sweep(study, "sweep")
    points = (study["sweep"] or {}).get("points") or []
    return template("study.html", json=_json).render(
        study=study,
        comparison=comparison,
        labels={name: study_text.label(study, name) for name in comparison["methods"]},
        warnings=study_text.warnings(study),
        convergence=study_text.convergence(study),
        train_scores=study_text.train_scores(study),
        clip_intervals=study_text.clip_intervals,
        summary=formatting.keep_together(study_text.summary(study)),
        recommendation=recommendation(study),
        criterion=CRITERION,
        method_texts={
            name: formatting.keep_together(study_text.method_text(study, name)) for name in compared
        },
        excluded_methods=[formatting.keep_together(text) for text in study_text.excluded_methods(study)],
        selection_rules=study_text.selection_rules(study),
        smallest={rule: study_text.smallest_gap(by_rule) for rule, by_rule in study["rules"].items()},
        # Figures are safe to insert: matplotlib and `svg.text` escape every name in them.
        figures={name: Markup(figure) for name, figure in figures.items()},
        sweep_gap=study_figures.gap,
        sweep_methods=[
            name for name in comparison["methods"] if any(study_figures.gap(point, name) for point in points)
        ],
        is_numbered=study_figures.is_numbered(study),
        group_title=lambda name: formatting.group_title(name, study["attribute"].split(",")),
        config=json.dumps(study["runs"].get("config"), indent=2, sort_keys=True, ensure_ascii=False),
    )


def _json(value: Any) -> str:
    """Format a setting as JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


class Recommendation(NamedTuple):
    """The end of a study.

    Attributes:
        method: its name in the study.
        verdict: in a few words, `group DRO` or `No method is better than erm`.
        reason: one sentence with the numbers.
        path: the run with the best validation score, within the study's folder; "" where it is not known.
        command: how to export it from within the study's folder; "" without a path.
    """

    method: str
    verdict: str
    reason: str
    path: str
    command: str


def recommendation(study: Mapping[str, Any]) -> Recommendation:
    """Return the method that meets `CRITERION`, or the baseline where none does.

    Args:
        study: as for `study_page.write`; `folders`, optional, is method -> {"path", "validation"}.
    """
    comparison = study["comparison"]
    baseline = comparison["baseline"]
    meeting = [name for name in comparison["methods"] if _meets(comparison, name)]
    rule = study.get("rule", "overall").replace("_", " ")
    if meeting:
        method = min(meeting, key=lambda name: abs(comparison["methods"][name]["gap"]["value"]))
        change = comparison["methods"][method]["change"]
        mean = change["mean"]["value"]
        verdict = study_text.label(study, method)
        reason = (
            f"It narrows the gap of {study_text.label(study, baseline)} from "
            f"{number(comparison['methods'][baseline]['gap']['value'])} to "
            f"{number(comparison['methods'][method]['gap']['value'])} ({signed(change['gap']['value'])} "
            f"{interval(change['gap']['seeds'])} over seeds, {p_equals(change['gap']['p_holm'])}), and changes the "
            f"mean by {signed(mean)}; checkpoints by the rule {rule}."
        )
    else:
        method = baseline
        verdict = f"No method is better than {study_text.label(study, baseline)}"
        untested = ", since one seed tests no change" if comparison["seeds"] == 1 else ""
        reason = f"No method meets the criterion{untested}; checkpoints by the rule {rule}."
    path = ((study.get("folders") or {}).get(method) or {}).get("path", "")
    command = export_command(Path(path)) if path else ""
    return Recommendation(method, verdict, reason, path, command)


def export_command(run: Path) -> str:
    """Return the command that exports a run, quoted for a shell."""
    return f"kneefair export {shlex.quote(str(run))}"


def _meets(comparison: Mapping[str, Any], name: str) -> bool:
    """Return whether a method meets `CRITERION`."""
    method = comparison["methods"][name]
    if name in (comparison["baseline"], comparison["oracle"]) or not method["change"]:
        return False
    gap, mean = method["change"]["gap"], method["change"]["mean"]
    if gap["value"] is None or gap["value"] >= 0 or not study_text.is_significant(gap):
        return False
    # With two groups the gap is that of the pair; with more, it is never negative.
    pair = method.get("pair") or method["gap"]
    is_reversed = pair["value"] is not None and pair["value"] < 0
    is_lower = mean["value"] is not None and mean["value"] < 0 and study_text.is_significant(mean)
    return study_text.excludes_zero(gap.get("patients")) and not (is_reversed or is_lower)
