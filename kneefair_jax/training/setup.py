"""A config and a cohort -> the functions and the first state of a run: everything that is fixed before step 0.

`config_checks.validate` comes first: nothing here refuses a config.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

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
from kneefair_jax.training import sharding, state, steps
from kneefair_jax.weights import warm_start

logger = logging.getLogger(__name__)


class Stage(NamedTuple):
    """Differences of one stage of a schedule from a run of the config; None is the config's value.

    Attributes:
        train: i64[N], rows of the cohort table to train on.
        validation: i64[N], rows to select checkpoints by.
        sampler: a key of `sampling.SAMPLERS`.
        objective: a key of `mitigation.OBJECTIVES`.
        steps: number of updates.
        weight: f32[rows of the table], factor of each case's loss.
        start: the variables to start from.
        trainable: the top-level part of the parameters that is trained; the rest, batch statistics included, stays.
        teachers: the variables of one model a group, stacked.
        number: of the stage in its schedule; each number has its own training cases where these are drawn online.
    """

    train: np.ndarray | None = None
    validation: np.ndarray | None = None
    sampler: str | None = None
    objective: str | None = None
    steps: int | None = None
    weight: np.ndarray | None = None
    start: dict[str, Any] | None = None
    trainable: str | None = None
    teachers: Any = None
    number: int = 0


RUN = Stage()  # the run of the config itself

# For programs that run once, in no time; LLVM would optimize their many random numbers for ten seconds.
_FAST_COMPILATION = {"xla_backend_optimization_level": 0}
_NOTED_BATCHES = 200  # from the start of a run; a tenth of a second
_MAX_SINGLE_GROUP = 0.05  # two balanced groups share all but 1 % of shuffled batches of 8


class Experiment(NamedTuple):
    """The functions, the first state and the order of cases of a run or of a stage.

    Attributes:
        model: the network.
        train_step: compiled at its first call, `(state, batch) -> (state, metrics)`; it donates the state.
        train_steps: the same for a tuple of batches, as one program; it returns a tuple of metrics.
        place: this host's share of a batch -> the batch as `train_step` takes it.
        eval_step: jitted, `(variables, batch) -> scores per case`.
        state: before the first step, on every device.
        steps: number of updates.
        partition: the groups of mitigation and of checkpoint selection.
        order: row of the cohort table of the k-th training example, for every k.
        weight: f32[rows of the table], factor of each case's loss; None for 1 each.
        validation: i64[N], the rows to select checkpoints by.
    """

    model: nn.Module
    train_step: steps.TrainStep
    train_steps: steps.TrainSteps
    place: Callable[[sharding.Batch], dict[str, Any]]
    eval_step: steps.EvalStep
    state: state.TrainState
    steps: int
    partition: groups.Partition
    order: grain.MapDataset
    weight: np.ndarray | None
    validation: np.ndarray


def build(
    config: ConfigDict, cohort: Cohort, stage: Stage = RUN, variables: Mapping[str, Any] | None = None
) -> Experiment:
    """Put a run, or a stage of one, together.

    Args:
        config: validated by `config_checks.validate`.
        cohort: to train on.
        stage: differences from the run of the config.
        variables: of the network before the first step, unless `stage.start` has them; None draws them.
    """
    partition = mitigation_groups(cohort, config.mitigation.groups)
    mesh, parallel = sharding.data_mesh(), lookup(sharding.PARALLEL, config.parallel, "config.parallel")
    rows = cohort.rows("train") if stage.train is None else stage.train
    train, order = training_order(config, cohort, partition, rows, stage.sampler)
    total = config.train.steps if stage.steps is None else stage.steps
    definition = define_step(config, cohort, stage, len(partition.names), total)
    step = steps.make_train_step(definition)
    train_step, train_steps = (
        sharding.compile_step(parallel, function, config.train.accumulation)
        for function in (step, sharding.several_steps(step))
    )
    regions = anatomy.scored_labels(cohort.structures)
    eval_step = steps.make_eval_step(
        definition.model,
        definition.loss,
        len(cohort.structures) if regions is None else regions,
        void=cohort.source.void,
        label_sets=definition.label_sets,
    )
    return Experiment(
        model=definition.model,
        # Teachers are an argument: what a compiled function closes over is compiled into it.
        train_step=lambda state, batch: train_step(state, batch, stage.teachers),
        train_steps=lambda state, batches: train_steps(state, batches, stage.teachers),
        place=lambda batch: parallel.place(batch, mesh),
        eval_step=jax.jit(eval_step),
        state=_first_state(
            config.seed,
            definition,
            cohort.grid,
            training_counts(cohort, train, partition),
            mesh,
            stage.start or variables,
        ),
        steps=total,
        partition=partition,
        order=order,
        weight=stage.weight,
        validation=cohort.rows("validation") if stage.validation is None else stage.validation,
    )


def define_step(
    config: ConfigDict, cohort: Cohort, stage: Stage, group_count: int, total_steps: int
) -> steps.StepDefinition:
    """Return network, loss, objective, optimizer and options of the training step that a config describes."""
    settings, void, online = config.mitigation, cohort.source.void, cohort.source.online
    axis_name = lookup(sharding.PARALLEL, config.parallel, "config.parallel").axis
    head = lookup(models.HEADS, settings.head.name, "config.mitigation.head.name")
    loss = lookup(losses.LOSSES, config.loss, "config.loss")
    transform = state.create_optimizer(config.optimizer, total_steps)
    if stage.trainable:
        transform = state.restrict_optimizer(transform, stage.trainable)
    augmentation = Augmentation(**config.augment)
    if augmentation.flip and not cohort.has_names:
        # Without names it is unknown which labels change places.
        augmentation = augmentation._replace(flip=0.0)
    flip_table, annotations = anatomy.flip_table(cohort.structures), cohort.annotations
    return steps.StepDefinition(
        model=models.create(
            config.model,
            classes=len(cohort.structures) + 1,
            axis_name=axis_name,
            parts=head(group_count, settings.head.strength),
        ),
        loss=losses.with_regions(loss, anatomy.scored_labels(cohort.structures)),
        objective=mitigation.create(stage.objective or settings.objective.name, settings.objective),
        optimizer=transform,
        augmentation=augmentation,
        flip_table=jnp.asarray(anatomy.add_void(flip_table) if void else flip_table),
        groups=group_count,
        options=steps.StepOptions(
            trainable=stage.trainable,
            sharpness=settings.sharpness,
            distillation=settings.schedule.distillation,
            temperature=settings.schedule.temperature,
            ramp_steps=total_steps if settings.head.ramp else 0,
            ema=config.train.ema,
            axis_name=axis_name,
            micro_batches=config.train.accumulation,
            has_void=void,
            draw=partial(online.draw, stage.number) if online else None,
        ),
        label_sets=jnp.asarray(annotations.sets) if annotations else None,
    )


def _first_state(
    seed: int,
    definition: steps.StepDefinition,
    grid: tuple[int, int, int],
    counts: Sequence[np.ndarray],
    mesh: jax.sharding.Mesh,
    variables: Mapping[str, Any] | None,
) -> state.TrainState:
    """Return the state before the first step on every device, of `variables` or of newly drawn ones."""
    everywhere, average = sharding.replicated(mesh), definition.options.ema > 0
    of_run = (definition.optimizer, definition.objective, *map(jnp.asarray, counts))
    create = jax.jit(
        lambda seed, variables: state.create(
            seed, definition.model, grid, *of_run, variables=variables, average=average
        ),
        out_shardings=everywhere,
        compiler_options=_FAST_COMPILATION if jax.default_backend() == "cpu" else None,
    )
    # A copy: steps donate their state, and others may start from the same variables.
    copy = None if variables is None else jax.device_put(dict(variables), everywhere, may_alias=False)
    return cast(state.TrainState, create(jnp.uint32(seed), copy))


def with_initial_weights(config: ConfigDict, cohort: Cohort, experiment: Experiment) -> Experiment:
    """Return the experiment with the weights of `init_from` or `model.weights`; unchanged where neither is set.

    Raises:
        InputError: the file cannot be used.
    """
    variables = experiment.state.variables
    if config.init_from:
        network = warm_start.find(config.init_from, config.model, cohort.grid[2])
        logger.info("%s", warm_start.describe(config.init_from, network, cohort.structures))
        initial = warm_start.init_from_pretrained(network, cohort.structures, variables)
    elif config.model.weights:
        initial = warm_start.load_imagenet(Path(config.model.weights), variables)
    else:
        return experiment
    return experiment._replace(state=experiment.state.with_variables(initial))


def training_order(
    config: ConfigDict,
    cohort: Cohort,
    partition: groups.Partition,
    train: np.ndarray,
    sampler: str | None = None,
) -> tuple[np.ndarray, grain.MapDataset]:
    """Return the rows that the sampler trains on, and its endless order of them.

    Args:
        config: of the run.
        cohort: to train on.
        partition: the groups of the mitigation.
        train: i64[N], rows of the cohort table.
        sampler: a key of `sampling.SAMPLERS`; None is the config's.

    Raises:
        InputError: there is no such sampler, or it cannot serve these groups.
    """
    name = sampler or config.mitigation.sampler.name
    arguments = (partition, cohort.cases["patient_id"].to_numpy(), config.train.batch_size, config.seed)
    order = lookup(sampling.SAMPLERS, name, "config.mitigation.sampler.name")(train, *arguments)
    return (sampling.undersample(train, *arguments) if name == "undersampled" else train), order


def training_counts(
    cohort: Cohort, train: np.ndarray, partition: groups.Partition
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cases and the patients of each group, i64[G] each, among the training rows `train`."""
    patient = cohort.cases["patient_id"].to_numpy()
    members = [train[partition.index[train] == group] for group in range(len(partition.names))]
    patients = [len(np.unique(patient[rows])) for rows in members]
    return np.array([len(rows) for rows in members]), np.array(patients)


