"""Draw every figure of a report's page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.fairness import family, patient_table
from kneefair_jax.fairness.patient_table import LOWER_IS_BETTER
from kneefair_jax.report.figures import cohort_figures, forest, measurement_figures, scatter
from kneefair_jax.report.schema import Report, Scores, StructureScores
from kneefair_jax.report.text import findings, formatting, summary


def figures_of(
    report: Report,
    cases: pd.DataFrame,
    curves: Sequence[Mapping[str, Any]],
    measurement_rows: pd.DataFrame | None = None,
) -> dict[str, str]:
    """Return name -> SVG of every figure that the report has numbers for.

    Args:
        report: of one model, with plain numbers.
        cases: the rows of the per-case table of this model.
        curves: records of the training run; empty for an audit.
        measurement_rows: a row per knee and measurement (`measurement_figures.agreement`); None without measurements.
    """
    score, attributes = family.from_report(report).score, report["cohort"]["attributes"]
    scores, title = report["scores"][score], formatting.TITLES.get(score, score)
    all_groups = formatting.attribute_groups(scores["groups"], attributes)
    by_attribute = [groups for groups in all_groups if groups.key in attributes]
    by_pair = [groups for groups in all_groups if "," in groups.key]
    failure_dice = report["rates"]["failure_dice"]
    values = macro_by_group(cases, attributes, score, failure_dice)
    marked = set().union(*(findings.worse_groups(verdict) for verdict in summary.verdicts(report)))
    figures = {"flow": cohort_figures.flow(report["cohort"]["flow"], "flow")}
    if attributes:
        figures["forest"] = forest.means(scores, all_groups, title, "forest", report["pooled"], marked)
        figures["distributions"] = cohort_figures.distributions(values, by_attribute, title, "cases")
    if attributes and has_structures(scores):
        figures["heat_map"] = cohort_figures.heat_map(
            scores, all_groups, title, "heat", lower_is_better=score in LOWER_IS_BETTER
        )
    if has_summary(scores, "pairs"):
        figures["gaps"] = forest.gaps(scores, by_attribute, title, "gaps")
    distances = report["scores"].get("hd95_mm")
    if attributes and score != "hd95_mm" and distances and has_summary(distances, "test"):
        figures["forest_hd95_mm"] = forest.means(distances, all_groups, "HD95, mm", "forest_hd95")
    if by_pair:
        figures["intersections"] = scatter.intersections(scores, by_pair, title, "intersections")
    if by_attribute and (frame := scatter.areas(cases, attributes, "dice", failure_dice)) is not None:
        figures["size"] = scatter.size(frame, by_attribute, "Dice", "size")
    if calibration := report.get("calibration"):
        curve_groups = formatting.attribute_groups(calibration["curves"], attributes)
        slopes = {name: group["slope"] for name, group in calibration["groups"].items()}
        figures["calibration"] = scatter.reliability(
            calibration["curves"], curve_groups, slopes, "calibration"
        )
    if report.get("attribute_leakage"):
        figures["attribute_leakage"] = forest.aucs(report["attribute_leakage"], "attribute_leakage")
    if curves:
        figures["curves"] = cohort_figures.curves(curves, "curves")
    if measurement_rows is not None and "measurements" in report:
        figures |= measurement_figures.agreement(
            measurement_rows, by_attribute, report["measurements"]["errors"]
        )
        if by_attribute and (contours := report["measurements"]["contours"]):
            figures["contours"] = measurement_figures.contours(contours, by_attribute, "contours")
    external = report.get("external")
    if external and (external_scores := external["scores"].get(score)):
        groups = formatting.attribute_groups(external_scores["groups"], attributes)
        figures["external"] = forest.means(external_scores, groups, title, "external", external["pooled"])
    return figures


def has_summary(scores: StructureScores, key: str) -> bool:
    """Return whether any summary of a score has an entry."""
    return any(summary[key] for summary in scores["summaries"].values())


def has_structures(scores: Scores) -> bool:
    """Return whether a score has structures; a table of one score per case has not."""
    return set(scores["structures"]) != {patient_table.ALL_STRUCTURES}


def macro_by_group(
    cases: pd.DataFrame,
    attributes: Sequence[str],
    score: str,
    failure_dice: float = patient_table.FAILURE_DICE,
) -> dict[str, np.ndarray]:
    """Return the macro score of each case, by group of one attribute.

    Args:
        cases: a row for each case and structure; NaN scores (absent from mask and prediction) are excluded.
        attributes: categorical columns.
        score: the column of the score.
        failure_dice: `failure_dice` of `patient_table.macro`.

    Returns:
        Group name -> f64[cases]; cases without any score are excluded.
    """
    levels = cases.groupby("case_id", sort=True)[list(attributes)].first()
    macro = patient_table.macro(cases, score, failure_dice).to_numpy()
    values = {}
    for attribute in attributes:
        partition = groups.partition(levels, [attribute], missing_as_level=True)
        for i, name in enumerate(partition.names):
            members = macro[partition.index == i]
            values[name] = members[~np.isnan(members)]
    return values
