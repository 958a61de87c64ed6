"""How well a run's models do on the cases that they were trained on: beside the test's, whether these are fitted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from kneefair_jax import anatomy
from kneefair_jax.evaluation import case_table
from kneefair_jax.evaluation.case_table import Part
from kneefair_jax.training import group_models, scoring
from kneefair_jax.training.setup import Experiment

MOST = 100  # cases of each group, so that a large cohort is not scored twice


def score_training_cases(
    config: ConfigDict,
    train: Part,
    models: Sequence[group_models.Member],
    variables: Sequence[dict[str, Any]],
    experiment: Experiment,
) -> dict[str, dict[str, float]] | None:
    """Mean Dice of up to `MOST` training cases of each group of mitigation, as they are, without augmentation.

    They are the same for all runs on the same patients; a sampler may have left some of them out.

    Args:
        config: of the run.
        train: the training cases.
        models: of the run.
        variables: theirs.
        experiment: of the run.

    Returns:
        `{group: {"dice", "cases", "patients"}}`; None where no training case is of a known group, or where every
        training case was drawn online and seen once.
    """
    if train.cohort.source.online:
        return None
    rng, names = np.random.default_rng(config.data.seed), experiment.partition.names
    of_groups = [rng.permutation(train.rows[train.group[train.rows] == g])[:MOST] for g in range(len(names))]
    rows = np.sort(np.concatenate(of_groups)) if names else train.rows[:0]
    if not len(rows):
        return None
    run = {"batch_size": config.train.batch_size, "mesh": experiment.mesh}
    dice = case_table.score(train._replace(rows=rows), models, variables, run)["dice"]
    here = experiment.partition._replace(index=train.group[rows])
    table = scoring.group_table(
        dice, train.cohort.cases.iloc[rows], here, anatomy.scored_structures(train.cohort.structures)
    )
    return table.drop("all")[["dice", "cases", "patients"]].to_dict("index")
