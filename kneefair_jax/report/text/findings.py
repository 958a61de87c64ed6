"""Turn the numbers of one attribute into a verdict on its gap, and the verdict into sentences.

The tested gap is that of patients without a failed segmentation; failure rates have their own tests. A gap is called
significant only by its test, corrected over the primary family, and a pair of groups only by its own corrected test and
interval. A large p is never called equality: the sentence states the gap that a single test would detect. Groups are
called equivalent only in what the test of equivalence showed, a mean within a margin.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from kneefair_jax.fairness import family
from kneefair_jax.groups import is_missing
from kneefair_jax.report.schema import StructureScores
from kneefair_jax.report.text.formatting import (
    AttributeGroups,
    confidence,
    estimate,
    interval_ends,
    listing,
    margin_value,
    number,
    p_equals,
)

LEVEL = family.LEVEL

Kind = Literal["unranked", "untested", "significant", "unlocated", "open", "exploratory"]
Size = Literal["consistent", "more", "less"]
Equivalence = Literal["equivalent", "small", "not shown"]


class Verdict(NamedTuple):
    """The verdict on the gap between the groups of an attribute, or of a pair of attributes.

    Attributes:
        groups: the groups.
        kind: `unranked` (fewer than two groups to compare), `untested` (too few patients without failures to test
            means), `significant` (the corrected test rejects, and so do the test and the interval of a pair),
            `unlocated` (the test of all groups rejects, and no pair's does), `open` (it does not reject), `exploratory`
            (outside the primary family: another score or attribute, or two attributes, whose interaction is tested).
        pairs: the pairs that differ significantly, each by its own corrected p and interval.
        gap: the highest minus the lowest group mean, of patients without a failed segmentation where it was tested.
        best: the group with the lowest error.
        worst: the group with the highest.
        size: how the ratio of the groups' errors compares with the ratio that follows from the size of the structures,
            among patients without a failed segmentation: `consistent` (its interval includes the ratio by size alone),
            `more` (it is above), `less` (below). None without an interval, or where the gap is not significant.
        equivalence: the result for the margin stated in advance: `equivalent` (shown, and the gap is not significant),
            `small` (shown, but the gap is significant or exploratory), `not shown`. None without a margin.
        summary: the numbers, `report["scores"][score]["summaries"][key]`.
        lower_is_better: whether the score is an error.
    """

    groups: AttributeGroups
    kind: Kind
    pairs: tuple[Mapping[str, Any], ...]
    gap: float | None
    best: str | None
    worst: str | None
    size: Size | None
    equivalence: Equivalence | None
    summary: Mapping[str, Any]
    lower_is_better: bool = False


def judge(
    groups: AttributeGroups, scores: StructureScores, *, lower_is_better: bool = False, primary: bool = True
) -> Verdict:
    """Return the verdict on the groups of one attribute or pair of attributes, by the numbers of one score.

    Args:
        groups: the groups.
        scores: `report["scores"][score]`.
        lower_is_better: whether the score is an error.
        primary: whether the score is that of the primary family; gaps of other scores are exploratory.
    """
    summary = scores["summaries"][groups.key]
    means = {
        name: mean
        for name in groups.labels
        if scores["groups"][name]["ranked"] and (mean := scores["groups"][name]["mean"]) is not None
    }
    if len(means) < 2 or summary["gap"]["value"] is None:
        return Verdict(groups, "unranked", (), None, None, None, None, None, summary)
    tested_gap = gap_without_failures(summary)["value"]
    gap = summary["gap"]["value"] if tested_gap is None else tested_gap
    ranked = sorted(means, key=lambda name: means[name], reverse=not lower_is_better)
    pairs = tuple(pair for pair in summary["pairs"] if is_significant_pair(pair))
    kind = _kind(summary, pairs, primary and _is_corrected(summary) and "," not in groups.key)
    return Verdict(
        groups,
        kind,
        pairs,
        gap,
        ranked[0],
        summary["worst"]["group"],
        _size_effect(summary["ser"]) if kind == "significant" else None,
        _equivalence_kind(summary, kind),
        summary,
        lower_is_better=lower_is_better,
    )


def worse_groups(verdict: Verdict) -> set[str]:
    """Return the groups that are the worse one of a pair that differs significantly."""
    if verdict.kind != "significant":
        return set()
    return {
        str(pair["first"] if (pair["difference"] < 0) != verdict.lower_is_better else pair["second"])
        for pair in verdict.pairs
    }


def gap_without_failures(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return value and interval of the gap of patients without a failed segmentation.

    The interval has the correction of p where p is corrected.
    """
    gap = summary["gap_without_failures"]
    key = "interval_adjusted" if _is_corrected(summary) else "interval"
    return {"value": gap["value"], "interval": gap[key]}


def _is_corrected(summary: Mapping[str, Any]) -> bool:
    return summary["test"] is not None and summary["test"]["p_holm"] is not None


def corrected_p(summary: Mapping[str, Any]) -> tuple[float | None, str]:
    """Return the gap's p, after Holm's correction where there is one, and a phrase that names the correction."""
    test = summary["test"]
    if test is None:
        return None, ""
    return (test["p_holm"], " after Holm's correction") if _is_corrected(summary) else (test["p"], "")


def _kind(summary: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]], primary: bool) -> Kind:
    p, _ = corrected_p(summary)
    if p is None:
        return "untested"
    if not primary:
        return "exploratory"
    if p >= LEVEL:
        return "open"
    return "significant" if pairs else "unlocated"


