"""Audit masks, or a table of scores."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax.audit import (
    cases,
    equivalence_margin,
    files,
    mask_faults,
    mask_notes,
    mask_pair,
    measurement_report,
    measuring,
    predicted_dice,
    radiographs,
    result,
    score_table,
    scoring,
)
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.files import Arrays, MatchedFiles
from kneefair_jax.audit.mask_faults import FaultyMask
from kneefair_jax.audit.mask_pair import Reading
from kneefair_jax.audit.options import CaseOptions, MaskOptions, Settings
from kneefair_jax.audit.predicted_dice import Predictions
from kneefair_jax.audit.radiographs import FilmHeader
from kneefair_jax.audit.result import Audit
from kneefair_jax.audit.scoring import Case
from kneefair_jax.data import annotations, label_map
from kneefair_jax.data import metadata as metadata_table
from kneefair_jax.data.annotations import Kind
from kneefair_jax.data.label_map import Labels
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import reference_ser
from kneefair_jax.report.build import one_spacing
from kneefair_jax.report.overlays import CaseView
from kneefair_jax.runtime.progress import Progress

type PathLike = str | Path
type Masks = PathLike | Arrays


def masks(
    truth: Masks,
    pred: Masks | Mapping[str, Masks],
    metadata: PathLike | pd.DataFrame,
    attributes: Sequence[str],
    options: MaskOptions = MaskOptions(),  # noqa: B008 - frozen
    settings: Settings = Settings(),  # noqa: B008 - a NamedTuple cannot change
) -> Audit:
    """Audit predicted masks against reference masks of the same size.

    Args:
        truth: the reference masks: a folder, of which files are matched by case id or by the column `mask` of the
            table; or case id -> array, integers [H, W], with the pixel spacing in the table's column `spacing_mm`.
        pred: the predictions: a folder, or case id -> array; or model -> such masks, to compare models on the same
            cases.
        metadata: the table of cases (`cases.read`), a file or a data frame.
        attributes: its columns to report by.
        options: which cases to read, and how to read masks.
        settings: how to compute the numbers; its `equivalence_margin` takes precedence over the readers' margins.

    Raises:
        InputError: an input cannot be used; the message names file, row and remedy.
    """
    options.check()
    settings.check(attributes)
    by_model = masks_by_model(pred)
    settings = settings.with_folders(
        *(truth, *by_model.values(), metadata, options.images, options.readers, options.predicted_dice)
    )
    predictions = _predictions(options, len(by_model))
    matched, reading = match_files(truth, by_model, metadata, attributes, options)
    cohort = matched.cohort
    settings = equivalence_margin.with_readers(settings, options, cohort, matched.truth, reading)
    errors = None
    headers: dict[str, FilmHeader] = {}
    if options.label_error_checkpoint:
        errors, headers = radiographs.label_error_table(
            cohort, matched.truth, matched.films, reading, options.label_error_checkpoint
        )
        cohort.notes.append(radiographs.label_error_note(errors))
    results = scoring.score_cases(cohort, matched.truth, matched.predictions, reading)
    audit_measurements = None
    if options.measurements:
        audit_measurements = measuring.measure_cases(
            cohort, matched.truth, matched.predictions, matched.films, reading, options.measurements
        )
    of_references = mask_notes.of_references(cohort, results)
    cohort.notes.extend(of_references.notes)
    faults = of_references.faults
    models = {}
    for model in matched.predictions:
        models[model] = _model_result(
            matched, reading.of_model(model), results, model, of_references.faults, options, settings
        )
        faults = faults + models[model].faults
        headers |= models[model].headers
    faults = mask_notes.combine(faults)
    offsets = {model: one.boundary_offset_mm for model, one in models.items()}
    by_size = scoring.size_errors(matched.truth, results, reading, offsets)
    cohort.notes.extend(
        [*radiographs.header_notes_of_films(headers), *mask_faults.notes(faults, len(results))]
    )
    audit = result.audit(
        cohort,
        {model: one.table for model, one in models.items()},
        reading.scored,
        settings,
        {model: one.run_fields for model, one in models.items()},
        {model: one.examples for model, one in models.items()},
        by_size,
    )
    warnings = [text for one in models.values() for text in one.warnings]
    for report in audit.reports.values():
        report["cohort"]["warnings"][:0] = [*warnings, *mask_faults.short_warnings(faults)]
    audit = _with_predictions(audit, cohort, predictions)
    if audit_measurements is not None and options.measurements:
        audit = measurement_report.add(audit, cohort, audit_measurements, options.measurements, settings)
    return audit._replace(label_errors=errors, mask_faults=mask_faults.table(faults))


def table(
    scores: PathLike | pd.DataFrame,
    attributes: Sequence[str],
    *,
    metadata: PathLike | pd.DataFrame | None = None,
    options: CaseOptions = CaseOptions(),  # noqa: B008 - frozen
    settings: Settings = Settings(),  # noqa: B008 - a NamedTuple cannot change
) -> Audit:
    """Audit a table of scores by case, from any tool.

    Args:
        scores: CSV or parquet, or the table itself, long or wide (`score_table`).
        attributes: columns to report by, of this table or of `metadata`.
        metadata: a table of cases with the attributes, a file or a data frame.
        options: which cases to read; `on_missing="skip"` excludes cases without scores by a model for every model,
            `"zero"` refuses them, since it needs masks.
        settings: how to compute the numbers; its `equivalence_margin` takes precedence over the readers' margins.

    Raises:
        InputError: an input cannot be used; the message names file, row and remedy.
    """
    options.check()
    settings.check(attributes)
    source = scores if isinstance(scores, pd.DataFrame) else Path(scores)
    settings = settings.with_folders(scores, metadata, options.readers, options.predicted_dice)
    who = metadata if metadata is None or isinstance(metadata, pd.DataFrame) else Path(metadata)
    with Progress(f"reading {source.name if isinstance(source, Path) else 'the table'}"):
        read = score_table.read(source, who, attributes, options)
    predictions = _predictions(options, len(read.tables))
    settings = equivalence_margin.with_readers(settings, options, read.cohort, {}, None)
    audit = result.audit(read.cohort, read.tables, read.structures, settings, {}, {}, {})
    return _with_predictions(audit, read.cohort, predictions)


def predicted(
    areas: PathLike | pd.DataFrame,
    metadata: PathLike | pd.DataFrame,
    attributes: Sequence[str],
    *,
    options: CaseOptions = CaseOptions(),  # noqa: B008 - frozen
    settings: Settings = Settings(),  # noqa: B008 - a NamedTuple cannot change
) -> Audit:
    """Audit the predicted Dice of masks without reference masks.

    Cases without a trusted prediction, or without any, are excluded and counted by group. A low predicted Dice is kept.

    Args:
        areas: `areas.csv` of `kneefair predict`, or the table itself.
        metadata: the table of cases with the attributes; a case id is the path of a mask
            below `masks/`, or its name, without ending.
        attributes: its columns to report by.
        options: which cases to read.
        settings: how to compute the numbers.

    Raises:
        InputError: an input cannot be used; the message names file, row and remedy.
    """
    options.check()
    settings.check(attributes)
    if options.on_missing == "zero" or options.readers is not None:
        raise InputError("--on-missing zero and --readers need reference masks; leave them out")
    predictions = predicted_dice.read(areas)
    settings = settings.with_folders(areas, metadata)
    settings = settings._replace(title=settings.title or predicted_dice.TITLE)
    who = metadata if isinstance(metadata, pd.DataFrame) else Path(metadata)
    options = dataclasses.replace(options, on_missing="skip")
    listed = cases.read(who, attributes, options).frame["case_id"].tolist()
    of_cases = predictions.of(listed)
    table = predicted_dice.scores(of_cases)
    read = score_table.read(table.assign(split=options.split or "all"), who, attributes, options)
    read.cohort.notes.append(predicted_dice.NOTE)
    excluded = (
        entry._replace(reason="prediction not trusted") if entry.case_id in of_cases.untrusted else entry
        for entry in read.cohort.excluded
    )
    audit = result.audit(
        read.cohort._replace(excluded=tuple(excluded)), read.tables, read.structures, settings, {}, {}, {}
    )
    audit.report["cohort"]["warnings"].insert(0, predicted_dice.WARNING)
    return predicted_dice.add(audit, read.cohort.listed, attributes, predictions, measured=False)


def _predictions(options: CaseOptions, models: int) -> Predictions | None:
    """Return the predicted Dice beside the scores, if the options name it."""
    if options.predicted_dice is None:
        return None
    if models > 1:
        raise InputError("--predicted-dice: it belongs to one model; audit this model alone")
    return predicted_dice.read(options.predicted_dice)


def _with_predictions(audit: Audit, cohort: Cohort, predictions: Predictions | None) -> Audit:
    if predictions is None:
        return audit
    return predicted_dice.add(audit, cohort.listed, cohort.attributes, predictions, measured=True)


def masks_by_model(pred: Masks | Mapping[str, Masks]) -> dict[str, Path | Arrays]:
    """Return model -> folder or arrays; a single model has the name ""."""
    if isinstance(pred, str | Path):
        return {"": Path(pred)}
    if not pred:
        raise InputError("pred: holds no masks; give a folder, case id -> array, or model -> such masks")
    if all(hasattr(value, "__array__") for value in pred.values()):
        return {"": {str(case): np.asarray(values) for case, values in pred.items()}}
    if mask_faults.REFERENCE in pred:
        raise InputError(
            f"--pred {mask_faults.REFERENCE}=...: the tables call the reference masks "
            f"{mask_faults.REFERENCE!r}; give the model another name"
        )
    return {
        model: Path(masks) if isinstance(masks, str | Path) else dict(masks) for model, masks in pred.items()
    }


def match_files(
    truth: Masks,
    by_model: Mapping[str, Path | Arrays],
    metadata: PathLike | pd.DataFrame,
    attributes: Sequence[str],
    options: MaskOptions,
) -> tuple[MatchedFiles, Reading]:
    """Read the table of cases, match masks and radiographs to them, and settle the label maps."""
    table = metadata if isinstance(metadata, pd.DataFrame) else Path(metadata)
    cohort = cases.read(table, attributes, options, options.annotated)
    names = label_map.structure_names(label_map.check(options.labels, "--labels")) if options.labels else ()
    source = Path(truth) if isinstance(truth, str | Path) else truth
    images = None if options.images is None else Path(options.images)
    matched = files.match(cohort, source, by_model, images, options.on_missing, names)
    values = options.labels or mask_pair.discover_labels(matched.cohort.frame, cohort.path, matched.truth)
    if unknown := sorted(set(options.model_labels) - set(by_model)):
        raise InputError(
            f"--pred-labels {unknown[0]}: no model has this name; the models are {', '.join(by_model)}"
        )
    reading = _reading(values, options.pred_labels)._replace(
        orientation=options.orientation,
        by_model={
            model: _reading(values, labels).prediction for model, labels in options.model_labels.items()
        },
    )
    return matched, reading._replace(
        kinds=_kinds(matched.cohort, reading.structures, checks_labels=bool(options.label_error_checkpoint))
    )


def _kinds(cohort: Cohort, structures: Sequence[str], *, checks_labels: bool) -> dict[str, Kind]:
    """Return what the reference mask of each case shows, and note it; empty where all show all structures."""
    if cohort.annotated is None:
        return {}
    problems: list[metadata_table.Problem] = []
    names = annotations.parse(cohort.annotated, structures, problems)
    metadata_table.refuse(cohort.path, problems)
    kinds = annotations.of_cohort(pd.DataFrame({annotations.COLUMN: names}), structures)
    if kinds is None:
        return {}
    if message := kinds.nothing_scored():
        raise InputError(f"{cohort.path}: {message}")
    cohort.notes.extend([kinds.note("--annotated"), *kinds.group_notes(cohort.frame, cohort.attributes)])
    if checks_labels and (note := kinds.note_not_compared()):
        cohort.notes.append(f"--label-errors: {note}")
    return {case: kinds.of_row(row) for row, case in enumerate(cohort.frame["case_id"])}


def _reading(labels: Labels, pred_labels: Labels | None) -> Reading:
    values = label_map.check(labels, "--labels")
    in_predictions = label_map.of_prediction(values)
    if pred_labels is None:
        return Reading(values, in_predictions)
    stated = label_map.check(pred_labels, "--pred-labels")
    if label_map.IGNORE in stated:
        raise InputError(
            "--pred-labels: ignore is only for the reference masks, since otherwise a model would choose the pixels "
            "that count; give it in --labels, and name as background what is no structure in the predictions"
        )
    if different := sorted(set(stated) ^ set(in_predictions)):
        raise InputError(
            f"--pred-labels and --labels name different structures ({different[0]!r} is in one alone); name the same "
            "in both, and what is in one alone background"
        )
    return Reading(values, {name: stated[name] for name in in_predictions})


class _ModelResult(NamedTuple):
    """The results of one model.

    Attributes:
        table: the long per-case table.
        run_fields: of its report's `run`.
        examples: cases to draw.
        headers: case id -> header of the radiograph, of the radiographs that were read.
        faults: of its masks, and of reference masks by comparison with them.
        boundary_offset_mm: mean distance of its contours from the reference's.
        warnings: short sentences on its masks, for the line above the headline.
    """

    table: pd.DataFrame
    run_fields: dict[str, Any]
    examples: list[CaseView]
    headers: dict[str, FilmHeader]
    faults: list[FaultyMask]
    boundary_offset_mm: float
    warnings: tuple[str, ...]


def _model_result(
    matched: MatchedFiles,
    reading: Reading,
    results: Mapping[str, Case],
    model: str,
    reference_faults: Sequence[FaultyMask],
    options: MaskOptions,
    settings: Settings,
) -> _ModelResult:
    """Tabulate the scores of one model, and add notes on its masks to the cohort."""
    cohort = matched.cohort
    table = scoring.table(cohort, results, reading.scored, model, options.split or "all")
    if table["dice"].isna().all():
        raise InputError(f"--truth: no mask holds any of {', '.join(reading.structures)}; correct --labels")
    observed = mask_notes.of_model(cohort, results, model, table, reading, reference_faults)
    cohort.notes.extend(observed.notes)
    spacing = np.stack([case.spacing for case in results.values()])
    spacing_kinds = Counter(
        "table" if np.isfinite(stated).all() else case.truth.spacing_kind
        for stated, case in zip(cohort.spacing, results.values(), strict=True)
    )
    run_fields = {
        "fingerprint": scoring.fingerprint(results, model),
        "spacing": one_spacing(spacing),
        "spacing_kinds": dict(spacing_kinds),
        "labels": label_map.describe(reading.truth),
        "classes": list(reading.structures),
    }
    if label_map.IGNORE in reading.truth:
        ignored = scoring.ignored_pixels(
            list(results),
            [case.ignored for case in results.values()],
            np.stack([case.by_model[model].ignored for case in results.values()]),
            reading.structures,
        )
        run_fields["ignored"] = ignored._asdict()
        cohort.notes.append(ignored.note(len(results), f" by {model}" if model else ""))
    examples, headers = radiographs.views(
        table,
        cohort,
        matched.truth,
        matched.predictions[model],
        matched.films,
        reading,
        settings.endpoints.failure_dice,
    )
    offset = reference_ser.boundary_offset_mm(table, spacing)
    return _ModelResult(table, run_fields, examples, headers, observed.faults, offset, observed.warnings)
