"""Parse the arguments of `kneefair audit`, run the audit, and print its main numbers."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kneefair_jax import safe_text
from kneefair_jax.audit import (
    equivalence_margin,
    mask_faults,
    measuring,
    mirror,
    options,
    readers_audit,
    result,
    run,
)
from kneefair_jax.audit.arguments import parser
from kneefair_jax.data import label_map, workbook
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import family
from kneefair_jax.measurements import spacing
from kneefair_jax.report import pdf
from kneefair_jax.report.text import measurements, terminal
from kneefair_jax.runtime import run_directory
from kneefair_jax.runtime.progress import Progress

_MASK_ARGUMENTS = (
    *("truth", "pred", "labels", "pred_labels", "annotated", "images", "label_errors"),
    *("measure", "magnification", "clinical_margin", "decision", "manual", "pred_mirrored"),
)


# Options of audits of masks that measurements against readers have no use for.
_OF_REFERENCE_MASKS = (
    *(
        "label_errors",
        "readers",
        "predicted_dice",
        "pdf",
        "pred_mirrored",
        "annotated",
        "orientation",
        "primary",
    ),
    *("equivalence_margin", "failure_dice", "endpoint", "intersections"),
)


def main(argv: Sequence[str]) -> int:
    """Audit, write the pages, and print their main numbers."""
    arguments = parser().parse_args(argv)
    if arguments.manual and arguments.pred and not (arguments.truth or arguments.scores):
        return _audit_readers(arguments, argv)
    audit = _audit(arguments, argv)
    with Progress("writing the results"):
        pages = audit.write(arguments.out, with_pdf=arguments.pdf, overwrite=arguments.overwrite)
    for note in audit.notes:
        print(f"note: {note}")
    for model, report in audit.reports.items():
        print(f"\n{model}:" if len(pages) > 1 else "")
        print(terminal.scores(report))
        print("\n".join(terminal.predicted_dice(report)), end="")
        print("\n".join(measurements.terminal(report)), end="")
        print(f"page: {pages[model]}", flush=True)
    print("\n".join(["", *terminal.verdicts(audit.reports)]), flush=True)
    if audit.predicted_dice is not None:
        print(f"predicted Dice by structure and group: {arguments.out / result.PREDICTED_DICE}", flush=True)
    if audit.mask_faults is not None and not audit.mask_faults.empty:
        print(f"all faults of masks: {arguments.out / mask_faults.FILE}", flush=True)
    return 0


def _audit_readers(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Audit measurements against readers' values, write the pages, and print their sentences."""
    if not arguments.metadata:
        raise InputError("--manual without --truth needs --metadata, the table of cases; add it")
    defaults = parser().parse_args(["--attributes", "x", "--out", "x"])
    for name in _OF_REFERENCE_MASKS:
        if getattr(arguments, name) != getattr(defaults, name):
            raise InputError(
                f"--{name.replace('_', '-')} does not apply without reference masks; leave it out, or give --truth"
            )
    if arguments.on_missing == "zero":
        raise InputError("--on-missing zero needs reference masks; give stop or skip")
    settings, cases = _settings(arguments, argv)
    audit = readers_audit.against_readers(
        options.parse_models(arguments.pred),
        arguments.metadata,
        arguments.attributes,
        _mask_options(arguments, cases),
        settings,
    )
    pages = audit.write(arguments.out, overwrite=arguments.overwrite)
    for model, report in audit.reports.items():
        print(f"\n{model}:" if len(pages) > 1 else "")
        for note in report["cohort"]["notes"]:
            print(f"note: {note}")
        print("\n".join([*measurements.headline(report), *measurements.terminal(report)]), end="")
        print(f"page: {pages[model]}", flush=True)
    return 0


def _settings(arguments: argparse.Namespace, argv: Sequence[str]) -> tuple[options.Settings, dict[str, Any]]:
    """Return the settings, and the keyword arguments of the options; refuse an output folder that cannot be used."""
    tables = filter(
        None,
        (arguments.scores, arguments.metadata, arguments.readers, arguments.predicted_dice, arguments.manual),
    )
    inputs = [workbook.split_sheet(path)[0] for path in tables]
    models = options.parse_models(arguments.pred or ())
    result.require_folder(arguments.out, overwrite=arguments.overwrite, inputs=inputs, models=tuple(models))
    if arguments.pdf:
        pdf.require_printer()
    settings = options.Settings(
        min_group_patients=arguments.min_group_patients,
        draws=arguments.draws,
        seed=arguments.seed,
        equivalence_margin=equivalence_margin.parse(arguments.equivalence_margin),
        command=_command(arguments, argv),
        endpoints=options.parse_endpoints(arguments.failure_dice, arguments.endpoint),
        folders=(arguments.out,),
        primary=family.parse(arguments.primary),
        intersections=arguments.intersections,
        title=arguments.title,
        author=arguments.author,
    )
    cases = {
        "bins": options.parse_bins(arguments.bins),
        "split": arguments.split,
        "on_missing": arguments.on_missing,
        "readers": arguments.readers,
        "allow_similar_ids": arguments.allow_similar_ids,
        "predicted_dice": arguments.predicted_dice,
    }
    return settings, cases


