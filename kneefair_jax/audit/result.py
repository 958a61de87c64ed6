"""The result of an audit: reports, the per-case table, pages, and a fairlearn frame."""

import importlib.metadata
import math
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.audit import cases as case_lists
from kneefair_jax.audit import exclusions, mask_faults
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.options import Settings
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import bootstrap, family, model_comparison, patient_table, reference_ser
from kneefair_jax.report import build, checklist, csv_tables, page, pdf
from kneefair_jax.report.overlays import CaseView
from kneefair_jax.report.schema import ModelComparison, Report
from kneefair_jax.report.text import models as model_text
from kneefair_jax.runtime import atomic, output_folder, run_directory, written_files
from kneefair_jax.runtime.progress import Progress
from kneefair_jax.safe_text import strip_paths

_LABEL_ERRORS = "label_errors.csv"
PREDICTED_DICE = "predicted_dice.csv"
MEASUREMENTS, MEASUREMENT_ERRORS = "measurements.csv", "measurement_errors.csv"
# Files in the output folder.
_TARGETS = (
    *(page.PAGE, page.REPORT, page.SCHEMA, checklist.PAGE, checklist.TABLE, pdf.FILE),
    *csv_tables.NAMES,
    *("cases.csv", "cases.parquet", _LABEL_ERRORS, PREDICTED_DICE, MEASUREMENTS, MEASUREMENT_ERRORS),
    *(mask_faults.FILE, case_lists.EXCLUDED),
)
_MODEL_FOLDERS = "[0-9]*-*"  # of further models
_LIBRARIES = ("kneefair_jax", "numpy", "scipy", "pandas")