def is_significant_pair(pair: Mapping[str, Any]) -> bool:
    """Return whether a pair's own corrected p is below the level, and the interval at that level excludes zero."""
    ends, p = pair["interval_adjusted"], pair["p_holm"]
    return p is not None and p < LEVEL and ends is not None and not ends[0] <= 0 <= ends[1]


def _equivalence_kind(summary: Mapping[str, Any], kind: Kind) -> Equivalence | None:
    equivalence = summary["equivalence"]
    if equivalence is None:
        return None
    if not equivalence["equivalent"]:
        return "not shown"
    return "equivalent" if kind == "open" else "small"


def _size_effect(ser: Mapping[str, Any]) -> Size | None:
    ends = ser["beyond_size"] and ser["beyond_size"]["interval"]
    if not ends:
        return None
    return "more" if ends[0] > 1 else "less" if ends[1] < 1 else "consistent"


def sentences(
    verdict: Verdict,
    means: Mapping[str, Any],
    title: str,
    smallest: int,
    detectable_failures: str | None = None,
) -> list[str]:
    """Return the paragraph of one attribute.

    Args:
        verdict: the result of `judge`.
        means: group name -> its numbers, `report["scores"][score]["groups"]`.
        title: the score's name.
        smallest: the patients that a ranked group needs.
        detectable_failures: the detectable failure rate (`power.detectable_failures`).
    """
    groups = verdict.groups
    if verdict.best is None or verdict.worst is None:
        return [f"By {groups.title}, fewer than two groups have the {smallest} patients that ranking needs."]
    gap = verdict.summary["gap"]
    best, worst = (groups.labels[name] for name in (verdict.best, verdict.worst))
    best_mean, worst_mean = means[verdict.best]["mean"], means[verdict.worst]["mean"]
    ends = ("highest", "lowest") if best_mean >= worst_mean else ("lowest", "highest")
    if best_mean == worst_mean:
        text = f"By {groups.title}, all ranked groups have the same mean {title} ({number(best_mean)})."
        return [text, *_equivalence(verdict, title)]
    has_unranked = any(not means[name]["ranked"] and not is_missing(name) for name in groups.labels)
    among = " of the ranked groups" if has_unranked else ""
    return [
        f"By {groups.title}, {best} has the {ends[0]} mean {title}{among} ({number(best_mean)}) and {worst} the "
        f"{ends[1]} ({number(worst_mean)}), a gap of {estimate(gap['value'], gap['interval'])}.",
        *_tested(verdict, means, detectable_failures),
        *_wide_interval(verdict),
        *_ratio(verdict),
        *_equivalence(verdict, title),
    ]


def _tested(verdict: Verdict, means: Mapping[str, Any], detectable_failures: str | None) -> list[str]:
    p, correction = corrected_p(verdict.summary)
    p_text = f"{p_equals(p)}{correction}"
    detectable = verdict.summary["detectable"]
    gap = gap_without_failures(verdict.summary)
    if verdict.kind == "untested":
        return ["The gap was not tested: too few patients are without a failed segmentation."]
    if verdict.kind == "exploratory":
        return ["The gap is exploratory: it is outside the primary family of hypotheses."]
    among = "Among patients without a failed segmentation"
    limits = interval_ends(gap["interval"])
    ends = f", corrected interval {limits[0]} to {limits[1]}" if limits else ""
    excluded = _excluded_groups(verdict, means)
    if verdict.kind == "significant":
        differences = describe_pairs(verdict, intervals=True)
        return [f"{among}, the groups differ significantly ({p_text}): {differences}.", *excluded]
    if verdict.kind == "unlocated":
        return [
            f"{among}, the groups differ significantly ({p_text}), but no single pair of groups does by its own "
            "corrected test and interval.",
            *excluded,
        ]
    texts = [
        f"{among}, the gap of {number(gap['value'])} ({p_text}{ends}) is not distinguishable from zero with this "
        "sample size."
    ]
    if detectable is not None and verdict.equivalence != "equivalent":
        failure_rate = f", or {detectable_failures}" if detectable_failures else ""
        texts.append(
            "This does not show equality: a single uncorrected test has 80 % power to detect a gap of at least "
            f"{number(detectable)}{failure_rate}. It can miss smaller differences."
        )
    return texts + excluded


def _wide_interval(verdict: Verdict) -> list[str]:
    """Explain an interval of the gap over all patients that includes zero beside a test that rejects."""
    ends = verdict.summary["gap"]["interval"]
    if verdict.kind not in ("significant", "unlocated") or not ends or ends[0] is None or ends[0] > 0:
        return []
    return [
        "The interval of the gap over all patients includes zero, because it also allows for failed segmentations that "
        "were not observed; the test does not."
    ]


