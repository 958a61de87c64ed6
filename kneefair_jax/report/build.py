"""Compute the entries and notes that the report of a run and that of an audit share, from a per-case table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd

from kneefair_jax import cohort, groups
from kneefair_jax.fairness import adjusted_model, family, results, small_groups
from kneefair_jax.fairness.attribute_power import attribute_power
from kneefair_jax.fairness.endpoints import EndpointSettings, endpoint_rates
from kneefair_jax.fairness.family import Hypothesis, Primary
from kneefair_jax.fairness.interactions import interactions
from kneefair_jax.fairness.scores import scores
from kneefair_jax.report.schema import SCHEMA, Exclusion, Report
from kneefair_jax.report.text import formatting

TOLERANCE_MM = 1.0  # of NSD


def steps(attributes: Sequence[str], intersections: bool) -> int:
    """Return the number of calls of `advance` in `build_report`."""
    count = len(attributes)
    return 4 + count + intersections * count * (count - 1) // 2


@dataclass(frozen=True)
class Analysis:
    """How a report computes its numbers.

    Attributes:
        structures: in the order to report them.
        attributes: columns to group by.
        min_group_patients: smaller groups are shown but not ranked.
        draws: permutations of the tests.
        seed: of the permutations.
        equivalence_margin: score -> margin, in the score's unit.
        endpoints: thresholds of failed segmentations and of other endpoints.
        primary: score and attributes of the primary family.
        intersections: whether to compute pairs of attributes.
    """

    structures: Sequence[str]
    attributes: Sequence[str]
    min_group_patients: int = 10
    draws: int = 10_000
    seed: int = 0
    equivalence_margin: Mapping[str, float] = field(default_factory=dict)
    endpoints: EndpointSettings = EndpointSettings()  # noqa: RUF009 - a NamedTuple cannot change
    primary: Primary = Primary()  # noqa: RUF009
    intersections: bool = True

    @property
    def statistics(self) -> dict[str, Any]:
        """The keyword arguments that `fairness.scores` and `fairness.endpoint_rates` share."""
        return {
            "structures": self.structures,
            "attributes": self.attributes,
            "min_group_patients": self.min_group_patients,
            "draws": self.draws,
            "seed": self.seed,
            "intersections": self.intersections,
        }


def build_report(
    table: pd.DataFrame,
    cases: pd.DataFrame,
    analysis: Analysis,
    *,
    run: Mapping[str, Any],
    notes: Sequence[str] = (),
    confounders: pd.DataFrame | None = None,
    excluded: Sequence[tuple[str, int]] = (),
    advance: Callable[[], None] = lambda: None,
) -> Report:
    """Return the entries of `report.json`, schema 2, that follow from the scores.

    `scores` come from `fairness.scores.scores`, `rates` from `fairness.endpoints.endpoint_rates`, `power` from
    `fairness.attribute_power.attribute_power`, `pooled` (means of small groups in the primary score) from
    `fairness.small_groups`.

    Args:
        table: the long per-case table of one split and one model.
        cases: the cohort: `case_id`, `patient_id`, the categorical attribute columns, and `split` where there is one.
        analysis: how to compute the numbers.
        run: origin of the numbers: config, model, versions.
        notes: notes for the reader of the numbers.
        confounders: variables of the adjusted model that `cases` does not have, with the index of `cases`.
        excluded: (reason, number of records in the list of cases that are not in the cohort), for the patient flow.
        advance: progress callback, called `steps` times.
    """
    primary = family.resolve(analysis.primary, analysis.attributes)
    absent_cases = table[table["dice"].isna()].groupby("structure").size()
    rates = endpoint_rates(table, **analysis.statistics, settings=analysis.endpoints).to_dict()
    advance()
    attribute_interactions = _interactions(table, analysis)
    advance()
    rate_p_values = family.p_values(rates, attribute_interactions, primary)
    score_report = scores(
        table,
        **analysis.statistics,
        equivalence_margin=dict(analysis.equivalence_margin) or None,
        failure_dice=analysis.endpoints.failure_dice,
        primary=rate_p_values,
        stated=primary,
        advance=advance,
    )
    gap_p_values = {
        Hypothesis(family.MEAN, attribute): summary["test"]["p"]
        for attribute in primary.attributes or ()
        if (summary := score_report[primary.score]["summaries"][attribute])["test"]
    }
    pooled = _pooled(table, analysis, primary.score)
    advance()
    models = _adjusted(table, cases, confounders, analysis)
    advance()
    report = {
        "schema": SCHEMA,
        "scores": score_report,
        "rates": rates,
        "interactions": attribute_interactions,
        "pooled": pooled,
        "power": _power(table, analysis),
        "model": models,
        "cohort": {
            "structures": list(analysis.structures),
            "attributes": list(analysis.attributes),
            "min_group_patients": analysis.min_group_patients,
            "table": cohort.table(cases, analysis.attributes, analysis.intersections)
            .reset_index()
            .to_dict("records"),
            "notes": sentences(notes),
            "flow": patient_flow(
                cases,
                table,
                score_report[primary.score],
                rates["endpoints"]["failure"]["count"],
                excluded,
                analysis.attributes,
            ),
        },
        "run": {"absent": {structure: int(n) for structure, n in absent_cases.items()}, **run},
    }
    family.write_adjusted(report, {**gap_p_values, **rate_p_values}, primary)
    return cast(Report, report)


def _interactions(table: pd.DataFrame, analysis: Analysis) -> Any:
    if not analysis.intersections:
        return {}
    return results.to_dict(
        interactions(
            table,
            analysis.structures,
            analysis.attributes,
            min_group_patients=analysis.min_group_patients,
            failure_dice=analysis.endpoints.failure_dice,
        )
    )


def _pooled(table: pd.DataFrame, analysis: Analysis, score: str) -> dict[str, Any]:
    pooled = small_groups.pool_small_groups(
        table,
        analysis.structures,
        analysis.attributes,
        score,
        failure_dice=analysis.endpoints.failure_dice,
        intersections=analysis.intersections,
    )
    return {group: asdict(mean) for group, mean in pooled.items()}


def _adjusted(
    table: pd.DataFrame, cases: pd.DataFrame, confounders: pd.DataFrame | None, analysis: Analysis
) -> Any:
    covariates = cases if confounders is None else pd.concat([cases, confounders], axis=1)
    return results.to_dict(
        adjusted_model.models(
            table,
            covariates,
            analysis.attributes,
            failure_dice=analysis.endpoints.failure_dice,
            intersections=analysis.intersections,
        )
    )


def _power(table: pd.DataFrame, analysis: Analysis) -> dict[str, Any]:
    return attribute_power(
        table,
        analysis.structures,
        analysis.attributes,
        min_group_patients=analysis.min_group_patients,
        failure_dice=analysis.endpoints.failure_dice,
        equivalence_margin=analysis.equivalence_margin.get("dice"),
    )


def patient_flow(
    cases: pd.DataFrame,
    table: pd.DataFrame,
    scores: Mapping[str, Any],
    failed: int,
    excluded: Sequence[tuple[str, int]],
    attributes: Sequence[str],
) -> dict[str, Any]:
    """Count cases and patients at each step from the list of cases to the ranked groups.

    Args:
        cases: the cohort: `case_id`, `patient_id`, and `split` where there is one.
        table: the long per-case table; cases without a Dice of any structure are not tested.
        scores: one score of the report, with its groups.
        failed: number of patients with a failed segmentation.
        excluded: (reason, number of records in the list of cases that are not in the cohort).
        attributes: the report's attributes.

    Returns:
        `listed` records, `excluded` (reason and records), the `cohort`, its `splits` (empty where cases have no split),
        the cases of `table` that are `not_scored` and `tested`, the tested patients whose segmentations failed and did
        not fail, and `groups`: attribute -> number of groups, and of ranked groups. The patients that are not scored
        have no tested case.
    """
    in_table = _counts(table.drop_duplicates("case_id"))
    tested = _counts(table[table["dice"].notna()].drop_duplicates("case_id"))
    splits = cases.groupby("split", sort=False) if "split" in cases else ()
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
        "excluded": exclusions(excluded),
        "cohort": _counts(cases),
        "splits": {str(name): _counts(rows) for name, rows in splits},
        "tested": tested,
        "not_scored": {unit: number - tested[unit] for unit, number in in_table.items()},
        "failed": failed,
        "without_failure": tested["patients"] - failed,
        "groups": by_attribute,
    }


def exclusions(counts: Sequence[tuple[str, int]]) -> list[Exclusion]:
    """Return (reason, number of records) as in `report.json`."""
    return [{"reason": reason, "records": number} for reason, number in counts]


def _counts(cases: pd.DataFrame) -> dict[str, int]:
    return {"cases": len(cases), "patients": int(cases["patient_id"].nunique())}


def case_notes(
    cases: pd.DataFrame,
    attributes: Sequence[str],
    *,
    true_pixels: np.ndarray,
    pred_pixels: np.ndarray,
    spacing: np.ndarray,
    of: str = "",
) -> list[str]:
    """Return notes on empty masks, and on pixel spacings that are unknown or too large for NSD.

    Args:
        cases: N rows, `case_id` and the categorical attribute columns.
        attributes: names of the attribute columns.
        true_pixels: i[N], pixels of all structures of the reference mask.
        pred_pixels: i[N], pixels of all structures of the prediction.
        spacing: f[N, 2], mm per pixel as used; NaN where it is unknown.
        of: the model of the predictions, such as ` by unet`.
    """
    is_known = np.isfinite(spacing).all(1)
    conditions = {
        "the reference mask is empty in {}": true_pixels == 0,
        "the spacing is unknown in {}, so these have no distances, NSD or areas": ~is_known,
        f"a pixel is larger than the tolerance of NSD, {TOLERANCE_MM:g} mm, in {{}}: there, an error of one pixel is a "
        "miss": is_known & (spacing.max(1) > TOLERANCE_MM),
    }
    notes = [text.format(count_cases(cases, mask)) for text, mask in conditions.items() if mask.any()]
    empty = (true_pixels > 0) & (pred_pixels == 0)
    if empty.any():
        levels = "; ".join(_count_levels(cases[name], empty) for name in attributes)
        notes.append(
            f"the prediction{of} is empty in {count_cases(cases, empty)}, and scores 0 there ({levels})"
        )
    return notes


def count_cases(cases: pd.DataFrame, mask: Sequence[bool] | np.ndarray) -> str:
    """Count the cases where a mask is true and name the first, `3 of 24 cases (such as c1)`."""
    return (
        f"{sum(mask)} of {len(cases)} cases ({formatting.examples(cases['case_id'][np.asarray(mask, bool)])})"
    )


def sentences(notes: Sequence[str]) -> list[str]:
    """Return unique notes as sentences: with a full stop, and a capital unless the note begins with a file name."""
    return list(dict.fromkeys(map(_sentence, notes)))


def _sentence(note: str) -> str:
    is_file = any(mark in note.split(maxsplit=1)[0] for mark in "./")
    text = (note[0] if is_file else note[0].upper()) + note[1:].removesuffix(".")
    return text if text.endswith("?") else f"{text}."


def _count_levels(levels: pd.Series, mask: np.ndarray) -> str:
    """Count cases by level, `sex: female 6, male 0`."""
    counts = levels[mask].value_counts(sort=False)
    texts = [f"{groups.display_label(str(level))} {count}" for level, count in counts.items()]
    return f"{levels.name}: {', '.join(texts)}"


def one_spacing(spacings: Iterable[np.ndarray]) -> list[float] | None:
    """Return the spacing that all cases share, mm per pixel down and across, to 0.1 micrometer; None without one.

    >>> one_spacing([np.array([0.3, 0.2]), np.array([0.3, 0.2])])
    [0.3, 0.2]
    """
    spacing_set = {tuple(np.round(spacing.astype(float), 4).tolist()) for spacing in spacings}
    spacing: list[float] = list(spacing_set.pop())
    return spacing if not spacing_set and np.isfinite(spacing).all() else None
