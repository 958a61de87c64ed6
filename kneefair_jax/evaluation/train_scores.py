"""Score a run's models on training cases, so that a reader can compare them with the test cases."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from ml_collections import ConfigDict

from kneefair_jax import anatomy
from kneefair_jax.evaluation import case_table
from kneefair_jax.evaluation.case_table import EvalSplit
from kneefair_jax.report.schema import TrainScores
from kneefair_jax.training import group_models, scoring
from kneefair_jax.training.setup import Experiment

MAX_CASES = 100  # of each group, so that a large cohort is not scored twice


def score_training_cases(
    config: ConfigDict,
    train: EvalSplit,
    models: Sequence[group_models.GroupModel],
    variables: Sequence[dict[str, Any]],
    experiment: Experiment,
) -> dict[str, TrainScores] | None:
    """Return the mean Dice of up to `MAX_CASES` training cases of each mitigation group, without augmentation.

    All runs on the same patients score the same cases, even where a sampler never used some of them.

    Args:
        config: the run's config.
        train: the training cases.
        models: the run's models.
        variables: the variables of each model.
        experiment: the run's experiment.

    Returns:
        `{group: {"dice", "cases", "patients"}}`; None where no training case has a known group, or where training cases
        are generated online and used once.
    """
    if train.cohort.source.online:
        return None
    rng, group_names = np.random.default_rng(config.data.seed), experiment.partition.names
    group_rows = [
        rng.permutation(train.rows[train.group[train.rows] == g])[:MAX_CASES] for g in range(len(group_names))
    ]
    rows = np.sort(np.concatenate(group_rows)) if group_rows else train.rows[:0]
    if not len(rows):
        return None
    run = {"batch_size": config.train.batch_size, "mesh": experiment.mesh}
    dice = case_table.score(train._replace(rows=rows), models, variables, run)["dice"]
    partition = experiment.partition._replace(index=train.group[rows])
    table = scoring.group_table(
        dice, train.cohort.cases.iloc[rows], partition, anatomy.scored_structures(train.cohort.structures)
    )
    rows = table.drop("all")[["dice", "cases", "patients"]].to_dict("index")
    return cast(dict[str, TrainScores], rows)
