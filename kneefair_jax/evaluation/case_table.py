"""Score cases by a run's models and tabulate the scores; every number of a report follows from this table."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from kneefair_jax import anatomy, metrics
from kneefair_jax.data import readers, typed_tables
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.data.source import Example
from kneefair_jax.data.store import Cases
from kneefair_jax.training import group_models, scoring, steps
from kneefair_jax.training.setup import Experiment

IDENTIFIERS = ("case_id", "patient_id", "split", "model", "structure")
SCORES = ("dice", "iou", "hd95_mm", "assd_mm", "nsd", "ece", "true_area_mm2", "pred_area_mm2")


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


def eval_splits(
    experiment: Experiment,
    cohort: Cohort,
    scored: tuple[Cohort, Cases],
    rows: Sequence[np.ndarray],
    group: np.ndarray,
    resolution: str,
    in_front: str = "",
) -> list[EvalSplit]:
    """Return splits of one cohort that share one compiled step; masks are scored in that cohort's label scheme.

    Args:
        experiment: the run's experiment.
        cohort: the run's cohort.
        scored: the cohort to score, and its prepared cases.
        rows: the rows of each split.
        group: i32[cases], the groups of the scored cohort.
        resolution: "source" (native) or "grid" (working); sources without native masks are scored on the grid.
        in_front: the bone that the masks show where two overlap (`anatomy.membership`); "" as in the scheme `knee`.
    """
    scored_cohort, cases = scored
    is_native = resolution_of(scored_cohort, resolution) == "source"
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
    return [
        EvalSplit(scored_cohort, cases, split_rows, group, step, is_native, translation)
        for split_rows in rows
    ]


def resolution_of(cohort: Cohort, requested: str) -> str:
    """Return the resolution of scores: `report.resolution`, or "grid" for a source without native masks."""
    return "grid" if cohort.source.read_native is None else requested


def score(
    split: EvalSplit,
    models: Sequence[group_models.GroupModel],
    variables: Sequence[dict[str, Any]],
    run: dict[str, Any],
) -> dict[str, np.ndarray]:
    """Score every case of a split.

    Args:
        split: the cases.
        models: the run's models.
        variables: the variables of each model.
        run: `batch_size` and `mesh` of `group_models.predict_cases`.

    Returns:
        `SCORES` (f[N, S] each), the `spacing` at which they were taken (f[N, 2]), and the label map and Dice on the
        working grid, `prediction` and `grid_dice`.
    """
    postprocess = partial(_score_native, split) if split.is_native else None
    values: dict[str, np.ndarray] = group_models.predict_cases(
        split.step,
        models,
        variables,
        split.cases,
        split.rows,
        group=split.group,
        postprocess=postprocess,
        **run,
    )
    if split.is_native:
        return values
    spacing = np.array([split.cases[row]["spacing"] for row in split.rows], float)
    pixel_mm2 = spacing.prod(1, keepdims=True)
    return (
        values
        | {f"{mask}_area_mm2": values[f"{mask}_pixels"] * pixel_mm2 for mask in ("true", "pred")}
        | {"grid_dice": values["dice"], "spacing": spacing}
        | scoring.surface_distances(values["prediction"], split.cases, split.rows, split.cohort.structures)
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
        Columns `IDENTIFIERS`, the attributes and `SCORES`, a row for each case and structure of
        `anatomy.scored_structures`. All scores but the ECE are at the split's resolution. Distances, NSD and areas are
        NaN where the spacing is unknown.
    """
    cohort = split.cohort
    identifiers = cohort.cases.iloc[split.rows][["case_id", "patient_id", "split", *cohort.attributes]]
    frames = []
    for s, structure in enumerate(anatomy.scored_structures(cohort.structures)):
        frame = identifiers.assign(
            model=model,
            structure=structure,
            **{score: values[score][:, s].astype(float) for score in SCORES},
        )
        frames.append(frame)
    order = [*IDENTIFIERS, *cohort.attributes, *SCORES]
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
