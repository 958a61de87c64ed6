"""Power and sample size in words: what the groups of an attribute could show, and how many patients it would take."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from kneefair_jax.fairness.power import MOST_PATIENTS
from kneefair_jax.report.text.formatting import DASH, count, levels_of, margin, number, percent, readable


class Row(NamedTuple):
    """The cells of one attribute."""

    attribute: str
    patients: str
    gap: str
    failure_rate: str
    mean: str
    failures: str
    equivalence: str


def detectable_failures(report: Mapping[str, Any], attribute: str) -> str | None:
    """Return the failure rate that would be found: `a failure rate of 14.0 % or more in female against 2.0 %`.

    With 80 % power, by a single exact test at the 5 % level, uncorrected.

    Args:
        report: schema 1.
        attribute: the name of one.

    Returns:
        The phrase; None where the attribute has no power, or where not even a failure rate of 100 % would be found.
    """
    entry = (report.get("power") or {}).get(attribute)
    if entry is None or entry["detectable_failure_rate"] is None:
        return None
    smaller = _label(entry["groups"][0], attribute)
    return (
        f"a failure rate of {percent(entry['detectable_failure_rate'])} or more in {smaller} against "
        f"{percent(entry['failure_rate'])}, that of all ranked groups"
    )


def paragraph(report: Mapping[str, Any]) -> str:
    """Return what the table of `rows` shows; empty without any."""
    power = report.get("power")
    if not power:
        return ""
    entry = next(iter(power.values()))
    needed = entry["needed"]
    stated = "stated in advance" if entry["margin_stated"] else "an example, as none was stated"
    return (
        "The table shows the two ranked groups of each attribute whose means are hardest to tell apart. A single test "
        f"at the {100 * needed['level']:g} % level, uncorrected, finds the detectable differences with "
        f"{100 * needed['power']:g} % power: a gap in mean Dice among patients without a failed segmentation, and a "
        "failure rate of the smaller group against the observed one of all ranked groups. At a margin of "
        f"{margin('dice', needed['margin'])} ({stated}), the smaller group needs this many patients, in the present "
        f"proportion to the larger one: to find such a gap, to find a failure rate {number(100 * needed['margin'], 1)} "
        "percentage points above the observed one, and to show that equal means are equivalent at the observed "
        f"failure rate (each one-sided test at {100 * needed['equivalence_level']:.3g} %, as attributes share 5 %; "
        "where no segmentation failed, a lower bound)."
    )


def rows(report: Mapping[str, Any]) -> list[Row]:
    """Return the cells of the table, a row for each attribute with at least two ranked groups."""
    return [_row(attribute, entry) for attribute, entry in (report.get("power") or {}).items()]


def _row(attribute: str, entry: Mapping[str, Any]) -> Row:
    needed = entry["needed"]
    smaller, larger = (_label(name, attribute) for name in entry["groups"])
    rate, against = entry["detectable_failure_rate"], percent(entry["failure_rate"])
    # A failure rate of more than 1 cannot be looked for.
    possible = needed["failure_rate"] + needed["margin"] <= 1
    return Row(
        attribute=attribute,
        patients=f"{smaller} {count(entry['patients'][0])}, {larger} {count(entry['patients'][1])}",
        gap=number(entry["detectable"]),
        failure_rate=f"not even 100 % in {smaller}"
        if rate is None
        else f"{percent(rate)} in {smaller} against {against}",
        mean=_needed(needed["mean"]),
        failures=_needed(needed["failures"]) if possible else DASH,
        equivalence=_needed(needed["equivalence"]),
    )


def _needed(patients: int | None) -> str:
    return f"more than {count(MOST_PATIENTS)}" if patients is None else count(patients)


def _label(name: str, attribute: str) -> str:
    return readable(levels_of(name, [attribute])[attribute])
