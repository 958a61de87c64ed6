"""Score cases by a run's models and tabulate the scores; every number of a report follows from this table.

Scores of training cases are beside it, so that a reader can compare them with the test cases.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kneefair_jax import anatomy, groups, metrics
from kneefair_jax.data import readers, typed_tables
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.data.source import Example
from kneefair_jax.data.store import Cases
from kneefair_jax.errors import lookup
from kneefair_jax.evaluation import gap_analysis, predictions
from kneefair_jax.fairness.group_calibration import Sums
from kneefair_jax.report.schema import TrainScores
from kneefair_jax.runtime import distributed
from kneefair_jax.runtime.progress import Progress
from kneefair_jax.training import checkpoint, scoring, steps
from kneefair_jax.training.setup import Experiment

TABLE = "cases.parquet"  # in a run's folder
MAX_CASES = 100  # of each group, so that a large cohort is not scored twice
CHUNK = 512  # cases whose label maps are in memory together

IDENTIFIERS = ("case_id", "patient_id", "split", "model", "structure")
SCORES = ("dice", "iou", "hd95_mm", "assd_mm", "nsd", "ece", "true_area_mm2", "pred_area_mm2")
# Of the probabilities alone, for `kneefair_jax.export`; NaN where nothing is predicted, whatever the mask shows.
SOFT_DICE = "soft_dice"
# The values of `score` for a structure that a mask does not show (`annotations`): no score, no pixel.
_NOT_SHOWN = dict.fromkeys((*SCORES, "grid_dice"), np.nan) | dict.fromkeys(
    (*Sums._fields, "true_pixels", "pred_pixels"), 0
)


class EvalSplit(NamedTuple):
    """Cases to score.

    Attributes:
        cohort: the cohort that they belong to.
        cases: all prepared cases of the cohort.
        rows: i[N], the rows to score.
        group: i32[cases], the mitigation group of every case of the cohort.
        step: the compiled evaluation step.
        is_native: whether scores are taken at the reference masks' native resolution; else on the working grid.
        translation: i32[C], the cohort's label of each label of the network.
    """

    cohort: Cohort
    cases: Cases
    rows: np.ndarray
    group: np.ndarray
    step: steps.EvalStep
    is_native: bool
    translation: np.ndarray


def eval_split(
    experiment: Experiment,
    cohort: Cohort,
    scored: tuple[Cohort, Cases],
    resolution: str,
    in_front: str = "",
) -> EvalSplit:
    """Return all cases of a cohort as a split; masks are scored in that cohort's label scheme.

    Args:
        experiment: the run's experiment.
        cohort: the run's cohort.
        scored: the cohort to score, and its prepared cases.
        resolution: "native" or "working"; sources without native masks are scored at the working resolution.
        in_front: the bone that the masks show where two overlap (`anatomy.membership`); "" as in the scheme `knee`.
    """
    scored_cohort, cases = scored
    is_native = resolution_of(scored_cohort, resolution) == "native"
    translation = anatomy.translation(cohort.structures, scored_cohort.structures, in_front)
    members = anatomy.scored_labels(scored_cohort.structures)
    step = jax.jit(
        steps.make_case_step(
            experiment.model,
            len(scored_cohort.structures) if members is None else members,
            jnp.asarray(translation),
            probabilities=is_native,
            void=scored_cohort.source.void,
        )
    )
    rows = np.arange(len(scored_cohort.cases))
    group = groups.group_index(scored_cohort.cases, experiment.partition)
    return EvalSplit(scored_cohort, cases, rows, group, step, is_native, translation)


def resolution_of(cohort: Cohort, requested: str) -> str:
    """Return the resolution of scores: `report.resolution`, or "working" for a source without native masks."""
    return "working" if cohort.source.read_native is None else requested


def score(
    split: EvalSplit,
    models: Sequence[scoring.GroupModel],
    variables: Sequence[dict[str, Any]],
    batch_size: int,
    write: predictions.Write | None = None,
) -> dict[str, np.ndarray]:
    """Score every case of a split, `CHUNK` cases at a time.

    Args:
        split: the cases.
        models: the run's models.
        variables: the variables of each model.
        batch_size: of the global batch.
        write: gets the label maps on the working grid, u8[N, H, W], of N cases at a time.

    Returns:
        `SCORES` (f[N, S] each), the `spacing` at which they were taken (f[N, 2]), and the Dice on the working grid,
        `grid_dice`.
    """
    size = -(-CHUNK // batch_size) * batch_size  # no batch but the last one is padded
    chunks = []
    with Progress("scoring cases", len(split.rows)) as progress:
        for start in range(0, len(split.rows), size):
            chunk = split._replace(rows=split.rows[start : start + size])
            values = _score_chunk(
                chunk, list(zip(models, variables, strict=True)), batch_size, progress.advance
            )
            label_maps = values.pop("prediction")
            if write:
                write(split.cohort.cases["case_id"].iloc[chunk.rows], label_maps)
            chunks.append(values)
    scores = {name: np.concatenate([values[name] for values in chunks]) for name in chunks[0]}
    kinds = split.cohort.annotations
    if kinds is None:
        return scores
    return scores | {name: kinds.hide(scores[name], split.rows, fill) for name, fill in _NOT_SHOWN.items()}


def _score_chunk(
    split: EvalSplit,
    models: Sequence[tuple[scoring.GroupModel, dict[str, Any]]],
    batch_size: int,
    advance: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """Return the result of `score` for a chunk of a split, with `prediction` u8[N, H, W]."""
    values: dict[str, np.ndarray] = scoring.predict_by_group(
        split.step,
        models,
        split.cases,
        split.rows,
        group=split.group,
        postprocess=partial(_score_native, split) if split.is_native else None,
        advance=advance,
        batch_size=batch_size,
    )
    if split.is_native:
        return values
    spacing = np.array([split.cases[row]["spacing"] for row in split.rows], float)
    pixel_mm2 = spacing.prod(1, keepdims=True)
    distances = scoring.surface_distances(
        values["prediction"], split.cases, split.rows, split.cohort.structures
    )
    return (
        values
        | {f"{mask}_area_mm2": values[f"{mask}_pixels"] * pixel_mm2 for mask in ("true", "pred")}
        | {"grid_dice": values["dice"], "spacing": spacing}
        | distances
    )


def _scores_and_pixels(
    truth: np.ndarray, prediction: np.ndarray, *, structures: int, spacing: np.ndarray
) -> dict[str, np.ndarray]:
    """Return `metrics.mask_scores`, and the pixels of each structure in both masks."""
    pixels = {
        f"{name}_pixels": np.bincount(mask.ravel(), minlength=structures + 1)[1:]
        for name, mask in (("true", truth), ("pred", prediction))
    }
    return metrics.mask_scores(prediction, truth, structures, spacing) | pixels


def _score_native(split: EvalSplit, values: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Replace a batch's scores on the working grid by scores and areas at the masks' native resolution.

    As on the grid, each pixel takes the network's likeliest label, which is then translated to the cohort's label. Void
    pixels of the reference mask are background in both masks, as in an audit.
    """
    grid_values = {name: value for name, value in values.items() if name != "probability"}
    labels, structures = split.translation.astype(np.uint8), split.cohort.structures
    layers = anatomy.layers(structures, anatomy.scored_structures(structures))

    def score_case(position: int, case: Example) -> dict[str, np.ndarray]:
        height, width = case.label.shape
        prediction = labels[readers.labels_at(values["probability"][position], (height, width))]
        masks = anatomy.clear_void(case.label), anatomy.clear_void(case.label, prediction)

        scores = metrics.score_by_layer(_scores_and_pixels, layers, *masks, spacing=case.spacing)
        return scores | {"spacing": case.spacing}

    scores = split.cohort.map_native(score_case, rows)
    native_values = {name: np.stack([case[name] for case in scores]) for name in scores[0]}
    return grid_values | {"grid_dice": values["dice"]} | native_values


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
    selected = lookup(steps, config.select, "config.select")
    variables = scoring.restore(workdir, models, selected, experiment.state)
    with predictions.writer(workdir) if distributed.is_primary() else contextlib.nullcontext() as write:
        values = _score_splits(config, splits, models, variables, write)
    train = splits[1]._replace(rows=cohort.rows("train"))
    train_scores = score_training_cases(config, train, models, variables, experiment)
    features = gap_analysis.network_features(config, experiment, cohort, cases, variables)
    scored = {selected: values}
    for other in sorted({*steps.values()} - {selected}):
        variables = scoring.restore(workdir, models, other, experiment.state)
        scored[other] = _score_splits(config, splits, models, variables)
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