def _excluded_groups(verdict: Verdict, means: Mapping[str, Any]) -> list[str]:
    """Name the ranked groups that the test excludes, as they have too few patients without a failed segmentation."""
    tested = verdict.summary["gap_without_failures"]["patients"] or {}
    names = [
        label
        for name, label in verdict.groups.labels.items()
        if means[name]["ranked"] and tested and name not in tested
    ]
    if not names:
        return []
    return [
        f"This test excludes {listing(names)} because of too few patients without a failed segmentation, and compares "
        "these patients with all others instead."
    ]


def describe_pairs(verdict: Verdict, intervals: bool = False) -> str:
    """List the pairs of groups that differ significantly, higher mean first, or the extremes of an untested gap.

    Args:
        verdict: the result of `judge`.
        intervals: whether to add the interval of each difference, which has the correction of its p.
    """
    labels = verdict.groups.labels
    if not verdict.pairs:
        best, worst = labels[verdict.best or ""], labels[verdict.worst or ""]
        return f"{worst} > {best}" if verdict.lower_is_better else f"{best} > {worst}"
    return listing(_difference(pair, labels, intervals) for pair in verdict.pairs)


def _difference(pair: Mapping[str, Any], labels: Mapping[str, str], intervals: bool) -> str:
    """Format a difference, `male > female by 0.021 (corrected interval 0.004 to 0.038)`."""
    names = (pair["first"], pair["second"])
    higher, lower = names if pair["difference"] > 0 else reversed(names)
    texts = interval_ends(sorted(abs(end) for end in pair["interval_adjusted"])) if intervals else None
    interval = f" (corrected interval {texts[0]} to {texts[1]})" if texts else ""
    return f"{labels[higher]} > {labels[lower]} by {number(abs(pair['difference']))}{interval}"


def _ratio(verdict: Verdict) -> list[str]:
    """Compare the ratio of errors with the ratio that the size of the structures gives."""
    if verdict.size is None:
        return []
    ser = verdict.summary["ser"]["beyond_size"]
    worst, best = (verdict.groups.labels[ser[key]] for key in ("worst", "best"))
    observed, expected, ratio = (number(ser[key], 2) for key in ("observed", "expected", "value"))
    lower, upper = (number(end, 2) for end in ser["interval"])
    meaning = {
        "consistent": "is consistent with size alone",
        "more": "is more than size explains",
        "less": "is less than size alone gives",
    }[verdict.size]
    return [
        f"Among patients without a failed segmentation, the ratio of their errors is {observed} ({worst} / {best}). "
        f"The same boundary error on every structure would give a ratio of {expected}; the observed ratio is {ratio} "
        f"times this (interval {lower} to {upper}), which {meaning}."
    ]


def _equivalence(verdict: Verdict, title: str) -> list[str]:
    """State whether the groups are equivalent within the margin, where there is one."""
    if verdict.equivalence is None:
        return []
    equivalence = verdict.summary["equivalence"]
    margin = f"±{margin_value(equivalence['delta'])}"
    intervals = (
        f"the {confidence(equivalence['confidence'])} intervals of all differences in means and in failure rates lie "
        "within this margin"
    )
    if verdict.equivalence == "equivalent":
        return [f"Mean {title} is equivalent across the groups within {margin}: {intervals}."]
    if verdict.equivalence == "small":
        return [f"However, the gap lies within the equivalence margin of {margin}: {intervals}."]
    return [f"Equivalence within {margin} is not shown{equivalence_reason(verdict)}."]


def equivalence_reason(verdict: Verdict) -> str:
    """Return why equivalence within the margin is not shown, in brackets after a space; "" without a reason."""
    reason = verdict.summary["equivalence"]["reason"]
    return f" ({_replace_names(reason, verdict.groups)})" if reason else ""


def _replace_names(text: str, groups: AttributeGroups) -> str:
    """Replace names of groups, `sex=female`, by their levels, `female`."""
    for name in sorted(groups.labels, key=len, reverse=True):
        text = text.replace(name, groups.labels[name])
    return text


def table_cell(verdict: Verdict) -> str:
    """Return the verdict as a phrase for a cell of a table."""
    detectable, tested = verdict.summary["detectable"], verdict.summary["equivalence"]
    margin = f"±{margin_value(tested['delta'])}" if tested else ""
    equivalence = f"; within {margin}" if verdict.equivalence == "small" else ""
    if verdict.kind == "significant":
        text = "significant"
        if verdict.size is not None:
            text += {
                "consistent": "; consistent with size alone",
                "more": "; more than size explains",
                "less": "; less than size alone gives",
            }[verdict.size]
        return text + equivalence
    if verdict.equivalence == "equivalent":
        return f"equivalent within {margin}"
    if verdict.kind == "open":
        detectable_gap = f"; detectable: {number(detectable)}" if detectable is not None else ""
        return f"no significant gap{detectable_gap}"
    return {
        "unlocated": "significant; no single pair differs",
        "untested": "not tested",
        "exploratory": "exploratory",
        "unranked": "too few patients to compare",
    }[verdict.kind] + equivalence
