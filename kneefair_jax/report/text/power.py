"""Describe power and sample size: the differences that the groups can show, and the patients that a margin needs."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from kneefair_jax.fairness.power import MOST_PATIENTS
from kneefair_jax.groups import display_label
from kneefair_jax.report.schema import AttributePower, Report
from kneefair_jax.report.text.formatting import (
    DASH,
    count,
    levels_of,
    margin,
    margin_value,
    number,
    percent,
)


class Row(NamedTuple):
    """The table's cells for one attribute."""

    attribute: str
    patients: str
    gap: str
    failure_rate: str
    mean: str
    failures: str
    equivalence: str


def detectable_failures(report: Report, attribute: str) -> str | None:
    """Return the failure rate that a single uncorrected exact test at the 5 % level detects with 80 % power.

    Returns:
        `a failure rate of at least 14.0 % in female (observed in all ranked groups: 2.0 %)`; None where the
        report has no power for the attribute, or where not even a failure rate of 100 % is detectable.
    """
    entry = report["power"].get(attribute)
    if entry is None or entry["detectable_failure_rate"] is None:
        return None
    smaller = _label(entry["groups"][0], attribute)
    return (
        f"a failure rate of at least {percent(entry['detectable_failure_rate'])} in {smaller} (observed in all "
        f"ranked groups: {percent(entry['failure_rate'])})"
    )


def required_patients(report: Report, attribute: str, *, equivalence: bool = True) -> str | None:
    """State the patients of each group that a test of a gap of the size of the margin needs.

    The groups are the two that are hardest to distinguish, at the ratio of their sizes.

    Args:
        report: the report.
        attribute: whose groups.
        equivalence: whether to state the patients that a test of equivalence needs.

    Returns:
        `Detecting a gap of 0.020 needs n = 95 in female and 105 in male (now 40 and 44; 80 % power, uncorrected 5 %
        level)`; where such a gap would be detected already, `Equivalence within ±0.020 needs n = 176 in female and 352
        in male (now 60 and 120; 80 % power, one-sided 5 % level)`. None where the report has no power for the
        attribute, or where the groups have the patients that both questions need.
    """
    entry = report["power"].get(attribute)
    if entry is None:
        return None
    needed, present = entry["needed"], entry["patients"][0]
    size = margin_value(needed["margin"])
    if needed["mean"] is None or needed["mean"] > present:
        level = f"uncorrected {100 * needed['level']:g} % level"
        return f"Detecting a gap of {size} needs {_per_group(entry, attribute, needed['mean'], level)}"
    if equivalence and (needed["equivalence"] is None or needed["equivalence"] > present):
        # Any failure widens the interval.
        bound = "at least " if needed["failure_rate"] == 0 and needed["equivalence"] is not None else ""
        level = f"one-sided {100 * needed['equivalence_level']:.3g} % level"
        patients = _per_group(entry, attribute, needed["equivalence"], level)
        return f"Equivalence within ±{size} needs {bound}{patients}"
    return None


def _per_group(entry: AttributePower, attribute: str, patients: int | None, level: str) -> str:
    """Format the patients of the smaller group and those of the larger one at the ratio of the sizes."""
    smaller, larger = (_label(name, attribute) for name in entry["groups"])
    if patients is None:
        needed = f"n > {count(MOST_PATIENTS)} in {smaller}"
    else:
        # As in the searches of `fairness.power`.
        other = math.ceil(entry["needed"]["ratio"] * patients)
        needed = f"n = {count(patients)} in {smaller} and {count(other)} in {larger}"
    now = " and ".join(count(size) for size in entry["patients"])
    return f"{needed} (now {now}; {100 * entry['needed']['power']:g} % power, {level})"


def paragraph(report: Report) -> str:
    """Return the paragraph that explains the table of `rows`; "" for a report without power."""
    if not report["power"]:
        return ""
    entry = next(iter(report["power"].values()))
    needed = entry["needed"]
    source = (
        "stated in advance" if entry["margin_stated"] else "an example, because no margin of Dice was stated"
    )
    return (
        "For each attribute, the table shows the two ranked groups whose means are hardest to distinguish. The "
        f"detectable differences are those that a single uncorrected test at the {100 * needed['level']:g} % level "
        f"detects with {100 * needed['power']:g} % power: a gap in mean Dice among patients without a failed "
        "segmentation, and a "
        "failure rate of the smaller group, compared with the observed rate of all ranked groups. The last three "
        "columns are the patients that the smaller group needs at a margin of "
        f"{margin('dice', needed['margin'])} ({source}), if the ratio of the group sizes stays the same: to detect a "
        f"gap of this size, to detect a failure rate {number(100 * needed['margin'], 1)} percentage points above the "
        "observed rate, and to show that equal means are equivalent at the observed failure rate. For equivalence, "
        f"each one-sided test has the level {100 * needed['equivalence_level']:.3g} %, because all attributes share "
        "5 %; where no segmentation failed, the number is a lower bound."
    )


def rows(report: Report) -> list[Row]:
    """Return the cells of the table, a row for each attribute with at least two ranked groups."""
    return [_row(attribute, entry) for attribute, entry in report["power"].items()]


def study_power(entry: Mapping[str, Any], methods: int) -> str:
    """State the power of a study's primary family to detect a change of the gap, and the source of the numbers."""
    change = (
        f"as large as the repairable gap ({number(entry['change'])})"
        if entry["own_change"]
        else f"of {number(entry['change'])}, the change in another study"
    )
    one_of = f" in one of {methods} methods" if methods > 1 else ""
    source = "" if entry["own_sd"] else ", as in another study"
    return (
        f"A change of the gap {change}{one_of} is detected with a power of {percent(entry['power'], 0)}, for a "
        f"standard deviation of {number(entry['sd'])} over seeds{source}."
    )


def _row(attribute: str, entry: Mapping[str, Any]) -> Row:
    needed = entry["needed"]
    smaller, larger = (_label(name, attribute) for name in entry["groups"])
    rate, observed = entry["detectable_failure_rate"], percent(entry["failure_rate"])
    # A failure rate cannot exceed 1.
    is_possible = needed["failure_rate"] + needed["margin"] <= 1
    return Row(
        attribute=attribute,
        patients=f"{smaller} {count(entry['patients'][0])}, {larger} {count(entry['patients'][1])}",
        gap=number(entry["detectable"]),
        failure_rate=f"none up to 100 % in {smaller}"
        if rate is None
        else f"{percent(rate)} in {smaller}, {observed} in all",
        mean=_needed(needed["mean"]),
        failures=_needed(needed["failures"]) if is_possible else DASH,
        equivalence=_needed(needed["equivalence"]),
    )


def _needed(patients: int | None) -> str:
    return f"more than {count(MOST_PATIENTS)}" if patients is None else count(patients)


def _label(name: str, attribute: str) -> str:
    return display_label(levels_of(name, [attribute])[attribute])
