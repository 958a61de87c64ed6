"""The models of a run, one for all cases or one a group, and their joint predictions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from kneefair_jax.data.case_arrays import Arrays
from kneefair_jax.errors import InputError
from kneefair_jax.groups import Partition
from kneefair_jax.training import scoring, selection
from kneefair_jax.training.checkpoint import Checkpoints
from kneefair_jax.training.state import TrainState

STAGES = "stages"  # the folder, within the run's, of all but the last stage of a schedule


class GroupModel(NamedTuple):
    """A model of a run and the cases that it segments.

    Attributes:
        directory: its folder, within the run's.
        group: number of the group that it segments; None: all cases.
        name: of that group.
    """

    directory: str = ""
    group: int | None = None
    name: str = ""


def by_group(partition: Partition) -> list[GroupModel]:
    """Return a model for each group."""
    return [GroupModel(f"{STAGES}/group_{g}", g, name) for g, name in enumerate(partition.names)]


def of_run(config: ConfigDict, partition: Partition) -> list[GroupModel]:
    """Return the models of a finished run."""
    is_by_group = config.mitigation.schedule.name == "group_specific"
    return by_group(partition) if is_by_group else [GroupModel()]


def records(workdir: Path, models: Sequence[GroupModel]) -> list[list[selection.Record]]:
    """Return step and validation scores of each model's checkpoints.

    Raises:
        InputError: a model has no checkpoint.
    """
    records_by_model = []
    for model in models:
        with Checkpoints(workdir / model.directory / "checkpoints") as checkpoints:
            records_by_model.append(checkpoints.records())
        if not records_by_model[-1]:
            raise InputError(f"{workdir / model.directory} has no checkpoint; train first with --mode=train")
    return records_by_model


def restore(
    workdir: Path, models: Sequence[GroupModel], steps: Sequence[int], like: TrainState
) -> list[dict[str, Any]]:
    """Return each model's variables at its step, with the device layout of `like`."""
    variables = []
    for model, step in zip(models, steps, strict=True):
        with Checkpoints(workdir / model.directory / "checkpoints") as checkpoints:
            variables.append(checkpoints.variables(step, like))
    return variables


def effort(workdir: Path) -> tuple[int, float]:
    """Return the training steps and seconds of all models and stages of a run, whatever checkpoint is selected."""
    steps, seconds = 0, 0.0
    for folder in (workdir / "checkpoints", *sorted((workdir / STAGES).glob("*/checkpoints"))):
        if folder.is_dir():
            with Checkpoints(folder) as checkpoints:
                step = checkpoints.latest() or 0
                steps, seconds = steps + step, seconds + (checkpoints.seconds(step) if step else 0.0)
    return steps, seconds


# Nine parameters: the models, and the eight of `scoring.predict_cases`.
def predict_cases(
    step: Callable[..., Any],
    models: Sequence[GroupModel],
    variables: Sequence[dict[str, Any]],
    cases: Arrays,
    rows: np.ndarray,
    *,
    group: np.ndarray,
    batch_size: int,
    mesh: jax.sharding.Mesh,
    postprocess: Callable[[Any, np.ndarray], Any] | None = None,
) -> Any:
    """Return `scoring.predict_cases`, each row by the model of its group.

    Args:
        step: `(variables, batch) -> tree`.
        models: of the run.
        variables: of each model.
        cases: the prepared cases.
        rows: i64[N], of `cases`.
        group: i32[cases]; with one model a group, the group of each of `rows` is known.
        batch_size: of the global batch.
        mesh: the devices.
        postprocess: as for `scoring.predict_cases`.
    """
    run: dict[str, Any] = {"group": group, "batch_size": batch_size, "mesh": mesh, "postprocess": postprocess}
    results, positions = [], []
    for model, model_variables in zip(models, variables, strict=True):
        position = np.flatnonzero((group[rows] == model.group) | (model.group is None))
        if len(position):
            positions.append(position)
            results.append(scoring.predict_cases(step, model_variables, cases, rows[position], **run))
    order = np.argsort(np.concatenate(positions))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays)[order], *results)
