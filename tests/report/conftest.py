"""A small report: two attributes, a missing level, groups too small to rank, nulls as a run has them."""

import numpy as np
import pandas as pd
import pytest

from kneefair_jax import groups
from kneefair_jax.report.overlays import CaseView

STRUCTURES = ("femur", "tibia", "patella")
MEANS = {
    "sex=female": 0.9312,
    "sex=male": 0.9457,
    "age=<=50": 0.9501,
    "age=>=51": 0.9283,
    "age=missing": 0.9111,
    "sex=female,age=<=50": 0.9422,
    "sex=female,age=>=51": 0.9218,
    "sex=male,age=<=50": 0.9533,
    "sex=male,age=missing": None,
}
SMALL = {"age=missing", "sex=male,age=missing"}


def part(shift: float) -> dict:
    entries = {
        name: {
            "mean": None if mean is None else mean - shift,
            "interval": None if name in SMALL else [mean - shift - 0.01, mean - shift + 0.01],
            "patients": 4 if name in SMALL else 31,
            "cases": 8 if name in SMALL else 62,
            "ranked": name not in SMALL,
            "unranked": "not a group: unknown" if name in SMALL else None,
        }
        for name, mean in MEANS.items()
    }
    summary = {
        "worst": {"value": 0.07 + shift, "interval": None, "group": "sex=female"},
        "gap": {"value": 0.0146, "interval": [0.002, 0.027]},
        "sd": {"value": 0.00725, "interval": None},
        "ser": {"value": float("nan"), "interval": None},
        "es": {"value": 0.925, "interval": [0.91, 0.94]},
    }
    age = {
        "worst": {"value": 0.0717, "interval": None, "group": "age=>=51"},
        "gap": {"value": 0.0218, "interval": [0.0, 0.044]},
    }
    nothing = {
        key: {"value": None, "interval": None, "group": None} for key in ("worst", "gap", "sd", "ser", "es")
    }
    return {
        "overall": {
            "mean": 0.9376 - shift,
            "interval": [0.931 - shift, 0.944 - shift],
            "patients": 66,
            "cases": 1132,
        },
        "groups": entries,
        "summaries": {"sex": summary, "age": age, "sex,age": nothing},
    }


def score(shift: float) -> dict:
    return part(shift) | {
        "structures": {name: part(shift + 0.02 * i) for i, name in enumerate(STRUCTURES)},
    }


@pytest.fixture
def report() -> dict:
    table = [
        {"group": name, "split": split, "patients": 31, "cases": 62}
        for name in ("all", *MEANS)
        for split in ("train", "test")
    ]
    return {
        "schema": 1,
        "scores": {"dice": score(0.0), "iou": score(0.05)},
        "cohort": {
            "structures": list(STRUCTURES),
            "attributes": ["sex", "age"],
            "min_group_patients": 10,
            "table": table,
        },
        "run": {
            "config": {"seed": 7, "rate": 3e-4, "size": (128, 128)},
            "versions": {"jax": "0.11.1"},
            "fingerprint": "3f9a1c",
            "command": "python launch.py --mode train",
            "device": "cpu",
            "model": "overall",
            "step": np.int64(1200),
            "grid": [128, 128],
            "absent": {"patella": 1},
            "times": {"train_seconds": 12.3},
        },
        "selection": {
            "overall": {"step": 1200, "dice": 0.9376, "worst": 0.9283},
            "worst_group": {"step": 900, "dice": None, "worst": 0.929},
        },
    }


@pytest.fixture
def cases() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    rows = [
        {
            "case_id": f"case{i:03d}",
            "patient_id": f"PERSON-{i // 2:03d}",
            "split": split,
            "model": "overall",
            "structure": name,
            "sex": ("female", "male")[i % 2],
            "age": ("<=50", ">=51", None)[i % 3],
            "dice": draw.uniform(0.9, 1.0),
        }
        for split, many in (("train", range(40, 60)), ("test", range(40)))
        for i in many
        for name in STRUCTURES
    ]
    table = pd.DataFrame(rows)
    return table.assign(
        iou=table["dice"] / (2 - table["dice"]),
        sex=groups.categorical(table["sex"]),
        age=groups.categorical(table["age"]),
    )


@pytest.fixture
def curves() -> list[dict]:
    losses = [{"step": step, "loss": 1 / (1 + step)} for step in range(0, 100, 10)]
    scores = [{"step": step, "validation": {"overall": 0.9, "worst_group": 0.88}} for step in (50, 90)]
    return losses + scores + [{"step": 95, "loss": float("nan")}]


@pytest.fixture
def examples() -> list[CaseView]:
    image = np.full((16, 16, 1), 90, np.uint8)
    label = np.zeros((16, 16), np.uint8)
    label[4:12, 4:12] = 1
    return [
        CaseView(f"case{i:03d}", "sex=female", rank, 0.9 + i / 100, image, label, np.roll(label, i))
        for i, rank in enumerate(("worst", "median", "best"))
    ]