def _audit(arguments: argparse.Namespace, argv: Sequence[str]) -> result.Audit:
    settings, cases = _settings(arguments, argv)
    models = options.parse_models(arguments.pred or ())
    if arguments.scores is not None:
        of_masks = [name for name in _MASK_ARGUMENTS if getattr(arguments, name)]
        if arguments.orientation != "none":
            of_masks.append("orientation")
        if of_masks:
            raise InputError(
                f"--scores and --{of_masks[0].replace('_', '-')}: give scores or masks to audit, not both"
            )
        return run.table(
            arguments.scores,
            arguments.attributes,
            metadata=arguments.metadata,
            options=options.CaseOptions(**cases),
            settings=settings,
        )
    if arguments.pred_mirrored:
        return _mirrored(arguments, models, _mask_options(arguments, cases), settings)
    if arguments.predicted_dice and arguments.metadata and not (arguments.truth or arguments.pred):
        return _predicted(arguments, options.CaseOptions(**cases), settings)
    if not (arguments.truth and arguments.pred and arguments.metadata):
        raise InputError(
            "give --truth, --pred and --metadata to audit masks, --scores to audit a table of scores, or "
            "--predicted-dice and --metadata to audit masks without reference masks"
        )
    return run.masks(
        arguments.truth,
        models,
        arguments.metadata,
        arguments.attributes,
        _mask_options(arguments, cases),
        settings,
    )


def _mirrored(
    arguments: argparse.Namespace,
    models: dict[str, Path],
    mask_options: options.MaskOptions,
    settings: options.Settings,
) -> result.Audit:
    """Compare the masks of films and of their mirror images."""
    for name in ("truth", "label_errors", "readers", "predicted_dice", "manual", "annotated"):
        if getattr(arguments, name):
            raise InputError(f"--pred-mirrored and --{name.replace('_', '-')}: leave one of them out")
    if len(models) != 1 or not arguments.metadata:
        raise InputError("--pred-mirrored needs the masks of one model (--pred) and --metadata; give both")
    (pred,) = models.values()
    return mirror.mirror_test(
        pred, arguments.pred_mirrored, arguments.metadata, arguments.attributes, mask_options, settings
    )


def _mask_options(arguments: argparse.Namespace, cases: dict[str, Any]) -> options.MaskOptions:
    """Return how to read masks; `cases` has the options of the choice of cases."""
    pred_labels, model_labels = options.parse_pred_labels(arguments.pred_labels or ())
    return options.MaskOptions(
        **cases,
        labels=label_map.parse(arguments.labels) if arguments.labels else None,
        pred_labels=pred_labels,
        model_labels=model_labels,
        annotated=arguments.annotated,
        orientation=arguments.orientation,
        images=arguments.images,
        label_error_checkpoint=arguments.label_errors,
        measurements=_measurements(arguments),
    )


def _measurements(arguments: argparse.Namespace) -> options.MeasurementOptions | None:
    """Return how to measure; None without --measure, which the other options need."""
    if not arguments.measure:
        for name in ("magnification", "clinical_margin", "decision", "manual"):
            if getattr(arguments, name):
                raise InputError(f"--{name.replace('_', '-')} needs --measure; add it")
        return None
    magnification = float("nan") if arguments.magnification is None else arguments.magnification
    return options.MeasurementOptions(
        spacing.check_magnification(magnification, "--magnification"),
        measuring.parse_values(arguments.clinical_margin, "--clinical-margin"),
        measuring.parse_values(arguments.decision, "--decision"),
        arguments.manual,
    )


def _predicted(
    arguments: argparse.Namespace, case_options: options.CaseOptions, settings: options.Settings
) -> result.Audit:
    """Audit predicted Dice alone."""
    of_masks = [name for name in _MASK_ARGUMENTS if getattr(arguments, name)]
    if of_masks or arguments.orientation != "none":
        name = (of_masks or ["orientation"])[0].replace("_", "-")
        raise InputError(f"--{name} needs reference masks; leave it out, or give --truth and --pred")
    return run.predicted(
        arguments.predicted_dice,
        arguments.metadata,
        arguments.attributes,
        options=dataclasses.replace(case_options, predicted_dice=None),
        settings=settings,
    )


def _command(arguments: argparse.Namespace, argv: Sequence[str]) -> str:
    """Return the command line, with only the last component of each absolute path."""
    models = [Path(path) for word in arguments.pred or () for path in (word, word.partition("=")[2]) if path]
    options = (
        "truth",
        "scores",
        "metadata",
        "images",
        "readers",
        "out",
        "label_errors",
        "predicted_dice",
        "manual",
        "pred_mirrored",
    )
    single = [Path(path) for option in options if (path := getattr(arguments, option))]
    words = [safe_text.strip_paths(word, *models, *single) for word in argv]
    return run_directory.public_command(["kneefair", "audit", *words])
