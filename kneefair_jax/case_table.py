"""What a run's models say of cases -> the long per-case table, from which every number of a report follows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from kneefair_jax import anatomy
from kneefair_jax.data.load import Cohort
from kneefair_jax.data.store import Cases
from kneefair_jax.training import members, scoring, steps
from kneefair_jax.training.experiment import Experiment


class Part(NamedTuple):
    """Cases to score: of which cohort, which rows, in which groups, by which step."""

    cohort: Cohort
    cases: Cases
    rows: np.ndarray
    group: np.ndarray
    step: steps.EvalStep


def case_step(experiment: Experiment, cohort: Cohort, scored: Cohort) -> steps.EvalStep:
    """Scores masks in the scored cohort's own label scheme."""
    translation = anatomy.translation(cohort.structures, scored.structures)
    step = steps.make_case_step(experiment.model, len(scored.structures), jnp.asarray(translation))
    return jax.jit(step)


def score(
    part: Part, models: Sequence[members.Member], variables: Sequence[dict[str, Any]], run: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Every score of every case of a part, and its label map."""
    values = members.over_cases(part.step, models, variables, part.cases, part.rows, group=part.group, **run)
    structures = len(part.cohort.structures)
    return values | scoring.surface_distances(values["prediction"], part.cases, part.rows, structures)


def table(values: dict[str, np.ndarray], part: Part, model: str) -> pd.DataFrame:
    """What is known of N cases' predictions -> the long per-case table, N x S rows.

    Columns: `case_id, patient_id, split, model, structure, <attributes>, dice, iou, hd95_mm, assd_mm, nsd,
    ece, true_area_mm2, pred_area_mm2`, all of the working grid; distances, NSD and areas are NaN where the spacing is
    unknown.
    """
    cohort = part.cohort
    spacing = np.array([part.cases[row]["spacing"] for row in part.rows], float)
    pixel_mm2 = spacing.prod(1)
    about = cohort.cases.iloc[part.rows][["case_id", "patient_id", "split", *cohort.attributes]]
    measured = ("dice", "iou", "hd95_mm", "assd_mm", "nsd", "ece")
    frames = []
    for s, structure in enumerate(cohort.structures):
        frame = about.assign(
            model=model,
            structure=structure,
            **{score: values[score][:, s].astype(float) for score in measured},
            true_area_mm2=values["true_pixels"][:, s] * pixel_mm2,
            pred_area_mm2=values["pred_pixels"][:, s] * pixel_mm2,
        )
        frames.append(frame)
    order = ["case_id", "patient_id", "split", "model", "structure", *cohort.attributes]
    order += [*measured, "true_area_mm2", "pred_area_mm2"]
    return pd.concat(frames, ignore_index=True)[order]


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
