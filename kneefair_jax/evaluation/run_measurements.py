"""The measurements of a run's test knees: their table, and their errors by group (`config.report.measurements`)."""

from collections.abc import Sequence
from itertools import product
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
from kneefair_jax.errors import InputError
from kneefair_jax.measurements import MEASUREMENTS, Knee, comparison, knees_of, spacing
from kneefair_jax.measurements.spacing import BoneSpacing
from kneefair_jax.report import csv_tables
from kneefair_jax.report.measurement_section import Analysis, section
from kneefair_jax.report.schema import Measurements, Report
from kneefair_jax.runtime import atomic

TABLE = "measurements.parquet"  # in a run's folder
_TEXT = ("knee", "measurement", "unit", "reference_reason", "predicted_reason", "note", "spacing_kind")
_NUMBERS = ("reference", "predicted", "error")
_ENCODED = ("reference_reason", "predicted_reason", "note", "spacing_kind")
_WIDTH = 400  # bytes of a text
ROW = np.dtype([(name, "f8") for name in _NUMBERS] + [(name, f"S{_WIDTH}") for name in _ENCODED])
RESIZED = "the pixel spacing is unknown, and the working grid may have stretched the film: state it (column spacing_mm)"
FILES = ("measurements.csv", "measurement_errors.csv")  # beside the report


def of_case(
    structures: Sequence[str], case: Example, prediction: np.ndarray, *, is_phantom: bool
) -> np.ndarray:
    """Measure the knees of a case.

    Args:
        structures: names of labels 1, 2, ...
        case: with the reference mask.
        prediction: u8[H, W], void pixels of the reference mask as background.
        is_phantom: whether the film is a phantom, whose spacing is that of the bones.

    Returns:
        `ROW`[R], a row per knee and measurement, in the order of `knees_of` and `MEASUREMENTS`. Texts have a fixed
        width, since hosts exchange arrays as bytes.
    """
    pixel = _pixel(case.spacing, case.inspection, is_phantom=is_phantom)
    void = case.label == anatomy.VOID
    sides = dict.fromkeys(knees_of(structures), "")
    references = comparison.trace_knees(anatomy.clear_void(case.label), void, structures, pixel, sides)
    predicted = comparison.trace_prediction(prediction, void, structures, pixel, references)
    return _encode(comparison.compare_knees(references, predicted, pixel))


def of_working_grid(
    structures: Sequence[str], cases: Cases, rows: np.ndarray, predictions: np.ndarray, *, is_phantom: bool
) -> np.ndarray:
    """Measure the knees of cases on the working grid.

    The grid may stretch a film. Where its spacing is unknown, angles are unknown too, so nothing is measured.

    Args:
        structures: names of labels 1, 2, ...
        cases: prepared cases.
        rows: i[N], the cases to measure.
        predictions: u8[N, H, W].
        is_phantom: as for `of_case`.

    Returns:
        `ROW`[N, R].
    """
    inspections = cases.inspections or [None] * len(cases)
    return np.stack(
        [
            _of_grid(
                structures,
                Example(**cases[row], inspection=inspections[row]),
                prediction,
                is_phantom=is_phantom,
            )
            for row, prediction in zip(rows, predictions, strict=True)
        ]
    )


def _of_grid(
    structures: Sequence[str], case: Example, prediction: np.ndarray, *, is_phantom: bool
) -> np.ndarray:
    if np.isfinite(case.spacing).all():
        return of_case(structures, case, anatomy.clear_void(case.label, prediction), is_phantom=is_phantom)
    knees = dict.fromkeys(knees_of(structures), Knee({}, refusal=RESIZED))
    return _encode(comparison.compare_knees(knees, knees, BoneSpacing(None, "unknown", "")))


def _pixel(mm: np.ndarray, inspection: Inspection | None, *, is_phantom: bool) -> BoneSpacing:
    """Return the spacing of a case in the plane of the bones.

    An inspection calls every PixelSpacing calibrated, so a run does not trust it.
    """
    kind = spacing.DRAWN if is_phantom else inspection.spacing_kind if inspection else "unknown"
    return spacing.bone_spacing(mm, "uncalibrated" if kind == "calibrated" else kind)


def _encode(rows: Sequence[Sequence[object]]) -> np.ndarray:
    """Return rows of `comparison.COLUMNS` as `ROW`[R]; the other columns follow from the order."""
    table = pd.DataFrame(rows, columns=list(comparison.COLUMNS))
    result = np.zeros(len(table), ROW)
    for name in ROW.names or ():
        values = table[name]
        result[name] = values if name in _NUMBERS else values.map(lambda text: text.encode()[:_WIDTH])
    return result


def tabulate(rows: np.ndarray, cohort: Cohort, cases: np.ndarray) -> pd.DataFrame:
    """Return the table of measurements: `case_id`, `patient_id`, the attributes, and `comparison.COLUMNS`.

    Args:
        rows: `ROW`[N, R], of `of_case`.
        cohort: of the cases.
        cases: i[N], their rows in the cohort.
    """
    count, per_case = rows.shape
    about = cohort.cases[["case_id", "patient_id", *cohort.attributes]].iloc[np.repeat(cases, per_case)]
    places = list(product(knees_of(cohort.structures), MEASUREMENTS)) * count
    flat = rows.reshape(-1)
    values = pd.DataFrame(
        {
            "knee": [knee for knee, _ in places],
            "measurement": [name for _, name in places],
            "unit": [MEASUREMENTS[name].unit for _, name in places],
            **{name: flat[name] for name in _NUMBERS},
            **{name: [text.decode() for text in flat[name]] for name in _ENCODED},
        }
    )
    return pd.concat([about.reset_index(drop=True), values[list(comparison.COLUMNS)]], axis=1)


def write(workdir: Path, table: pd.DataFrame | None) -> None:
    """Write the table into the run directory, or delete the tables of an earlier evaluation."""
    if table is None:
        for path in (workdir / TABLE, *(workdir / "report" / name for name in FILES)):
            path.unlink(missing_ok=True)
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


def of_folds(folds: Sequence[Path], attributes: Sequence[str]) -> list[pd.DataFrame]:
    """Read the tables of evaluated folds; an empty list if no fold measured anything.

    Raises:
        InputError: some folds have a table and some have none, or see `read`.
    """
    tables = {fold: table for fold in folds if (table := read(fold, attributes)) is not None}
    missing = [fold for fold in folds if fold not in tables]
    if tables and missing:
        raise InputError(
            f"{missing[0]} has no {TABLE}, and {len(tables)} other folds have one; evaluate all folds again with one "
            "config.report.measurements"
        )
    return list(tables.values())


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
    for name, rows in zip(FILES, (table, errors), strict=True):
        atomic.write_text(directory / name, csv_tables.escape_formulas(rows).to_csv(index=False))