class Audit(NamedTuple):
    """The audit of one model or of several on the same cases.

    Attributes:
        reports: model -> `report.json`, schema 2.
        cases: the long per-case table, models below each other (column `model`).
        examples: model -> cases to show as pictures.
        notes: for the reader of the numbers.
        label_errors: of `radiographs.label_error_table`; None if reference masks were not compared.
        mask_faults: faults of masks by case, of `mask_faults.table`; None in an audit of scores.
        predicted_dice: predicted Dice by structure and group, of `predicted_dice.add`; None if the audit has none.
        excluded: a row for each case that is not scored, by mask, and each file without a case, of `exclusions.table`.
        measurements: of `measuring.measure_cases`, with the attributes; None if nothing is measured.
        measurement_errors: their errors by group, of `measurement_report.add`.
        inputs: files and folders that were read; `write` replaces none of them.
    """

    reports: dict[str, Report]
    cases: pd.DataFrame
    examples: dict[str, list[CaseView]]
    notes: list[str]
    label_errors: pd.DataFrame | None = None
    mask_faults: pd.DataFrame | None = None
    excluded: pd.DataFrame | None = None
    predicted_dice: pd.DataFrame | None = None
    measurements: pd.DataFrame | None = None
    measurement_errors: pd.DataFrame | None = None
    inputs: tuple[Path, ...] = ()

    @property
    def report(self) -> Report:
        """The report of the first model; with several models, it has their comparison under `models`."""
        return next(iter(self.reports.values()))

    def write(self, out: str | Path, *, with_pdf: bool = False, overwrite: bool = True) -> dict[str, Path]:
        """Write `index.html` and `report.json` of the first model, and `cases.csv` and `cases.parquet` of all.

        It also writes the audit's other tables (`_TARGETS`). Further models have a page each, in `2-NAME` ...
        All files appear together, or, if one cannot be written, none. The call waits for another audit that writes to
        the same folder. It replaces an earlier audit in the folder and no other file: files that only the earlier one
        has are deleted (`written_files`). In the CSV, an apostrophe precedes a cell of text that a spreadsheet would
        run as a formula; the parquet has the text itself.

        Args:
            out: the folder.
            with_pdf: whether to print a summary of one or two pages, `summary.pdf`, by Chromium or WeasyPrint.
            overwrite: whether to replace an earlier audit in the folder.

        Returns:
            The paths of the pages, by model.

        Raises:
            InputError: the folder cannot be used, or holds an input, a user's file of the same name or, without
                `overwrite`, an earlier audit.
        """
        out, folders = Path(out), model_folders(self.reports)
        require_folder(out, overwrite=overwrite, inputs=self.inputs, models=tuple(folders))
        with written_files.replacement(
            out, "audit", "--out", overwrite=overwrite, inputs=self.inputs
        ) as stage:
            self._write(stage, folders)
            if with_pdf:
                for model, report in self.reports.items():
                    pdf.write(stage / folders[model] / pdf.FILE, page.summary_page(page.plain(report)))
        return {model: out / folder / page.PAGE for model, folder in folders.items()}

    def _write(self, out: Path, folders: Mapping[str, str]) -> None:
        for model, report in self.reports.items():
            table = self.cases[self.cases["model"] == model]
            up = "../" if folders[model] else ""
            links = {
                name: f"{up}{folder}{'/' if folder else ''}{page.PAGE}"
                for name, folder in folders.items()
                if name != model
            }
            measurement_rows = None if (rows := self.measurements) is None else rows[rows["model"] == model]
            page.write(
                out / folders[model], report, table, [], self.examples.get(model, []), links, measurement_rows
            )
        tables = {
            "cases.csv": self.cases,
            _LABEL_ERRORS: self.label_errors,
            PREDICTED_DICE: self.predicted_dice,
            MEASUREMENTS: self.measurements,
            MEASUREMENT_ERRORS: self.measurement_errors,
            mask_faults.FILE: self.mask_faults,
            case_lists.EXCLUDED: self.excluded,
        }
        for name, table in tables.items():
            if table is not None and (name == _LABEL_ERRORS or not table.empty):
                atomic.write_text(out / name, csv_tables.escape_formulas(table).to_csv(index=False))
        with atomic.replacement(out / "cases.parquet") as temporary:
            self.cases.to_parquet(temporary)

    def metric_frame(
        self,
        attributes: str | Sequence[str],
        score: str = "dice",
        *,
        structure: str | None = None,
        model: str | None = None,
        include_missing: bool = False,
        include_small: bool = False,
    ) -> Any:
        """Return `fairlearn.metrics.MetricFrame` of the mean score over patients, by group.

        Its `by_group` holds the means of `report["scores"]`; so does `overall`, if each patient is in one group and
        none is excluded. `difference()` and `ratio()` compare all groups of the frame, so it excludes those that the
        report does not rank: `missing`, which is no group of people, and groups with a score of fewer than
        `min_group_patients` patients.

        Args:
            attributes: one attribute, or several for their intersections.
            score: a column of the per-case table.
            structure: one of the structures; None for the mean over them.
            model: one of those audited; None for the first.
            include_missing: whether patients with a missing attribute are a group of their own, `missing`.
            include_small: whether groups too small to rank are included; a mean is NaN if no patient has the score.

        Raises:
            InputError: fairlearn is not installed, there is no such column, structure or model, there are no scores, or
                every group is too small.
        """
        try:
            from fairlearn.metrics import MetricFrame
        except ImportError as error:
            raise InputError("metric_frame needs fairlearn: pip install fairlearn") from error
        names = [attributes] if isinstance(attributes, str) else list(attributes)
        model = next(iter(self.reports)) if model is None else model
        by_patient = self._patient_means(names, score, structure, model, include_missing=include_missing)
        if not include_small:
            minimum = self.reports[model]["cohort"]["min_group_patients"]
            patients = by_patient.groupby(names, observed=True)[score].transform("count")
            by_patient = by_patient[patients >= max(minimum, 1)]
            if by_patient.empty:
                raise InputError(
                    f"metric_frame: every group by {', '.join(names)} has fewer than {minimum} patients; give "
                    "include_small=True or a smaller min_group_patients"
                )
        return MetricFrame(
            metrics={score: lambda _, values: float(pd.Series(values).mean())},
            y_true=by_patient[score],
            y_pred=by_patient[score],
            sensitive_features=by_patient[names].astype(str),
        )

    def _patient_means(
        self, names: list[str], score: str, structure: str | None, model: str, *, include_missing: bool
    ) -> pd.DataFrame:
        """Return the mean score of each patient and combination of levels; arguments as for `metric_frame`."""
        rows = self.cases[self.cases["model"] == model]
        if structure is not None:
            rows = rows[rows["structure"] == structure]
        if missing := [name for name in (*names, score) if name not in rows]:
            raise InputError(f"metric_frame: {missing[0]!r} is none of {', '.join(rows.columns)}")
        failure_dice = self.reports[model]["run"]["failure_dice"]
        macro = patient_table.macro(rows, score, failure_dice)
        rows = rows.assign(**{score: rows["case_id"].map(macro).astype(float)})
        if not include_missing:
            rows = rows[(rows[names].astype(str) != groups.MISSING).all(axis=1)]
        by_case = rows.groupby([*names, "patient_id", "case_id"], observed=True)[score].first()
        by_patient = by_case.groupby([*names, "patient_id"], observed=True).mean().reset_index()
        if by_patient[score].isna().all():
            raise InputError(f"metric_frame: no {score} of structure {structure!r} by model {model!r}")
        return by_patient


