"""Describe the errors of measurements by group in sentences."""

from collections.abc import Iterator, Mapping
from typing import Any

from kneefair_jax.groups import is_missing
from kneefair_jax.report.text.formatting import (
    DASH,
    amount,
    attribute_groups,
    interval,
    listing,
    number,
    p_equals,
    percent,
    signed,
)

LEVEL = 0.05
ROUNDING = 1e-6  # mm or degrees
# The measurements that a page shows first.
MAIN = ("jsw_min_medial", "jsw_min_lateral", "fta")
_TITLES = {
    "jsw_min": "minimum joint space width",
    "jsw_mean": "mean joint space width at fixed locations",
    "jsw_area": "joint space area",
    "fta": "femorotibial angle",
    "aldfa": "anatomical lateral distal femoral angle",
    "ampta": "anatomical medial proximal tibial angle",
    "jlca": "joint line convergence angle",
}


def title(name: str, *, capital: bool = False) -> str:
    """Return a measurement's name for a reader: `minimum joint space width, medial`."""
    stem, _, compartment = name.rpartition("_")
    text = f"{_TITLES[stem]}, {compartment}" if stem in _TITLES else _TITLES.get(name, name.replace("_", " "))
    return text[:1].upper() + text[1:] if capital else text


def digits(value: float | None) -> str:
    """Format a number with two digits."""
    return number(value, 2)


def signed_digits(value: float | None) -> str:
    """Format a number with its sign and two digits."""
    return signed(value, 2)


def ends(values: Any) -> str:
    """Format an interval with two digits; rounding errors of floating point are 0."""
    return interval([0.0 if end and abs(end) < ROUNDING else end for end in values] if values else None, 2)


def limits(values: Any) -> str:
    """Format limits of agreement, `−0.41 to +0.32`."""
    return DASH if not values else f"{signed(values[0], 2)} to {signed(values[1], 2)}"


def sentences(report: Mapping[str, Any]) -> list[str]:
    """Return what a reader needs first: how wrong each main measurement is, for whom, and whether that matters."""
    measurements = report["measurements"]
    attributes = report["cohort"]["attributes"]
    texts = [
        " ".join(_sentences(name, measurements["errors"][name], attributes))
        for name in MAIN
        if name in measurements["errors"]
    ]
    return [
        *texts,
        *_not_measured(measurements, attributes),
        *_refusals(measurements),
        *_spacings(measurements, attributes),
    ]


def _sentences(name: str, errors: Mapping[str, Any], attributes: list[str]) -> Iterator[str]:
    overall, unit, margin = errors["overall"], errors["unit"], errors["margin"]
    bias, absolute = overall["bias"], overall["absolute"]
    if bias["estimate"] is None:
        yield f"{title(name, capital=True)}: no prediction gives a value."
        return
    share_text = ""
    if overall["beyond_margin"] and overall["beyond_margin"]["rate"]["n"]:
        share = percent(overall["beyond_margin"]["rate"]["estimate"])
        share_text = f"; {share} of the patients have an error beyond {amount_of(margin, unit)}"
    yield (
        f"{title(name, capital=True)}: the mean absolute error is {digits(absolute['estimate'])} {unit}, the bias "
        f"{signed(bias['estimate'], 2)} {unit} {ends(bias['interval'])} in {amount(bias['n'], 'patient')}{share_text}."
    )
    for attribute in attributes:
        if text := _comparison(attribute, errors, attributes):
            yield text


def _comparison(attribute: str, errors: Mapping[str, Any], attributes: list[str]) -> str:
    comparison, unit, margin = errors["attributes"][attribute], errors["unit"], errors["margin"]
    if not comparison["pairs"]:
        return f"By {attribute}, too few patients are in a group to compare."
    labels = next(g.labels for g in attribute_groups(errors["groups"], attributes) if g.key == attribute)
    pair = max(comparison["pairs"], key=lambda pair: abs(pair["bias"]["estimate"]))
    difference = pair["bias"]
    first, second = (
        f"{labels[pair[side]]} {signed(errors['groups'][pair[side]]['bias']['estimate'], 2)} {unit}"
        for side in ("first", "second")
    )
    numbers = (
        f"{first}, {second}, difference {signed(difference['estimate'], 2)} {unit} {ends(difference['interval'])}, "
        f"{p_equals(comparison['p_adjusted'])}"
    )
    return f"By {attribute}, {_verdict(comparison, pair, unit, margin)} ({numbers})."


