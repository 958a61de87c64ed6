"""Numbers and groups -> the words a reader sees."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

DASH = "\N{EN DASH}"
TITLES = {"dice": "Dice", "iou": "IoU"}


class Block(NamedTuple):
    """The groups of one attribute, or of one pair of attributes.

    Attributes:
        key: the attributes joined by commas, as in the report's summaries; empty for what belongs to none.
        title: the same for a reader, `sex × age`.
        labels: group name -> its levels alone, `female, 51-64`.
    """

    key: str
    title: str
    labels: dict[str, str]


def number(value: float | None, digits: int = 3) -> str:
    """`0.946`; an en dash where there is no number."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:z.{digits}f}".replace("-", "\N{MINUS SIGN}")


def count(value: float | None) -> str:
    """`1,234`; an en dash where there is no number."""
    return DASH if value is None else f"{value:,.0f}"


def step(value: Any) -> str:
    """A checkpoint's step `1,200`; those of several models `race=A 900, race=B 1,200`, or `900, 1,200` of folds."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_readable(name)} {count(of_group)}" for name, of_group in value.items())
    if isinstance(value, list):
        return ", ".join(map(step, value))
    return count(value)


def amount(value: float | None, noun: str) -> str:
    """`1 case`, `1,234 cases`."""
    return f"{count(value)} {noun if value == 1 else noun + 's'}"


def interval(ends: Sequence[float | None] | None, digits: int = 3) -> str:
    """`[0.940, 0.951]`; an en dash where there is none."""
    if ends is None or any(end is None for end in ends):
        return DASH
    return f"[{number(ends[0], digits)}, {number(ends[1], digits)}]"


def listing(items: Iterable[str]) -> str:
    """`femur, tibia and patella`."""
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def blocks(names: Iterable[str], attributes: Sequence[str]) -> list[Block]:
    """Group names -> blocks of one attribute each, then of one pair each; empty ones are left out.

    A name that belongs to none of the attributes (`all`) goes into a first block without a title.
    """
    found = {(): Block("", "", {})} | {
        subset: Block(",".join(subset), " \N{MULTIPLICATION SIGN} ".join(subset), {})
        for size in (1, 2)
        for subset in combinations(attributes, size)
    }
    for name in names:
        levels = _levels(name, attributes)
        found[tuple(levels)].labels[name] = _readable(", ".join(levels.values()) or name)
    return [block for block in found.values() if block.labels]


def group(name: str, attributes: Sequence[str]) -> str:
    """`sex=female,age=51-64` -> `sex female, age 51-64`."""
    return _readable(", ".join(f"{a} {level}" for a, level in _levels(name, attributes).items()) or name)


def _readable(label: str) -> str:
    """Levels as print has them, `≤50`; the files keep what a keyboard types."""
    return label.replace("<=", "≤").replace(">=", "≥")


def _levels(name: str, attributes: Sequence[str]) -> dict[str, str]:
    """The level of each attribute in a group's name; a level may itself contain a comma."""
    for first, second in combinations(attributes, 2):
        if name.startswith(f"{first}=") and f",{second}=" in name:
            level, _, other = name.removeprefix(f"{first}=").partition(f",{second}=")
            return {first: level, second: other}
    return {a: name.removeprefix(f"{a}=") for a in attributes if name.startswith(f"{a}=")}


def opening(report: dict[str, Any]) -> str:
    """The paragraph that a reader in a hurry reads: what was tested, on whom, and the gap by attribute."""
    scores, cohort = report["scores"]["dice"], report["cohort"]
    overall, smallest = scores["overall"], cohort["min_group_patients"]
    sentences = [
        f"Segmentation of the {listing(cohort['structures'])} was tested on "
        f"{amount(overall['cases'], 'case')} of {amount(overall['patients'], 'patient')}.",
        f"The mean Dice over structures is {_estimate(overall['mean'], overall['interval'])}.",
    ]
    for block in blocks(scores["groups"], cohort["attributes"]):
        if block.key in cohort["attributes"]:
            sentences += _compared(block, scores, smallest)
    sentences.append(
        "A gap without an interval only describes this sample, and in small samples it may be noise. Groups of "
        f"fewer than {smallest} patients, and patients whose attribute is missing, are shown but not ranked."
    )
    return " ".join(sentences)


def _compared(block: Block, scores: dict[str, Any], smallest: int) -> list[str]:
    """One attribute's best and worst group, and what its gap's interval allows to say."""
    summary = scores["summaries"].get(block.key, {})
    ranked = {
        name: scores["groups"][name]["mean"]
        for name in block.labels
        if scores["groups"][name].get("ranked", True) and scores["groups"][name]["mean"] is not None
    }
    gap = summary.get("gap") or {"value": None, "interval": None}
    if len(ranked) < 2 or gap["value"] is None:
        return [f"By {block.title}, fewer than two groups have the {smallest} patients that ranking needs."]
    best = max(ranked, key=ranked.__getitem__)
    worst = summary["worst"].get("group") or min(ranked, key=ranked.__getitem__)
    sentences = [
        f"By {block.title}, {block.labels[best]} has the highest mean ({number(ranked[best])}) and "
        f"{block.labels[worst]} the lowest ({number(scores['groups'][worst]['mean'])}), a gap of "
        f"{_estimate(gap['value'], gap['interval'])}."
    ]
    if gap["interval"] and gap["interval"][0] is not None and gap["interval"][0] <= 0:
        sentences.append("That interval reaches zero, so these patients cannot tell the gap from none.")
    return sentences


def _estimate(value: float | None, ends: Sequence[float | None] | None) -> str:
    """`0.946 (95 % interval 0.940 to 0.951)`, the brackets only where there is an interval."""
    if interval(ends) == DASH or ends is None:
        return number(value)
    return f"{number(value)} (95 % interval {number(ends[0])} to {number(ends[1])})"