def audit(
    cohort: Cohort,
    tables: Mapping[str, pd.DataFrame],
    structures: Sequence[str],
    settings: Settings,
    run_fields: Mapping[str, Mapping[str, Any]],
    examples: Mapping[str, list[CaseView]],
    by_size: Mapping[str, Mapping[str, np.ndarray]],
) -> Audit:
    """Compute the reports from the per-case tables.

    Args:
        cohort: the cases.
        tables: model -> long per-case table, of the same cases.
        structures: in the order to report them.
        settings: how to compute the numbers.
        run_fields: model -> further fields of its report's `run`.
        examples: model -> pictures.
        by_size: model -> the errors that size alone would give (`metrics.boundary_errors`), a row per case.
    """
    settings, resamples = _affordable(settings, cohort, len(tables))
    margins, primary = settings.equivalence_margin, settings.primary.score
    if margins and primary not in margins:
        cohort.notes.append(
            f"the equivalence margin is for {', '.join(margins)}, which is not the primary score: equivalence in "
            f"{primary} is not tested; give --equivalence-margin {primary}=MARGIN"
        )
    analysis = build.Analysis(
        structures,
        list(cohort.attributes),
        min_group_patients=settings.min_group_patients,
        draws=settings.draws,
        seed=settings.seed,
        equivalence_margin=settings.equivalence_margin,
        endpoints=settings.endpoints,
        primary=settings.primary,
        intersections=settings.intersections,
    )
    for table in tables.values():
        family.require_measured(settings.primary, table)
    reports = {}
    in_order = sorted(cohort.notes, key=lambda note: not note.startswith("WARNING:"))
    public_notes = [strip_paths(note, *settings.folders) for note in in_order]
    steps = build.steps(cohort.attributes, settings.intersections) * len(tables)
    with Progress("computing statistics", steps, "steps") as progress:
        for model, table in tables.items():
            reports[model] = build.build_report(
                table,
                cohort.frame,
                analysis,
                run=settings_fields(settings) | {"model": model or None, **run_fields.get(model, {})},
                notes=list(public_notes),
                confounders=cohort.confounders,
                excluded=exclusions.excluded_counts(cohort.excluded),
                advance=progress.advance,
            )
            if unmatched := exclusions.unmatched_counts(cohort.excluded):
                reports[model]["cohort"]["unmatched"] = build.exclusions(unmatched)
            if not_tested := exclusions.by_group(cohort.listed, cohort.attributes, table):
                reports[model]["cohort"]["flow"]["not_tested"] = not_tested
            _add_readers_and_size(reports[model], cohort, table, settings, by_size.get(model))
    cases = pd.concat(list(tables.values()), ignore_index=True)
    without_dice = exclusions.without_dice(cases)
    warnings = exclusions.warnings(without_dice, len(cohort.frame))
    for report in reports.values():
        report["cohort"]["warnings"] = list(warnings)
    if len(tables) > 1:
        models = _compare(cohort.attributes, tables, settings._replace(draws=resamples))
        models["summaries"] = model_text.summaries(reports)
        for report in reports.values():
            report["models"] = models
    excluded = exclusions.table([*cohort.excluded, *without_dice], cohort.listed, cohort.attributes)
    inputs = tuple(path.absolute() for path in settings.folders)
    return Audit(reports, cases, dict(examples), build.sentences(in_order), excluded=excluded, inputs=inputs)


