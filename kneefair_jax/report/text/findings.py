"""The audit's numbers of one attribute -> what they allow to say of its gap.

A gap is called real only where test and interval agree. A large p never means "no difference": it comes with the
gap that a single test would have shown. "Fair" is said only of groups whose equivalence was shown.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from kneefair_jax import groups
from kneefair_jax.report.text.formatting import Block, estimate, number, p_equals

LEVEL = 0.05

Kind = Literal["unranked", "untested", "real", "unclear", "open"]
Size = Literal["explains", "unclear", "no"]
Equivalence = Literal["fair", "small", "not shown"]


class Verdict(NamedTuple):
    """What is known of the gap between the groups of an attribute, or of a pair of attributes.

    Attributes:
        block: the groups.
        kind: `unranked` (fewer than two groups to compare), `untested` (a report without tests), `real` (the test
            rejects and the interval leaves zero out), `unclear` (one of them alone does), `open` (neither).
        gap: the highest minus the lowest group mean.
        best: the group with the lowest error.
        worst: the group with the highest.
        size: whether size alone explains the skewed error ratio (SER): `explains` where size alone gives as much or
            more; `no` where the SER's interval lies above what size alone gives; `unclear` where it reaches that, or
            is absent. None where it is unknown, or where the gap is not significant.
        equivalence: against the margin stated in advance: `fair` (shown, and the gap is `open`), `small` (shown, but
            the gap is of another kind: no claim that there is none), `not shown`. None without a margin.
        summary: the numbers themselves, `report["scores"][score]["summaries"][key]`.
    """

    block: Block
    kind: Kind
    gap: float | None
    best: str | None
    worst: str | None
    size: Size | None
    equivalence: Equivalence | None
    summary: Mapping[str, Any]


def judge(block: Block, scores: Mapping[str, Any], *, lower_is_better: bool = False) -> Verdict:
    """The verdict on one block of groups, by the numbers of one score."""
    summary = scores["summaries"].get(block.key) or {}
    means = {
        name: scores["groups"][name]["mean"]
        for name in block.labels
        if scores["groups"][name].get("ranked", True) and scores["groups"][name]["mean"] is not None
    }
    gap = (summary.get("gap") or {}).get("value")
    if len(means) < 2 or gap is None:
        return Verdict(block, "unranked", None, None, None, None, None, summary)
    ranked = sorted(means, key=lambda name: means[name], reverse=not lower_is_better)
    worst = (summary.get("worst") or {}).get("group") or ranked[-1]
    ser = summary.get("ser") or {}
    kind = _kind(summary)
    size = None if kind in ("open", "unclear") else _explained(ser)
    return Verdict(block, kind, gap, ranked[0], worst, size, _equal(summary, kind), summary)


def p_of(summary: Mapping[str, Any]) -> tuple[float | None, str]:
    """The gap's p and what was done to it: Holm's where there is one."""
    test = summary.get("test") or {}
    for key, words in (("p_holm", " after Holm's correction"), ("p", "")):
        if test.get(key) is not None:
            return test[key], words
    return None, ""


def _kind(summary: Mapping[str, Any]) -> Kind:
    p, _ = p_of(summary)
    if p is None:
        return "untested"
    ends = summary["gap"].get("interval")
    tested, apart = p < LEVEL, _apart(ends)
    if tested and apart:
        return "real"
    if tested or apart:
        return "unclear"
    return "open"


def _equal(summary: Mapping[str, Any], kind: Kind) -> Equivalence | None:
    found = summary.get("equivalence")
    if not found:
        return None
    if not found.get("equivalent"):
        return "not shown"
    return "fair" if kind == "open" else "small"


def _apart(ends: list[float | None] | None) -> bool:
    """Whether a gap's interval leaves zero out."""
    return bool(ends and ends[0] is not None and ends[0] > 0)


def _explained(ser: Mapping[str, Any]) -> Size | None:
    value, size, ends = ser.get("value"), ser.get("size"), ser.get("interval")
    if value is None or size is None:
        return None
    if value <= size:
        return "explains"
    return "no" if ends and ends[0] is not None and ends[0] > size else "unclear"


