"""The section of a report on measurements: their errors by group, against reference masks or readers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.fairness import contour_bands, measurement_errors
from kneefair_jax.fairness.measurement_errors import GroupErrors, MeasurementErrors
from kneefair_jax.fairness.results import Estimate
from kneefair_jax.measurements import MEASUREMENTS
from kneefair_jax.measurements.contour_errors import ContourErrors


class Analysis(NamedTuple):
    """How the errors are analyzed.

    Attributes:
        attributes: columns to group by.
        margins: measurement -> absolute error that matters, in place of its reproducibility.
        thresholds: measurement -> value on whose sides decisions differ.
        minimum: patients of a group that is compared.
        draws: permutations.
        seed: of the permutations.
        against: what the reference values come from, `masks` or `readers`.
    """

    attributes: Sequence[str]
    margins: Mapping[str, float]
    thresholds: Mapping[str, float]
    minimum: int
    draws: int
    seed: int
    against: str = "masks"


class Contours(NamedTuple):
    """The errors along the contours of one bone in N cases.

    Attributes:
        cases: a row per case: `patient_id` and the attributes.
        errors: of each case.
    """

    cases: pd.DataFrame
    errors: Sequence[ContourErrors]


def section(
    rows: pd.DataFrame, analysis: Analysis, contours: Mapping[str, Contours]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Compute the errors of one model's measurements by group.

    Args:
        rows: a row per knee and measurement: `case_id`, `patient_id`, the categorical attributes, and the columns of
            `measurements.comparison`.
        analysis: how to compare the groups.
        contours: bone -> errors along its contour.

    Returns:
        The content of `report["measurements"]`, and the rows of `measurement_errors.csv`.
    """
    errors = {
        name: measurement_errors.measurement_errors(
            rows[rows["measurement"] == name],
            analysis.attributes,
            unit=definition.unit,
            margin=_margin(name, analysis.margins),
            threshold=analysis.thresholds.get(name),
            minimum=analysis.minimum,
            draws=analysis.draws,
            seed=analysis.seed,
            is_exact=analysis.against == "masks",
        )
        for name, definition in MEASUREMENTS.items()
    }
    errors = measurement_errors.adjust({name: entry for name, entry in errors.items() if entry.overall.cases})
    report = {
        "against": analysis.against,
        "errors": {name: asdict(entry) for name, entry in errors.items()},
        "definitions": {
            name: {"unit": entry.unit, "text": entry.text, "known_error": entry.known_error}
            for name, entry in MEASUREMENTS.items()
            if name in errors
        },
        "spacing_kinds": _kinds(rows, analysis.attributes),
        "reasons": _reasons(rows, "reference_reason"),
        "predicted_reasons": _reasons(rows[rows["reference_reason"] == ""], "predicted_reason"),
        "contours": {bone: _bands(entry, analysis) for bone, entry in contours.items()},
    }
    return report, pd.DataFrame([row for name, entry in errors.items() for row in _rows(name, entry)])


def _bands(contours: Contours, analysis: Analysis) -> dict[str, Any]:
    bands = contour_bands.contour_bands(
        np.stack([entry.errors for entry in contours.errors]),
        np.stack([entry.places for entry in contours.errors]),
        contours.cases,
        analysis.attributes,
        minimum=analysis.minimum,
        seed=analysis.seed,
    )
    return asdict(bands)


def _margin(name: str, margins: Mapping[str, float]) -> float | None:
    margin = margins.get(name, MEASUREMENTS[name].reproducibility)
    return margin if np.isfinite(margin) else None


def _kinds(rows: pd.DataFrame, attributes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return group -> kind of spacing -> cases: another magnification in one group is a bias of its own."""
    by_case = rows.drop_duplicates("case_id")
    kinds = {"all": dict(by_case["spacing_kind"].value_counts())}
    for attribute in attributes:
        partition = groups.partition(by_case, [attribute], missing_as_level=True)
        for g, name in enumerate(partition.names):
            kinds[name] = dict(by_case.loc[partition.index == g, "spacing_kind"].value_counts())
    return {name: {str(kind): int(count) for kind, count in counts.items()} for name, counts in kinds.items()}


def _reasons(rows: pd.DataFrame, column: str) -> dict[str, dict[str, int]]:
    """Return measurement -> reason in a column -> knees without a value for it, the most frequent reason first."""
    refused = rows[rows[column] != ""]
    counts = refused.groupby(["measurement", column]).size()
    result: dict[str, dict[str, int]] = {}
    for (measurement, reason), count in counts.sort_values(ascending=False, kind="stable").items():
        result.setdefault(str(measurement), {})[str(reason)] = int(count)
    return result


def _rows(name: str, result: MeasurementErrors) -> list[dict[str, object]]:
    """Return the rows of `measurement_errors.csv`: one for all patients and one for each group."""
    return [
        {"measurement": name, "unit": result.unit, "group": group, **_cells(entry)}
        for group, entry in {"all": result.overall, **result.groups}.items()
    ]


def _cells(entry: GroupErrors) -> dict[str, object]:
    cells: dict[str, object] = {"cases": entry.cases, "patients": entry.bias.n}
    numbers: Mapping[str, Estimate] = {
        "bias": entry.bias,
        "mean_absolute_error": entry.absolute,
        "slope": entry.slope,
    }
    for column, estimate in numbers.items():
        low, high = estimate.interval or (np.nan, np.nan)
        cells |= {column: estimate.estimate, f"{column}_low": low, f"{column}_high": high}
    low, high = entry.limits or (np.nan, np.nan)
    cells |= {"agreement_low": low, "agreement_high": high}
    for column, rate in (
        ("without_reference", entry.without_reference),
        ("not_measured", entry.not_measured),
        ("beyond_margin", entry.beyond_margin),
        ("wrong_side", entry.wrong_side),
    ):
        cells |= {
            f"{column}_patients": rate.count if rate else np.nan,
            f"{column}_of": rate.rate.n if rate else np.nan,
        }
    return cells
