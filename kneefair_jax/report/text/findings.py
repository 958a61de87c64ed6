"""The audit's numbers of one attribute -> what they allow to say of its gap.

The gap that is tested is that of patients without a failed segmentation; failures have tests of their own. A gap is
called significant only by its test, corrected over the primary family, and a pair of groups is named only by its own
corrected test and interval. A large p never means "no difference": it comes with the gap that a single test would have
shown. Groups are called equivalent only in what was shown, a mean within a margin.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from kneefair_jax import groups
from kneefair_jax.fairness import family
from kneefair_jax.report.text.formatting import (
    Block,
    confidence,
    delta,
    estimate,
    interval_ends,
    listing,
    number,
    p_equals,
)

LEVEL = family.LEVEL

Kind = Literal["unranked", "untested", "significant", "unlocated", "open", "exploratory"]
Size = Literal["consistent", "more", "less"]
Equivalence = Literal["equivalent", "small", "not shown"]


class Verdict(NamedTuple):
    """What is known of the gap between the groups of an attribute, or of a pair of attributes.

    Attributes:
        block: the groups.
        kind: `unranked` (fewer than two groups to compare), `untested` (too few patients without failures to test
            means), `significant` (the corrected test rejects, and so do the test and the interval of a pair),
            `unlocated` (the test of all groups rejects, and no pair's does), `open` (it does not reject), `exploratory`
            (outside the primary family: another score or attribute, or two attributes, whose interaction is tested).
        pairs: those that differ significantly, each by its own corrected p and interval.
        gap: the highest minus the lowest group mean, of patients without a failed segmentation where it was tested.
        best: the group with the lowest error.
        worst: the group with the highest.
        size: how the ratio of the groups' errors compares with the one that follows from the size of the structures,
            among patients without a failed segmentation: `consistent` (its interval holds that of size alone), `more`
            (it lies above), `less` (below). None without an interval, or where the gap is not significant.
        equivalence: against the margin stated in advance: `equivalent` (shown, and the gap is not significant), `small`
            (shown, but the gap is significant or exploratory), `not shown`. None without a margin.
        summary: the numbers themselves, `report["scores"][score]["summaries"][key]`.
        lower_is_better: whether the score is an error.
    """

    block: Block
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
    block: Block, scores: Mapping[str, Any], *, lower_is_better: bool = False, primary: bool = True
) -> Verdict:
    """The verdict on one block of groups, by the numbers of one score.

    Args:
        block: the groups.
        scores: `report["scores"][score]`.
        lower_is_better: whether the score is an error.
        primary: whether it is the score of the primary family; gaps of others are exploratory.
    """
    summary = scores["summaries"].get(block.key) or {}
    means = {
        name: scores["groups"][name]["mean"]
        for name in block.labels
        if scores["groups"][name].get("ranked", True) and scores["groups"][name]["mean"] is not None
    }
    overall_gap = (summary.get("gap") or {}).get("value")
    if len(means) < 2 or overall_gap is None:
        return Verdict(block, "unranked", (), None, None, None, None, None, summary)
    tested_gap = without_failures(summary)["value"]
    gap = overall_gap if tested_gap is None else tested_gap
    ranked = sorted(means, key=lambda name: means[name], reverse=not lower_is_better)
    worst = (summary.get("worst") or {}).get("group") or ranked[-1]
    ser = summary.get("ser") or {}
    pairs = tuple(pair for pair in summary.get("pairs") or () if is_named(pair))
    # Of the primary family, where it is covered.
    is_corrected = (summary.get("test") or {}).get("p_holm") is not None
    kind = _kind(summary, pairs, primary and is_corrected and "," not in block.key)
    size = _explained(ser) if kind == "significant" else None
    equivalence = _equal(summary, kind)
    return Verdict(
        block, kind, pairs, gap, ranked[0], worst, size, equivalence, summary, lower_is_better=lower_is_better
    )


def without_failures(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The gap of patients without a failed segmentation; its interval is corrected like p where p is."""
    gap = summary.get("gap_without_failures") or {}
    corrected = (summary.get("test") or {}).get("p_holm") is not None
    return {"value": gap.get("value"), "interval": gap.get("interval_adjusted" if corrected else "interval")}


def p_of(summary: Mapping[str, Any]) -> tuple[float | None, str]:
    """The gap's p and what was done to it: Holm's where there is one."""
    test = summary.get("test") or {}
    for key, words in (("p_holm", " after Holm's correction"), ("p", "")):
        if test.get(key) is not None:
            return test[key], words
    return None, ""


def _kind(summary: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]], primary: bool) -> Kind:
    p, _ = p_of(summary)
    if p is None:
        return "untested"
    if not primary:
        return "exploratory"
    if p >= LEVEL:
        return "open"
    return "significant" if pairs else "unlocated"


