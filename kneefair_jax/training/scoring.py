"""The models of a run, one for all cases or one a group, and their predictions and scores of cases."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from kneefair_jax import anatomy, groups, metrics
from kneefair_jax.data import pipeline
from kneefair_jax.data.pipeline import Arrays
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import patient_table, summaries
from kneefair_jax.fairness.patient_table import standardized_means
from kneefair_jax.groups import Partition
from kneefair_jax.runtime import preemption
from kneefair_jax.training import checkpoint, sharding
from kneefair_jax.training.checkpoint import Checkpoints
from kneefair_jax.training.state import TrainState

# Where scores are taken: at the reference masks' own size, or on the working grid.
RESOLUTIONS = dict.fromkeys(("native", "working"))

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


def models_by_group(partition: Partition) -> list[GroupModel]:
    """Return a model for each group."""
    return [GroupModel(f"{STAGES}/group_{g}", g, name) for g, name in enumerate(partition.names)]


def of_run(config: ConfigDict, partition: Partition) -> list[GroupModel]:
    """Return the models of a finished run."""
    is_by_group = config.mitigation.schedule.name == "group_specific"
    return models_by_group(partition) if is_by_group else [GroupModel()]


def records(workdir: Path, models: Sequence[GroupModel]) -> list[list[checkpoint.Record]]:
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


def predict_by_group(
    step: Callable[..., Any],
    models: Sequence[tuple[GroupModel, dict[str, Any]]],
    cases: Arrays,
    rows: np.ndarray,
    *,
    group: np.ndarray,
    **options: Any,
) -> Any:
    """Return `predict_cases`, each row by the model of its group.

    Args:
        step: `(variables, batch) -> tree`.
        models: those of the run, each with its variables.
        cases: the prepared cases.
        rows: i64[N], of `cases`.
        group: i32[cases]; with one model a group, the group of each of `rows` is known.
        options: the other arguments of `predict_cases`.
    """
    results, positions = [], []
    for model, variables in models:
        position = np.flatnonzero((group[rows] == model.group) | (model.group is None))
        if len(position):
            positions.append(position)
            results.append(predict_cases(step, variables, cases, rows[position], group=group, **options))
    order = np.argsort(np.concatenate(positions))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays)[order], *results)


def predict_cases(
    step: Callable[..., Any],
    variables: dict[str, Any],
    cases: Arrays,
    rows: np.ndarray,
    *,
    group: np.ndarray | None = None,
    batch_size: int,
    postprocess: Callable[[Any, np.ndarray], Any] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Any:
    """Apply `step(variables, batch)` to every row once.

    Args:
        step: jitted, `(variables, batch) -> tree`.
        variables: of the network.
        cases: the prepared cases.
        rows: i64[N], of `cases`.
        group: i32[cases]; None: unknown.
        batch_size: of the global batch.
        postprocess: `(tree, rows) -> tree`, reduces a batch's result to the part to keep, one entry a row; hosts share
            this work.
        advance: called after each batch with the number of its rows.

    Returns:
        The tree as NumPy arrays with one entry a row, in the order of `rows`, on every host, without padding.
    """
    group = np.full(len(cases), groups.UNKNOWN, np.int32) if group is None else group
    share = {"host": jax.process_index(), "hosts": jax.process_count()}
    mesh, gathered = sharding.data_mesh(), list[Any]()
    for batch in pipeline.evaluation_batches(cases, rows, group, batch_size=batch_size, **share):
        preemption.check()
        global_batch = sharding.global_batch(batch, mesh)
        with jax.transfer_guard("disallow"):  # no implicit transfer, batch after batch
            result = step(variables, global_batch), global_batch["position"]
        if jax.process_count() > 1:
            result = multihost_utils.process_allgather(result, tiled=True)
        scores, position = jax.device_get(result)
        # By place in the batch, however devices are laid out.
        batch_rows = rows[len(gathered) * batch_size :][:batch_size]
        order = np.argsort(position)[: len(batch_rows)]
        values = jax.tree.map(lambda x, order=order: x[order], scores)
        gathered.append(_postprocess_share(postprocess, values, batch_rows) if postprocess else values)
        advance(len(batch_rows))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *gathered)


def _postprocess_share(postprocess: Callable[[Any, np.ndarray], Any], values: Any, rows: np.ndarray) -> Any:
    """Return `postprocess(values, rows)`, of which each host computes its share."""
    hosts = jax.process_count()
    if hosts == 1:
        return postprocess(values, rows)
    size = -(-len(rows) // hosts)
    # The first rows come twice where shares would not be equal.
    share = np.resize(np.arange(len(rows)), size * hosts)[jax.process_index() * size :][:size]
    result = postprocess(jax.tree.map(lambda x: x[share], values), rows[share])

    def gather(x: np.ndarray) -> np.ndarray:
        # As bytes: JAX would convert float64 to float32.
        raw = np.ascontiguousarray(x).reshape(size, -1).view(np.uint8)
        raw = np.asarray(multihost_utils.process_allgather(raw, tiled=True))
        return raw.view(x.dtype).reshape(-1, *x.shape[1:])[: len(rows)]

    return jax.tree.map(gather, result)


def surface_distances(
    prediction: np.ndarray, cases: Arrays, rows: np.ndarray, structures: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return `metrics.surface_distances` of each row, at the working resolution.

    Args:
        prediction: u8[N, H, W], the label map of each row.
        cases: the prepared cases.
        rows: i64[N], of `cases`.
        structures: names of the labels 1, 2, ...; the S of `anatomy.scored_structures` are measured.

    Returns:
        `hd95_mm`, `assd_mm`, `nsd`: f64[N, S] each.
    """
    arrays = [(case["label"], case["spacing"]) for case in map(cases.__getitem__, rows)]  # without the images
    truth, spacing = map(np.stack, zip(*arrays, strict=True))
    cleared = anatomy.clear_void(truth, prediction), anatomy.clear_void(truth)
    names = anatomy.scored_structures(structures)
    layers = anatomy.layers(structures, names)
    return metrics.score_by_layer(metrics.surface_distances, layers, *cleared, spacing=spacing)


