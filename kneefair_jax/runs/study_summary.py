"""Finished runs -> the comparison that the page shows, after a check that they may be compared."""

import json
import sys
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kneefair_jax.data import typed_tables
from kneefair_jax.errors import InputError
from kneefair_jax.evaluation import case_table, evaluate
from kneefair_jax.fairness.method_comparison import compare_methods
from kneefair_jax.fairness.patient_table import stack_runs
from kneefair_jax.runs.study_trials import (
    BASELINE,
    ORACLE,
    SWITCH,
    Trial,
    changes,
    strength_of,
    sweep_methods,
    trials,
)
from kneefair_jax.runtime import run_directory, run_files
from kneefair_jax.training import checkpoint, metric_writer, scoring

DIVERGED = "diverged.txt"


def summary(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Return the content of the page, from the folders of the finished runs.

    Raises:
        InputError: two runs differ in more than the mitigation and the seed, or in their patients.
    """
    study = config.study
    methods = [BASELINE, *(m for m in study.methods if m != BASELINE)]
    main = {method: [Trial(method, seed) for seed in study.seeds] for method in methods}
    if study.oracle:
        main[ORACLE] = [Trial(ORACLE, seed, 0.0) for seed in study.seeds]
    all_runs = trials(config)
    diverged = _diverged(workdir, all_runs)
    main = {method: runs for method, runs in main.items() if method not in diverged}
    _check_resolution(workdir, [trial for trial in all_runs if trial.method not in diverged])
    differing = _changes_by_method(workdir, main)
    comparison = _compare(config, workdir, main, config.select)
    # One pair of groups for all rules, so that they can be set side by side.
    by_rule = {
        rule: comparison
        if rule == config.select
        else _compare(config, workdir, main, rule, comparison["pair"])
        for rule in checkpoint.SELECTION_RULES
    }
    baseline = workdir / main[BASELINE][0].directory
    report = run_files.read_report(baseline / evaluate.REPORT)
    effort = {trial: scoring.effort(workdir / trial.directory) for trial in all_runs}
    return {
        "title": study.title,
        "description": study.description,
        "attribute": ",".join(config.mitigation.groups),
        "conditions": _conditions(config, report, baseline),
        "methods": {
            name: {
                "label": name,
                "changes": differing[name],
                "steps": max(effort[trial][0] for trial in runs),
                "seconds": sum(effort[trial][1] for trial in runs) / len(runs),
            }
            for name, runs in main.items()
        },
        "folders": _folders(workdir, main, config.select),
        "diverged": diverged,
        "notes": _notes(workdir, all_runs),
        "training": convergence(workdir, main, evaluate.REPORT),
        "comparison": comparison,
        "rule": config.select,
        "rules": by_rule,
        "sweep": _sweep(config, workdir, diverged, comparison["pair"]),
        "runs": {
            "seeds": list(study.seeds),
            "count": len(all_runs),
            "seconds": sum(seconds for _, seconds in effort.values()),
            **{key: report["run"][key] for key in ("device", "versions", "commit")},
            "command": run_directory.public_command(sys.argv),
            "config": run_directory.public_config(config),
        },
    }


def _folders(workdir: Path, runs: Mapping[str, Sequence[Trial]], rule: str) -> dict[str, dict[str, Any]]:
    """Return the run of each method with the best validation score of the rule's checkpoint; ties go to the first."""
    key = "worst" if rule == "worst_group" else "dice"
    folders = {}
    for method, trials_of_method in runs.items():
        scores = {
            str(trial.directory): run_files.read_report(workdir / trial.directory / evaluate.REPORT)
            .get("selection", {})
            .get(rule, {})
            .get(key)
            for trial in trials_of_method
        }
        best = max(scores, key=lambda path: -1.0 if scores[path] is None else scores[path])
        folders[method] = {"path": best, "validation": scores[best]}
    return folders


def convergence(
    workdir: Path, runs: Mapping[str, Sequence[Trial]], report: Path
) -> dict[str, dict[str, Any]]:
    """Return the convergence of finished runs, from their folders.

    Args:
        workdir: the study's folder.
        runs: method -> its runs, one a seed.
        report: path of a run's report, within its folder.

    Returns:
        `{method: {"rise": [float], "train_scores": {group: {"cases": int, "dice": [float]}}}}`, a number a seed: the
        rise of the validation Dice from the last evaluation but one to the last, and the mean Dice of training cases.
        Either is None where a run lacks it: it had one evaluation, or is of a version that did not report it.
    """
    result = {}
    for method, trials_of_method in runs.items():
        folders = [workdir / trial.directory for trial in trials_of_method]
        rises = [validation_rise(folder) for folder in folders]
        train_scores = [run_files.read_report(folder / report).get("train_scores") for folder in folders]
        result[method] = {
            "rise": None if None in rises else rises,
            "train_scores": None
            if None in train_scores
            else _by_seed([entry for entry in train_scores if entry]),
        }
    return result


def validation_rise(folder: Path) -> float | None:
    """Return the rise of one run, the mean over its models; None if one of them was evaluated once."""
    path = folder / "metrics.jsonl"
    paths = [path] if path.exists() else sorted(folder.glob(f"{scoring.STAGES}/group_*/{path.name}"))
    rises = []
    for path in paths:
        scores = [
            record["validation"]["overall"] for record in metric_writer.read(path) if "validation" in record
        ]
        if len(scores) < 2:
            return None
        rises.append(scores[-1] - scores[-2])
    return float(np.mean(rises)) if rises else None


def _by_seed(train_scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the groups' counts and, of each seed, their Dice."""
    return {
        group: {"cases": entry["cases"], "dice": [seed[group]["dice"] for seed in train_scores]}
        for group, entry in train_scores[0].items()
    }


def _environment(workdir: Path, trial: Trial) -> dict[str, Any]:
    return run_files.read_environment(workdir / trial.directory / "environment.json")


def _diverged(workdir: Path, runs: Sequence[Trial]) -> dict[str, list[str]]:
    """Return the methods with a diverged run, which are not compared, and their diverged runs.

    Raises:
        InputError: the baseline or the oracle has diverged, so that there is nothing to compare with.
    """
    diverged: dict[str, list[str]] = {}
    for trial in runs:
        if (workdir / trial.directory / DIVERGED).exists():
            diverged.setdefault(trial.method, []).append(str(trial.directory))
    for method in (BASELINE, ORACLE):
        if method in diverged:
            raise InputError(
                f"{diverged[method][0]} has diverged, and every method is compared with {method}; lower "
                "optimizer.learning_rate, in another --workdir"
            )
    return diverged


def _changes_by_method(workdir: Path, runs: Mapping[str, Sequence[Trial]]) -> dict[str, dict[str, list[Any]]]:
    """Return the fields that each method changes, by the configs in its runs' folders.

    Raises:
        InputError: a run differs from the baseline in anything but the mitigation.
    """
    differing = {}
    for method, trials_of_method in runs.items():
        for baseline, trial in zip(runs[BASELINE], trials_of_method, strict=True):
            fields = changes(
                run_files.read_config(workdir / baseline.directory / "config.json"),
                run_files.read_config(workdir / trial.directory / "config.json"),
            )
            allowed = ("mitigation.", "data.phantom.bias.") if method == ORACLE else ("mitigation.",)
            free = {field for field in fields if field.startswith(run_directory.CHANGEABLE)}
            if extra := [field for field in fields if not field.startswith(allowed) and field not in free]:
                raise InputError(
                    f"{trial.directory} differs from {baseline.directory} in {extra[0]}, not in the mitigation alone; "
                    "remove the folder and run the study again"
                )
        same_data = trials_of_method if method == ORACLE else [runs[BASELINE][0], *trials_of_method]
        _check_data(workdir, same_data)
        differing[method] = {field: pair for field, pair in fields.items() if field not in free}
    return differing


def _check_data(workdir: Path, runs: Sequence[Trial]) -> None:
    """Refuse runs on other patients or pixels than the first one's."""
    fingerprints = [_environment(workdir, trial).get("data") for trial in runs]
    for trial, fingerprint in zip(runs, fingerprints, strict=True):
        if fingerprint != fingerprints[0]:
            raise InputError(
                f"{trial.directory} has other patients or pixels than {runs[0].directory}; remove the folder and run "
                "the study again"
            )


def _check_resolution(workdir: Path, runs: Sequence[Trial]) -> None:
    """Refuse runs that are scored at another resolution than the first one: finer pixels alone change a score."""
    reference, *compared = runs
    resolution = evaluate.resolution(workdir / reference.directory)
    differing = [
        trial.directory for trial in compared if evaluate.resolution(workdir / trial.directory) != resolution
    ]
    if differing:
        raise InputError(
            f"{', '.join(map(str, differing[:5]))}{' and others' if len(differing) > 5 else ''}: scored at another "
            f"resolution than {reference.directory} ({resolution}); score them again with --mode=evaluate and one "
            "report.resolution"
        )


def _notes(workdir: Path, runs: Sequence[Trial]) -> list[str]:
    """Return a sentence for each difference between the runs' environments."""
    environments = [_environment(workdir, trial) for trial in runs]
    notes = []
    for noun, key in (("commits", "commit"), ("devices", "device"), ("versions of libraries", "versions")):
        values = list(dict.fromkeys(json.dumps(entry[key], sort_keys=True) for entry in environments))
        if len(values) > 1:
            suffix = "" if key == "versions" else f": {', '.join(values)}"
            notes.append(f"The runs used {len(values)} different {noun}{suffix}.")
    return notes


def _compare(
    config: ConfigDict,
    workdir: Path,
    runs: Mapping[str, Sequence[Trial]],
    rule: str,
    pair: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return `compare` of the test cases, scored by the checkpoints that a rule selects."""
    tables: dict[str, list[pd.DataFrame]] = {}
    attributes = tuple(config.mitigation.groups)
    for method, trials_of_method in runs.items():
        scored = (
            case_table.read(workdir / trial.directory / case_table.TABLE, attributes, ("dice", "hd95_mm"))
            for trial in trials_of_method
        )
        tables[method] = [table[(table["split"] == "test") & (table["model"] == rule)] for table in scored]
    failure_dice = config.report.failure_dice
    dice = stack_runs(tables, attributes, failure_dice=failure_dice)
    return compare_methods(
        dice.scores,
        dice.index,
        dice.names,
        baseline=BASELINE,
        oracle=ORACLE if ORACLE in runs else None,
        overall=(dice.overall, dice.patient_groups),
        hd95=stack_runs(tables, attributes, "hd95_mm", failure_dice).overall,
        pair=(pair["best"], pair["worst"]) if pair else None,
        min_group_patients=config.report.min_group_patients,
        draws=config.study.bootstrap_draws,
        seed=config.seed,
    ).to_dict()


def _sweep(
    config: ConfigDict,
    workdir: Path,
    diverged: Mapping[str, Sequence[str]],
    pair: Mapping[str, str] | None,
) -> dict[str, Any] | None:
    """Return the comparison at each strength of `representation`, by the rare group's share of training patients.

    Every point compares the pair of groups of the main comparison, so that a gap of the opposite sign is negative.
    """
    study = config.study
    if not study.sweep:
        return None
    rare = next(name for name, switches in config.data.phantom.bias.items() if SWITCH in switches)
    points = []
    for strength in study.sweep:
        swept = None if strength == strength_of(config) else strength
        runs = {
            method: [
                Trial(ORACLE if swept == 0.0 and method == BASELINE else method, seed, swept)
                for seed in study.seeds
            ]
            for method in sweep_methods(config)
            if method not in diverged
        }
        for trials_of_method in runs.values():
            _check_data(workdir, [runs[BASELINE][0], *trials_of_method])
        counts = _cohort_table(workdir / runs[BASELINE][0].directory)
        patients = counts[counts["split"] == "train"].set_index("group")["patients"]
        share = float(patients[rare] / patients["all"])
        points.append({"share": share, "comparison": _compare(config, workdir, runs, config.select, pair)})
    points.sort(key=itemgetter("share"))
    return {
        "field": f"{rare}: {SWITCH}",
        "label": f"Share of {rare} among the training patients",
        "points": points,
    }


def _cohort_table(folder: Path) -> pd.DataFrame:
    """Return patients and cases by group and split of a run."""
    remedy = "delete it, and run --mode=evaluate of this run"
    return typed_tables.read_run_csv(folder / "cohort.csv", ("group", "split"), ("patients", "cases"), remedy)


def _conditions(config: ConfigDict, report: Mapping[str, Any], baseline: Path) -> dict[str, str]:
    """Return the settings that all runs share, for a reader."""
    counts = _cohort_table(baseline)
    train = counts[counts["split"] == "train"].set_index("group")
    test = counts[counts["split"] == "test"].set_index("group")

    def describe(table: pd.DataFrame) -> str:
        names = [name for name in table.index if name != "all" and "," not in name]
        groups = ", ".join(f"{name} {table.loc[name, 'patients']}" for name in names)
        return f"{table.loc['all', 'patients']} patients ({groups}), {table.loc['all', 'cases']} cases"

    return {
        "Trained on": describe(train),
        "Tested on": describe(test),
        "Network": f"{config.model.name}, widths {', '.join(map(str, config.model.widths))}",
        "Loss": config.loss,
        "Training": (
            f"{config.train.steps} steps of {config.train.batch_size} cases, {config.optimizer.name}, "
            f"learning rate {config.optimizer.learning_rate:g}"
        ),
        "Grid": " x ".join(map(str, report["run"]["grid"])),
        "Checkpoint": f"selected by {config.select} on the validation patients",
    }
