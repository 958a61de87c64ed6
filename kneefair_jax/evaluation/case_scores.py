"""Score the cases of a split by a run's models, on the working grid or at the masks' native resolution."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kneefair_jax import anatomy, groups, metrics
from kneefair_jax.data import readers
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.data.source import Example
from kneefair_jax.data.store import Cases
from kneefair_jax.evaluation import predictions, run_measurements
from kneefair_jax.fairness.group_calibration import Sums
from kneefair_jax.runtime.progress import Progress
from kneefair_jax.training import scoring, steps
from kneefair_jax.training.setup import Experiment

CHUNK = 512  # cases whose label maps are in memory together
SCORES = ("dice", "iou", "hd95_mm", "assd_mm", "nsd", "ece", "true_area_mm2", "pred_area_mm2")
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
        measures: whether knees are measured too.
    """

    cohort: Cohort
    cases: Cases
    rows: np.ndarray
    group: np.ndarray
    step: steps.EvalStep
    is_native: bool
    translation: np.ndarray
    measures: bool = False


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
        `grid_dice`; if knees are measured, `measurements`, `run_measurements.ROW`[N, R].
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
    if split.measures:
        values["measurements"] = run_measurements.of_working_grid(
            split.cohort.structures,
            split.cases,
            split.rows,
            values["prediction"],
            is_phantom=split.cohort.source.files is None,
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
        if split.measures:
            scores["measurements"] = run_measurements.of_case(
                structures, case, masks[1], is_phantom=split.cohort.source.files is None
            )
        return scores | {"spacing": case.spacing}

    scores = split.cohort.map_native(score_case, rows)
    native_values = {name: np.stack([case[name] for case in scores]) for name in scores[0]}
    return grid_values | {"grid_dice": values["dice"]} | native_values
