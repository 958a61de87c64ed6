"""A cohort so small that a run takes seconds, made of discs and squares."""

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from configs import default
from kneefair_jax import groups
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.data.source import Example, Source

GRID = (16, 16, 1)
STRUCTURES = ("disc", "square")


def example(row):
    """Each case another disc and square, on noise."""
    rng = np.random.default_rng(row)
    y, x = np.mgrid[:16, :16]
    label = np.zeros((16, 16), np.uint8)
    label[(y - rng.integers(4, 8)) ** 2 + (x - rng.integers(4, 8)) ** 2 < 9] = 1
    label[10:14, 9 : rng.integers(12, 16)] = 2
    image = np.clip(60 * label + rng.normal(60, 15, (16, 16)), 0, 255)
    return Example(image.astype(np.uint8)[..., None], label, np.array([0.5, 0.5], np.float32))


def cohort(cases=40):
    table = pd.DataFrame(
        {
            "case_id": [f"c{row:02d}" for row in range(cases)],
            "patient_id": [f"p{row // 2:02d}" for row in range(cases)],
            "sex": groups.categorical(pd.Series(["female", "female", "male", "male"] * (cases // 4))),
            "race": groups.categorical(pd.Series((["A"] * 6 + ["B", "B"]) * (cases // 8))),
        }
    )
    table["split"] = np.select(
        [np.arange(cases) < 24, np.arange(cases) < 32], ["train", "validation"], "test"
    )
    source = Source(table, STRUCTURES, {"cases": cases}, lambda rows: map(example, rows))
    return Cohort(source, table, ("sex", "race"), STRUCTURES, GRID, has_names=True)


def config(**train) -> ConfigDict:
    fields = default.get_config()
    fields.data.size = GRID[:2]
    fields.model.widths = (4,)
    fields.model.convolutions = 1
    # Random draws, but few kinds of them: each takes its time to compile.
    fields.augment = dict.fromkeys(fields.augment, 0.0) | {"flip": 0.5, "noise": 0.02}
    fields.optimizer.warmup_steps = 2
    fields.report.min_group_patients = 2
    fields.report.bootstrap_draws = 50
    fields.train.update({"batch_size": 8, "steps": 6, "eval_every": 2, "log_every": 1, **train})
    return fields
