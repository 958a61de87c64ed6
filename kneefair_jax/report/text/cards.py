"""Summarize each attribute in a card: a verdict of a few words, the lowest group, and all groups on one axis."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kneefair_jax.fairness import family
from kneefair_jax.groups import is_missing
from kneefair_jax.report.schema import Mean, Report
from kneefair_jax.report.text import failures, findings, power, summary
from kneefair_jax.report.text.findings import Verdict
from kneefair_jax.report.text.formatting import (
    amount,
    count,
    interval_ends,
    listing,
    margin_value,
    number,
    p_equals,
    percent,
)

# The axis reaches at most this many ranges of the group means beyond them; longer intervals are cut.
_REACH = 1.5
_TICKS = 4
# In rem, by `style.html`: the narrowest axis, a digit of a tick's label (a point is half as wide), and its margins.
_AXIS_WIDTH, _DIGIT_WIDTH, _TICK_MARGIN = 5.2, 0.43, 0.3
_TOO_SMALL = "too few to rank"


class Axis(NamedTuple):
    """The axis that all cards share.

    Attributes:
        low: the left end, in the unit of the score.
        high: the right end.
        ticks: round values between the ends, so far apart that their labels do not overlap.
        decimals: of the labels.
    """

    low: float
    high: float
    ticks: list[float]
    decimals: int

    def percent(self, value: float) -> float:
        """Return the position of a value from the left end in percent; values beyond an end lie on it."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def cut_ends(self, interval: Sequence[float]) -> list[str]:
        """Return the ends of an interval that lie beyond the axis, `low` and `high`."""
        return ["low"] * (interval[0] < self.low) + ["high"] * (interval[1] > self.high)


class Group(NamedTuple):
    """The row of a group in a card.

    Attributes:
        label: its level.
        patients: number of patients with a score.
        mean: the mean score; None without a score.
        interval: its 95 % interval; None where it is undefined.
        unranked: why the group is not ranked; None for a ranked group.
        is_significant: whether it differs significantly, as the worse group, from another group or from all others.
        failed: the failure rate, `3 of 32 (9 %)`; "" without a patient with a known Dice.
        failed_significantly: whether its failure rate is significantly higher than that of other patients.
    """

    label: str
    patients: int
    mean: float | None
    interval: list[float] | None
    unranked: str | None
    is_significant: bool
    failed: str
    failed_significantly: bool


class Card(NamedTuple):
    """The card of an attribute.

    Attributes:
        title: the attribute.
        verdict: in a few words, `Gap 0.038, significant`.
        is_significant: whether the verdict, or one of the remarks, is a significant difference.
        remarks: further findings in a few words: failure rates, small groups, patients that a conclusion needs.
        lowest: the worst ranked group with its mean and patients, `Lowest mean: Black 0.852 (n = 32)`; "" without one.
        groups: all groups.
    """

    title: str
    verdict: str
    is_significant: bool
    remarks: list[str]
    lowest: str
    groups: list[Group]


def cards(report: Report) -> list[Card]:
    """Return a card for each attribute, significant differences first."""
    entries = [_card(report, verdict) for verdict in summary.verdicts(report)]
    return sorted(entries, key=lambda card: not card.is_significant)


def axis(entries: Sequence[Card]) -> Axis | None:
    """Return the axis of the group means of all cards; None where no group has a mean."""
    rows = [group for card in entries for group in card.groups if group.mean is not None]
    if not rows:
        return None
    means = [group.mean for group in rows if group.mean is not None]
    spread = max(max(means) - min(means), 0.01 * max(abs(mean) for mean in means), 1e-6)
    ends = [end for group in rows if not group.unranked for end in group.interval or () if end is not None]
    low = max(min([*means, *ends]), min(means) - _REACH * spread)
    high = min(max([*means, *ends]), max(means) + _REACH * spread)
    # Where all groups have one mean, as in perfect masks, the axis still has a length.
    pad = max(0.06 * (high - low), 0.06 * spread)
    low, high = low - pad, high + pad
    return Axis(low, high, *_ticks(low, high))


