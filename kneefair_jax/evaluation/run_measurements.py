"""The measurements of a run's test knees: their table, and their errors by group (`config.report.measurements`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kneefair_jax import anatomy
from kneefair_jax.data import typed_tables
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.data.inspection import Inspection
from kneefair_jax.data.source import Example
from kneefair_jax.data.store import Cases
from kneefair_jax.measurements import comparison, knees_of, spacing
from kneefair_jax.measurements.spacing import BoneSpacing
from kneefair_jax.report import csv_tables
from kneefair_jax.report.measurement_section import Analysis, section
from kneefair_jax.report.schema import Measurements, Report
from kneefair_jax.runtime import atomic

TABLE = "measurements.parquet"  # in a run's folder
_TEXT = ("knee", "measurement", "unit", "reference_reason", "predicted_reason", "note", "spacing_kind")
_NUMBERS = ("reference", "predicted", "error")


def of_case(structures: Sequence[str], case: Example, prediction: np.ndarray) -> np.ndarray:
    """Measure the knees of a case.

    Args:
        structures: names of labels 1, 2, ...
        case: with the reference mask.
        prediction: u8[H, W], void pixels of the reference mask as background.

    Returns:
        object[R, C], rows of `comparison.COLUMNS`.
    """
    return _compare(structures, case.label, prediction, _pixel(case.spacing, case.inspection))


def of_working_grid(
    structures: Sequence[str], cases: Cases, rows: np.ndarray, predictions: np.ndarray
) -> np.ndarray:
    """Measure the knees of cases on the working grid.

    Args:
        structures: names of labels 1, 2, ...
        cases: prepared cases.
        rows: i[N], the cases to measure.
        predictions: u8[N, H, W].

    Returns:
        object[N, R, C], rows of `comparison.COLUMNS`.
    """
    inspections = cases.inspections or [None] * len(cases)
    return np.stack(
        [
            _compare(
                structures,
                cases[row]["label"],
                anatomy.clear_void(cases[row]["label"], prediction),
                _pixel(cases[row]["spacing"], inspections[row]),
            )
            for row, prediction in zip(rows, predictions, strict=True)
        ]
    )


def _compare(
    structures: Sequence[str], label: np.ndarray, prediction: np.ndarray, pixel: BoneSpacing
) -> np.ndarray:
    void = label == anatomy.VOID
    sides = dict.fromkeys(knees_of(structures), "")
    references = comparison.trace_knees(anatomy.clear_void(label), void, structures, pixel, sides)
    predicted = comparison.trace_prediction(prediction, void, structures, pixel, references)
    return np.array(comparison.compare_knees(references, predicted, pixel), dtype=object)


def _pixel(mm: np.ndarray, inspection: Inspection | None) -> BoneSpacing:
    """Return the spacing of a case; a case without files is drawn, so its spacing is that of the bones.

    An inspection calls every PixelSpacing calibrated; whether it is, the header alone would say.
    """
    kind = spacing.DRAWN if inspection is None else inspection.spacing_kind
    return spacing.bone_spacing(mm, "uncalibrated" if kind == "calibrated" else kind)


def tabulate(rows: np.ndarray, cohort: Cohort, cases: np.ndarray) -> pd.DataFrame:
    """Return the table of measurements: `case_id`, `patient_id`, the attributes, and `comparison.COLUMNS`.

    Args:
        rows: object[N, R, C], of `of_case`.
        cohort: of the cases.
        cases: i[N], their rows in the cohort.
    """
    count, per_case, _ = rows.shape
    about = cohort.cases[["case_id", "patient_id", *cohort.attributes]].iloc[np.repeat(cases, per_case)]
    values = pd.DataFrame(rows.reshape(count * per_case, -1), columns=list(comparison.COLUMNS))
    values = values.astype(dict.fromkeys(_NUMBERS, float) | dict.fromkeys(_TEXT, str))
    return pd.concat([about.reset_index(drop=True), values], axis=1)


def write(workdir: Path, table: pd.DataFrame | None) -> None:
    """Write the table into the run directory, or delete that of an earlier evaluation."""
    if table is None:
        (workdir / TABLE).unlink(missing_ok=True)
        return
    with atomic.replacement(workdir / TABLE) as path:
        table.to_parquet(path)


def read(workdir: Path, attributes: Sequence[str]) -> pd.DataFrame | None:
    """Read the table of an evaluated run; None if it measured nothing.

    Raises:
        InputError: see `typed_tables.read_run_parquet`.
    """
    if not (workdir / TABLE).exists():
        return None
    return typed_tables.read_run_parquet(
        workdir / TABLE,
        ("case_id", "patient_id", *_TEXT),
        attributes,
        _NUMBERS,
        "evaluate the run again: --mode=evaluate",
    )


def add(report: Report, table: pd.DataFrame, config: ConfigDict, directory: Path) -> None:
    """Add the errors by group to a report, and write `measurements.csv` and `measurement_errors.csv` beside it."""
    analysis = Analysis(
        report["cohort"]["attributes"],
        {},
        {},
        config.report.min_group_patients,
        config.report.bootstrap_draws,
        config.seed,
    )
    content, errors = section(table, analysis, {})
    report["measurements"] = cast(Measurements, content)
    directory.mkdir(parents=True, exist_ok=True)
    for name, rows in (("measurements.csv", table), ("measurement_errors.csv", errors)):
        atomic.write_text(directory / name, csv_tables.escape_formulas(rows).to_csv(index=False))
