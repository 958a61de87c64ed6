"""Score a run's checkpoints, compute scores by group, and write the report."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kneefair_jax import anatomy
from kneefair_jax.data import source
from kneefair_jax.data.cohort_loader import EXTERNAL, Cohort
from kneefair_jax.data.store import Cases
from kneefair_jax.errors import InputError
from kneefair_jax.evaluation import case_scores, case_table, gap_analysis, predictions, run_measurements
from kneefair_jax.fairness import endpoints, family, patient_table, small_groups
from kneefair_jax.fairness.endpoints import endpoint_rates
from kneefair_jax.fairness.scores import scores as by_group
from kneefair_jax.report import build, overlays, page
from kneefair_jax.report.build import one_spacing
from kneefair_jax.report.overlays import CaseView
from kneefair_jax.report.schema import External, Report, ValidationScores
from kneefair_jax.runtime import atomic, checked_files, distributed, run_directory, run_files
from kneefair_jax.runtime.progress import Progress
from kneefair_jax.training import metric_writer, scoring, setup
from kneefair_jax.training.setup import Experiment

REPORT = Path("report", "report.json")


def evaluate(
    config: ConfigDict,
    experiment: Experiment,
    cohort: Cohort,
    cases: Cases,
    workdir: Path,
    external: tuple[Cohort, Cases] | None = None,
) -> Path:
    """Score the checkpoint of every selection rule and write the per-case table, the predictions and the report.

    The function writes `cases.parquet` (validation, test and external cases by every rule's checkpoint),
    `predictions.npz` (label maps of the test cases on the working grid, by case id) and `report/`. Every host scores;
    the primary host writes.

    Returns:
        The page's path.

    Raises:
        InputError: the run directory has no checkpoint.
    """
    evaluation = case_table.score_checkpoints(config, experiment, cohort, cases, workdir, external)
    steps_in_all, seconds = scoring.effort(workdir)
    if not distributed.is_primary():
        return workdir / "report" / page.PAGE

    table = case_table.tabulate(evaluation, cohort.attributes)
    selected = evaluation.steps[config.select]
    _write_scores(workdir, cohort, evaluation, table, selected)
    measurement_rows = None
    if evaluation.splits[1].measures:
        rows = evaluation.values[selected][1]["measurements"]
        measurement_rows = run_measurements.tabulate(rows, cohort, evaluation.splits[1].rows)
    run_measurements.write(workdir, measurement_rows)
    environment = run_files.read_environment(workdir / "environment.json")
    report = _report(config, cohort, cases, table, environment, [workdir])
    if config.report.attribute_leakage:
        report["attribute_leakage"] = gap_analysis.attribute_aucs(
            cohort, cases, evaluation.features, config.seed
        )
    report["run"] |= {
        "step": _steps_by_model(evaluation.models, selected),
        "steps_in_all": steps_in_all,
        "times": {"train_seconds": seconds},
    }
    report["train_scores"] = evaluation.train_scores
    report["selection"] = {
        rule: {
            "step": _steps_by_model(evaluation.models, steps),
            **_validation_scores(evaluation.splits[0], evaluation.values[steps][0], experiment),
        }
        for rule, steps in evaluation.steps.items()
    }
    if external:
        report["external"] = _external_report(config, *external, table)
    curves = _curves(workdir, evaluation.models)
    return _write_page(config, cohort, cases, table, workdir, report, curves, measurement_rows)


def _write_scores(
    workdir: Path,
    cohort: Cohort,
    evaluation: case_table.Evaluation,
    table: pd.DataFrame,
    selected: tuple[int, ...],
) -> None:
    """Write the per-case table and the calibration."""
    with atomic.replacement(workdir / case_table.TABLE) as path:
        table.to_parquet(path)
    ids = cohort.cases["case_id"].iloc[evaluation.splits[1].rows]
    gap_analysis.write(workdir, ids.to_numpy(), evaluation.values[selected][1])


def _external_report(config: ConfigDict, cohort: Cohort, cases: Cases, table: pd.DataFrame) -> External:
    """Return the `external` of `report.json`, from the per-case table of all splits and rules."""
    rows = table[(table["split"] == EXTERNAL) & (table["model"] == config.select)]
    rates = endpoint_rates(rows, **_statistics(config, cohort), settings=_endpoints(config))
    return {
        "fingerprint": cases.digest,
        "structures": list(anatomy.scored_structures(cohort.structures)),
        "resolution": case_scores.resolution_of(cohort, config.report.resolution),
        "scores": _scores(config, cohort, rows),
        "rates": rates.to_dict(),
        "pooled": _pooled(config, cohort, rows),
    }


def _steps_by_model(models: Sequence[scoring.GroupModel], checkpoint: Sequence[int]) -> int | dict[str, int]:
    """Return the selected step, or that of each group's model."""
    if len(models) == 1:
        return checkpoint[0]
    return {model.name: step for model, step in zip(models, checkpoint, strict=True)}


def _curves(workdir: Path, models: Sequence[scoring.GroupModel]) -> list[dict[str, Any]]:
    """Read the records of the page's training curves; of several models, the validation score of each."""
    if len(models) == 1:
        return metric_writer.read(workdir / "metrics.jsonl")
    return [
        {"step": record["step"], "validation": {model.name: record["validation"]["overall"]}}
        for model in models
        for record in metric_writer.read(workdir / model.directory / "metrics.jsonl")
        if "validation" in record
    ]


def _validation_scores(
    split: case_scores.EvalSplit, values: dict[str, np.ndarray], experiment: Experiment
) -> ValidationScores:
    """Return what the selection rules compare: mean validation Dice, and that of the worst group."""
    partition = experiment.partition._replace(index=split.group[split.rows])
    cases = split.cohort.cases.iloc[split.rows]
    structures = anatomy.scored_structures(split.cohort.structures)
    dice = scoring.group_table(values["grid_dice"], cases, partition, structures)["dice"]
    return {"dice": dice["all"], "worst": dice.drop("all").min() if len(dice) > 1 else dice["all"]}


def merge_folds(
    config: ConfigDict, cohort: Cohort, cases: Cases, workdir: Path, folds: Sequence[Path]
) -> Path:
    """Report on the test cases of all folds as one cohort: each patient is scored by a model not trained on it.

    Args:
        config: the config of any fold.
        cohort: the cohort of any fold.
        cases: the prepared cases.
        workdir: where `cases.parquet`, `predictions.npz` and `report/` are written.
        folds: the run directories of the evaluated folds.

    Returns:
        The page's path.

    Raises:
        InputError: the folds do not belong to one cohort, or are not scored at one resolution.
    """
    reports = [run_files.read_report(fold / REPORT) for fold in folds]
    if len({resolution(fold) for fold in folds}) > 1:
        raise InputError(
            f"the folds in {workdir} are scored at different resolutions; run --mode=evaluate of all with one "
            "report.resolution"
        )
    tables = [case_table.read(fold / case_table.TABLE, cohort.attributes) for fold in folds]
    table = case_table.concat([t[t["split"] == "test"] for t in tables], cohort.attributes)
    scored = table.loc[table["model"] == config.select, ["case_id", "structure"]]
    if scored.duplicated().any() or set(scored["case_id"]) != set(cohort.cases["case_id"]):
        raise InputError(
            f"the folds in {workdir} do not test each case once; run all of them again, on one cohort"
        )
    with atomic.replacement(workdir / case_table.TABLE) as path:
        table.to_parquet(path)
    with predictions.writer(workdir) as write:
        for fold in folds:
            maps = checked_files.read_npz(fold / predictions.FILE, "evaluate it again: --mode=evaluate")
            write(maps.keys(), maps.values())
    of_folds = run_measurements.of_folds(folds, cohort.attributes)
    measurement_rows = case_table.concat(of_folds, cohort.attributes) if of_folds else None
    run_measurements.write(workdir, measurement_rows)
    tested = cohort._replace(cases=cohort.cases.assign(split="test"))
    environment = run_files.read_environment(folds[0] / "environment.json")
    report = _report(config, tested, cases, table, environment, folds)
    report["run"] |= {
        "folds": len(folds),
        "step": [fold["run"]["step"] for fold in reports],
        "times": {"train_seconds": sum(fold["run"]["times"]["train_seconds"] for fold in reports)},
    }
    return _write_page(config, tested, cases, table, workdir, report, [], measurement_rows)


def resolution(workdir: Path) -> str | None:
    """Return the resolution of a run's scores, `native` or `working`; None for a run that is not evaluated."""
    path = workdir / REPORT
    return run_files.read_report(path)["run"].get("resolution", "working") if path.exists() else None


def _scores(config: ConfigDict, cohort: Cohort, table: pd.DataFrame) -> dict[str, Any]:
    options = _statistics(config, cohort) | {"equivalence_margin": dict(config.report.equivalence_margin)}
    return by_group(table, **options, failure_dice=config.report.failure_dice)


def _pooled(config: ConfigDict, cohort: Cohort, table: pd.DataFrame) -> dict[str, Any]:
    """Return pooled means of the small groups in the primary score; {} where the table does not have that score."""
    score = family.parse(config.report.primary, "config.report.primary").score
    if score not in patient_table.measured_scores(table):
        return {}
    pooled = small_groups.pool_small_groups(
        table,
        anatomy.scored_structures(cohort.structures),
        cohort.attributes,
        score,
        failure_dice=config.report.failure_dice,
        intersections=config.report.intersections,
    )
    return {group: asdict(mean) for group, mean in pooled.items()}


def _statistics(config: ConfigDict, cohort: Cohort) -> dict[str, Any]:
    """Return the keyword arguments that all statistics of a report share."""
    return {
        "structures": anatomy.scored_structures(cohort.structures),
        "attributes": cohort.attributes,
        "min_group_patients": config.report.min_group_patients,
        "draws": config.report.bootstrap_draws,
        "seed": config.seed,
        "intersections": config.report.intersections,
    }


def _endpoints(config: ConfigDict) -> endpoints.EndpointSettings:
    return endpoints.EndpointSettings(config.report.failure_dice, tuple(config.report.endpoints))


# Over 60 lines: one call that names every entry of the report.
def _report(
    config: ConfigDict,
    cohort: Cohort,
    cases: Cases,
    table: pd.DataFrame,
    environment: dict[str, Any],
    workdirs: Sequence[Path],
) -> Report:
    """Return the entries of `report.json` that a run and a union of folds share.

    Args:
        config: the run's config.
        cohort: the cohort.
        cases: its prepared cases.
        table: the per-case table of all splits and rules.
        environment: the run's `environment.json`.
        workdirs: the evaluated run directories.
    """
    test = _selected_test_rows(config, table)
    primary = family.parse(config.report.primary, "config.report.primary")
    family.require_measured(primary, test, "config.report.primary")
    ids = test["case_id"].unique()
    rows = pd.Index(cohort.cases["case_id"]).get_indexer(ids)
    case_values = gap_analysis.read(ids, *workdirs)
    resolution = case_scores.resolution_of(cohort, config.report.resolution)
    case_notes = build.case_notes(
        cohort.cases.iloc[rows],
        cohort.attributes,
        true_pixels=case_values["true_pixels"].sum(1),
        pred_pixels=case_values["pred_pixels"].sum(1),
        spacing=case_values["spacing"],
    )
    margin, thresholds = dict(config.report.equivalence_margin), _endpoints(config)
    analysis = build.Analysis(
        **_statistics(config, cohort), equivalence_margin=margin, endpoints=thresholds, primary=primary
    )
    steps = build.steps(cohort.attributes, config.report.intersections)
    with Progress("computing statistics", steps, "steps") as progress:
        report = build.build_report(
            test,
            cohort.cases,
            analysis,
            notes=[*cohort.notes(), *setup.single_group_notes(config, cohort), *case_notes],
            excluded=source.public_reasons(cohort.source.excluded + tuple(cases.excluded)),
            run={
                "config": run_directory.public_config(config),
                "fingerprint": cases.digest,
                "model": config.select,
                "date": run_directory.today(),
                "classes": list(cohort.structures),
                "grid": list(cohort.grid[:2]),
                "resolution": resolution,
                "spacing": one_spacing(case_values["spacing"]),
                **{key: environment[key] for key in ("versions", "commit", "device", "command")},
            },
            advance=progress.advance,
        )
    report["calibration"] = gap_analysis.explain(
        report["scores"],
        cohort,
        cases if resolution == "working" else None,
        test,
        rows,
        case_values,
        config.report.intersections,
        config.report.failure_dice,
    )
    return report


def _write_page(
    config: ConfigDict,
    cohort: Cohort,
    cases: Cases,
    table: pd.DataFrame,
    workdir: Path,
    report: Report,
    curves: list[dict[str, Any]],
    measurement_rows: pd.DataFrame | None,
) -> Path:
    if measurement_rows is not None:
        run_measurements.add(report, measurement_rows, config, workdir / "report")
    test = _selected_test_rows(config, table)
    views = _examples(test, cohort, cases, workdir, config.report.failure_dice)
    return page.write(workdir / "report", report, test, curves, views, measurement_rows=measurement_rows)


def _selected_test_rows(config: ConfigDict, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the test cases by the checkpoint that the config selects."""
    return table[(table["split"] == "test") & (table["model"] == config.select)]


def _examples(
    test: pd.DataFrame,
    cohort: Cohort,
    cases: Cases,
    workdir: Path,
    failure_dice: float,
) -> list[CaseView]:
    """Return the cases that a report shows, with their pictures."""
    row_of = {case_id: row for row, case_id in enumerate(cohort.cases["case_id"])}
    choices = overlays.choose(test, cohort.attributes, failure_dice=failure_dice)
    maps = predictions.read(workdir, {choice.case_id for choice in choices})
    views = []
    for choice in choices:
        example = cases[row_of[choice.case_id]]
        image = example["image"].mean(-1).astype(np.uint8)
        views.append(CaseView(*choice, image, example["label"], maps[choice.case_id]))
    return views