def sentences(verdict: Verdict, means: Mapping[str, Any], title: str, smallest: int) -> list[str]:
    """The verdict in full, one attribute's paragraph.

    Args:
        verdict: of `judge`.
        means: group name -> its numbers, `report["scores"][score]["groups"]`.
        title: the score's name.
        smallest: patients that ranking needs.
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
        return [same, *_equivalence(verdict)]
    unranked = any(
        means[name].get("ranked") is False and not groups.is_missing(name) for name in block.labels
    )
    of_ranked = "of the ranked groups " if unranked else ""
    return [
        f"By {block.title}, {of_ranked}{best} has the {ends[0]} mean {title} ({number(first)}) and {worst} the "
        f"{ends[1]} ({number(second)}), a gap of {estimate(gap['value'], gap['interval'])}.",
        *_tested(verdict),
        *_ratio(verdict),
        *_equivalence(verdict),
    ]


def _tested(verdict: Verdict) -> list[str]:
    p, corrected = p_of(verdict.summary)
    reached = f"{p_equals(p)}{corrected}"
    detectable = verdict.summary.get("detectable")
    ends = verdict.summary["gap"].get("interval")
    if verdict.kind == "untested":
        if ends and ends[0] is not None and ends[0] <= 0:
            return ["That interval reaches zero, so these patients cannot tell the gap from none."]
        return []
    if verdict.kind == "real":
        return [f"The gap is real: the interval leaves zero out, and the test rejects equality ({reached})."]
    if verdict.kind == "unclear":
        what = (
            "the test rejects equality, the interval reaches zero"
            if p is not None and p < LEVEL
            else "the interval leaves zero out, the test does not reject equality"
        )
        if ends is None:
            what = "the test rejects equality, but there is no interval"
        return [f"Whether the gap is real stays unclear: {what} ({reached})."]
    found = [f"These patients cannot tell the gap from none ({reached})."]
    if detectable is not None and verdict.equivalence != "fair":
        found.append(
            f"That is not equality: a single test, uncorrected, would show gaps of {number(detectable)} or more with "
            "80 % power; a smaller one could easily go unseen."
        )
    return found


def _ratio(verdict: Verdict) -> list[str]:
    """What the SER adds: whether the bones' size gives as much."""
    ser = verdict.summary.get("ser") or {}
    value, size = (number(ser.get(key)) for key in ("value", "size"))
    if verdict.size is None:
        return []
    if verdict.size == "explains":
        return [
            f"Size alone explains the SER, {value}: the same boundary error on every structure would give {size}."
        ]
    if verdict.size == "unclear":
        ends = ser.get("interval")
        told = (
            "the interval does not tell" if ends and ends[0] is not None else "there is no interval to tell"
        )
        return [
            f"The same boundary error on every structure would give a SER of {size}, not {value}; {told} whether the "
            "rest is more than chance."
        ]
    if ser["size"] <= 1:
        worst = verdict.block.labels[verdict.worst or ""]
        return [
            f"Size does not explain the SER, {value}: with the same boundary error on every structure, {worst} would "
            "not be the worst."
        ]
    return [
        f"Size alone does not explain it: the same boundary error on every structure would give a SER of {size}, "
        f"not {value}."
    ]


def _equivalence(verdict: Verdict) -> list[str]:
    """Whether the groups are as good as equal, where the reader said what that is."""
    if verdict.equivalence is None:
        return []
    found = verdict.summary["equivalence"]
    margin = f"±{number(found['delta'])}"
    within = f"the 90 % interval of every difference lies within {margin}"
    if verdict.equivalence == "fair":
        return [f"By equivalence the groups are fair: {within}."]
    if verdict.equivalence == "small":
        small = "It is small, though" if verdict.kind == "real" else "Any gap is small, though"
        return [f"{small}: {within}."]
    reason = f" ({found['reason']})" if found.get("reason") else ""
    return [f"Equivalence within {margin} is not shown{reason}."]


def reading(verdict: Verdict) -> str:
    """The verdict in a cell of a table."""
    detectable = verdict.summary.get("detectable")
    margin = f"±{number((verdict.summary.get('equivalence') or {}).get('delta'))}"
    small = f"; within {margin}" if verdict.equivalence == "small" else ""
    if verdict.kind == "real":
        text = "real"
        if verdict.size is not None:
            text += {
                "explains": "; size alone explains it",
                "unclear": "; unclear whether size explains it",
                "no": "; more than size explains",
            }[verdict.size]
        return text + small
    if verdict.equivalence == "fair":
        return f"fair within {margin}"
    if verdict.kind == "open":
        shown = f"; detectable: {number(detectable)}" if detectable is not None else ""
        return f"no significant gap{shown}"
    return {
        "unclear": "unclear: test and interval disagree",
        "untested": "not tested",
        "unranked": "too few patients to compare",
    }[verdict.kind] + small