def is_named(pair: Mapping[str, Any]) -> bool:
    """Whether a pair's own corrected p is below the level, and the interval at that level excludes zero."""
    ends, p = pair.get("interval_adjusted"), pair.get("p_holm")
    return p is not None and p < LEVEL and ends is not None and not ends[0] <= 0 <= ends[1]


def _equal(summary: Mapping[str, Any], kind: Kind) -> Equivalence | None:
    found = summary.get("equivalence")
    if not found:
        return None
    if not found.get("equivalent"):
        return "not shown"
    return "equivalent" if kind == "open" else "small"


def _explained(ser: Mapping[str, Any]) -> Size | None:
    ends = (ser.get("beyond_size") or {}).get("interval")
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
    """The verdict in full, one attribute's paragraph.

    Args:
        verdict: of `judge`.
        means: group name -> its numbers, `report["scores"][score]["groups"]`.
        title: the score's name.
        smallest: patients that ranking needs.
        detectable_failures: the failure rate that would be found (`power.detectable_failures`).
    """
    block = verdict.block
    if verdict.best is None or verdict.worst is None:
        return [f"By {block.title}, fewer than two groups have the {smallest} patients that ranking needs."]
    gap = verdict.summary["gap"]
    best, worst = (block.labels[name] for name in (verdict.best, verdict.worst))
    low, high = sorted((means[verdict.worst]["mean"], means[verdict.best]["mean"]))
    ends = ("highest", "lowest") if high == means[verdict.best]["mean"] else ("lowest", "highest")
    first, second = (high, low) if ends[0] == "highest" else (low, high)
    if first == second:
        same = f"By {block.title}, all ranked groups have the same mean {title} ({number(first)})."
        return [same, *_equivalence(verdict, title)]
    unranked = any(
        means[name].get("ranked") is False and not groups.is_missing(name) for name in block.labels
    )
    of_ranked = "of the ranked groups " if unranked else ""
    return [
        f"By {block.title}, {of_ranked}{best} has the {ends[0]} mean {title} ({number(first)}) and {worst} the "
        f"{ends[1]} ({number(second)}), a gap of {estimate(gap['value'], gap['interval'])}.",
        *_tested(verdict, means, detectable_failures),
        *_ratio(verdict),
        *_equivalence(verdict, title),
    ]


def _tested(verdict: Verdict, means: Mapping[str, Any], detectable_failures: str | None) -> list[str]:
    p, corrected = p_of(verdict.summary)
    reached = f"{p_equals(p)}{corrected}"
    detectable = verdict.summary.get("detectable")
    gap = without_failures(verdict.summary)
    if verdict.kind == "untested":
        return ["Too few patients have no failed segmentation for a test of their means."]
    if verdict.kind == "exploratory":
        return ["The gap is exploratory: it is outside the primary family."]
    among = "Among patients without a failed segmentation"
    texts = interval_ends(gap["interval"])
    ends = f", corrected interval {texts[0]} to {texts[1]}" if texts else ""
    left_out = _left_out(verdict, means)
    if verdict.kind == "significant":
        differences = better(verdict, intervals=True)
        return [f"{among}, the groups differ significantly ({reached}): {differences}.", *left_out]
    if verdict.kind == "unlocated":
        return [
            f"{among}, the groups differ significantly ({reached}); which groups differ remains open.",
            *left_out,
        ]
    shown = f"{number(gap['value'])} ({reached}{ends})"
    found = [f"{among}, the gap of {shown} is not distinguishable from zero with this sample size."]
    if detectable is not None and verdict.equivalence != "equivalent":
        failures = f", or {detectable_failures}" if detectable_failures else ""
        found.append(
            "That is not equality: a single test, uncorrected, would find with 80 % power a gap of "
            f"{number(detectable)} or more{failures}; less could easily remain unseen."
        )
    return found + left_out


