"""Batches of a single group, from which an objective that compares groups learns nothing about the groups."""

import grain
import numpy as np
from ml_collections import ConfigDict

from kneefair_jax import mitigation
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.groups import Partition
from kneefair_jax.training import setup

_BATCHES = 200  # from the start of a run; a tenth of a second
_MAX_SHARE = 0.05  # two balanced groups share all but 1 % of shuffled batches of 8


def count(order: grain.MapDataset, partition: Partition, batch_size: int, batches: int) -> int:
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


def notes(config: ConfigDict, cohort: Cohort) -> list[str]:
    """Return a note where more than a twentieth of a run's first batches hold fewer than two known groups.

    Objectives outside `mitigation.COMPARING` do not compare groups and get no note. The order of cases is a function of
    the config and the cohort, so these are the batches that the run trains on.

    Raises:
        InputError: the sampler cannot serve these groups.
    """
    objective, train = config.mitigation.objective.name, cohort.rows("train")
    if objective not in mitigation.COMPARING or not len(train):  # the union of folds trains on nothing
        return []
    partition = setup.mitigation_groups(cohort, config.mitigation.groups)
    _, order = setup.training_order(config, cohort, partition, train)
    batches = min(config.train.steps, _BATCHES)
    single = count(order, partition, config.train.batch_size, batches)
    if single <= _MAX_SHARE * batches:
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
