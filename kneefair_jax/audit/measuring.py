"""Measurements of the masks of an audit: the errors of the predictions against the reference masks, or a reader.

Both masks of a case are measured with one spacing, so an error of the spacing cancels in part; where it is not known in
the plane of the bones, no length is stated.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax.audit import mask_pair
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.mask_pair import Reading
from kneefair_jax.audit.options import MeasurementOptions
from kneefair_jax.data import cell_text, metadata, readers, typed_tables
from kneefair_jax.data.mask_files import MaskSource
from kneefair_jax.data.readers import Mask, dicom_header
from kneefair_jax.errors import InputError
from kneefair_jax.measurements import MEASUREMENTS, comparison, knees_of, spacing
from kneefair_jax.measurements.contour_errors import ContourErrors, errors_of_bones
from kneefair_jax.measurements.definitions import check_names
from kneefair_jax.measurements.spacing import BoneSpacing
from kneefair_jax.report.text import formatting
from kneefair_jax.runtime import progress

FILE = "measurements.csv"
MARGIN = "--clinical-margin"
COLUMNS = ("case_id", "model", *comparison.COLUMNS)


class ContourOfCase(NamedTuple):
    """The errors along the contour of one bone of a case by a model."""

    case_id: str
    model: str
    bone: str
    errors: ContourErrors


class AuditMeasurements(NamedTuple):
    """The measurements of an audit.

    Attributes:
        table: a row per model, case, knee and measurement, of `COLUMNS`; values are NaN where a measurement cannot be
            taken.
        contours: the errors along the contours, of knees whose spacing is known.
        notes: on readers' values.
    """

    table: pd.DataFrame
    contours: list[ContourOfCase]
    notes: tuple[str, ...] = ()


def parse_values(words: Sequence[str], option: str) -> dict[str, float]:
    """Parse `["fta=1", "jsw_min_medial=0.5"]` to measurement -> number, above 0 for `MARGIN`.

    Raises:
        InputError: a word has another form, names no measurement, or one twice.
    """
    result: dict[str, float] = {}
    for word in words:
        name, _, text = word.partition("=")
        check_names([name], option)
        try:
            number = cell_text.parse_number(text)
        except ValueError:
            raise InputError(f"{option} {word!r}: write MEASUREMENT=NUMBER, such as fta=1") from None
        if name in result:
            raise InputError(f"{option}: {name!r} occurs twice")
        if option == MARGIN and not number > 0:
            raise InputError(f"{option} {word!r}: give an error above 0")
        result[name] = number
    return result


def measure_cases(
    cohort: Cohort,
    truth: Mapping[str, MaskSource],
    predictions: Mapping[str, Mapping[str, MaskSource]],
    films: Mapping[str, MaskSource],
    reading: Reading,
    options: MeasurementOptions,
) -> AuditMeasurements:
    """Measure the masks of all cases; each file is decoded once more.

    Args:
        cohort: the cases.
        truth: case id -> reference mask.
        predictions: model -> case id -> predicted mask.
        films: case id -> radiograph, whose header may state the spacing in the plane of the bones.
        reading: of the masks.
        options: how to measure.

    Returns:
        The table, and the errors along the contours.

    Raises:
        InputError: the structures are no bones of a knee, a side or magnification of the table is wrong (by row), or
            the table of readers' values is (`_with_manual`).
    """
    sides = sides_of(reading.structures)
    if reserved := sorted(set(cohort.attributes) & set(COLUMNS)):
        raise InputError(
            f"{cohort.path}: the attribute {reserved[0]!r} has the name of a column of {FILE}; rename it"
        )
    models = list(predictions)
    sides_by_row = knees(cohort.knees, cohort.spacing, cohort.path)
    by_row = dict(zip(cohort.frame["case_id"], cohort.frame.index, strict=True))
    stated = dict(zip(cohort.frame["case_id"], cohort.spacing, strict=True))

    def measure_case(case: str) -> tuple[list[tuple[object, ...]], list[ContourOfCase]]:
        true = mask_pair.reference(truth[case], reading)
        side, magnification = sides_by_row[by_row[case]]
        if np.isnan(magnification):
            magnification = options.magnification
        film = films.get(case)
        pixel = bone_spacing(stated[case], true.mask, film if isinstance(film, Path) else None, magnification)
        knees_of_film = dict.fromkeys(sides, side)
        references = comparison.trace_knees(
            true.label, true.ignored, reading.structures, pixel, knees_of_film
        )
        rows: list[tuple[object, ...]] = []
        contours: list[ContourOfCase] = []
        for model, paths in predictions.items():
            masks = mask_pair.pair(true, paths.get(case), reading.of_model(model))
            knees_of_truth = references
            if not np.array_equal(masks.ignored, true.ignored):  # the prediction ignores further pixels
                knees_of_truth = comparison.trace_knees(
                    masks.true, masks.ignored, reading.structures, pixel, knees_of_film
                )
            predicted = comparison.trace_prediction(
                masks.predicted, masks.ignored, reading.structures, pixel, knees_of_truth
            )
            rows += [
                (case, model, *row) for row in comparison.compare_knees(knees_of_truth, predicted, pixel)
            ]
            if pixel.mm and not pixel.refusal:
                for name, knee in knees_of_truth.items():
                    errors = errors_of_bones(knee, predicted[name])
                    contours += [ContourOfCase(case, model, bone, entry) for bone, entry in errors.items()]
        return rows, contours

    cases = cohort.frame["case_id"].tolist()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(progress.track(pool.map(measure_case, cases), len(cases), "measuring"))
    rows = sorted((row for part, _ in parts for row in part), key=lambda row: models.index(str(row[1])))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    audit_measurements = AuditMeasurements(table, [entry for _, part in parts for entry in part])
    if options.manual is None:
        return audit_measurements
    return _with_manual(audit_measurements, options.manual, cohort.frame["case_id"].tolist())


def sides_of(structures: Sequence[str]) -> tuple[str, ...]:
    """Return the knees of a mask: `right` and `left`, or "" for one knee.

    Raises:
        InputError: femur or tibia is missing.
    """
    sides = knees_of(structures)
    named = {
        side
        for side in dicom_header.SIDES.values()
        if any(name.startswith(f"{side} ") for name in structures)
    }
    if not sides or not named <= set(sides):
        raise InputError(
            f"measurements: the structures are {', '.join(structures)}; they need femur and tibia: name "
            "them so with --labels"
        )
    return sides


def knees(table: pd.DataFrame, spacings: np.ndarray, path: Path) -> dict[int, tuple[str, float]]:
    """Return row of a table -> side and magnification, "" and NaN where it states none.

    Args:
        table: text, `side` and `magnification`.
        spacings: f[N, 2], of the table; NaN where it states none.
        path: of the table, for messages.

    Raises:
        InputError: a side or a magnification is wrong (by row).
    """
    problems: list[metadata.Problem] = []
    result = {}
    is_stated = dict(zip(table.index, np.isfinite(spacings).all(axis=1), strict=True))
    for row, side, magnification in table[["side", "magnification"]].itertuples():
        code = dicom_header.parse_side(side)
        if not cell_text.is_missing(side) and code not in (*dicom_header.SIDES, "B"):
            problems.append((row, f"side {side!r}: write right or left"))
        number = float("nan")
        try:
            if not cell_text.is_missing(magnification):
                number = spacing.check_magnification(cell_text.parse_number(magnification), "magnification")
        except ValueError as error:
            is_range = isinstance(error, InputError)
            problems.append(
                (row, str(error) if is_range else f"magnification {magnification!r} is no number")
            )
        if np.isfinite(number) and is_stated[row]:
            problems.append(
                (
                    row,
                    f"spacing_mm {spacing.NO_MAGNIFICATION}",
                )
            )
        result[row] = (dicom_header.SIDES.get(code, ""), number)
    metadata.refuse(path, problems)
    return result


def bone_spacing(stated: np.ndarray, mask: Mask, film: Path | None, magnification: float) -> BoneSpacing:
    """Return the spacing of a case in the plane of the bones: of the table, or the mask's header, or the radiograph's.

    Args:
        stated: f[2], of the table; NaN where it states none.
        mask: of the case.
        film: its radiograph, which must have as many pixels; None without one.
        magnification: as for `spacing.bone_spacing`.
    """
    if np.isfinite(stated).all():
        return spacing.bone_spacing(stated, "table")
    # A mask has copied its spacing from the film, and lost what kind it was, so the film comes first.
    kind = "header" if mask.spacing_kind == "header" else "uncalibrated"
    of_mask = spacing.bone_spacing(mask.spacing, kind, magnification)
    if film is None:
        return of_mask
    radiograph = readers.read_radiograph(film)
    if radiograph.pixels.shape[:2] != mask.values.shape:
        if of_mask.mm is None:
            reason = (
                "the radiograph has another number of pixels than the mask, so its spacing does not apply"
            )
            return of_mask._replace(refusal=reason)
        return of_mask
    result = spacing.bone_spacing(radiograph.bone_spacing, radiograph.bone_spacing_kind, magnification)
    return of_mask if result.mm is None else result


def _second_knees(cells: pd.DataFrame) -> list[metadata.Problem]:
    """Return the rows whose knee differs from that of the case's first row: a mask of one knee has one side."""
    if "knee" not in cells:
        return []
    sides = cells["knee"].map(dicom_header.parse_side)
    first = sides.groupby(cells["case_id"]).transform("first")
    return [
        (
            row,
            f"case {cells.at[row, 'case_id']}: its mask shows one knee, and the rows of two; keep those of one",
        )
        for row in cells.index[sides != first]
    ]


