"""Score cases by a run's models and tabulate the scores; every number of a report follows from this table.

Scores of training cases are beside it, so that a reader can compare them with the test cases.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kneefair_jax import anatomy
from kneefair_jax.data import typed_tables
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.data.store import Cases
from kneefair_jax.errors import lookup
from kneefair_jax.evaluation import gap_analysis, predictions
from kneefair_jax.evaluation.case_scores import SCORES, EvalSplit, eval_split, score
from kneefair_jax.report.schema import TrainScores
from kneefair_jax.runtime import distributed
from kneefair_jax.training import checkpoint, scoring
from kneefair_jax.training.setup import Experiment

TABLE = "cases.parquet"  # in a run's folder
MAX_CASES = 100  # of each group, so that a large cohort is not scored twice

IDENTIFIERS = ("case_id", "patient_id", "split", "model", "structure")
# Of the probabilities alone, for `kneefair_jax.export`; NaN where nothing is predicted, whatever the mask shows.
SOFT_DICE = "soft_dice"


def table(values: dict[str, np.ndarray], split: EvalSplit, model: str) -> pd.DataFrame:
    """Tabulate the scores of N cases as the long per-case table, N x S rows.

    Args:
        values: the result of `score`.
        split: the cases.
        model: the cell of the column `model`, a selection rule.

    Returns:
        Columns `IDENTIFIERS`, the attributes, `SCORES` and `SOFT_DICE`, a row for each case and structure of
        `anatomy.scored_structures`. All scores but ECE and soft Dice are at the split's resolution. Distances, NSD and
        areas are NaN where the spacing is unknown.
    """
    cohort = split.cohort
    identifiers = cohort.cases.iloc[split.rows][["case_id", "patient_id", "split", *cohort.attributes]]
    frames = []
    for s, structure in enumerate(anatomy.scored_structures(cohort.structures)):
        frame = identifiers.assign(
            model=model,
            structure=structure,
            **{score: values[score][:, s].astype(float) for score in (*SCORES, SOFT_DICE)},
        )
        frames.append(frame)
    order = [*IDENTIFIERS, *cohort.attributes, *SCORES, SOFT_DICE]
    return pd.concat(frames, ignore_index=True)[order]


def read(path: Path, attributes: Sequence[str], scores: Sequence[str] = SCORES) -> pd.DataFrame:
    """Read the per-case table of an evaluated run.

    Args:
        path: the table's path.
        attributes: required categorical columns.
        scores: required numeric columns.

    Raises:
        InputError: see `typed_tables.read_run_parquet`.
    """
    return typed_tables.read_run_parquet(
        path, IDENTIFIERS, attributes, scores, "evaluate the run again: --mode=evaluate"
    )


def concat(tables: Sequence[pd.DataFrame], attributes: Sequence[str]) -> pd.DataFrame:
    """Concatenate tables; levels keep the order of the first table, and new levels of later tables follow."""
    levels = {
        name: list(dict.fromkeys(level for table in tables for level in table[name].cat.categories))
        for name in attributes
    }
    unified = [
        table.assign(**{name: table[name].cat.set_categories(levels[name]) for name in attributes})
        for table in tables
    ]
    return pd.concat(unified, ignore_index=True)


def score_training_cases(
    config: ConfigDict,
    train: EvalSplit,
    models: Sequence[scoring.GroupModel],
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
    dice = score(train._replace(rows=rows), models, variables, config.train.batch_size)["dice"]
    partition = experiment.partition._replace(index=train.group[rows])
    table = scoring.group_table(
        dice, train.cohort.cases.iloc[rows], partition, anatomy.scored_structures(train.cohort.structures)
    )
    rows = table.drop("all")[["dice", "cases", "patients"]].to_dict("index")
    return cast(dict[str, TrainScores], rows)


class Evaluation(NamedTuple):
    """Scores by the checkpoints of all selection rules.

    Attributes:
        models: of the run.
        splits: validation, test and, if there is one, external.
        steps: rule -> the selected step of each model.
        values: steps -> the result of `score` for each split.
        train_scores: those of training cases by that checkpoint.
        features: the features of that checkpoint's network, for attribute leakage.
    """

    models: Sequence[scoring.GroupModel]
    splits: Sequence[EvalSplit]
    steps: dict[str, tuple[int, ...]]
    values: dict[tuple[int, ...], list[dict[str, np.ndarray]]]
    train_scores: dict[str, TrainScores] | None
    features: np.ndarray | None


def score_checkpoints(
    config: ConfigDict,
    experiment: Experiment,
    cohort: Cohort,
    cases: Cases,
    workdir: Path,
    external: tuple[Cohort, Cases] | None,
) -> Evaluation:
    """Score all splits by the checkpoint of every selection rule; the arguments are those of `evaluate.evaluate`.

    The primary host writes the label maps of the test split by the checkpoint that the config selects.
    """
    models = scoring.of_run(config, experiment.partition)
    records = scoring.records(workdir, models)
    steps = {
        name: tuple(rule(of_model)["step"] for of_model in records)
        for name, rule in checkpoint.SELECTION_RULES.items()
    }
    splits = _splits_of_run(config, experiment, cohort, cases, external)
    unmeasured = [split._replace(measures=False) for split in splits]
    selected = lookup(steps, config.select, "config.select")
    variables = scoring.restore(workdir, models, selected, experiment.state)
    with predictions.writer(workdir) if distributed.is_primary() else contextlib.nullcontext() as write:
        values = _score_splits(config, splits, models, variables, write)
    train = unmeasured[1]._replace(rows=cohort.rows("train"))
    train_scores = score_training_cases(config, train, models, variables, experiment)
    features = gap_analysis.network_features(config, experiment, cohort, cases, variables)
    scored = {selected: values}
    for other in sorted({*steps.values()} - {selected}):
        variables = scoring.restore(workdir, models, other, experiment.state)
        scored[other] = _score_splits(config, unmeasured, models, variables)
    return Evaluation(models, splits, steps, scored, train_scores, features)


def tabulate(evaluation: Evaluation, attributes: Sequence[str]) -> pd.DataFrame:
    """Return the per-case table of all splits and rules."""
    tables = [
        table(values, split, rule)
        for rule, steps in evaluation.steps.items()
        for split, values in zip(evaluation.splits, evaluation.values[steps], strict=True)
    ]
    return concat(tables, attributes)


def _splits_of_run(
    config: ConfigDict,
    experiment: Experiment,
    cohort: Cohort,
    cases: Cases,
    external: tuple[Cohort, Cases] | None,
) -> list[EvalSplit]:
    """Return the validation, the test and, if there is one, the external split."""
    resolution = config.report.resolution
    split = eval_split(experiment, cohort, (cohort, cases), resolution)
    splits = [split._replace(rows=cohort.rows(name)) for name in ("validation", "test")]
    splits[1] = splits[1]._replace(measures=bool(config.report.get("measurements", False)))
    if external:
        in_front = config.data.get("external_in_front", "")
        splits.append(eval_split(experiment, cohort, external, resolution, in_front))
    return splits


def _score_splits(
    config: ConfigDict,
    splits: Sequence[EvalSplit],
    models: Sequence[scoring.GroupModel],
    variables: Sequence[dict[str, Any]],
    write: predictions.Write | None = None,
) -> list[dict[str, np.ndarray]]:
    """Return the values of each split; `write` gets the label maps of the test split."""
    batch_size = config.train.batch_size
    return [
        score(split, models, variables, batch_size, write if number == 1 else None)
        for number, split in enumerate(splits)
    ]