def _verdict(comparison: Mapping[str, Any], pair: Mapping[str, Any], unit: str, margin: float | None) -> str:
    """Return whether two groups differ, and whether by more than the margin, as far as the interval shows it.

    The p value of the pair is corrected over the pairs of its attribute, that of the attribute over all attributes and
    measurements; both must be below the level.
    """
    p, difference = comparison["p_adjusted"], pair["bias"]
    if p is not None and max(p, difference["p"]) < LEVEL:
        if margin is None or difference["interval"] is None:
            return "the bias differs significantly"
        low, high = difference["interval"]
        if low > margin or high < -margin:
            return f"the bias differs significantly, by more than {amount_of(margin, unit)}"
        if -margin < low and high < margin:
            return f"the bias differs significantly, by less than {amount_of(margin, unit)}"
        return f"the bias differs significantly; whether by more than {amount_of(margin, unit)} remains open"
    if pair["equivalent"] and margin is not None:
        return f"the biases are equivalent within ±{amount_of(margin, unit)}"
    return "no difference of the biases is shown"


def amount_of(value: float, unit: str) -> str:
    """Format a margin with its unit, `0.2 mm`, `1 degree`."""
    return f"{value:g} {'degree' if unit == 'degrees' and value == 1 else unit}"


def headline(report: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each attribute: which main measurements have errors that differ between its groups."""
    if "measurements" not in report:
        return []
    errors, texts = report["measurements"]["errors"], []
    for attribute in report["cohort"]["attributes"]:
        comparison = {
            name: entry
            for name in MAIN
            if (entry := errors.get(name)) and entry["attributes"][attribute]["p_adjusted"] is not None
        }
        significant = {
            name: entry
            for name, entry in comparison.items()
            if entry["attributes"][attribute]["p_adjusted"] < LEVEL
        }
        small = [name for name, entry in significant.items() if _is_within_margin(entry, attribute)]
        large = [
            f"{title(name)} ({_largest(entry, attribute)})"
            for name, entry in significant.items()
            if name not in small
        ]
        if large:
            verdict = f"the bias differs significantly in the {listing(large)}"
        elif comparison:
            verdict = f"no significant difference of the bias in the {listing(map(title, comparison))}"
        else:
            verdict = "joint space and femorotibial angle could not be compared (why: section Measurements by group)"
        if small:
            names = listing(map(title, small))
            difference = f"the bias differs significantly, but by less than the margin, in the {names}"
            verdict = f"{verdict}; {difference}" if large else difference
        texts.append(f"Measurements by {attribute}: {verdict}.")
    return texts


def _is_within_margin(errors: Mapping[str, Any], attribute: str) -> bool:
    """Return whether the intervals of all differences between groups lie within the margin."""
    margin, pairs = errors["margin"], errors["attributes"][attribute]["pairs"]
    intervals = [pair["bias"]["interval"] for pair in pairs]
    return margin is not None and all(ends and -margin < ends[0] and ends[1] < margin for ends in intervals)


def _largest(errors: Mapping[str, Any], attribute: str) -> str:
    """Return the biases of the two groups that differ most, `female −1.00 mm, male 0.02 mm`."""
    pair = max(errors["attributes"][attribute]["pairs"], key=lambda pair: abs(pair["bias"]["estimate"]))
    labels = next(g.labels for g in attribute_groups(errors["groups"], [attribute]) if g.key == attribute)
    return ", ".join(
        f"{labels[pair[side]]} {signed(errors['groups'][pair[side]]['bias']['estimate'], 2)} {errors['unit']}"
        for side in ("first", "second")
    )


def differences(report: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a row for each pair of groups: their names, the differences, p of the attribute, and the verdict."""
    errors, attributes = report["measurements"]["errors"][name], report["cohort"]["attributes"]
    rows = []
    for groups in attribute_groups(errors["groups"], attributes):
        comparison = errors["attributes"].get(groups.key)
        for pair in comparison["pairs"] if comparison else ():
            rows.append(
                {
                    "groups": f"{groups.title}: {groups.labels[pair['first']]} - {groups.labels[pair['second']]}",
                    "bias": pair["bias"],
                    "absolute": pair["absolute"],
                    "p": pair["bias"]["p"],
                    "verdict": _short(_verdict(comparison, pair, errors["unit"], errors["margin"])),
                }
            )
    return rows


def _short(verdict: str) -> str:
    """Return a verdict for a cell of a table, where its subject is clear."""
    for subject in ("the bias ", "the biases are ", "no difference of the biases is "):
        if verdict.startswith(subject):
            return verdict.removeprefix(subject).replace("shown", "no difference shown")
    return verdict


def _not_measured(measurements: Mapping[str, Any], attributes: list[str]) -> Iterator[str]:
    """Yield which main measurements predictions do not give although there is a reference value, by group, and why."""
    for name in MAIN:
        errors = measurements["errors"].get(name)
        if not errors or not errors["overall"]["not_measured"]["count"]:
            continue
        reasons = measurements["predicted_reasons"].get(name, {})
        most = max(reasons, key=reasons.__getitem__, default="")
        parts = [
            f"{label} {entry['count']} of {entry['rate']['n']}"
            for groups in attribute_groups(errors["groups"], attributes)
            for group, label in groups.labels.items()
            if (entry := errors["groups"][group]["not_measured"])["rate"]["n"]
        ]
        total = errors["overall"]["not_measured"]
        by_group = f" ({'; '.join(parts)})" if parts else ""
        yield (
            f"{title(name, capital=True)}: in {total['count']} of {amount(total['rate']['n'], 'patient')}{by_group} "
            f"the prediction gives no value, mostly because {most}; they have no error, and are not in the comparison."
        )


def _refusals(measurements: Mapping[str, Any]) -> Iterator[str]:
    """Yield which measurements the reference masks do not give, and why."""
    by_reason: dict[tuple[str, int], list[str]] = {}
    for name, counts in measurements["reasons"].items():
        for reason, count in counts.items():
            by_reason.setdefault((reason, count), []).append(name)
    for (reason, count), names in sorted(by_reason.items(), key=lambda item: -item[0][1]):
        which = listing(map(title, names)) if len(names) <= 3 else f"{len(names)} measurements"
        yield f"{amount(count, 'knee')} {'has' if count == 1 else 'have'} no reference value of {which}: {reason}."


def _spacings(measurements: Mapping[str, Any], attributes: list[str]) -> Iterator[str]:
    """Yield the kinds of spacing, by group where groups differ."""
    kinds = measurements["spacing_kinds"]

    def describe(counts: Mapping[str, int]) -> str:
        return listing(f"{kind} {count}" for kind, count in counts.items())

    yield f"Pixel spacing, by where it comes from: {describe(kinds['all'])}."
    for groups in attribute_groups([name for name in kinds if name != "all"], attributes):
        if len({frozenset(kinds[name]) for name in groups.labels if not is_missing(name)}) > 1:
            parts = "; ".join(f"{label} {describe(kinds[name])}" for name, label in groups.labels.items())
            yield (
                f"By {groups.title}, spacings come from different sources ({parts}), so that a difference of lengths "
                "may be one of magnification."
            )


def terminal(report: Mapping[str, Any]) -> list[str]:
    """Return the lines for a terminal; none without measurements."""
    return ["", *sentences(report), ""] if "measurements" in report else []
