"""A config and a cohort -> the functions and the first state of a run: everything that is fixed before step 0."""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from kneefair_jax import anatomy, groups, losses, mitigation, models
from kneefair_jax.data import sampling
from kneefair_jax.data.augment import Augmentation
from kneefair_jax.data.load import Cohort
from kneefair_jax.errors import InputError, choose
from kneefair_jax.training import limits, optimizer, selection, sharding, state, steps


class Experiment(NamedTuple):
    """What a run is made of.

    Attributes:
        model: the network.
        train_step: jitted, `(state, batch) -> (state, metrics)`; it donates the state.
        eval_step: jitted, `(variables, batch) -> scores per case`.
        state: before the first step, on every device.
        partition: the groups of mitigation and of checkpoint selection.
        order: which row of the cohort table is the k-th training example, for every k.
        mesh: the devices.
    """

    model: nn.Module
    train_step: steps.TrainStep
    eval_step: steps.EvalStep
    state: state.TrainState
    partition: groups.Partition
    order: grain.MapDataset
    mesh: jax.sharding.Mesh


def build(config: ConfigDict, cohort: Cohort) -> Experiment:
    """Puts a run together.

    Raises:
        InputError: the config names something that there is not, or that cannot work together.
    """
    limits.check(config)
    mesh = sharding.data_mesh()
    sharding.check_batch_size(config.train.batch_size, mesh)
    choose(selection.RULES, config.select, "select")
    train_rows = cohort.rows("train")
    if config.train.batch_size > len(train_rows):
        raise InputError(
            f"config.train.batch_size={config.train.batch_size} is more than the {len(train_rows)} training cases"
        )
    partition = mitigation_groups(cohort, config.mitigation.groups)
    order = training_order(config, cohort, partition)
    # Of the training cases alone: those that objectives weigh.
    counts = partition._replace(index=partition.index[train_rows]).counts
    model = models.create(config.model, classes=len(cohort.structures) + 1)
    loss = choose(losses.LOSSES, config.loss, "loss")
    objective = choose(mitigation.OBJECTIVES, config.mitigation.objective, "mitigation.objective")()
    transform = optimizer.create(config.optimizer, config.train.steps)
    augmentation = Augmentation(**config.augment)
    if augmentation.flip and not cohort.named:
        # Without names nobody knows which labels change places.
        augmentation = augmentation._replace(flip=0.0)
    train_step = steps.make_train_step(
        model,
        loss,
        objective,
        transform,
        augmentation=augmentation,
        flip_table=jnp.asarray(anatomy.flip_table(cohort.structures)),
        groups=len(partition.names),
        seed=config.seed,
    )
    first = jax.jit(
        lambda key: state.create(key, model, cohort.grid, transform, objective, jnp.asarray(counts)),
        out_shardings=sharding.replicated(mesh),
    )(jax.random.key(config.seed))
    return Experiment(
        model=model,
        train_step=jax.jit(train_step, donate_argnums=0),
        eval_step=jax.jit(steps.make_eval_step(model, loss, len(cohort.structures))),
        state=first,
        partition=partition,
        order=order,
        mesh=mesh,
    )


def training_order(config: ConfigDict, cohort: Cohort, partition: groups.Partition) -> grain.MapDataset:
    """The endless order of training rows that the config's sampler gives.

    Raises:
        InputError: there is no such sampler, it cannot serve these groups, or the objective corrects them as well.
    """
    name, objective = config.mitigation.sampler, config.mitigation.objective
    sampler = choose(sampling.SAMPLERS, name, "mitigation.sampler")
    if name in sampling.BALANCING and objective in mitigation.REWEIGHTING:
        raise InputError(
            f"config.mitigation: sampler={name!r} balances the groups, and objective={objective!r} would weigh the "
            "rare ones up once more; take sampler='shuffled' or objective='erm'"
        )
    patient = cohort.cases["patient_id"].to_numpy()
    return sampler(cohort.rows("train"), partition, patient, config.train.batch_size, config.seed)


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
