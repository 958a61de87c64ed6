"""Score a run's checkpoints, compute scores by group, and write the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kneefair_jax import anatomy, groups
from kneefair_jax.data import source
from kneefair_jax.data.cohort_loader import EXTERNAL, Cohort
from kneefair_jax.data.store import Cases
from kneefair_jax.errors import InputError
from kneefair_jax.evaluation import attribute_leakage, case_table, size_and_calibration, train_scores
from kneefair_jax.fairness import endpoints, family, patient_table, small_groups
from kneefair_jax.fairness.endpoints import endpoint_rates
from kneefair_jax.fairness.scores import scores as by_group
from kneefair_jax.report import build, notes, overlays, page
from kneefair_jax.report.notes import one_spacing
from kneefair_jax.report.overlays import CaseView
from kneefair_jax.report.schema import External, Report, ValidationScores
from kneefair_jax.report.score_schema import Rates
from kneefair_jax.runtime import atomic, checked_files, distributed, run_directory, run_files
from kneefair_jax.training import group_models, metric_writer, scoring, selection, setup
from kneefair_jax.training.setup import Experiment

TABLE = "cases.parquet"
PREDICTIONS = "predictions.npz"
REPORT = Path("report", "report.json")


class _Checkpoint(NamedTuple):
    """Scores by the checkpoint of one selection rule.

    Attributes:
        values: the result of `case_table.score` for each split, without `prediction`.
        predictions: u8[N, H, W], label maps of the test split.
    """

    values: list[dict[str, np.ndarray]]
    predictions: np.ndarray


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
    models = group_models.of_run(config, experiment.partition)
    records = group_models.records(workdir, models)
    # rule -> the step of each model
    checkpoints = {name: tuple(rule(r)["step"] for r in records) for name, rule in selection.RULES.items()}
    selected_checkpoint = checkpoints[config.select]
    splits = _eval_splits(config, experiment, cohort, cases, external)

    variables = group_models.restore(workdir, models, selected_checkpoint, experiment.state)
    selected = _score(config, experiment, splits, models, variables)
    train = splits[1]._replace(rows=cohort.rows("train"))
    fit = train_scores.score_training_cases(config, train, models, variables, experiment)
    features = attribute_leakage.network_features(config, experiment, cohort, cases, variables)
    scored = {selected_checkpoint: selected.values}
    for checkpoint in sorted({*checkpoints.values()} - {selected_checkpoint}):
        variables = group_models.restore(workdir, models, checkpoint, experiment.state)
        scored[checkpoint] = _score(config, experiment, splits, models, variables).values
    steps_in_all, seconds = group_models.effort(workdir)
    if not distributed.is_primary():
        return workdir / "report" / page.PAGE

    table = case_table.concat(
        [
            case_table.table(values, split, rule)
            for rule, checkpoint in checkpoints.items()
            for split, values in zip(splits, scored[checkpoint], strict=True)
        ],
        cohort.attributes,
    )
    with atomic.replacement(workdir / TABLE) as path:
        table.to_parquet(path)
    ids = cohort.cases["case_id"].iloc[splits[1].rows]
    masks = dict(zip(ids, selected.predictions, strict=True))
    _write_predictions(workdir, masks)
    size_and_calibration.write(workdir, ids.to_numpy(), selected.values[1])

    environment = run_files.read_environment(workdir / "environment.json")
    report = _report(config, cohort, cases, table, environment, [workdir])
    if config.report.root_cause:
        report["root_cause"] = attribute_leakage.attribute_aucs(cohort, cases, features, config.seed)
    report["run"] |= {
        "step": _steps_by_model(models, selected_checkpoint),
        "steps_in_all": steps_in_all,
        "times": {"train_seconds": seconds},
    }
    report["fit"] = fit
    report["selection"] = {
        rule: {
            "step": _steps_by_model(models, checkpoint),
            **_validation_scores(splits[0], scored[checkpoint][0], experiment),
        }
        for rule, checkpoint in checkpoints.items()
    }
    if external:
        report["external"] = _external_report(config, *external, table)
    return _write_page(config, cohort, cases, table, workdir, report, _curves(workdir, models), masks)


def _eval_splits(
    config: ConfigDict,
    experiment: Experiment,
    cohort: Cohort,
    cases: Cases,
    external: tuple[Cohort, Cases] | None,
) -> list[case_table.EvalSplit]:
    """Return the validation, the test and, if there is one, the external split."""
    resolution = config.report.resolution
    rows = [cohort.rows(split) for split in ("validation", "test")]
    group = experiment.partition.index
    splits = case_table.eval_splits(experiment, cohort, (cohort, cases), rows, group, resolution)
    if external:
        group = groups.group_index(external[0].cases, experiment.partition)
        rows = [np.arange(len(group))]
        in_front = config.data.get("external_in_front", "")
        splits += case_table.eval_splits(experiment, cohort, external, rows, group, resolution, in_front)
    return splits


def _score(
    config: ConfigDict,
    experiment: Experiment,
    splits: Sequence[case_table.EvalSplit],
    models: Sequence[group_models.GroupModel],
    variables: Sequence[dict[str, Any]],
) -> _Checkpoint:
    run = {"batch_size": config.train.batch_size, "mesh": experiment.mesh}
    values = [case_table.score(split, models, variables, run) for split in splits]
    # Label maps are large; only those of the test split are needed.
    predictions = [split_values.pop("prediction") for split_values in values]
    return _Checkpoint(values, predictions[1])


def _external_report(config: ConfigDict, cohort: Cohort, cases: Cases, table: pd.DataFrame) -> External:
    """Return the `external` of `report.json`, from the per-case table of all splits and rules."""
    rows = table[(table["split"] == EXTERNAL) & (table["model"] == config.select)]
    rates = endpoint_rates(rows, **_statistics(config, cohort), settings=_endpoints(config))
    return {
        "fingerprint": cases.digest,
        "structures": list(anatomy.scored_structures(cohort.structures)),
        "resolution": case_table.resolution_of(cohort, config.report.resolution),
        "scores": _scores(config, cohort, rows),
        "rates": cast(Rates, rates.to_dict()),
        "pooled": _pooled(config, cohort, rows),
    }


def _steps_by_model(
    models: Sequence[group_models.GroupModel], checkpoint: Sequence[int]
) -> int | dict[str, int]:
    """Return the selected step, or that of each group's model."""
    if len(models) == 1:
        return checkpoint[0]
    return {model.name: step for model, step in zip(models, checkpoint, strict=True)}


