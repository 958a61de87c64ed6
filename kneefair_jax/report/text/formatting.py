"""Format numbers, intervals and group names for a reader."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from kneefair_jax.fairness.patient_table import ALL_STRUCTURES
from kneefair_jax.groups import display_label
from kneefair_jax.report.schema import Report

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
MAX_DIGITS = 6  # of the end of an interval
TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95_mm": "HD95, mm",
    "assd_mm": "ASSD, mm",
    "nsd": "NSD",
}


class AttributeGroups(NamedTuple):
    """The groups of one attribute, or of one pair of attributes.

    Attributes:
        key: the attributes joined by commas, as in the report's summaries; empty for the group of all patients.
        title: the key for a reader, `sex × age`.
        labels: group name -> its levels without attribute names, `female, 51-64`.
    """

    key: str
    title: str
    labels: dict[str, str]


def number(value: float | None, digits: int = 3) -> str:
    """Format a number, `0.946`; an en dash for None."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:z.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """Format a number with its sign, `+0.021`, `−0.004`; 0 has no sign."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.") else text


def score_title(score: str) -> str:
    """Return a score's name in a sentence or a heading, `Dice`, `HD95 (mm)`."""
    title, _, unit = TITLES.get(score, score).partition(", ")
    return f"{title} ({unit})" if unit else title


def margin_value(value: float | None) -> str:
    """Format an equivalence margin, `0.010`; with more digits (`0.0263`, `0.000040`) where three would change it."""
    if value is None or abs(value - round(value, 3)) < 1e-9:
        return number(value)
    return number(value, max(4, 1 - math.floor(math.log10(value))))


def margin(score: str, value: float) -> str:
    """Format a score's equivalence margin, `±0.010 in Dice`, `±1.000 mm in HD95`."""
    title, _, unit = TITLES.get(score, score).partition(", ")
    return f"±{margin_value(value)}{f' {unit}' if unit else ''} in {title}"


def p_value(p: float | None) -> str:
    """Format a p value for a table, `0.041`, `<0.001`, `>0.99`; an en dash for None."""
    if p is None or not math.isfinite(p):
        return DASH
    if p > 0.99:  # `1.000` would read as a certainty
        return ">0.99"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def p_equals(p: float | None) -> str:
    """Format a p value for a sentence, `p = 0.041`, `p < 0.001`, `p > 0.99`; an en dash for None."""
    text = p_value(p)
    if text == DASH:
        return DASH
    return f"p {text[0]} {text[1:]}" if text[0] in "<>" else f"p = {text}"


def count(value: float | None) -> str:
    """Format a count, `1,234`; an en dash for None."""
    return DASH if value is None else f"{value:,.0f}"


