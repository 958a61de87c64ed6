"""How far training went: whether validation scores were still rising, and whether the training cases are fitted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kneefair_jax.runs.study.trials import Trial
from kneefair_jax.runtime import run_files
from kneefair_jax.training import group_models, metric_writer


def of_runs(workdir: Path, runs: Mapping[str, Sequence[Trial]], report: Path) -> dict[str, dict[str, Any]]:
    """What the folders of finished runs say of it.

    Args:
        workdir: the study's folder.
        runs: method -> its runs, a seed each.
        report: of a run, within its folder.

    Returns:
        `{method: {"rise": [float], "fit": {group: {"cases": int, "dice": [float]}}}}`, a number a seed: by how much
        the validation Dice rose from the last evaluation but one to the last, and the mean Dice of training cases.
        Either is None where a run does not know it: it had one evaluation, or was made before runs told.
    """
    found = {}
    for method, made in runs.items():
        rises = [rise(workdir / trial.directory) for trial in made]
        fits = [run_files.read_report(workdir / trial.directory / report).get("fit") for trial in made]
        found[method] = {
            "rise": None if None in rises else rises,
            "fit": None if None in fits else _joined([fit for fit in fits if fit]),
        }
    return found


def rise(folder: Path) -> float | None:
    """Of one run: the mean over its models, None if one of them was evaluated once."""
    own = folder / "metrics.jsonl"
    paths = [own] if own.exists() else sorted(folder.glob(f"{group_models.STAGES}/group_*/{own.name}"))
    rises = []
    for path in paths:
        scores = [
            record["validation"]["overall"] for record in metric_writer.read(path) if "validation" in record
        ]
        if len(scores) < 2:
            return None
        rises.append(scores[-1] - scores[-2])
    return float(np.mean(rises)) if rises else None


def _joined(fits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        group: {"cases": entry["cases"], "dice": [fit[group]["dice"] for fit in fits]}
        for group, entry in fits[0].items()
    }
