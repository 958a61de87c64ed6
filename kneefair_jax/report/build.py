"""Compute the entries that the report of a run and that of an audit share, from a per-case table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

import pandas as pd

from kneefair_jax import cohort, groups
from kneefair_jax.fairness import adjusted_model, family, results, small_groups
from kneefair_jax.fairness.attribute_power import attribute_power
from kneefair_jax.fairness.endpoints import EndpointSettings, endpoint_rates
from kneefair_jax.fairness.family import Hypothesis, Primary
from kneefair_jax.fairness.interactions import interactions
from kneefair_jax.fairness.scores import scores
from kneefair_jax.report.notes import sentences
from kneefair_jax.report.schema import SCHEMA, Report


def steps(attributes: Sequence[str], intersections: bool) -> int:
    """Return the number of calls of `advance` in `build_report`."""
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
    **statistics: Any,
) -> Report:
    """Return the entries of `report.json`, schema 2, that follow from the scores.

    `scores` come from `fairness.scores.scores`, `rates` from `fairness.endpoints.endpoint_rates`, `power` from
    `fairness.attribute_power.attribute_power`, `pooled` (means of small groups in the primary score) from
    `fairness.small_groups`.

    Args:
        table: the long per-case table of one split and one model.
        cases: the cohort: `case_id`, `patient_id`, the categorical attribute columns, and `split` where there is one.
        confounders: variables of the adjusted model that `cases` does not have, with the index of `cases`.
        notes: notes for the reader of the numbers.
        delta: score -> equivalence margin.
        run: origin of the numbers: config, model, versions.
        endpoints: thresholds of failed segmentations and of other endpoints; None for the defaults.
        primary: score and attributes of the primary family; None for Dice and all attributes.
        intersections: whether to compute pairs of attributes.
        excluded: (reason, number of records in the list of cases that are not in the cohort), for the patient flow.
        advance: progress callback, called `steps` times.
        **statistics: `structures`, `attributes`, `min_group_patients`, `draws` and `seed` of `fairness.scores`.
    """
    endpoints = endpoints or EndpointSettings()
    primary = family.resolve(primary or Primary(), statistics["attributes"])
    absent_cases = table[table["dice"].isna()].groupby("structure").size()
    covariates = cases if confounders is None else pd.concat([cases, confounders], axis=1)
    rates = endpoint_rates(table, **statistics, intersections=intersections, settings=endpoints).to_dict()
    advance()
    attribute_interactions = (
        results.to_dict(
            interactions(
                table,
                statistics["structures"],
                statistics["attributes"],
                min_group_patients=statistics["min_group_patients"],
                failure_dice=endpoints.failure_dice,
            )
        )
        if intersections
        else {}
    )
    advance()
    rate_p_values = family.p_values(rates, attribute_interactions, primary)
    score_report = scores(
        table,
        **statistics,
        delta=dict(delta) or None,
        failure_dice=endpoints.failure_dice,
        primary=rate_p_values,
        stated=primary,
        intersections=intersections,
        advance=advance,
    )
    gap_p_values = {
        Hypothesis(family.MEAN, attribute): summary["test"]["p"]
        for attribute in primary.attributes or ()
        if (summary := score_report[primary.score]["summaries"][attribute])["test"]
    }
    pooled = small_groups.pool_small_groups(
        table,
        statistics["structures"],
        statistics["attributes"],
        primary.score,
        failure_dice=endpoints.failure_dice,
        intersections=intersections,
    )
    advance()
    models = adjusted_model.models(
        table,
        covariates,
        statistics["attributes"],
        failure_dice=endpoints.failure_dice,
        intersections=intersections,
    )
    advance()
    report = {
        "schema": SCHEMA,
        "scores": score_report,
        "rates": rates,
        "interactions": attribute_interactions,
        "pooled": {group: asdict(mean) for group, mean in pooled.items()},
        "power": attribute_power(
            table,
            statistics["structures"],
            statistics["attributes"],
            min_group_patients=statistics["min_group_patients"],
            failure_dice=endpoints.failure_dice,
            margin=delta.get("dice"),
        ),
        "model": results.to_dict(models),
        "cohort": {
            "structures": list(statistics["structures"]),
            "attributes": list(statistics["attributes"]),
            "min_group_patients": statistics["min_group_patients"],
            "table": cohort.table(cases, statistics["attributes"], intersections)
            .reset_index()
            .to_dict("records"),
            "notes": sentences(notes),
            "flow": patient_flow(
                cases,
                table,
                score_report[primary.score],
                rates["endpoints"]["failure"],
                excluded,
                statistics["attributes"],
            ),
        },
        "run": {"absent": {structure: int(n) for structure, n in absent_cases.items()}, **run},
    }
    family.write_adjusted(report, {**gap_p_values, **rate_p_values}, primary)
    return cast(Report, report)


def patient_flow(
    cases: pd.DataFrame,
    table: pd.DataFrame,
    scores: Mapping[str, Any],
    failures: Mapping[str, Any],
    excluded: Sequence[tuple[str, int]],
    attributes: Sequence[str],
) -> dict[str, Any]:
    """Count cases and patients at each step from the list of cases to the ranked groups.

    Args:
        cases: the cohort: `case_id`, `patient_id`, and `split` where there is one.
        table: the long per-case table of the tested cases.
        scores: one score of the report, with its groups.
        failures: the endpoint `failure` of the report's rates.
        excluded: (reason, number of records in the list of cases that are not in the cohort).
        attributes: the report's attributes.

    Returns:
        `listed` records, `excluded` (reason and records), the `cohort`, its `splits` (empty where cases have no split),
        the `tested` cases, the patients whose segmentations are not scored, failed and did not fail, and `groups`:
        attribute -> number of groups, and of ranked groups.
    """
    tested = table.drop_duplicates("case_id")
    splits = cases.groupby("split", sort=False) if "split" in cases else ()
    scored_patients = failures["overall"]["n"] if failures["overall"] else 0
    failed_patients = failures["count"]
    by_attribute = {}
    for attribute in attributes:
        ranked = [
            entry["ranked"]
            for name, entry in scores["groups"].items()
            if name.startswith(f"{attribute}=") and "," not in name and not groups.is_missing(name)
        ]
        by_attribute[attribute] = {"groups": len(ranked), "ranked": sum(ranked)}
    return {
        "listed": len(cases) + sum(number for _, number in excluded),
        "excluded": [{"reason": reason, "records": number} for reason, number in excluded],
        "cohort": _counts(cases),
        "splits": {str(name): _counts(rows) for name, rows in splits},
        "tested": _counts(tested),
        "not_scored": int(tested["patient_id"].nunique()) - scored_patients,
        "failed": failed_patients,
        "without_failure": scored_patients - failed_patients,
        "groups": by_attribute,
    }


def _counts(cases: pd.DataFrame) -> dict[str, int]:
    return {"cases": len(cases), "patients": int(cases["patient_id"].nunique())}
