"""The measurements of an audit: their errors by group, and the tables of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import pandas as pd

from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.measuring import AuditMeasurements, ContourOfCase
from kneefair_jax.audit.options import MeasurementOptions, Settings
from kneefair_jax.audit.result import Audit
from kneefair_jax.report.build import sentences
from kneefair_jax.report.measurement_section import Analysis, Contours, section
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
    cohort: Cohort, audit_measurements: AuditMeasurements, options: MeasurementOptions, settings: Settings
) -> Sections:
    """Compute the errors of the measurements by group, of every model.

    Args:
        cohort: the cases.
        audit_measurements: of `measuring.measure_cases`.
        options: how to measure.
        settings: how to compute the numbers.
    """
    attributes = cohort.attributes
    case_groups = cohort.frame[["case_id", "patient_id", *attributes]]
    table = _with_groups(audit_measurements.table, case_groups, attributes)
    analysis = Analysis(
        attributes,
        options.margins,
        options.thresholds,
        settings.min_group_patients,
        settings.draws,
        settings.seed,
        "masks" if options.manual is None else "readers",
    )
    reports, errors = {}, []
    for model in audit_measurements.table["model"].unique():
        contours = _contours(
            [entry for entry in audit_measurements.contours if entry.model == model], case_groups, attributes
        )
        reports[model], rows = section(table[table["model"] == model], analysis, contours)
        errors.append(rows.assign(model=model)[["model", *rows.columns]])
    return Sections(reports, table, pd.concat(errors, ignore_index=True))


def add(
    audit: Audit,
    cohort: Cohort,
    audit_measurements: AuditMeasurements,
    options: MeasurementOptions,
    settings: Settings,
) -> Audit:
    """Return the audit with the errors of measurements by group, of every model.

    Args:
        audit: of masks.
        cohort: the cases.
        audit_measurements: of `measuring.measure_cases`.
        options: how to measure.
        settings: how to compute the numbers.
    """
    results = sections(cohort, audit_measurements, options, settings)
    notes = sentences(list(audit_measurements.notes))
    for model, report in audit.reports.items():
        report["measurements"] = cast(Measurements, results.reports[model])
        report["cohort"]["notes"] = [*report["cohort"]["notes"], *notes]
    return audit._replace(
        measurements=results.measurements,
        measurement_errors=results.errors,
        notes=[*audit.notes, *notes],
    )


def _with_groups(table: pd.DataFrame, case_groups: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """Return a table of cases with their patients and attributes."""
    result = case_groups.merge(table, on="case_id", how="right")
    for name in attributes:
        result[name] = pd.Categorical(result[name], case_groups[name].cat.categories, ordered=True)
    return result


def _contours(
    entries: Sequence[ContourOfCase], case_groups: pd.DataFrame, attributes: Sequence[str]
) -> dict[str, Contours]:
    """Return bone -> errors along its contour, of one model."""
    result = {}
    for bone in dict.fromkeys(entry.bone for entry in entries):
        of_bone = [entry for entry in entries if entry.bone == bone]
        case_ids = pd.DataFrame({"case_id": [entry.case_id for entry in of_bone]})
        cases = _with_groups(case_ids, case_groups, attributes)
        result[bone] = Contours(cases, [entry.errors for entry in of_bone])
    return result
