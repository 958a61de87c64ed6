"""Audit the measurements of masks against readers' values, where no reference masks exist."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from kneefair_jax.audit import measurement_report, measuring, result, run
from kneefair_jax.audit.options import MaskOptions, Settings
from kneefair_jax.errors import InputError
from kneefair_jax.report import csv_tables, measurement_page, page
from kneefair_jax.report.build import sentences
from kneefair_jax.runtime import atomic, written_files
from kneefair_jax.safe_text import strip_paths


class ReadersAudit(NamedTuple):
    """The audit of the measurements of one model or of several.

    Attributes:
        reports: model -> `cohort` (attributes, notes), `run` and `measurements`, as in an audit of masks.
        measurements: a row per model, case, knee and measurement, with patients and attributes.
        measurement_errors: the errors by group.
        inputs: files and folders that were read; `write` replaces none of them.
    """

    reports: dict[str, dict[str, Any]]
    measurements: pd.DataFrame
    measurement_errors: pd.DataFrame
    inputs: tuple[Path, ...] = ()

    def write(self, out: str | Path, *, overwrite: bool = True) -> dict[str, Path]:
        """Write a page and `report.json` of each model, and the tables; as `result.Audit.write`.

        Returns:
            The paths of the pages, by model.

        Raises:
            InputError: as for `result.Audit.write`.
        """
        out, folders = Path(out), result.model_folders(self.reports)
        result.require_folder(out, overwrite=overwrite, inputs=self.inputs, models=tuple(folders))
        with written_files.replacement(
            out, "audit", "--out", overwrite=overwrite, inputs=self.inputs
        ) as stage:
            for model, report in self.reports.items():
                rows = self.measurements[self.measurements["model"] == model]
                measurement_page.write(stage / folders[model], report, rows)
            for name, table in (
                (result.MEASUREMENTS, self.measurements),
                (result.MEASUREMENT_ERRORS, self.measurement_errors),
            ):
                atomic.write_text(stage / name, csv_tables.escape_formulas(table).to_csv(index=False))
        return {model: out / folder / page.PAGE for model, folder in folders.items()}


def against_readers(
    pred: run.Masks | Mapping[str, run.Masks],
    metadata: str | Path | pd.DataFrame,
    attributes: Sequence[str],
    options: MaskOptions,
    settings: Settings = Settings(),  # noqa: B008 - a NamedTuple cannot change
) -> ReadersAudit:
    """Audit the measurements of predicted masks against readers' values.

    Args:
        pred: as for `run.masks`.
        metadata: as for `run.masks`.
        attributes: its columns to report by.
        options: which cases to read, and how to read masks; `measurements.manual` has the readers' values.
        settings: how to compute the numbers.

    Raises:
        InputError: an input cannot be used; the message names file, row and remedy.
    """
    options.check()
    settings.check(attributes)
    measurements = options.measurements
    if measurements is None or measurements.manual is None:
        raise InputError("without reference masks, give the values of readers: --measure --manual FILE")
    by_model = run.masks_by_model(pred)
    settings = settings.with_folders(*by_model.values(), metadata, options.images, measurements.manual)
    reports: dict[str, dict[str, Any]] = {}
    tables, errors = [], []
    first, masks = next(iter(by_model.items()))
    try:
        matched, reading = run.match_files(masks, by_model, metadata, attributes, options)
    except InputError as error:  # the masks of the first model stand for the reference masks
        text = str(error).replace("--truth", f"--pred {first}:").replace("reference mask", "mask")
        raise InputError(text) from error
    cohort = matched.cohort
    for model in by_model:
        # A model's own masks stand for the reference masks, whose measurements the readers' values replace.
        paths, reading_of_model = matched.predictions[model], reading.of_model(model)
        reading_of_model = reading_of_model._replace(truth=reading_of_model.prediction)
        audit_measurements = measuring.measure_cases(
            cohort, paths, {model: paths}, matched.films, reading_of_model, measurements
        )
        results = measurement_report.sections(
            cohort, audit_measurements._replace(contours=[]), measurements, settings
        )
        notes = [strip_paths(note, *settings.folders) for note in (*cohort.notes, *audit_measurements.notes)]
        reports[model] = {
            "cohort": {
                "attributes": list(cohort.attributes),
                "notes": sentences(notes),
                "cases": len(cohort.frame),
                "patients": int(cohort.frame["patient_id"].nunique()),
            },
            "run": result.settings_fields(settings) | {"model": model or None},
            "measurements": results.reports[model],
        }
        tables.append(results.measurements)
        errors.append(results.errors)
    inputs = tuple(path.absolute() for path in settings.folders)
    return ReadersAudit(
        reports, pd.concat(tables, ignore_index=True), pd.concat(errors, ignore_index=True), inputs
    )
