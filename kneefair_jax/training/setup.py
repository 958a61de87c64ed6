"""A config and a cohort -> the functions and the first state of a run: everything that is fixed before step 0."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kneefair_jax import anatomy, groups, losses, mitigation, models
from kneefair_jax.data import sampling
from kneefair_jax.data.augment import Augmentation
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.errors import InputError, lookup
from kneefair_jax.models.registry import training_bytes
from kneefair_jax.runtime import memory
from kneefair_jax.training import (
    accumulation,
    compilation,
    config_checks,
    metric_writer,
    optimizer,
    scoring,
    selection,
    sharding,
    state,
    steps,
)
from kneefair_jax.weights import imagenet, warm_start


class Stage(NamedTuple):
    """Where one stage of a schedule differs from a run of the config; None is what the config says.

    Attributes:
        train: rows of the cohort table to train on.
        validation: rows to select checkpoints by.
        sampler: a key of `sampling.SAMPLERS`.
        objective: a key of `mitigation.OBJECTIVES`.
        steps: how many.
        weight: f32[rows of the table], what each case's loss counts.
        start: the variables to start from.
        only: the top-level part of the parameters that is trained; the rest, batch statistics included, stays.
        teachers: the variables of one model a group, stacked.
        number: of the stage in its schedule; each number has training cases of its own where these are drawn online.
    """

    train: np.ndarray | None = None
    validation: np.ndarray | None = None
    sampler: str | None = None
    objective: str | None = None
    steps: int | None = None
    weight: np.ndarray | None = None
    start: dict[str, Any] | None = None
    only: str | None = None
    teachers: Any = None
    number: int = 0


WHOLE = Stage()

# The first state is drawn once, in no time; LLVM would optimise its many random numbers for ten seconds.
_AT_ONCE = {"xla_backend_optimization_level": 0}


class Experiment(NamedTuple):
    """What a run is made of.

    Attributes:
        model: the network.
        train_step: compiled at its first call, `(state, batch) -> (state, metrics)`; it donates the state.
        place: this host's share of a batch -> the batch as `train_step` takes it.
        eval_step: jitted, `(variables, batch) -> scores per case`.
        state: before the first step, on every device.
        steps: how many to make.
        partition: the groups of mitigation and of checkpoint selection.
        order: which row of the cohort table is the k-th training example, for every k.
        weight: f32[rows of the table], what each case's loss counts; None for 1 each.
        validation: the rows to select checkpoints by.
        mesh: the devices.
    """

    model: nn.Module
    train_step: steps.TrainStep
    place: Callable[[sharding.Batch], dict[str, Any]]
    eval_step: steps.EvalStep
    state: state.TrainState
    steps: int
    partition: groups.Partition
    order: grain.MapDataset
    weight: np.ndarray | None
    validation: np.ndarray
    mesh: jax.sharding.Mesh


def build(config: ConfigDict, cohort: Cohort, stage: Stage = WHOLE) -> Experiment:
    """Puts a run, or a stage of one, together.

    Raises:
        InputError: the config names something that there is not, or that cannot work together.
    """
    partition, train = check(config, cohort, stage)
    mesh = sharding.data_mesh()
    parallel = sharding.PARALLEL[config.parallel]
    validation = cohort.rows("validation") if stage.validation is None else stage.validation
    total = config.train.steps if stage.steps is None else stage.steps
    train, order = training_order(config, cohort, partition, train, stage.sampler)
    head = lookup(models.HEADS, config.mitigation.head, "mitigation.head")
    parts = head(len(partition.names), config.mitigation.strength)
    model = models.create(
        config.model, classes=len(cohort.structures) + 1, axis_name=parallel.axis, parts=parts
    )
    regions = anatomy.scored_labels(cohort.structures)
    loss = losses.with_regions(lookup(losses.LOSSES, config.loss, "loss"), regions)
    objective = mitigation.create(stage.objective or config.mitigation.objective, config.mitigation)
    transform = optimizer.create(config.optimizer, total)
    if stage.only:
        transform = optimizer.only(transform, stage.only)
    augmentation = Augmentation(**config.augment)
    if augmentation.flip and not cohort.has_names:
        # Without names nobody knows which labels change places.
        augmentation = augmentation._replace(flip=0.0)
    flip_table = anatomy.flip_table(cohort.structures)
    train_step = compilation.once(
        parallel,
        steps.make_train_step(
            model,
            loss,
            objective,
            transform,
            augmentation=augmentation,
            flip_table=jnp.asarray(anatomy.add_void(flip_table) if cohort.source.void else flip_table),
            groups=len(partition.names),
            extras=steps.Extras(
                only=stage.only,
                sharpness=config.mitigation.sharpness,
                distillation=config.mitigation.distillation,
                temperature=config.mitigation.temperature,
                ramp_steps=total if config.mitigation.ramp else 0,
                ema=config.train.ema,
            ),
            axis_name=parallel.axis,
            parts=config.train.accumulation,
            void=cohort.source.void,
            draw=cohort.source.online and partial(cohort.source.online.draw, stage.number),
        ),
        config.train.accumulation,
    )
    counts = [jnp.asarray(n) for n in training_counts(cohort, train, partition)]
    first = jax.jit(
        lambda seed: state.create(
            seed, model, cohort.grid, transform, objective, *counts, average=config.train.ema > 0
        ),
        out_shardings=sharding.replicated(mesh),
        compiler_options=_AT_ONCE if jax.default_backend() == "cpu" else None,
    )(jnp.uint32(config.seed))
    if stage.start is not None:
        # A copy: steps donate their state, and others may start from the same variables.
        first = first.with_variables(jax.device_put(stage.start, sharding.replicated(mesh), may_alias=False))
    return Experiment(
        model=model,
        # Teachers are an argument: what a compiled function closes over is compiled into it.
        train_step=lambda state, batch: train_step(state, batch, stage.teachers),
        place=lambda batch: parallel.place(batch, mesh),
        eval_step=jax.jit(
            steps.make_eval_step(
                model, loss, len(cohort.structures) if regions is None else regions, void=cohort.source.void
            )
        ),
        state=first,
        steps=total,
        partition=partition,
        order=order,
        weight=stage.weight,
        validation=validation,
        mesh=mesh,
    )


def check(config: ConfigDict, cohort: Cohort, stage: Stage = WHOLE) -> tuple[groups.Partition, np.ndarray]:
    """Refuses what cannot be built or trained, at no cost.

    Returns:
        The groups of mitigation, and the rows to train on.

    Raises:
        InputError: the config names something that there is not, or that cannot work together or with the cohort.
    """
    config_checks.check_ranges(config)
    config_checks.check_composition(config.mitigation)
    if cohort.source.online:
        config_checks.check_online(config, cohort.source.online.redrawn)
    mesh = sharding.data_mesh()
    sharding.check_batch_size(config.train.batch_size, mesh)
    objective = stage.objective or config.mitigation.objective
    accumulation.check(config.train.accumulation, objective, config.train.batch_size, mesh.devices.size)
    metric_writer.check_profile(config.train.profile)
    lookup(sharding.PARALLEL, config.parallel, "parallel")
    lookup(selection.RULES, config.select, "select")
    lookup(scoring.RESOLUTIONS, config.report.resolution, "report.resolution")
    train = cohort.rows("train") if stage.train is None else stage.train
    if config.train.batch_size > len(train):
        raise InputError(
            f"config.train.batch_size={config.train.batch_size} is more than the {len(train)} training cases"
        )
    partition = mitigation_groups(cohort, config.mitigation.groups)
    config_checks.check_groups(config.mitigation, partition, cohort.rows("train"))
    scored = np.concatenate([cohort.rows("validation"), cohort.rows("test")])
    config_checks.check_known_groups(config.mitigation, partition, scored, "validation and test")
    return partition, train


def check_network(config: ConfigDict, cohort: Cohort, *, start: bool = True) -> None:
    """Works the network's shapes out, and reads the file that it starts from, if one is named, to see that it fits.

    Args:
        config: of the run.
        cohort: of which the structures and the grid are asked.
        start: False to leave that file alone: a network that has been trained needs it no more.

    Raises:
        InputError: there is no such network, it needs more memory than there is, or the file cannot be used.
    """
    model = models.create(config.model, classes=len(cohort.structures) + 1)
    image = jax.ShapeDtypeStruct((1, *cohort.grid), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    size = config.train.batch_size
    memory.require(
        size // config.train.accumulation * training_bytes(model, cohort.grid, remat=config.model.remat),
        f"config.train.batch_size={size} on data.size={tuple(config.data.size)}",
        "give a smaller one of the two, smaller model.widths, a larger train.accumulation, or model.remat=True",
    )
    if start and config.init_from:
        warm_start.find(config.init_from, config.model, cohort.grid[2])
    elif start and config.model.weights:
        imagenet.load(config.model.weights, variables)


def started(config: ConfigDict, cohort: Cohort, made: Experiment) -> Experiment:
    """The same from the network of `init_from`, or with the encoder of `model.weights`, if one of them is named.

    Raises:
        InputError: it cannot be used.
    """
    drawn = made.state.variables
    if config.init_from:
        network = warm_start.find(config.init_from, config.model, cohort.grid[2])
        print(warm_start.told(config.init_from, network, cohort.structures), flush=True)
        loaded = warm_start.applied(network, cohort.structures, drawn)
    elif config.model.weights:
        loaded = imagenet.load(Path(config.model.weights), drawn)
    else:
        return made
    return made._replace(state=made.state.with_variables(loaded))


def training_order(
    config: ConfigDict,
    cohort: Cohort,
    partition: groups.Partition,
    train: np.ndarray,
    sampler: str | None = None,
) -> tuple[np.ndarray, grain.MapDataset]:
    """Which of the rows are trained on, and the endless order in which the config's sampler, or another, gives them.

    Raises:
        InputError: there is no such sampler, or it cannot serve these groups.
    """
    name = sampler or config.mitigation.sampler
    given = (partition, cohort.cases["patient_id"].to_numpy(), config.train.batch_size, config.seed)
    order = lookup(sampling.SAMPLERS, name, "mitigation.sampler")(train, *given)
    # Groups are counted among those that are left.
    return (sampling.undersample(train, *given) if name == "undersampled" else train), order


def training_counts(
    cohort: Cohort, train: np.ndarray, partition: groups.Partition
) -> tuple[np.ndarray, np.ndarray]:
    """Cases and patients of each group, i64[G] each, among the rows that are trained on alone."""
    patient = cohort.cases["patient_id"].to_numpy()
    members = [train[partition.index[train] == group] for group in range(len(partition.names))]
    patients = [len(np.unique(patient[rows])) for rows in members]
    return np.array([len(rows) for rows in members]), np.array(patients)


def mitigation_groups(cohort: Cohort, attributes: Sequence[str]) -> groups.Partition:
    """The partition that objectives and selection rules see: one attribute, or the intersection of several.

    Raises:
        InputError: none is named, or one is not among the cohort's attributes.
    """
    if not attributes or set(attributes) - set(cohort.attributes):
        raise InputError(
            f"config.mitigation.groups={tuple(attributes)}: give one or more of data.attributes, "
            f"{tuple(cohort.attributes)}"
        )
    return groups.partition(cohort.cases, attributes)
