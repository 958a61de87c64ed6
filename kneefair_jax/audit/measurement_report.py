"""The section of an audit on measurements: their errors by group, and the tables of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.measuring import AuditMeasurements, ContourOfCase
from kneefair_jax.audit.options import MeasurementOptions, Settings
from kneefair_jax.audit.result import Audit
from kneefair_jax.fairness import contour_bands, measurement_errors
from kneefair_jax.fairness.measurement_errors import GroupErrors, MeasurementErrors
from kneefair_jax.fairness.results import Estimate
from kneefair_jax.measurements import MEASUREMENTS
from kneefair_jax.report.build import sentences
from kneefair_jax.report.schema import Measurements


class Sections(NamedTuple):
    """The errors of the measurements of an audit.

    Attributes:
        reports: model -> the content of `report["measurements"]`.
        measurements: of `measuring.AuditMeasurements`, with patients and attributes.
        errors: a row per model, measurement and group, for `measurement_errors.csv`.
    """

    reports: dict[str, dict[str, Any]]
    measurements: pd.DataFrame
    errors: pd.DataFrame


def sections(
    cohort: Cohort, measured: AuditMeasurements, options: MeasurementOptions, settings: Settings
) -> Sections:
    """Compute the errors of the measurements by group, of every model.

    Args:
        cohort: the cases.
        measured: of `measuring.measure_cases`.
        options: how to measure.
        settings: how to compute the numbers.
    """
    attributes = cohort.attributes
    about = cohort.frame[["case_id", "patient_id", *attributes]]
    with_groups = _with_groups(measured.table, about, attributes)
    reports, tables = {}, []
    for model in measured.table["model"].unique():
        rows = with_groups[with_groups["model"] == model]
        errors = {
            name: measurement_errors.measurement_errors(
                rows[rows["measurement"] == name],
                attributes,
                unit=definition.unit,
                margin=_margin(name, options),
                threshold=options.thresholds.get(name),
                minimum=settings.min_group_patients,
                draws=settings.draws,
                seed=settings.seed,
            )
            for name, definition in MEASUREMENTS.items()
        }
        errors = measurement_errors.adjust(
            {name: entry for name, entry in errors.items() if entry.overall.cases}
        )
        reports[model] = {
            "against": "readers" if options.manual is not None else "masks",
            "errors": {name: asdict(entry) for name, entry in errors.items()},
            "definitions": {
                name: {"unit": entry.unit, "text": entry.text, "known_error": entry.known_error}
                for name, entry in MEASUREMENTS.items()
                if name in errors
            },
            "spacing_kinds": _kinds(rows, attributes),
            "reasons": _reasons(rows),
            "contours": _contours(
                [entry for entry in measured.contours if entry.model == model], about, attributes, settings
            ),
        }
        tables += [{"model": model, **row} for name, entry in errors.items() for row in _rows(name, entry)]
    return Sections(reports, with_groups, pd.DataFrame(tables))


def add(
    audit: Audit,
    cohort: Cohort,
    measured: AuditMeasurements,
    options: MeasurementOptions,
    settings: Settings,
) -> Audit:
    """Return the audit with the errors of measurements by group, of every model.

    Args:
        audit: of masks.
        cohort: the cases.
        measured: of `measuring.measure_cases`.
        options: how to measure.
        settings: how to compute the numbers.
    """
    results = sections(cohort, measured, options, settings)
    notes = sentences(list(measured.notes))
    for model, report in audit.reports.items():
        report["measurements"] = cast(Measurements, results.reports[model])
        report["cohort"]["notes"] = [*report["cohort"]["notes"], *notes]
    return audit._replace(
        measurements=results.measurements,
        measurement_errors=results.errors,
        notes=[*audit.notes, *notes],
    )


def _with_groups(table: pd.DataFrame, about: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """Return a table of cases with their patients and attributes."""
    result = about.merge(table, on="case_id", how="right")
    for name in attributes:
        result[name] = pd.Categorical(result[name], about[name].cat.categories, ordered=True)
    return result


def _contours(
    entries: Sequence[ContourOfCase], about: pd.DataFrame, attributes: Sequence[str], settings: Settings
) -> dict[str, dict[str, Any]]:
    """Return bone -> errors along its contour by group."""
    result = {}
    for bone in dict.fromkeys(entry.bone for entry in entries):
        of_bone = [entry for entry in entries if entry.bone == bone]
        cases = _with_groups(
            pd.DataFrame({"case_id": [entry.case_id for entry in of_bone]}), about, attributes
        )
        bands = contour_bands.contour_bands(
            np.stack([entry.errors.errors for entry in of_bone]),
            np.stack([entry.errors.places for entry in of_bone]),
            cases,
            attributes,
            minimum=settings.min_group_patients,
            seed=settings.seed,
        )
        result[bone] = asdict(bands)
    return result


def _margin(name: str, options: MeasurementOptions) -> float | None:
    margin = options.margins.get(name, MEASUREMENTS[name].reproducibility)
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


def _reasons(rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return measurement -> reason -> knees of which the reference mask gives no value."""
    refused = rows[rows["reference_reason"] != ""]
    counts = refused.groupby(["measurement", "reference_reason"]).size()
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
        ("beyond_margin", entry.beyond),
        ("wrong_side", entry.wrong_side),
    ):
        cells |= {
            f"{column}_patients": rate.count if rate else np.nan,
            f"{column}_of": rate.rate.n if rate else np.nan,
        }
    return cells