def step(value: Any) -> str:
    """Format the step of a checkpoint: `1,200`; of models: `race=A 900, race=B 1,200`; of folds: `900, 1,200`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{display_label(name)} {count(group_step)}" for name, group_step in value.items())
    if isinstance(value, list):
        return ", ".join(map(step, value))
    return count(value)


def amount(value: float | None, noun: str) -> str:
    """Format a count with its noun, `1 case`, `1,234 cases`."""
    return f"{count(value)} {noun if value == 1 else noun + 's'}"


def interval(ends: Sequence[float | None] | None, digits: int = 3) -> str:
    """Format an interval for a table, `[0.940, 0.951]`; an en dash for None."""
    texts = interval_ends(ends, digits)
    return f"[{texts[0]}, {texts[1]}]" if texts else DASH


def interval_ends(ends: Sequence[float | None] | None, digits: int = 3) -> tuple[str, str] | None:
    """Format both ends of an interval, with more digits where a nonzero end would read 0; None without both ends."""
    if ends is None:
        return None
    finite = [end for end in ends if end is not None and math.isfinite(end)]
    if len(finite) < 2:
        return None
    while digits < MAX_DIGITS and any(end and not number(end, digits).strip(f"{MINUS}0.") for end in finite):
        digits += 1
    lower, upper = (number(end, digits) for end in finite)
    return lower, upper


def examples(names: Iterable[str], most: int = 1) -> str:
    """Return names for brackets: all of them, or the first ones after `such as` if there are more than `most`."""
    listed = list(map(str, names))
    return ("such as " if len(listed) > most else "") + ", ".join(listed[:most])


def percent(value: float | None, digits: int = 1) -> str:
    """Format a share in percent, `19.4 %`; an en dash for None."""
    return DASH if value is None else f"{number(100 * value, digits)} %"


def percent_interval(ends: Sequence[float | None] | None) -> str:
    """Format an interval of shares, `7.5 to 37.5 %`; an en dash for None."""
    if ends is None or None in ends:
        return DASH
    lower, upper = (number(100 * end, 1) for end in ends if end is not None)
    return f"{lower} to {upper} %"


def confidence(level: float) -> str:
    """Format the confidence level of an interval, `90 %`, `96.7 %`."""
    return f"{100 * level:.3g} %"


def keep_together(text: str) -> str:
    """Replace spaces inside `[0.012, 0.030]`, `p = 0.003` and `95 %` by no-break spaces."""
    return re.sub(
        r"\[[^\]]*\]|p [=<>] |\d %", lambda match: match[0].replace(" ", "\N{NO-BREAK SPACE}"), text
    )


def estimate(value: float | None, ends: Sequence[float | None] | None) -> str:
    """Format an estimate, `0.946 (95 % interval 0.940 to 0.951)`, or `0.946` without an interval."""
    texts = interval_ends(ends)
    return f"{number(value)} (95 % interval {texts[0]} to {texts[1]})" if texts else number(value)


def listing(items: Iterable[str]) -> str:
    """Join items in a sentence, `femur, tibia and patella`."""
    *head, last = items
    return f"{', '.join(head)} and {last}" if head else last


def attribute_groups(names: Iterable[str], attributes: Sequence[str]) -> list[AttributeGroups]:
    """Sort group names by attribute: first the groups of each attribute, then those of each pair of attributes.

    A name that belongs to no attribute (`all`) goes into a first entry without a title. Attributes without groups are
    omitted.
    """
    by_attributes = {(): AttributeGroups("", "", {})} | {
        subset: AttributeGroups(",".join(subset), " \N{MULTIPLICATION SIGN} ".join(subset), {})
        for size in (1, 2)
        for subset in combinations(attributes, size)
    }
    for name in names:
        levels = levels_of(name, attributes)
        by_attributes[tuple(levels)].labels[name] = display_label(", ".join(levels.values()) or name)
    return [groups for groups in by_attributes.values() if groups.labels]


def group_title(name: str, attributes: Sequence[str]) -> str:
    """Format a group's name, `sex=female,age=51-64` as `sex female, age 51-64`."""
    levels = levels_of(name, attributes)
    return display_label(", ".join(f"{attribute} {level}" for attribute, level in levels.items()) or name)


def group_sizes(scores: Mapping[str, Any], attributes: Sequence[str]) -> list[str]:
    """List the patients of each level of each attribute, `sex (female: n = 31, male: n = 35)`."""
    texts = []
    for groups in attribute_groups(scores["groups"], attributes):
        if groups.key in attributes:
            counts = [
                f"{label}: n = {count(scores['groups'][name]['patients'])}"
                for name, label in groups.labels.items()
            ]
            texts.append(f"{groups.title} ({', '.join(counts)})")
    return texts


def levels_of(name: str, attributes: Sequence[str]) -> dict[str, str]:
    """Return the level of each attribute in a group's name; a level may itself contain a comma."""
    for first, second in combinations(attributes, 2):
        if name.startswith(f"{first}=") and f",{second}=" in name:
            level, _, second_level = name.removeprefix(f"{first}=").partition(f",{second}=")
            return {first: level, second: second_level}
    return {a: name.removeprefix(f"{a}=") for a in attributes if name.startswith(f"{a}=")}


def segmentation_title(structures: Sequence[str]) -> str:
    """Return `Segmentation of the femur and tibia`, or `Segmentation of all structures` for one score per case."""
    return f"Segmentation of {'' if list(structures) == [ALL_STRUCTURES] else 'the '}{listing(structures)}"


def audited_model(report: Report) -> str | None:
    """Return the name of the audited model; None for a run, whose `model` is a selection rule."""
    return None if report["run"].get("config") else report["run"].get("model")


def bootstrap_draws(report: Report) -> int | None:
    """Return the number of resamples and permutations of a report; None if it states none."""
    run = report["run"]
    draws = run.get("bootstrap_draws") or ((run.get("config") or {}).get("report") or {}).get(
        "bootstrap_draws"
    )
    return draws if isinstance(draws, int) else None
