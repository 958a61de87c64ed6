"""Convergence of a study's runs: whether validation scores still rose, and the fit of the training cases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kneefair_jax.runs.study.trials import Trial
from kneefair_jax.runtime import run_files
from kneefair_jax.training import group_models, metric_writer


def of_runs(workdir: Path, runs: Mapping[str, Sequence[Trial]], report: Path) -> dict[str, dict[str, Any]]:
    """Return the convergence of finished runs, from their folders.

    Args:
        workdir: the study's folder.
        runs: method -> its runs, one a seed.
        report: path of a run's report, within its folder.

    Returns:
        `{method: {"rise": [float], "fit": {group: {"cases": int, "dice": [float]}}}}`, a number a seed: the rise of the
        validation Dice from the last evaluation but one to the last, and the mean Dice of training cases. Either is
        None where a run lacks it: it had one evaluation, or is of a version that did not report it.
    """
    convergence = {}
    for method, trials in runs.items():
        rises = [rise(workdir / trial.directory) for trial in trials]
        fits = [run_files.read_report(workdir / trial.directory / report).get("fit") for trial in trials]
        convergence[method] = {
            "rise": None if None in rises else rises,
            "fit": None if None in fits else _by_seed([fit for fit in fits if fit]),
        }
    return convergence


def rise(folder: Path) -> float | None:
    """Return the rise of one run, the mean over its models; None if one of them was evaluated once."""
    path = folder / "metrics.jsonl"
    paths = [path] if path.exists() else sorted(folder.glob(f"{group_models.STAGES}/group_*/{path.name}"))
    rises = []
    for path in paths:
        scores = [
            record["validation"]["overall"] for record in metric_writer.read(path) if "validation" in record
        ]
        if len(scores) < 2:
            return None
        rises.append(scores[-1] - scores[-2])
    return float(np.mean(rises)) if rises else None


def _by_seed(fits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the groups' counts and, of each seed, their Dice."""
    return {
        group: {"cases": entry["cases"], "dice": [fit[group]["dice"] for fit in fits]}
        for group, entry in fits[0].items()
    }