def group_table(
    dice: np.ndarray, cases: pd.DataFrame, partition: groups.Partition, structures: Sequence[str]
) -> pd.DataFrame:
    """Return mean Dice over patients, of all and by group.

    As in the report, the macro score of a case that lacks a structure is standardized (`fairness.patient_table`), so
    that a structure out of view neither raises nor lowers a group in checkpoint selection.

    Args:
        dice: f32[N, S] of the N rows of `cases`.
        cases: the scored rows of the cohort table.
        partition: groups of those same rows.
        structures: S names.

    Returns:
        Rows `all` and each group with a case; columns `patients`, `cases`, `dice` (macro) and each structure.
    """
    dice = dice.astype(float)
    sound = ~(dice < patient_table.FAILURE_DICE - patient_table.TOLERANCE)
    values = np.column_stack([standardized_means(dice, sound).clip(0, 1), dice])
    members = {"all": np.ones(len(cases), bool)}
    members |= {name: partition.index == g for g, name in enumerate(partition.names)}
    table = {}
    for name, member in members.items():
        if not member.any():
            continue
        patient, _ = pd.factorize(cases["patient_id"][member])
        per_patient = summaries.group_means(
            values[member].T, groups.membership(patient, patient.max() + 1).astype(float)
        )
        means = summaries.group_means(per_patient, np.ones((per_patient.shape[1], 1)))[:, 0]
        table[name] = [len(per_patient[0]), int(member.sum()), *means]
    columns = ["patients", "cases", "dice", *structures]
    frame = pd.DataFrame.from_dict(table, orient="index", columns=columns)
    return frame.astype({"patients": int, "cases": int})
