"""A per-case table -> what the report of a run and that of an audit have in common."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from kneefair_jax import cohort
from kneefair_jax.fairness import adjusted_model, family, partial_pooling
from kneefair_jax.fairness.attribute_power import attribute_power
from kneefair_jax.fairness.endpoint_rates import endpoint_rates
from kneefair_jax.fairness.endpoints import EndpointSettings
from kneefair_jax.fairness.family import Hypothesis, Primary
from kneefair_jax.fairness.interactions import interactions
from kneefair_jax.fairness.scores import scores
from kneefair_jax.report import patient_flow
from kneefair_jax.report.notes import sentences


def steps(attributes: Sequence[str], intersections: bool) -> int:
    """Return how often `build_report` calls `advance`."""
    count = len(attributes)
    return 4 + count + intersections * count * (count - 1) // 2


def build_report(
    table: pd.DataFrame,
    cases: pd.DataFrame,
    confounders: pd.DataFrame | None = None,
    *,
    notes: Sequence[str],
    delta: Mapping[str, float],
    run: Mapping[str, Any],
    endpoints: EndpointSettings | None = None,
    primary: Primary | None = None,
    intersections: bool = True,
    excluded: Sequence[tuple[str, int]] = (),
    advance: Callable[[], None] = lambda: None,
    **how: Any,
) -> dict[str, Any]:
    """`report.json`, schema 2, so far as it follows from the scores.

    `scores` are those of `fairness.scores.scores`, `rates` those of `fairness.endpoint_rates.endpoint_rates`, `power`
    that of `fairness.attribute_power.attribute_power`, `pooled` the means of small groups in the primary score
    (`fairness.partial_pooling`).

    Args:
        table: the long per-case table of one split and one model.
        cases: the cohort: `case_id`, `patient_id`, the categorical attribute columns, and `split` where there is one.
        confounders: on its index, what the model adjusts for, where `cases` has it not.
        notes: what a reader of the numbers should know.
        delta: score -> the equivalence margin.
        run: where the numbers come from.
        endpoints: thresholds of failed segmentations and of other endpoints; None for the defaults.
        primary: score and attributes of the primary family; None for Dice and all of them.
        intersections: whether to compute pairs of attributes.
        excluded: reason -> records of the list of cases that are not in the cohort, for the flow of patients.
        advance: called `steps` times, for the progress.
        **how: `structures`, `attributes`, `min_group_patients`, `draws` and `seed` of `fairness.scores`.
    """
    endpoints = endpoints or EndpointSettings()
    primary = family.resolve(primary or Primary(), how["attributes"])
    absent = table[table["dice"].isna()].groupby("structure").size()
    described = cases if confounders is None else pd.concat([cases, confounders], axis=1)
    rates = endpoint_rates(table, **how, intersections=intersections, settings=endpoints)
    advance()
    crossed = (
        interactions(
            table,
            how["structures"],
            how["attributes"],
            min_group_patients=how["min_group_patients"],
            failure_dice=endpoints.failure_dice,
        )
        if intersections
        else {}
    )
    advance()
    others = family.p_values(rates, crossed, primary)
    scored = scores(
        table,
        **how,
        delta=dict(delta) or None,
        failure_dice=endpoints.failure_dice,
        primary=others,
        stated=primary,
        intersections=intersections,
        advance=advance,
    )
    gaps = {
        Hypothesis(family.MEAN, attribute): summary["test"]["p"]
        for attribute in primary.attributes or ()
        if (summary := scored[primary.score]["summaries"][attribute])["test"]
    }
    pooled = partial_pooling.pool_small_groups(
        table,
        how["structures"],
        how["attributes"],
        primary.score,
        failure_dice=endpoints.failure_dice,
        intersections=intersections,
    )
    advance()
    models = adjusted_model.models(
        table,
        described,
        how["attributes"],
        failure_dice=endpoints.failure_dice,
        intersections=intersections,
    )
    advance()
    report = {
        "schema": 2,
        "scores": scored,
        "rates": rates,
        "interactions": crossed,
        "pooled": {group: asdict(one) for group, one in pooled.items()},
        "power": attribute_power(
            table,
            how["structures"],
            how["attributes"],
            min_group_patients=how["min_group_patients"],
            failure_dice=endpoints.failure_dice,
            margin=delta.get("dice"),
        ),
        "model": models,
        "cohort": {
            "structures": list(how["structures"]),
            "attributes": list(how["attributes"]),
            "min_group_patients": how["min_group_patients"],
            "table": cohort.table(cases, how["attributes"], intersections).reset_index().to_dict("records"),
            "notes": sentences(notes),
            "flow": patient_flow.counts(
                cases,
                table,
                scored[primary.score],
                rates["endpoints"]["failure"],
                excluded,
                how["attributes"],
            ),
        },
        "run": {"absent": {structure: int(n) for structure, n in absent.items()}, **run},
    }
    family.write_adjusted(report, {**gaps, **others}, primary)
    return report