def _left_out(verdict: Verdict, means: Mapping[str, Any]) -> list[str]:
    """Which ranked groups have too few patients without a failed segmentation to take part in the test."""
    tested = (verdict.summary.get("gap_without_failures") or {}).get("patients") or {}
    names = [
        label
        for name, label in verdict.block.labels.items()
        if means[name].get("ranked") and tested and name not in tested
    ]
    if not names:
        return []
    return [
        f"Too few patients of {listing(names)} have no failed segmentation to take part in that test; they are "
        "compared with all other patients."
    ]


def better(verdict: Verdict, intervals: bool = False) -> str:
    """The pairs of groups that differ significantly, higher mean first, or the extremes of an untested gap.

    Args:
        verdict: of `judge`.
        intervals: whether each difference has its interval, which is corrected like its p.
    """
    labels = verdict.block.labels
    if not verdict.pairs:
        best, worst = labels[verdict.best or ""], labels[verdict.worst or ""]
        return f"{worst} > {best}" if verdict.lower_is_better else f"{best} > {worst}"
    return listing(_difference(pair, labels, intervals) for pair in verdict.pairs)


def _difference(pair: Mapping[str, Any], labels: Mapping[str, str], intervals: bool) -> str:
    """`male > female by 0.021 (corrected interval 0.004 to 0.038)`."""
    names = (pair["first"], pair["second"])
    high, low = names if pair["difference"] > 0 else reversed(names)
    texts = interval_ends(sorted(abs(end) for end in pair["interval_adjusted"])) if intervals else None
    interval = f" (corrected interval {texts[0]} to {texts[1]})" if texts else ""
    return f"{labels[high]} > {labels[low]} by {number(abs(pair['difference']))}{interval}"


def _ratio(verdict: Verdict) -> list[str]:
    """Whether the size of the structures gives as large a ratio of errors."""
    if verdict.size is None:
        return []
    ser = verdict.summary["ser"]["beyond_size"]
    worst, best = (verdict.block.labels[ser[key]] for key in ("worst", "best"))
    observed, expected, ratio = (number(ser[key], 2) for key in ("observed", "expected", "value"))
    low, high = (number(end, 2) for end in ser["interval"])
    meaning = {
        "consistent": "is consistent with size alone",
        "more": "is more than size explains",
        "less": "is less than size alone gives",
    }[verdict.size]
    return [
        f"The ratio of their errors, {observed} ({worst} over {best}), {meaning}: the same boundary error on every "
        f"structure would give {expected}, and the observed ratio is {ratio} times that (interval {low} to {high})."
    ]


def _equivalence(verdict: Verdict, title: str) -> list[str]:
    """Whether the groups are equivalent within the margin, where there is one."""
    if verdict.equivalence is None:
        return []
    found = verdict.summary["equivalence"]
    margin = f"±{delta(found['delta'])}"
    within = (
        f"the {confidence(found['confidence'])} intervals of all differences of means and of failure rates lie within "
        f"{margin}"
    )
    if verdict.equivalence == "equivalent":
        return [f"The groups are equivalent in mean {title} within {margin}: {within}."]
    if verdict.equivalence == "small":
        return [f"The gap is small, though: {within}."]
    reason = f" ({_labeled(found['reason'], verdict.block)})" if found.get("reason") else ""
    return [f"Equivalence within {margin} is not shown{reason}."]


def _labeled(text: str, block: Block) -> str:
    """The text with levels, `female`, in place of the names of groups, `sex=female`."""
    for name in sorted(block.labels, key=len, reverse=True):
        text = text.replace(name, block.labels[name])
    return text


def reading(verdict: Verdict) -> str:
    """The verdict in a cell of a table."""
    detectable = verdict.summary.get("detectable")
    margin = f"±{delta((verdict.summary.get('equivalence') or {}).get('delta'))}"
    small = f"; within {margin}" if verdict.equivalence == "small" else ""
    if verdict.kind == "significant":
        text = "significant"
        if verdict.size is not None:
            text += {
                "consistent": "; consistent with size alone",
                "more": "; more than size explains",
                "less": "; less than size alone gives",
            }[verdict.size]
        return text + small
    if verdict.equivalence == "equivalent":
        return f"equivalent within {margin}"
    if verdict.kind == "open":
        shown = f"; detectable: {number(detectable)}" if detectable is not None else ""
        return f"no significant gap{shown}"
    return {
        "unlocated": "significant; which groups differ is open",
        "untested": "not tested",
        "exploratory": "exploratory",
        "unranked": "too few patients to compare",
    }[verdict.kind] + small