def _compare(
    attributes: Sequence[str], tables: Mapping[str, pd.DataFrame], settings: Settings
) -> ModelComparison:
    """Return the comparison of all pairs of models in the primary score."""
    comparisons = math.comb(len(tables), 2) * len(attributes)
    with Progress("comparing models", comparisons, "comparisons") as progress:
        models = model_comparison.compare_models(
            tables,
            attributes=list(attributes),
            score=settings.primary.score,
            min_group_patients=settings.min_group_patients,
            draws=settings.draws,
            seed=settings.seed,
            failure_dice=settings.endpoints.failure_dice,
            advance=progress.advance,
        )
    return cast(ModelComparison, models.to_dict())


def _affordable(settings: Settings, cohort: Cohort, models: int) -> tuple[Settings, int]:
    """Return the settings with affordable draws, and the resamples to compare models; note on fewer than requested."""
    patients = cohort.frame["patient_id"].nunique()
    requested = settings.draws
    draws = bootstrap.affordable_draws(requested, patients, bootstrap.FEWEST_PERMUTATIONS)
    resamples = bootstrap.affordable_draws(requested, patients, bootstrap.FEWEST_RESAMPLES)
    if draws < requested:
        of_models = f" (and {resamples:,} resamples and swaps to compare models)" if models > 1 else ""
        cohort.notes.append(
            f"{draws:,} permutations{of_models} were used of the {requested:,} requested, since the audit has "
            f"{patients:,} patients: the Monte Carlo error of an end of a 95 % interval, before a correction, is below "
            f"1 % of its width, and the smallest possible p is {1 / (1 + draws):.2g}"
        )
    return settings._replace(draws=draws), resamples


def _add_readers_and_size(
    report: Report,
    cohort: Cohort,
    table: pd.DataFrame,
    settings: Settings,
    size_errors: Mapping[str, np.ndarray] | None,
) -> None:
    """Add the agreement of two readers, and the skewed error ratio that size alone would give, if they are known."""
    if settings.readers:
        report["readers"] = {score: asdict(agreement) for score, agreement in settings.readers.items()}
    if size_errors is not None:
        reference_ser.add_expected_ser(
            report["scores"],
            size_errors,
            table,
            cohort.frame,
            tuple(cohort.attributes),
            settings.intersections,
            settings.endpoints.failure_dice,
        )


def settings_fields(settings: Settings) -> dict[str, Any]:
    """Return the fields of `run` that all reports of an audit share."""
    return {
        "config": None,
        "command": settings.command,
        "date": run_directory.today(),
        **{name: text for name in ("title", "author") if (text := getattr(settings, name))},
        **({"inputs": dict(settings.inputs)} if settings.inputs else {}),
        "seed": settings.seed,
        "delta": dict(settings.equivalence_margin) or None,
        "bootstrap_draws": settings.draws,
        "failure_dice": settings.endpoints.failure_dice,
        "endpoints": list(settings.endpoints.thresholds),
        "intersections": settings.intersections,
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES}
        | {"python": platform.python_version()},
    }


def model_folders(models: Iterable[str]) -> dict[str, str]:
    """Return the folder of each model's page in the output folder; "" for the first model."""
    # Names may come from a file: keep only characters that a folder name can have.
    return {
        model: f"{number + 1}-{re.sub(r'[^\w-]', '_', model)}" if number else ""
        for number, model in enumerate(models)
    }


def require_folder(
    out: Path, *, overwrite: bool = True, inputs: Sequence[Path] = (), models: Sequence[str] = ()
) -> None:
    """Refuse an output folder that is a file, or holds what the outputs may not replace, before any work starts.

    Args:
        out: the folder; it need not exist.
        overwrite: whether it may hold an earlier audit.
        inputs: files and folders to read.
        models: names of the models, as far as they are known.

    Raises:
        InputError: it cannot be used; the message has the remedy.
    """
    output_folder.require_writable(out, "--out")
    output_folder.require_regular_files(out, (*_TARGETS, _MODEL_FOLDERS, written_files.manifest("audit")))
    targets = [
        (Path(folder) / name).as_posix()
        for folder in model_folders(models or ("",)).values()
        for name in _TARGETS
    ]
    written_files.require_new(out, "audit", "--out", targets, overwrite=overwrite, inputs=inputs)
