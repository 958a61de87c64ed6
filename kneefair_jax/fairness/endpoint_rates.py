"""Computes the rates of failures and thresholds by group from the per-case table: the `rates` of `report.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.fairness import endpoints, multiplicity, patient_table, rates, small_groups
from kneefair_jax.fairness.endpoints import Endpoint, EndpointSettings
from kneefair_jax.fairness.estimate import Estimate
from kneefair_jax.fairness.patient_table import Table
from kneefair_jax.fairness.rates import Comparison, Tally


@dataclass(frozen=True)
class GroupRate:
    """The rate of an endpoint in one group.

    Attributes:
        count: patients with the event of an adverse endpoint; patients who reach a threshold.
        rate: their share of the patients with a known event.
        ranked: whether the group takes part in tests over groups.
        unranked: the reason if it does not.
    """

    count: int
    rate: Estimate
    ranked: bool
    unranked: str | None


@dataclass(frozen=True)
class StructureRates:
    """The rates of one structure, by group of each attribute.

    The `tests` by attribute are exploratory: their `p_adjusted` is Benjamini and Hochberg's.
    """

    overall: Estimate
    groups: dict[str, GroupRate]
    tests: dict[str, Estimate]


@dataclass(frozen=True)
class EndpointRates:
    """The rates of one endpoint for all structures together (a patient's worst counts) and for each structure.

    `score`, `threshold` and `adverse` are those of the endpoint.

    Attributes:
        reason: why it cannot be computed, in which case all other fields are empty; None if it can.
        count: patients of all groups, as `GroupRate.count`.
        overall: the rate over all patients; None if it cannot be computed.
        groups: by name, for each attribute and each pair of attributes.
        comparisons: by attribute, corrected by `rates.adjust`. Pairs of attributes are shown but not tested:
            their rates differ if those of one attribute do.
        structures: by name.
    """

    score: str | None
    threshold: float | None
    adverse: bool
    reason: str | None
    count: int
    overall: Estimate | None
    groups: dict[str, GroupRate]
    comparisons: dict[str, Comparison]
    structures: dict[str, StructureRates]


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
) -> dict[str, Any]:
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

    Returns:
        `{"failure_dice", "endpoints", "small_groups"}`: the threshold; endpoint -> `EndpointRates` as a dict; and
        score -> attribute -> group -> `small_groups.tests` as a dict.
    """
    settings = settings or EndpointSettings()
    table = patient_table.table(cases, structures, settings.failure_dice)
    partitions = groups.partitions(table.rows, attributes, intersections)
    return {
        "failure_dice": settings.failure_dice,
        "endpoints": {
            endpoint.name: asdict(
                _rates(endpoint, cases, table, structures, partitions, min_group_patients, seed)
            )
            for endpoint in endpoints.report_endpoints(settings)
        },
        "small_groups": {
            score: {
                attribute: {name: asdict(test) for name, test in tests.items()}
                for attribute, tests in by_attribute.items()
            }
            for score, by_attribute in small_groups.tests(
                table,
                patient_table.failures(cases, table, settings.failure_dice),
                partitions[: len(attributes)],
                min_group_patients,
                draws,
                seed,
            ).items()
        },
    }


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
    events = endpoints.adverse_cases(endpoint, cases, table, structures)
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
    adjusted_p = multiplicity.benjamini_hochberg(
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
