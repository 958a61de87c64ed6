"""Numbers and groups -> the words a reader sees."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from kneefair_jax.fairness.patient_table import ALL_STRUCTURES

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
# No interval's end is printed with more.
MOST_DIGITS = 6
TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95_mm": "HD95, mm",
    "assd_mm": "ASSD, mm",
    "nsd": "NSD",
}


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
    return f"{value:z.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """`+0.021`, `−0.004`; 0 has no sign."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.") else text


def score_title(score: str) -> str:
    """`Dice`, `HD95 (mm)`: a score in a sentence or a heading."""
    title, _, unit = TITLES.get(score, score).partition(", ")
    return f"{title} ({unit})" if unit else title


def delta(value: float | None) -> str:
    """`0.010`; `0.0263` or `0.000040` of a margin that three digits would change, and so what lies within it."""
    if value is None or abs(value - round(value, 3)) < 1e-9:
        return number(value)
    return number(value, max(4, 1 - math.floor(math.log10(value))))


def margin(score: str, value: float) -> str:
    """`±0.010 in Dice`, `±1.000 mm in HD95`."""
    title, _, unit = TITLES.get(score, score).partition(", ")
    return f"±{delta(value)}{f' {unit}' if unit else ''} in {title}"


def p_value(p: float | None) -> str:
    """`0.041`, `<0.001`; an en dash where nothing was tested."""
    if p is None or not math.isfinite(p):
        return DASH
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def p_equals(p: float | None) -> str:
    """`p = 0.041`, `p < 0.001`, for a sentence."""
    text = p_value(p)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def count(value: float | None) -> str:
    """`1,234`; an en dash where there is no number."""
    return DASH if value is None else f"{value:,.0f}"


def step(value: Any) -> str:
    """A checkpoint's step `1,200`; those of several models `race=A 900, race=B 1,200`, or `900, 1,200` of folds."""
    if isinstance(value, Mapping):
        return ", ".join(f"{readable(name)} {count(of_group)}" for name, of_group in value.items())
    if isinstance(value, list):
        return ", ".join(map(step, value))
    return count(value)


def amount(value: float | None, noun: str) -> str:
    """`1 case`, `1,234 cases`."""
    return f"{count(value)} {noun if value == 1 else noun + 's'}"


def interval(ends: Sequence[float | None] | None, digits: int = 3) -> str:
    """`[0.940, 0.951]`; an en dash where there is none."""
    texts = interval_ends(ends, digits)
    return f"[{texts[0]}, {texts[1]}]" if texts else DASH


def interval_ends(ends: Sequence[float | None] | None, digits: int = 3) -> tuple[str, str] | None:
    """`0.940` and `0.951`; with more digits where an end that is not 0 would read 0. None without both ends."""
    if ends is None:
        return None
    known = [end for end in ends if end is not None and math.isfinite(end)]
    if len(known) < 2:
        return None
    while digits < MOST_DIGITS and any(end and not number(end, digits).strip(f"{MINUS}0.") for end in known):
        digits += 1
    low, high = (number(end, digits) for end in known)
    return low, high


def percent(value: float | None) -> str:
    """`19.4 %` of a share; an en dash where there is no number."""
    return DASH if value is None else f"{number(100 * value, 1)} %"


def percents(ends: Sequence[float | None] | None) -> str:
    """`7.5 to 37.5 %`, an interval of shares; an en dash where there is none."""
    if ends is None or None in ends:
        return DASH
    low, high = (number(100 * end, 1) for end in ends if end is not None)
    return f"{low} to {high} %"


def confidence(level: float) -> str:
    """`90 %`, `96.7 %`: the confidence of an interval."""
    return f"{100 * level:.3g} %"


def unbroken(text: str) -> str:
    """No line ends inside `p = 0.003` or `95 %`."""
    return re.sub(r"p [=<] |\d %", lambda part: part[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


def estimate(value: float | None, ends: Sequence[float | None] | None) -> str:
    """`0.946 (95 % interval 0.940 to 0.951)`, the brackets only where there is an interval."""
    texts = interval_ends(ends)
    return f"{number(value)} (95 % interval {texts[0]} to {texts[1]})" if texts else number(value)


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
        levels = levels_of(name, attributes)
        found[tuple(levels)].labels[name] = readable(", ".join(levels.values()) or name)
    return [block for block in found.values() if block.labels]


def group(name: str, attributes: Sequence[str]) -> str:
    """`sex=female,age=51-64` -> `sex female, age 51-64`."""
    return readable(", ".join(f"{a} {level}" for a, level in levels_of(name, attributes).items()) or name)


def by_group(scores: Mapping[str, Any], attributes: Sequence[str]) -> list[str]:
    """The patients of each level of each attribute: `sex (female 31, male 35)`."""
    found = []
    for block in blocks(scores["groups"], attributes):
        if block.key in attributes:
            counts = [
                f"{label} {count(scores['groups'][g]['patients'])}" for g, label in block.labels.items()
            ]
            found.append(f"{block.title} ({', '.join(counts)})")
    return found


def readable(label: str) -> str:
    """Levels as print has them, `≤50`; the files keep what a keyboard types."""
    return label.replace("<=", "≤").replace(">=", "≥")


def levels_of(name: str, attributes: Sequence[str]) -> dict[str, str]:
    """The level of each attribute in a group's name; a level may itself contain a comma."""
    for first, second in combinations(attributes, 2):
        if name.startswith(f"{first}=") and f",{second}=" in name:
            level, _, other = name.removeprefix(f"{first}=").partition(f",{second}=")
            return {first: level, second: other}
    return {a: name.removeprefix(f"{a}=") for a in attributes if name.startswith(f"{a}=")}


def segmentation_of(structures: Sequence[str]) -> str:
    """`Segmentation of the femur and tibia`; a score that names no structure, `all structures`, has no such object."""
    return f"Segmentation of {'' if list(structures) == [ALL_STRUCTURES] else 'the '}{listing(structures)}"


def audited(report: Mapping[str, Any]) -> str | None:
    """The model that an audit of several is of; None for a run, whose `model` is a selection rule."""
    return None if report["run"].get("config") else report["run"].get("model")
