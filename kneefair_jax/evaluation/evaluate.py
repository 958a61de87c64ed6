"""Checkpoints -> per-case table -> scores by group -> page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kneefair_jax import anatomy, groups
from kneefair_jax.data import source
from kneefair_jax.data.cohort_loader import EXTERNAL, Cohort
from kneefair_jax.data.store import Cases
from kneefair_jax.errors import InputError
from kneefair_jax.evaluation import attribute_leakage, case_table, size_and_calibration, train_scores
from kneefair_jax.fairness import endpoints, family, partial_pooling, patient_table
from kneefair_jax.fairness.endpoint_rates import endpoint_rates
from kneefair_jax.fairness.scores import scores as by_group
from kneefair_jax.report import build, examples, notes, page
from kneefair_jax.report.notes import one_spacing
from kneefair_jax.report.overlays import CaseView
from kneefair_jax.runtime import array_files, atomic, distributed, run_directory, run_files
from kneefair_jax.training import group_models, metric_writer, scoring, selection, single_group_batches, steps
from kneefair_jax.training.setup import Experiment

TABLE = "cases.parquet"
PREDICTIONS = "predictions.npz"
REPORT = Path("report", "report.json")


def evaluate(
    config: ConfigDict,
    experiment: Experiment,
    cohort: Cohort,
    cases: Cases,
    workdir: Path,
    external: tuple[Cohort, Cases] | None = None,
) -> Path:
    """Scores the checkpoint of every selection rule and writes the table, the predictions and the report.

    Writes `cases.parquet` (validation, test and external cases by every rule's checkpoint), `predictions.npz` (label
    maps of the test cases on the working grid, by case id) and `report/`. Every host scores; the first one writes.

    Returns:
        The page's path.

    Raises:
        InputError: the folder has no checkpoint.
    """
    models = group_models.of_run(config, experiment.partition)
    records = group_models.records(workdir, models)
    chosen = {name: tuple(rule(r)["step"] for r in records) for name, rule in selection.RULES.items()}
    inside = experiment.partition.index
    wanted = config.report.resolution
    rows = [cohort.rows(split) for split in ("validation", "test")]
    parts = case_table.parts(experiment, cohort, (cohort, cases), rows, inside, wanted)
    if external:
        theirs = groups.indexed(external[0].cases, experiment.partition)
        everybody = [np.arange(len(theirs))]
        in_front = config.data.get("external_in_front", "")
        parts += case_table.parts(experiment, cohort, external, everybody, theirs, wanted, in_front)
    scored: dict[tuple[int, ...], list[dict[str, np.ndarray]]] = {}
    for steps_chosen in sorted(set(chosen.values())):
        variables = group_models.restore(workdir, models, steps_chosen, experiment.state)
        run = {"batch_size": config.train.batch_size, "mesh": experiment.mesh}
        scored[steps_chosen] = [case_table.score(part, models, variables, run) for part in parts]
        labels = [values.pop("prediction") for values in scored[steps_chosen]]
        if steps_chosen == chosen[config.select]:
            predictions, tested = labels[1], scored[steps_chosen][1]
            trained = parts[1]._replace(rows=cohort.rows("train"))
            fit = train_scores.score_training_cases(config, trained, models, variables, experiment)
            features = _features(config, experiment, cohort, cases, variables)
    steps_in_all, seconds = group_models.effort(workdir)
    if not distributed.is_first():
        return workdir / "report" / page.PAGE
    table = case_table.joined(
        [
            case_table.table(values, part, rule)
            for rule, steps_chosen in chosen.items()
            for part, values in zip(parts, scored[steps_chosen], strict=True)
        ],
        cohort.attributes,
    )
    with atomic.replacing(workdir / TABLE) as path:
        table.to_parquet(path)
    ids = cohort.cases["case_id"].iloc[parts[1].rows]
    masks = dict(zip(ids, predictions, strict=True))
    _save(workdir, masks)
    size_and_calibration.write(workdir, ids.to_numpy(), tested)

    environment = run_files.read_environment(workdir / "environment.json")
    report = _report(config, cohort, cases, table, environment, [workdir])
    if config.report.root_cause:
        report["root_cause"] = attribute_leakage.root_cause(cohort, cases, features, config.seed)
    report["run"] |= {
        "step": _steps(models, chosen[config.select]),
        "steps_in_all": steps_in_all,
        "times": {"train_seconds": seconds},
    }
    report["fit"] = fit
    report["selection"] = {
        rule: {"step": _steps(models, steps_chosen)}
        | _validated(parts[0], scored[steps_chosen][0], experiment)
        for rule, steps_chosen in chosen.items()
    }
    if external:
        outside = table[(table["split"] == EXTERNAL) & (table["model"] == config.select)]
        report["external"] = {
            "fingerprint": external[1].digest,
            "structures": list(anatomy.scored(external[0].structures)),
            "resolution": case_table.resolution_of(external[0], wanted),
            "scores": _scores(config, external[0], outside),
            "rates": endpoint_rates(outside, **_how(config, external[0]), settings=_endpoints(config)),
            "pooled": _pooled(config, external[0], outside),
        }
    return _write(config, cohort, cases, table, workdir, report, _curves(workdir, models), masks)


def _features(
    config: ConfigDict,
    experiment: Experiment,
    cohort: Cohort,
    cases: Cases,
    variables: Sequence[dict[str, Any]],
) -> np.ndarray | None:
    """The network's deepest features of every case; None unless asked for, and where groups shaped the network."""
    if not config.report.root_cause or len(variables) > 1 or config.mitigation.head != "none":
        return None
    step = jax.jit(steps.make_feature_step(experiment.model))
    run = {"batch_size": config.train.batch_size, "mesh": experiment.mesh}
    everyone = np.arange(len(cohort.cases))
    group = experiment.partition.index
    return scoring.over_cases(step, variables[0], cases, everyone, group=group, **run)["features"]