def _ticks(low: float, high: float) -> tuple[list[float], int]:
    """Return up to `_TICKS` + 1 round values between two numbers, and the decimals of their labels.

    They have the smallest step with two labels or more that fit, or are every k-th value of the smallest step; where
    two labels do not fit, a single value is left.
    """
    raw = (high - low) / _TICKS
    power_of_ten = 10.0 ** math.floor(math.log10(raw))
    steps = [power_of_ten * factor for factor in (1, 2, 5, 10, 20, 50) if power_of_ten * factor >= raw]
    choices = [_multiples(step, low, high) for step in steps]
    finest, digits = choices[0]
    for ticks, decimals in [*choices, *((finest[::k], digits) for k in range(2, len(finest)))]:
        if len(ticks) > 1 and _labels_fit(ticks, decimals, high - low):
            return ticks, decimals
    ticks, decimals = next(choice for choice in reversed(choices) if choice[0])
    return [ticks[len(ticks) // 2]], decimals


def _multiples(step: float, low: float, high: float) -> tuple[list[float], int]:
    """Return the multiples of a step between two numbers, and the decimals that they need."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    multiples = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [round(step * k, decimals) for k in multiples], decimals


def _labels_fit(ticks: Sequence[float], decimals: int, length: float) -> bool:
    labels = (number(tick, decimals) for tick in ticks)
    widest = max(len(label) - 0.5 * label.count(".") for label in labels)
    return (ticks[1] - ticks[0]) / length * _AXIS_WIDTH >= widest * _DIGIT_WIDTH + _TICK_MARGIN


def _card(report: Report, verdict: Verdict) -> Card:
    groups = _groups(report, verdict)
    failures_differ = failures.differs(report, verdict.groups.key)
    small = [
        group for group in groups if group.unranked and (group.is_significant or group.failed_significantly)
    ]
    remarks = [
        *(["Failure rates differ, significant"] if failures_differ else []),
        *(f"{group.label}: worse than all others, significant" for group in small),
        *_detail(verdict),
        *_sample_size(report, verdict, groups),
    ]
    is_significant = verdict.kind in ("significant", "unlocated") or failures_differ or bool(small)
    return Card(
        verdict.groups.title,
        headline(verdict),
        is_significant,
        remarks,
        _lowest(report, verdict),
        groups,
    )


def headline(verdict: Verdict) -> str:
    """Return the verdict on an attribute in a few words, `Gap 0.038, significant`."""
    if verdict.equivalence == "equivalent" or verdict.kind == "unranked":
        return result(verdict)
    return f"Gap {number(verdict.gap)}, {result(verdict)}"


def result(verdict: Verdict) -> str:
    """Return the verdict without the gap, `significant`."""
    if verdict.equivalence == "equivalent":
        return f"Equivalent within ±{margin_value(verdict.summary['equivalence']['delta'])}"
    return {
        "significant": "significant",
        "unlocated": "significant overall",
        "open": "not significant",
        "exploratory": "exploratory",
        "untested": "not tested",
        "unranked": "Too few patients",
    }[verdict.kind]


def condition(report: Report, verdict: Verdict) -> str:
    """Return ` without failures` for a tested gap where a segmentation failed; else ""."""
    is_tested = verdict.kind in ("significant", "unlocated", "open") and verdict.equivalence != "equivalent"
    has_failures = report["rates"]["endpoints"]["failure"]["count"]
    return " without failures" if is_tested and has_failures else ""


def _detail(verdict: Verdict) -> list[str]:
    """Return the tested gap with its interval and p, and the gap over all patients where it is another number.

    Where the two differ, the groups of the tested gap are named: they need not be those of the gap over all patients.
    """
    p, _ = findings.corrected_p(verdict.summary)
    if verdict.kind not in ("significant", "unlocated", "open") or p is None:
        return []
    gap = findings.gap_without_failures(verdict.summary)
    ends = interval_ends(gap["interval"])
    overall = verdict.summary["gap"]["value"]
    tested = f"Gap {number(gap['value'])}{f' [{ends[0]}, {ends[1]}]' if ends else ''}, {p_equals(p)}"
    if not _failures_change_gap(verdict):
        return [tested]
    pair = max(verdict.summary["pairs"], key=lambda pair: abs(pair["difference"]), default=None)
    groups = ""
    if pair is not None and math.isclose(abs(pair["difference"]), gap["value"], abs_tol=1e-9):
        first_is_worse = (pair["difference"] < 0) != verdict.lower_is_better
        worse, better = (pair["first"], pair["second"])[:: 1 if first_is_worse else -1]
        groups = f" ({verdict.groups.labels[worse]} worse than {verdict.groups.labels[better]})"
    return [f"{tested} without failed segmentations{groups}; {number(overall)} with them"]


def _failures_change_gap(verdict: Verdict) -> bool:
    tested = findings.gap_without_failures(verdict.summary)["value"]
    return tested is not None and bool(abs(tested - verdict.summary["gap"]["value"]) >= 0.0005)


def _sample_size(report: Report, verdict: Verdict, groups: Sequence[Group]) -> list[str]:
    """Return the patients that a gap needs which is neither significant nor equivalent to none.

    Equivalence is mentioned only where a margin was stated. It cannot be shown while a group is too small to rank.
    """
    is_open = verdict.kind == "open" and verdict.equivalence != "equivalent"
    if not is_open or family.from_report(report).score != "dice":
        return []
    minimum = report["cohort"]["min_group_patients"]
    small = [group for group in groups if group.unranked == _TOO_SMALL]
    has_margin = verdict.equivalence is not None
    text = power.required_patients(report, verdict.groups.key, equivalence=has_margin and not small)
    remarks = [text] if text else []
    if has_margin and small:
        sizes = listing(f"{group.label} has {amount(group.patients, 'patient')}" for group in small)
        remarks.append(f"Equivalence cannot be shown: {sizes}, {count(minimum)} are needed")
    return remarks


def _lowest(report: Report, verdict: Verdict) -> str:
    """Name the ranked group with the worst mean."""
    if verdict.worst is None:
        return ""
    means = report["scores"][family.from_report(report).score]["groups"][verdict.worst]
    word = "Highest" if verdict.lower_is_better else "Lowest"
    # The gap above it leaves failed segmentations out, and may be between other groups.
    of = ", all patients" if _failures_change_gap(verdict) else ""
    return (
        f"{word} mean{of}: {verdict.groups.labels[verdict.worst]} {number(means['mean'])} "
        f"(n = {count(means['patients'])})"
    )


def _groups(report: Report, verdict: Verdict) -> list[Group]:
    score = family.from_report(report).score
    means = report["scores"][score]["groups"]
    worse = findings.worse_groups(verdict) | failures.small_groups_below(report, verdict.groups.key)
    more_failures = failures.groups_with_more_failures(report, verdict.groups.key)
    failure = report["rates"]["endpoints"]["failure"]["groups"]
    return [
        Group(
            label=label,
            patients=means[name]["patients"],
            mean=means[name]["mean"],
            interval=means[name]["interval"],
            unranked=_unranked(name, means[name]),
            is_significant=name in worse,
            failed=_failed(failure[name]),
            failed_significantly=name in more_failures,
        )
        for name, label in verdict.groups.labels.items()
    ]


def _unranked(name: str, row: Mean) -> str | None:
    if row["ranked"]:
        return None
    return "unknown" if is_missing(name) else _TOO_SMALL


def _failed(entry: Mapping[str, Any]) -> str:
    """Format a failure rate, `3 of 32 (9 %)`."""
    if not entry["rate"]["n"]:
        return ""
    share = f" ({percent(entry['rate']['estimate'], 0)})" if entry["count"] else ""
    return f"{count(entry['count'])} of {count(entry['rate']['n'])}{share}"