def _with_manual(
    audit_measurements: AuditMeasurements, source: Path | pd.DataFrame, cases: Sequence[str]
) -> AuditMeasurements:
    """Return the measurements with readers' values as reference.

    Args:
        audit_measurements: of the masks.
        source: a table with `case_id`, `measurement`, `value`, and optionally `reader`, `knee` and `unit`; a file or a
            data frame. Values of several readers are averaged.
        cases: all case ids of the audit.

    Raises:
        InputError: a column is missing; a measurement, unit or value is wrong (by row); or no case is in the audit.
    """
    path = typed_tables.FRAME if isinstance(source, pd.DataFrame) else source
    cells = typed_tables.read_as_text(source)[0].cells
    for column in ("case_id", "measurement", "value"):
        if column not in cells:
            raise InputError(f"{path}: column {column!r} is missing; the columns are {', '.join(cells)}")
    knee = cells["knee"] if "knee" in cells else pd.Series("", cells.index)
    if set(audit_measurements.table["knee"]) == {""}:  # one knee a mask, whose side a table may state
        knee = pd.Series("", cells.index)
    else:
        knee = knee.map(lambda text: dicom_header.SIDES.get(dicom_header.parse_side(text), ""))
    problems: list[metadata.Problem] = []
    if set(audit_measurements.table["knee"]) != {""}:
        problems += [(row, "knee: write right or left") for row, side in knee.items() if not side]
    else:
        problems += _second_knees(cells)
    values = []
    for row, name, text in cells[["measurement", "value"]].itertuples():
        number = float("nan")
        if name not in MEASUREMENTS:
            problems.append(
                (row, f"{name!r} is not a measurement; the measurements are {', '.join(MEASUREMENTS)}")
            )
        elif "unit" in cells and cells.at[row, "unit"] not in ("", MEASUREMENTS[name].unit):
            unit = cells.at[row, "unit"]
            problems.append(
                (row, f"{name} is in {MEASUREMENTS[name].unit}, not in {unit}; convert the value")
            )
        elif not cell_text.is_missing(text):
            try:
                number = cell_text.parse_number(text)
            except ValueError:
                problems.append((row, f"value {text!r} is no number"))
        values.append(number)
    metadata.refuse(path, problems)
    manual = pd.DataFrame(
        {"case_id": cells["case_id"], "knee": knee, "measurement": cells["measurement"], "manual": values}
    )
    if not set(manual["case_id"]) & set(cases):
        raise InputError(
            f"{path}: none of its cases ({formatting.examples(list(dict.fromkeys(manual['case_id'])))}) is in the audit"
        )
    means = manual.groupby(["case_id", "knee", "measurement"])["manual"].mean().reset_index()
    result = audit_measurements.table.merge(means, on=["case_id", "knee", "measurement"], how="left")
    result["reference"] = result.pop("manual")
    result["error"] = result["predicted"] - result["reference"]
    result["reference_reason"] = np.where(result["reference"].isna(), "no value of a reader", "")
    values_of_cases = result.loc[result["error"].notna(), ["case_id", "knee", "measurement"]]
    counted = len(values_of_cases.drop_duplicates())
    if not counted:
        raise InputError(
            f"{path}: no value belongs to a measurement of a prediction; check case_id, knee and measurement"
        )
    note = f"measurements are compared with {counted} values of {Path(path).name}"
    unlisted = sorted(set(manual["case_id"]) - set(cases))
    if unlisted:
        note += f"; {len(unlisted)} of its cases are not in the audit"
    return audit_measurements._replace(table=result, notes=(note,))