def _steps(models: Sequence[group_models.Member], chosen: Sequence[int]) -> int | dict[str, int]:
    """The chosen step, or that of each group's model."""
    if len(models) == 1:
        return chosen[0]
    return {model.name: step for model, step in zip(models, chosen, strict=True)}


def _curves(workdir: Path, models: Sequence[group_models.Member]) -> list[dict[str, Any]]:
    """Records for the page's curves; where there are several models, the validation score of each."""
    if len(models) == 1:
        return metric_writer.read(workdir / "metrics.jsonl")
    return [
        {"step": record["step"], "validation": {model.name: record["validation"]["overall"]}}
        for model in models
        for record in metric_writer.read(workdir / model.directory / "metrics.jsonl")
        if "validation" in record
    ]


def _validated(
    part: case_table.Part, values: dict[str, np.ndarray], experiment: Experiment
) -> dict[str, float]:
    """What a selection rule saw of the validation cases: mean Dice, and that of the worst group."""
    here = experiment.partition._replace(index=part.group[part.rows])
    cases = part.cohort.cases.iloc[part.rows]
    table = scoring.group_table(values["grid_dice"], cases, here, anatomy.scored(part.cohort.structures))[
        "dice"
    ]
    return {"dice": table["all"], "worst": table.drop("all").min() if len(table) > 1 else table["all"]}


def union(config: ConfigDict, cohort: Cohort, cases: Cases, workdir: Path, folds: Sequence[Path]) -> Path:
    """The test cases of all folds as one cohort: each patient scored by the model that did not see it.

    Args:
        config: of any of the folds.
        cohort: of any of the folds.
        cases: the prepared cases.
        workdir: where `cases.parquet`, `predictions.npz` and `report/` go.
        folds: the folds' run folders, evaluated.

    Returns:
        The page's path.

    Raises:
        InputError: the folds are not those of one cohort, or not scored at one resolution.
    """
    reports = [run_files.read_report(fold / REPORT) for fold in folds]
    if len({resolution(fold) for fold in folds}) > 1:
        raise InputError(
            f"the folds in {workdir} are scored at different resolutions; run --mode=evaluate of all with one "
            "report.resolution"
        )
    tables = [case_table.read(fold / TABLE, cohort.attributes) for fold in folds]
    table = case_table.joined([t[t["split"] == "test"] for t in tables], cohort.attributes)
    scored = table.loc[table["model"] == config.select, ["case_id", "structure"]]
    if scored.duplicated().any() or set(scored["case_id"]) != set(cohort.cases["case_id"]):
        raise InputError(
            f"the folds in {workdir} do not test each case once; run all of them again, on one cohort"
        )
    with atomic.replacing(workdir / TABLE) as path:
        table.to_parquet(path)
    predictions: dict[str, np.ndarray] = {}
    for fold in folds:
        predictions |= array_files.read_npz(fold / PREDICTIONS, "evaluate it again: --mode=evaluate")
    _save(workdir, predictions)
    everyone = cohort._replace(cases=cohort.cases.assign(split="test"))
    environment = run_files.read_environment(folds[0] / "environment.json")
    report = _report(config, everyone, cases, table, environment, folds)
    report["run"] |= {
        "folds": len(folds),
        "step": [fold["run"]["step"] for fold in reports],
        "times": {"train_seconds": sum(fold["run"]["times"]["train_seconds"] for fold in reports)},
    }
    return _write(config, everyone, cases, table, workdir, report, [], predictions)


