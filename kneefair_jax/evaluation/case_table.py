"""What a run's models say of cases -> the long per-case table, from which every number of a report follows."""

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


class Part(NamedTuple):
    """Cases to score: of which cohort, which rows, in which groups, by which step.

    `at_source` says whether at the reference masks' own size, or on the working grid; `translation`, i32[C], what each
    of the network's labels is called in the cohort.
    """

    cohort: Cohort
    cases: Cases
    rows: np.ndarray
    group: np.ndarray
    step: steps.EvalStep
    at_source: bool
    translation: np.ndarray


def parts(
    experiment: Experiment,
    cohort: Cohort,
    scored: tuple[Cohort, Cases],
    rows: Sequence[np.ndarray],
    group: np.ndarray,
    resolution: str,
    in_front: str = "",
) -> list[Part]:
    """Parts of one cohort, which share a step; masks are scored in that cohort's own label scheme.

    Args:
        experiment: of the run.
        cohort: that of the run.
        scored: the cohort to score, and its prepared cases.
        rows: of each part.
        group: i32[cases] of the scored cohort.
        resolution: "source" or "grid"; a source without masks of their own size is scored on the grid.
        in_front: the bone that the masks show where two overlap (`anatomy.membership`); "" as in the scheme `knee`.
    """
    theirs, cases = scored
    at_source = resolution_of(theirs, resolution) == "source"
    translation = anatomy.translation(cohort.structures, theirs.structures, in_front)
    members = anatomy.scored_labels(theirs.structures)
    step = jax.jit(
        steps.make_case_step(
            experiment.model,
            len(theirs.structures) if members is None else members,
            jnp.asarray(translation),
            probabilities=at_source,
            void=theirs.source.void,
        )
    )
    return [Part(theirs, cases, some, group, step, at_source, translation) for some in rows]


def resolution_of(cohort: Cohort, wanted: str) -> str:
    """Where masks are scored: as `report.resolution` wants, but on the grid where they have no size of their own."""
    return "grid" if cohort.source.read_native is None else wanted


def score(
    part: Part,
    models: Sequence[group_models.Member],
    variables: Sequence[dict[str, Any]],
    run: dict[str, Any],
) -> dict[str, np.ndarray]:
    """Every score of every case of a part, and the `spacing` that they were taken at, f[N, 2].

    Its label map and Dice on the working grid are `prediction` and `grid_dice`.
    """
    then = partial(_at_source, part) if part.at_source else None
    values = group_models.over_cases(
        part.step, models, variables, part.cases, part.rows, group=part.group, then=then, **run
    )
    if part.at_source:
        return values
    spacing = np.array([part.cases[row]["spacing"] for row in part.rows], float)
    pixel_mm2 = spacing.prod(1, keepdims=True)
    return (
        values
        | {f"{which}_area_mm2": values[f"{which}_pixels"] * pixel_mm2 for which in ("true", "pred")}
        | {"grid_dice": values["dice"], "spacing": spacing}
        | scoring.surface_distances(values["prediction"], part.cases, part.rows, part.cohort.structures)
    )


def _at_source(part: Part, values: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """A batch's result with scores and areas of the masks' own size and spacing in place of the grid's.

    As on the grid, the network's likeliest label is found first and then called what the cohort calls it. Void pixels
    of the reference mask are background in both masks, as in an audit.
    """
    kept = {name: value for name, value in values.items() if name != "probability"}
    called, structures = part.translation.astype(np.uint8), part.cohort.structures
    names = anatomy.scored(structures)
    layers = anatomy.layers(structures, names)

    def of(place: int, case: Example) -> dict[str, np.ndarray]:
        height, width = case.label.shape
        predicted = called[readers.labels_at(values["probability"][place], (height, width))]
        cleared = anatomy.clear_void(case.label), anatomy.clear_void(case.label, predicted)

        def score(true: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
            pixels = {
                f"{which}_pixels": np.bincount(mask.ravel(), minlength=len(names) + 1)[1:]
                for which, mask in (("true", true), ("pred", predicted))
            }
            return metrics.mask_scores(predicted, true, len(names), case.spacing) | pixels

        return metrics.by_layer(score, layers, *cleared) | {"spacing": case.spacing}

    scores = part.cohort.map_native(of, rows)
    found = {name: np.stack([one[name] for one in scores]) for name in scores[0]}
    return kept | {"grid_dice": values["dice"]} | found


def table(values: dict[str, np.ndarray], part: Part, model: str) -> pd.DataFrame:
    """What is known of N cases' predictions -> the long per-case table, N x S rows; S as of `anatomy.scored`.

    Columns: `case_id, patient_id, split, model, structure, <attributes>, dice, iou, hd95_mm, assd_mm, nsd,
    ece, true_area_mm2, pred_area_mm2`, all but the ECE at the part's resolution; distances, NSD and areas are NaN where
    the spacing is unknown.
    """
    cohort = part.cohort
    about = cohort.cases.iloc[part.rows][["case_id", "patient_id", "split", *cohort.attributes]]
    frames = []
    for s, structure in enumerate(anatomy.scored(cohort.structures)):
        frame = about.assign(
            model=model,
            structure=structure,
            **{score: values[score][:, s].astype(float) for score in SCORES},
        )
        frames.append(frame)
    order = [*IDENTIFIERS, *cohort.attributes, *SCORES]
    return pd.concat(frames, ignore_index=True)[order]


def read(path: Path, attributes: Sequence[str], scores: Sequence[str] = SCORES) -> pd.DataFrame:
    """Return a table that an evaluated run keeps, as it was written.

    Args:
        path: of the table.
        attributes: categorical columns that must be there.
        scores: columns of numbers that must be there.

    Raises:
        InputError: see `typed_tables.read_run_parquet`.
    """
    return typed_tables.read_run_parquet(
        path, IDENTIFIERS, attributes, scores, "evaluate the run again: --mode=evaluate"
    )


def joined(tables: Sequence[pd.DataFrame], attributes: Sequence[str]) -> pd.DataFrame:
    """Tables below each other; levels keep the order of the first table, with those of later ones after them."""
    levels = {
        name: list(dict.fromkeys(level for table in tables for level in table[name].cat.categories))
        for name in attributes
    }
    same = [
        table.assign(**{name: table[name].cat.set_categories(levels[name]) for name in attributes})
        for table in tables
    ]
    return pd.concat(same, ignore_index=True)
