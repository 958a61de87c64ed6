"""Finished runs -> the comparison that the page shows, after a check that they may be compared."""

import json
import sys
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
from ml_collections import ConfigDict

from kneefair_jax.data import run_tables
from kneefair_jax.errors import InputError
from kneefair_jax.evaluation import case_table, evaluate
from kneefair_jax.fairness.method_comparison import compare_methods
from kneefair_jax.fairness.patient_table import stack_runs
from kneefair_jax.runs.study import convergence
from kneefair_jax.runs.study.trials import (
    BASELINE,
    ORACLE,
    SWITCH,
    Trial,
    changes,
    strength_of,
    swept,
    trials,
)
from kneefair_jax.runtime import run_directory, run_files
from kneefair_jax.training import group_models, selection

DIVERGED = "diverged.txt"


def summary(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """All that the page shows, from the folders of the finished runs.

    Raises:
        InputError: two runs differ in more than the mitigation and the seed, or in their patients.
    """
    study = config.study
    methods = [BASELINE, *(m for m in study.methods if m != BASELINE)]
    main = {method: [Trial(method, seed) for seed in study.seeds] for method in methods}
    if study.oracle:
        main[ORACLE] = [Trial(ORACLE, seed, 0.0) for seed in study.seeds]
    every = trials(config)
    diverged = _diverged(workdir, every)
    main = {method: made for method, made in main.items() if method not in diverged}
    _check_resolution(workdir, [trial for trial in every if trial.method not in diverged])
    differing = _checked(workdir, main)
    chosen = _compared(config, workdir, main, config.select)
    # One pair for all, so that they can be set side by side.
    by_rule = {
        rule: chosen if rule == config.select else _compared(config, workdir, main, rule, chosen["pair"])
        for rule in selection.RULES
    }
    first = workdir / main[BASELINE][0].directory
    report = run_files.read_report(first / evaluate.REPORT)
    effort = {trial: group_models.effort(workdir / trial.directory) for trial in every}
    return {
        "title": study.title,
        "description": study.description,
        "attribute": ",".join(config.mitigation.groups),
        "conditions": _conditions(config, report, first),
        "methods": {
            name: {
                "label": name,
                "changes": differing[name],
                "steps": max(effort[trial][0] for trial in made),
                "seconds": sum(effort[trial][1] for trial in made) / len(made),
            }
            for name, made in main.items()
        },
        "diverged": diverged,
        "notes": _notes(workdir, every),
        "training": convergence.of_runs(workdir, main, evaluate.REPORT),
        "comparison": chosen,
        "rule": config.select,
        "rules": by_rule,
        "sweep": _sweep(config, workdir, diverged, chosen["pair"]),
        "runs": {
            "seeds": list(study.seeds),
            "count": len(every),
            "seconds": sum(seconds for _, seconds in effort.values()),
            **{key: report["run"][key] for key in ("device", "versions", "commit")},
            "command": run_directory.public_command(sys.argv),
            "config": run_directory.public_config(config),
        },
    }


def _environment(workdir: Path, trial: Trial) -> dict[str, Any]:
    return run_files.read_environment(workdir / trial.directory / "environment.json")


def _diverged(workdir: Path, every: Sequence[Trial]) -> dict[str, list[str]]:
    """Methods of which a run has diverged, and which: they are not compared.

    Raises:
        InputError: the baseline or the oracle has, so that there is nothing to compare with.
    """
    found: dict[str, list[str]] = {}
    for trial in every:
        if (workdir / trial.directory / DIVERGED).exists():
            found.setdefault(trial.method, []).append(str(trial.directory))
    for method in (BASELINE, ORACLE):
        if method in found:
            raise InputError(
                f"{found[method][0]} has diverged, and all are compared with {method}; lower "
                "optimizer.learning_rate, in another --workdir"
            )
    return found


def _checked(workdir: Path, runs: Mapping[str, Sequence[Trial]]) -> dict[str, dict[str, list[Any]]]:
    """What each method changed, by what its runs say of themselves; anything else that differs is an error."""
    differing = {}
    for method, made in runs.items():
        for baseline, trial in zip(runs[BASELINE], made, strict=True):
            found = changes(
                *(run_files.read_config(workdir / one.directory / "config.json") for one in (baseline, trial))
            )
            allowed = ("mitigation.", "data.phantom.bias.") if method == ORACLE else ("mitigation.",)
            free = {field for field in found if field.startswith(run_directory.CHANGEABLE)}
            if strange := [field for field in found if not field.startswith(allowed) and field not in free]:
                raise InputError(
                    f"{trial.directory} differs from {baseline.directory} in {strange[0]}, not in the mitigation "
                    "alone; remove the folder and run the study again"
                )
        _check_data(workdir, made if method == ORACLE else [runs[BASELINE][0], *made])
        differing[method] = {field: pair for field, pair in found.items() if field not in free}
    return differing


def _check_data(workdir: Path, runs: Sequence[Trial]) -> None:
    """Refuses runs on other patients or pixels than the first one's."""
    data = [_environment(workdir, trial).get("data") for trial in runs]
    for trial, its_own in zip(runs, data, strict=True):
        if its_own != data[0]:
            raise InputError(
                f"{trial.directory} has other patients or pixels than {runs[0].directory}; remove the folder and run "
                "the study again"
            )


def _check_resolution(workdir: Path, runs: Sequence[Trial]) -> None:
    """Refuses runs that are scored at another resolution than the first one: finer pixels alone change a score."""
    first, *others = runs
    at = evaluate.resolution(workdir / first.directory)
    differing = [trial.directory for trial in others if evaluate.resolution(workdir / trial.directory) != at]
    if differing:
        raise InputError(
            f"{', '.join(map(str, differing[:5]))}{' and others' if len(differing) > 5 else ''}: scored at another "
            f"resolution than {first.directory} ({at}); score them anew with --mode=evaluate and one report.resolution"
        )


def _notes(workdir: Path, every: Sequence[Trial]) -> list[str]:
    """What else differs between runs, which were perhaps made at different times or places."""
    found = [_environment(workdir, trial) for trial in every]
    notes = []
    for what, key in (("commits", "commit"), ("devices", "device"), ("versions of libraries", "versions")):
        different = list(dict.fromkeys(json.dumps(one[key], sort_keys=True) for one in found))
        if len(different) > 1:
            shown = "" if key == "versions" else f": {', '.join(different)}"
            notes.append(f"The runs were made with {len(different)} different {what}{shown}.")
    return notes


def _compared(
    config: ConfigDict,
    workdir: Path,
    runs: Mapping[str, Sequence[Trial]],
    rule: str,
    pair: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """`compare` on the test cases by the checkpoints that a rule selects."""
    tables: dict[str, list[pd.DataFrame]] = {}
    attributes = tuple(config.mitigation.groups)
    for method, made in runs.items():
        read = (
            case_table.read(workdir / trial.directory / evaluate.TABLE, attributes, ("dice", "hd95_mm"))
            for trial in made
        )
        tables[method] = [table[(table["split"] == "test") & (table["model"] == rule)] for table in read]
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
    """The comparison at each strength of `representation`, by the rare group's share of the training patients.

    The pair is the main comparison's at every point, so that a point where the baseline's order turns is negative.
    """
    study = config.study
    if not study.sweep:
        return None
    rare = next(name for name, switches in config.data.phantom.bias.items() if SWITCH in switches)
    points = []
    for strength in study.sweep:
        at = None if strength == strength_of(config) else strength
        runs = {
            method: [
                Trial(ORACLE if at == 0.0 and method == BASELINE else method, seed, at)
                for seed in study.seeds
            ]
            for method in swept(config)
            if method not in diverged
        }
        for made in runs.values():
            _check_data(workdir, [runs[BASELINE][0], *made])
        counts = _cohort_table(workdir / runs[BASELINE][0].directory)
        patients = counts[counts["split"] == "train"].set_index("group")["patients"]
        share = float(patients[rare] / patients["all"])
        points.append({"share": share, "comparison": _compared(config, workdir, runs, config.select, pair)})
    points.sort(key=itemgetter("share"))
    return {
        "field": f"{rare}: {SWITCH}",
        "label": f"Share of {rare} among the training patients",
        "points": points,
    }


def _cohort_table(folder: Path) -> pd.DataFrame:
    """Return patients and cases by group and split of a run."""
    remedy = "delete it, and run --mode=evaluate of this run"
    return run_tables.read_csv(folder / "cohort.csv", ("group", "split"), ("patients", "cases"), remedy)


def _conditions(config: ConfigDict, report: Mapping[str, Any], first: Path) -> dict[str, str]:
    """What all runs share, for a reader."""
    counts = _cohort_table(first)
    train = counts[counts["split"] == "train"].set_index("group")
    tested = counts[counts["split"] == "test"].set_index("group")

    def listed(table: pd.DataFrame) -> str:
        names = [name for name in table.index if name != "all" and "," not in name]
        inside = ", ".join(f"{name} {table.loc[name, 'patients']}" for name in names)
        return f"{table.loc['all', 'patients']} patients ({inside}), {table.loc['all', 'cases']} cases"

    return {
        "Trained on": listed(train),
        "Tested on": listed(tested),
        "Network": f"{config.model.name}, widths {', '.join(map(str, config.model.widths))}",
        "Loss": config.loss,
        "Training": (
            f"{config.train.steps} steps of {config.train.batch_size} cases, {config.optimizer.name}, "
            f"learning rate {config.optimizer.learning_rate:g}"
        ),
        "Grid": " x ".join(map(str, report["run"]["grid"])),
        "Checkpoint": f"selected by {config.select} on the validation patients",
    }
