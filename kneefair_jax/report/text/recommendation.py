"""Recommend a method of a study: the one that narrows the gap by the study's tests, or the baseline."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kneefair_jax.report.text import study_text
from kneefair_jax.report.text.formatting import interval, number, p_equals, signed

CRITERION = (
    "Criterion: the gap decreases significantly (p < 0.05 after Holm's correction over the methods), its interval over "
    "patients excludes zero, the gap is not reversed, and the mean does not decrease significantly. Of several such "
    "methods, the one with the gap closest to zero is recommended."
)


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