def mitigation_groups(cohort: Cohort, attributes: Sequence[str]) -> groups.Partition:
    """Return the partition of objectives and selection rules: by one attribute, or the intersection of several.

    A cohort without attributes is one group: `mitigation.groups` is not read.

    Raises:
        InputError: the cohort has attributes, and none is named or one is not among them.
    """
    if not cohort.attributes:
        return groups.partition(cohort.cases, ())
    if not attributes or set(attributes) - set(cohort.attributes):
        raise InputError(
            f"config.mitigation.groups={tuple(attributes)}: give one or more of data.attributes, "
            f"{tuple(cohort.attributes)}"
        )
    return groups.partition(cohort.cases, attributes)


def count_single_group_batches(
    order: grain.MapDataset, partition: groups.Partition, batch_size: int, batches: int
) -> int:
    """Return how many of the first batches hold fewer than two known groups.

    Args:
        order: row of the cohort table of each training example.
        partition: groups of the table.
        batch_size: of the global batch.
        batches: number of batches to count.
    """
    rows = np.array([order[k] for k in range(batches * batch_size)]).reshape(batches, batch_size)
    present = (partition.index[rows][..., None] == np.arange(len(partition.names))).any(1)
    return int((present.sum(1) < 2).sum())


def single_group_notes(config: ConfigDict, cohort: Cohort) -> list[str]:
    """Return a note where more than a twentieth of a run's first batches hold fewer than two known groups.

    Objectives that do not compare groups get no note. The order of cases is a function of the config and the cohort, so
    these are the batches that the run trains on.

    Raises:
        InputError: there is no such objective or sampler, or the sampler cannot serve these groups.
    """
    objective, train = config.mitigation.objective.name, cohort.rows("train")
    compares_groups = lookup(
        mitigation.OBJECTIVES, objective, "config.mitigation.objective.name"
    ).compares_groups
    if not compares_groups or not len(train):  # the union of folds trains on nothing
        return []
    partition = mitigation_groups(cohort, config.mitigation.groups)
    _, order = training_order(config, cohort, partition, train)
    batches = min(config.train.steps, _NOTED_BATCHES)
    single = count_single_group_batches(order, partition, config.train.batch_size, batches)
    if single <= _MAX_SINGLE_GROUP * batches:
        return []
    effect = (
        "the groups' weights do not change"
        if objective == "group_dro"
        else "the objective is the mean loss alone"
    )
    return [
        f"WARNING: objective {objective!r} compares the groups within a batch, but {single} of the first "
        f"{batches} batches hold fewer than two known groups, and there {effect}; set "
        "mitigation.sampler.name='equal_share' and at least as many cases as groups as train.batch_size "
        f"({config.train.batch_size} here)"
    ]
