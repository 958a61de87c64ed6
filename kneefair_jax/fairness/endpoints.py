"""Defines binary endpoints of a case and computes their rates by group: the `rates` of `report.json`.

Endpoints are failed segmentations, absent predictions, and scores that reach a threshold.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import hypothesis_tests, patient_table, rates, small_groups
from kneefair_jax.fairness.patient_table import MACRO, Column, Table
from kneefair_jax.fairness.rates import EndpointRates, GroupRate, StructureRates, Tally
from kneefair_jax.fairness.small_groups import DifferenceFromRest

FAILURE, ABSENT = "failure", "absent"
# Some scores are stored as float32, where 0.9 is 0.89999998 and must still reach 0.9.
_ROUNDING = 1e-6
_FORM = re.compile(r"(?P<score>[a-z0-9_]+)(?P<sign>[<>]=)(?P<threshold>[0-9]+(\.[0-9]+)?)")


@dataclass(frozen=True)
class Endpoint:
    """A binary property of a case, and of a patient by all of the patient's cases.

    Attributes:
        name: `failure`, `absent`, or a threshold such as `dice>=0.9`.
        score: the score that defines it; None if areas define it.
        threshold: in the score's unit.
        adverse: whether the reported rate counts patients with the event (`failure`, `absent`); the rate of a threshold
            counts patients who reach it in every case.
    """

    name: str
    score: str | None = None
    threshold: float | None = None
    adverse: bool = False


class EndpointSettings(NamedTuple):
    """The prespecified endpoints of a report.

    Attributes:
        failure_dice: a segmentation with a lower Dice counts as failed.
        thresholds: as `parse` reads them.
    """

    failure_dice: float = patient_table.FAILURE_DICE
    thresholds: tuple[str, ...] = ("dice>=0.9", "hd95_mm<=5")


def parse(texts: Sequence[str], option: str = "--endpoint") -> tuple[Endpoint, ...]:
    """Read thresholds such as `dice>=0.9` and `hd95_mm<=5`.

    Args:
        texts: score, `>=` for an overlap or `<=` for a distance, and a number in decimal notation.
        option: the name of the setting, for the message.

    Raises:
        InputError: a text has another form, an unknown score, the wrong direction or an impossible threshold, or
            occurs twice.
    """
    endpoints: dict[str, Endpoint] = {}
    for text in texts:
        match = _FORM.fullmatch(text.replace(" ", "")) if isinstance(text, str) else None
        if match is None or match["score"] not in patient_table.SCORES:
            raise InputError(
                f"{option} {text!r}: write score>=number for an overlap, such as dice>=0.9, or score<=number for a "
                f"distance, such as hd95_mm<=5; scores: {', '.join(patient_table.SCORES)}"
            )
        score, threshold = match["score"], float(match["threshold"])
        sign = "<=" if score in patient_table.LOWER_IS_BETTER else ">="
        if match["sign"] != sign:
            better = "lower" if sign == "<=" else "higher"
            raise InputError(
                f"{option} {text!r}: a {better} {score} is better; write {score}{sign}{threshold:g}"
            )
        if not threshold > 0 or (score in patient_table.SHARES and threshold > 1):
            allowed = "above 0 and at most 1" if score in patient_table.SHARES else "above 0 mm"
            raise InputError(f"{option} {text!r}: give a threshold {allowed}")
        name = f"{score}{sign}{threshold:g}"
        if name in endpoints:
            raise InputError(f"{option} {text!r}: give each endpoint once")
        endpoints[name] = Endpoint(name, score, threshold)
    return tuple(endpoints.values())


def check(settings: EndpointSettings, failure_option: str, endpoint_option: str) -> None:
    """Check the thresholds.

    Raises:
        InputError: a threshold is out of range; the message names the option, its value and the range.
    """
    if not 0 < settings.failure_dice < 1:
        raise InputError(
            f"{failure_option}={settings.failure_dice}: give a Dice above 0 and below 1, such as 0.5"
        )
    parse(settings.thresholds, endpoint_option)


def report_endpoints(settings: EndpointSettings) -> tuple[Endpoint, ...]:
    """Return every endpoint of a report, in the order to report them."""
    return (
        Endpoint(FAILURE, "dice", settings.failure_dice, adverse=True),
        Endpoint(ABSENT, adverse=True),
        *parse(settings.thresholds),
    )


def adverse_cases(
    endpoint: Endpoint, cases: pd.DataFrame, table: Table, structures: Sequence[str]
) -> np.ndarray | str:
    """Return which cases have the adverse event: a failure, an absent prediction, or a missed threshold.

    The event of all structures together occurs if it occurs in any of them. A structure that is absent from ground
    truth and prediction (undefined Dice) has no event.

    Args:
        endpoint: of `report_endpoints`.
        cases: the long per-case table.
        table: `patient_table.table` of the same cases, by the failure threshold of the endpoint.
        structures: in the order to report them.

    Returns:
        f64[N, 1 + S] of 0, 1 and NaN (unknown): all structures together, then each structure. If excluding unknown
        events would bias every rate, the reason why the endpoint cannot be computed.
    """
    if endpoint.name == FAILURE:
        columns = _columns(table, "dice", (MACRO, *structures))
        return np.where(np.isnan(table.values[:, columns]), np.nan, table.failed[:, columns])
    dice = table.values[:, _columns(table, "dice", structures)]
    event = (
        _absent_events(cases, table, structures, dice)
        if endpoint.name == ABSENT
        else _missed_events(endpoint, table, structures, dice)
    )
    if isinstance(event, str):
        return event
    has_dice, has_event = ~np.isnan(dice), ~np.isnan(event)
    complete = has_dice.any(1) & (has_event | ~has_dice).all(1)
    any_event = np.where(complete, np.where(has_event, event, 0.0).max(1, initial=0.0), np.nan)
    return np.column_stack([any_event, event])


def _absent_events(
    cases: pd.DataFrame, table: Table, structures: Sequence[str], dice: np.ndarray
) -> np.ndarray | str:
    # A structure of the ground truth without any predicted pixel has Dice 0 and no predicted area.
    predicted_area = np.full_like(dice, np.nan)
    if "pred_area_mm2" in cases:
        for s, structure in enumerate(structures):
            rows = cases[cases["structure"] == structure].set_index("case_id")
            predicted_area[:, s] = rows["pred_area_mm2"].reindex(table.rows.index)
    no_overlap = dice == 0
    unknown_area = no_overlap & np.isnan(predicted_area)
    if unknown_area.any():
        # Predictions with overlap are not absent, so excluding the unknown ones would lower every rate.
        return (
            f"the predicted area is unknown for {int(unknown_area.sum())} of the {int(no_overlap.sum())} structures "
            "with Dice 0, because the pixel spacing is unknown or the scores come without areas"
        )
    return np.where(np.isnan(dice), np.nan, no_overlap & (predicted_area == 0))


def _missed_events(
    endpoint: Endpoint, table: Table, structures: Sequence[str], dice: np.ndarray
) -> np.ndarray | str:
    assert endpoint.score is not None and endpoint.threshold is not None
    if Column(endpoint.score, MACRO) not in table.columns:
        return f"no case has a known {endpoint.score}"
    values = table.values[:, _columns(table, endpoint.score, structures)]
    has_value = ~np.isnan(values)
    if not (has_value & (dice > 0)).any():
        return f"no structure with overlap has a known {endpoint.score}"
    if endpoint.score in patient_table.LOWER_IS_BETTER:
        misses = values > endpoint.threshold + _ROUNDING
    else:
        misses = values < endpoint.threshold - _ROUNDING
    # Many tools give no distance for an empty prediction: a structure without overlap misses its threshold.
    misses = np.where(has_value, misses, np.where(dice == 0, 1.0, np.nan))
    return np.where(np.isnan(dice), np.nan, misses)


def _columns(table: Table, score: str, structures: Sequence[str]) -> list[int]:
    return [table.columns.index(Column(score, structure)) for structure in structures]


@dataclass(frozen=True)
class Rates:
    """The rates of all endpoints, and the tests of small groups.

    Attributes:
        failure_dice: Dice below which a segmentation counts as failed.
        endpoints: by name.
        small_groups: score -> attribute -> group -> the difference in mean from all other patients.
    """

    failure_dice: float
    endpoints: dict[str, EndpointRates]
    small_groups: dict[str, dict[str, dict[str, DifferenceFromRest]]]

    def to_dict(self) -> dict[str, Any]:
        """Return the `rates` of `report.json`."""
        return asdict(self)


def endpoint_rates(
    cases: pd.DataFrame,
    structures: Sequence[str],
    attributes: Sequence[str],
    *,
    min_group_patients: int,
    draws: int,
    seed: int,
    intersections: bool = True,
    settings: EndpointSettings | None = None,
) -> Rates:
    """Return the `rates` of `report.json` for one split and one model.

    Args:
        cases: the long per-case table, as `fairness.scores.scores` takes it.
        structures: in the order to report them.
        attributes: columns to group by.
        min_group_patients: smaller groups, and the level `missing`, are shown but not ranked.
        draws: permutations of the tests of means of small groups.
        seed: of the permutations and the random tables.
        intersections: whether to count pairs of attributes.
        settings: the endpoints.
    """
    settings = settings or EndpointSettings()
    table = patient_table.table(cases, structures, settings.failure_dice)
    partitions = groups.partitions(table.rows, attributes, intersections)
    rates_by_endpoint = {
        endpoint.name: _rates(endpoint, cases, table, structures, partitions, min_group_patients, seed)
        for endpoint in report_endpoints(settings)
    }
    single_attributes = partitions[: len(attributes)]
    return Rates(
        settings.failure_dice,
        rates_by_endpoint,
        small_groups.tests(table, single_attributes, min_group_patients, draws, seed),
    )


def _rates(
    endpoint: Endpoint,
    cases: pd.DataFrame,
    table: Table,
    structures: Sequence[str],
    partitions: Sequence[groups.Partition],
    minimum: int,
    seed: int,
) -> EndpointRates:
    endpoint_fields = (endpoint.score, endpoint.threshold, endpoint.adverse)
    events = adverse_cases(endpoint, cases, table, structures)
    if isinstance(events, str):
        return EndpointRates(*endpoint_fields, events, 0, None, {}, {}, {})
    all_patients = groups.Partition((), ("all",), np.zeros(len(events), np.int32))
    overall, *columns_by_partition = (
        _tally(events, table.patients, partition, endpoint.adverse)
        for partition in [all_patients, *partitions]
    )
    by_group: dict[str, GroupRate] = {}
    comparisons = {}
    parts: dict[str, StructureRates] = {
        structure: StructureRates(rates.rate(overall[s]["all"]), {}, {})
        for s, structure in enumerate(structures, start=1)
    }
    for partition, columns in zip(partitions, columns_by_partition, strict=True):
        by_group |= _group_rates(columns[0], minimum)
        if len(partition.attributes) > 1:
            continue
        (attribute,) = partition.attributes
        ranked, unranked = _split_ranked(columns[0], minimum)
        comparisons[attribute] = rates.compare(ranked, unranked, seed)
        for part, structure_tallies in zip(parts.values(), columns[1:], strict=True):
            part.groups.update(_group_rates(structure_tallies, minimum))
            if test := rates.equal_rates_test(_split_ranked(structure_tallies, minimum)[0], seed):
                part.tests[attribute] = test
    return EndpointRates(
        *endpoint_fields,
        None,
        overall[0]["all"].events,
        rates.rate(overall[0]["all"]),
        by_group,
        rates.adjust(comparisons),
        _correct_exploratory(parts),
    )


def _tally(
    events: np.ndarray, patients: np.ndarray, partition: groups.Partition, adverse: bool
) -> list[dict[str, Tally]]:
    """Return, for each of K columns of adverse events f64[N, K], group -> patients and counted patients."""
    columns, rows = rates.merge_cases(events, patients, partition.index)
    # Cases are merged as adverse events: a patient who misses a threshold in any case misses it.
    return [rates.tallies(column if adverse else 1 - column, rows, partition.names) for column in columns.T]


def _group_rates(tallies: Mapping[str, Tally], minimum: int) -> dict[str, GroupRate]:
    rates_by_group = {}
    for name, tally in tallies.items():
        reason = groups.unranked_reason(name, tally.patients, minimum)
        rates_by_group[name] = GroupRate(tally.events, rates.rate(tally), reason is None, reason)
    return rates_by_group


def _split_ranked(tallies: Mapping[str, Tally], minimum: int) -> tuple[dict[str, Tally], dict[str, Tally]]:
    """Split groups into ranked and too small; patients without a known attribute are in neither."""
    with_attribute = {name: tally for name, tally in tallies.items() if not groups.is_missing(name)}
    ranked = {
        name: tally
        for name, tally in with_attribute.items()
        if groups.unranked_reason(name, tally.patients, minimum) is None
    }
    return ranked, {name: tally for name, tally in with_attribute.items() if name not in ranked}


def _correct_exploratory(parts: Mapping[str, StructureRates]) -> dict[str, StructureRates]:
    """Correct the tests over structures and attributes by Benjamini and Hochberg's method."""
    adjusted_p = hypothesis_tests.benjamini_hochberg(
        {
            (structure, attribute): test.p
            for structure, part in parts.items()
            for attribute, test in part.tests.items()
        }
    )
    return {
        structure: replace(
            part,
            tests={
                attribute: replace(test, p_adjusted=adjusted_p[structure, attribute])
                for attribute, test in part.tests.items()
            },
        )
        for structure, part in parts.items()
    }