def _curves(workdir: Path, models: Sequence[group_models.GroupModel]) -> list[dict[str, Any]]:
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
    split: case_table.EvalSplit, values: dict[str, np.ndarray], experiment: Experiment
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
    tables = [case_table.read(fold / TABLE, cohort.attributes) for fold in folds]
    table = case_table.concat([t[t["split"] == "test"] for t in tables], cohort.attributes)
    scored = table.loc[table["model"] == config.select, ["case_id", "structure"]]
    if scored.duplicated().any() or set(scored["case_id"]) != set(cohort.cases["case_id"]):
        raise InputError(
            f"the folds in {workdir} do not test each case once; run all of them again, on one cohort"
        )
    with atomic.replacement(workdir / TABLE) as path:
        table.to_parquet(path)
    predictions: dict[str, np.ndarray] = {}
    for fold in folds:
        predictions |= checked_files.read_npz(fold / PREDICTIONS, "evaluate it again: --mode=evaluate")
    _write_predictions(workdir, predictions)
    tested = cohort._replace(cases=cohort.cases.assign(split="test"))
    environment = run_files.read_environment(folds[0] / "environment.json")
    report = _report(config, tested, cases, table, environment, folds)
    report["run"] |= {
        "folds": len(folds),
        "step": [fold["run"]["step"] for fold in reports],
        "times": {"train_seconds": sum(fold["run"]["times"]["train_seconds"] for fold in reports)},
    }
    return _write_page(config, tested, cases, table, workdir, report, [], predictions)


def resolution(workdir: Path) -> str | None:
    """Return the resolution of a run's scores, `source` or `grid`; None for a run that is not evaluated."""
    path = workdir / REPORT
    return run_files.read_report(path)["run"].get("resolution", "grid") if path.exists() else None


def _scores(config: ConfigDict, cohort: Cohort, table: pd.DataFrame) -> dict[str, Any]:
    delta, failure_dice = dict(config.report.delta) or None, config.report.failure_dice
    return by_group(table, **_statistics(config, cohort), delta=delta, failure_dice=failure_dice)


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
    case_values = size_and_calibration.read(ids, *workdirs)
    resolution = case_table.resolution_of(cohort, config.report.resolution)
    observations = notes.observations(
        cohort.cases.iloc[rows],
        cohort.attributes,
        true_pixels=case_values["true_pixels"].sum(1),
        pred_pixels=case_values["pred_pixels"].sum(1),
        spacing=case_values["spacing"],
    )
    delta, thresholds = dict(config.report.delta), _endpoints(config)
    analysis = build.Analysis(
        **_statistics(config, cohort), delta=delta, endpoints=thresholds, primary=primary
    )
    report = build.build_report(
        test,
        cohort.cases,
        analysis,
        notes=[*cohort.notes(), *setup.single_group_notes(config, cohort), *observations],
        excluded=source.public_reasons(cohort.source.excluded + tuple(cases.excluded)),
        run={
            "config": run_directory.public_config(config),
            "fingerprint": cases.digest,
            "model": config.select,
            "classes": list(cohort.structures),
            "grid": list(cohort.grid[:2]),
            "resolution": resolution,
            "spacing": one_spacing(case_values["spacing"]),
            **{key: environment[key] for key in ("versions", "commit", "device", "command")},
        },
    )
    report["calibration"] = size_and_calibration.explain(
        report["scores"],
        cohort,
        cases if resolution == "grid" else None,
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
    predictions: Mapping[str, np.ndarray],
) -> Path:
    test = _selected_test_rows(config, table)
    views = _examples(test, cohort, cases, predictions, config.report.failure_dice)
    return page.write(workdir / "report", report, test, curves, views)


def _selected_test_rows(config: ConfigDict, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the test cases by the checkpoint that the config selects."""
    return table[(table["split"] == "test") & (table["model"] == config.select)]


def _examples(
    test: pd.DataFrame,
    cohort: Cohort,
    cases: Cases,
    predictions: Mapping[str, np.ndarray],
    failure_dice: float,
) -> list[CaseView]:
    """Return the cases that a report shows, with their pictures."""
    row_of = {case_id: row for row, case_id in enumerate(cohort.cases["case_id"])}
    views = []
    for choice in overlays.choose(test, cohort.attributes, failure_dice=failure_dice):
        example = cases[row_of[choice.case_id]]
        image = example["image"].mean(-1).astype(np.uint8)
        views.append(CaseView(*choice, image, example["label"], predictions[choice.case_id]))
    return views


def _write_predictions(workdir: Path, predictions: dict[str, np.ndarray]) -> None:
    with atomic.replacement(workdir / PREDICTIONS) as path:
        np.savez_compressed(path, allow_pickle=False, **predictions)