def resolution(workdir: Path) -> str | None:
    """Where the masks of an evaluated run were scored, `source` or `grid`; None of a run that is not evaluated."""
    path = workdir / REPORT
    # Reports that do not say are of a time when there was but the grid.
    return run_files.read_report(path)["run"].get("resolution", "grid") if path.exists() else None


def _scores(config: ConfigDict, cohort: Cohort, table: pd.DataFrame) -> dict[str, Any]:
    delta, failure_dice = dict(config.report.delta) or None, config.report.failure_dice
    return by_group(table, **_how(config, cohort), delta=delta, failure_dice=failure_dice)


def _pooled(config: ConfigDict, cohort: Cohort, table: pd.DataFrame) -> dict[str, Any]:
    """Pooled means of the small groups in the primary score; none where the table does not measure it."""
    score = family.parse(config.report.primary, "config.report.primary").score
    if score not in patient_table.measured(table):
        return {}
    pooled = partial_pooling.of_small_groups(
        table,
        anatomy.scored(cohort.structures),
        cohort.attributes,
        score,
        failure_dice=config.report.failure_dice,
        intersections=config.report.intersections,
    )
    return {group: asdict(mean) for group, mean in pooled.items()}


def _how(config: ConfigDict, cohort: Cohort) -> dict[str, Any]:
    """What all statistics of a report are told."""
    return {
        "structures": anatomy.scored(cohort.structures),
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
    evaluated: Sequence[Path],
) -> dict[str, Any]:
    """The parts of `report.json` that one run and a union of folds share; `evaluated` are their folders."""
    test = _of_run(config, table)
    primary = family.parse(config.report.primary, "config.report.primary")
    family.require_measured(primary, test, "config.report.primary")
    ids = test["case_id"].unique()
    rows = pd.Index(cohort.cases["case_id"]).get_indexer(ids)
    kept = size_and_calibration.read(ids, *evaluated)
    at = case_table.resolution_of(cohort, config.report.resolution)
    observed = notes.observations(
        cohort.cases.iloc[rows],
        cohort.attributes,
        true_pixels=kept["true_pixels"].sum(1),
        pred_pixels=kept["pred_pixels"].sum(1),
        spacing=kept["spacing"],
    )
    report = build.build_report(
        test,
        cohort.cases,
        notes=[*cohort.notes(), *single_group_batches.notes(config, cohort), *observed],
        delta=dict(config.report.delta),
        endpoints=_endpoints(config),
        primary=primary,
        excluded=source.public_reasons(cohort.source.excluded + tuple(cases.excluded)),
        run={
            "config": run_directory.public(config),
            "fingerprint": cases.digest,
            "model": config.select,
            "classes": list(cohort.structures),
            "grid": list(cohort.grid[:2]),
            "resolution": at,
            "spacing": one_spacing(kept["spacing"]),
            **{key: environment[key] for key in ("versions", "commit", "device", "command")},
        },
        **_how(config, cohort),
    )
    on_grid = cases if at == "grid" else None
    report["calibration"] = size_and_calibration.explain(
        report["scores"],
        cohort,
        on_grid,
        test,
        rows,
        kept,
        config.report.intersections,
        config.report.failure_dice,
    )
    return report


def _write(
    config: ConfigDict,
    cohort: Cohort,
    cases: Cases,
    table: pd.DataFrame,
    workdir: Path,
    report: dict[str, Any],
    curves: list[dict[str, Any]],
    predictions: Mapping[str, np.ndarray],
) -> Path:
    test = _of_run(config, table)
    views = _examples(test, cohort, cases, predictions, config.report.failure_dice)
    return page.write(workdir / "report", report, test, curves, views)


def _of_run(config: ConfigDict, table: pd.DataFrame) -> pd.DataFrame:
    """The test cases by the checkpoint that the config selects."""
    return table[(table["split"] == "test") & (table["model"] == config.select)]


def _examples(
    test: pd.DataFrame,
    cohort: Cohort,
    cases: Cases,
    predictions: Mapping[str, np.ndarray],
    failure_dice: float,
) -> list[CaseView]:
    """The cases that a report shows, with their pictures."""
    row_of = {case_id: row for row, case_id in enumerate(cohort.cases["case_id"])}
    views = []
    for choice in examples.choose(test, cohort.attributes, failure_dice=failure_dice):
        example = cases[row_of[choice.case_id]]
        image = example["image"].mean(-1).astype(np.uint8)
        views.append(CaseView(*choice, image, example["label"], predictions[choice.case_id]))
    return views


def _save(workdir: Path, predictions: dict[str, np.ndarray]) -> None:
    with atomic.replacing(workdir / PREDICTIONS) as path:
        np.savez_compressed(path, allow_pickle=False, **predictions)
