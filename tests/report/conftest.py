"""A small report of a run, one of an audit, and their cases."""

import numpy as np
import pandas as pd
import pytest

from kneefair_jax import groups
from kneefair_jax.report.figures import svg
from kneefair_jax.report.overlays import CaseView
from tests.report.reports import (
    AUDITED,
    FLOW,
    LEVELS,
    MEANS,
    STRUCTURES,
    audited_part,
    score,
    without_failures,
)


@pytest.fixture
def without_drawing(monkeypatch):
    """Skip the drawing of figures, which takes most of a page's time."""
    monkeypatch.setattr(svg, "text", lambda figure, name, words: f'<svg aria-label="{name}"></svg>')


@pytest.fixture
def report() -> dict:
    table = [
        {"group": name, "split": split, "patients": 31, "cases": 62}
        for name in ("all", *MEANS)
        for split in ("train", "test")
    ]
    scores = {"dice": score(0.0), "iou": score(0.05)}
    return {
        "schema": 2,
        "scores": scores,
        **without_failures(scores, ["sex", "age"]),
        "cohort": {
            "notes": [],
            "flow": FLOW,
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


@pytest.fixture
def audited(report) -> dict:
    """A report with all that an audit adds: two attributes of two levels, one of four and of unknown cases."""
    fit = {
        "terms": [
            {"term": "sex=male", "estimate": 0.019, "interval": [0.009, 0.03], "df": 70.1, "p": 0.0004},
            {"term": "race=White", "estimate": 0.004, "interval": [-0.006, 0.013], "df": 41.5, "p": 0.44},
        ],
        "contrasts": [
            {
                "term": f"{attribute}: {level} minus {reference}",
                "attribute": attribute,
                "level": level,
                "reference": reference,
                "estimate": estimate,
                "interval": [estimate - 0.01, estimate + 0.01],
                "n": 78,
                "p": p,
                "p_adjusted": 2 * p,
                "df": 70.1,
                "method": "CR2",
            }
            for attribute, level, reference, estimate, p in (
                ("sex", "male", "female", 0.0175, 0.0021),
                ("race", "White", "Black", 0.0031, 0.38),
            )
        ],
        "covariates": [],
        "formula": "dice ~ sex * race",
        "warnings": [],
        "patients": 78,
        "cases": 156,
    }
    adjusted = {"term": "log(area)", "estimate": 0.031, "interval": [0.02, 0.043], "df": 60.2, "p": 1e-5}
    sure = [0.6, 0.7, 0.8, 0.9, 0.98]
    change = {
        "patients": 77,
        "first": 0.021,
        "second": 0.017,
        "value": -0.004,
        "interval": [-0.009, 0.001],
        "p": 0.12,
        "p_holm": 0.24,
    }
    scores = {
        score: audited_part(0.01 * i)
        | {"structures": {name: audited_part(0.01 * (i + j)) for j, name in enumerate(STRUCTURES)}}
        for i, score in enumerate(AUDITED)
    }
    return report | {
        "scores": scores,
        **without_failures(scores, list(LEVELS)),
        "cohort": report["cohort"] | {"attributes": list(LEVELS)},
        "interactions": {
            "sex,race": {
                "dice": {
                    "cells": [f"sex={s},race={r}" for s in LEVELS["sex"] for r in LEVELS["race"]],
                    "reason": None,
                    "contrast": 0.0123,
                    "interval": [0.002, 0.022],
                    "interval_adjusted": [0.001, 0.024],
                    "p": 0.0155,
                    "p_holm": 0.031,
                }
            }
        },
        "model": {
            "dice": {
                "formula": "dice ~ sex * race + log(area)",
                "kind": "least squares",
                "with_mediators": fit
                | {
                    "terms": [*fit["terms"], adjusted],
                    "formula": "dice ~ sex * race + log(area)",
                    "covariates": ["log(area)"],
                },
                "without_mediators": fit,
                "excluded": ["bmi: unknown in most cases"],
                "references": [],
                "reasons": [],
            }
        },
        "calibration": {
            "groups": {
                f"{a}={level}": {
                    "patients": 40,
                    "bias": -0.0123,
                    "bias_interval": [-0.0234, -0.0012],
                    "slope": 0.87,
                    "slope_interval": None,
                }
                for a in ("sex", "race")
                for level in LEVELS[a]
            },
            "curves": {
                f"{a}={level}": {
                    "confidence": sure,
                    "accuracy": [None, *(x - 0.01 * i for x in sure[1:])],
                    "pixels": [10] * 5,
                }
                for a in ("sex", "race")
                for i, level in enumerate(LEVELS[a])
            },
        },
        "attribute_leakage": {
            "sex": {
                "image": {"auc": 0.93, "interval": [0.88, 0.97], "patients": 80},
                "mask": {"auc": 0.71, "interval": [0.6, 0.81], "patients": 80},
            },
            "race": {"image": {"auc": 0.55, "interval": [0.42, 0.67], "patients": 80}},
        },
        "models": {
            "score": "dice",
            "order": ["unet", "nnunet"],
            "summaries": {
                name: {
                    "overall": scores["dice"]["overall"],
                    "failed": 0,
                    "scored": 80,
                    "attributes": {},
                }
                for name in ("unet", "nnunet")
            },
            "pairs": [
                {
                    "first": "unet",
                    "patients": 80,
                    "second": "nnunet",
                    "attribute": "sex",
                    "change_of_mean": {
                        "first": 0.92,
                        "second": 0.9271,
                        "value": 0.0071,
                        "interval": [0.002, 0.012],
                        "p": 0.01,
                        "p_holm": 0.02,
                    },
                    "change_of_gap": change,
                    "change_by_group": [
                        {
                            "group": f"sex={level}",
                            "patients": 41 - k,
                            "first": 0.92,
                            "second": 0.92 + value,
                            "value": value,
                            "interval": [value - 0.004, value + 0.004],
                        }
                        for k, (level, value) in enumerate(zip(LEVELS["sex"], (0.0124, -0.0021), strict=True))
                    ],
                }
            ],
        },
    }


@pytest.fixture
def audited_cases() -> pd.DataFrame:
    """160 cases of 80 patients, whose score grows with the bones' size."""
    draw = np.random.default_rng(1)
    case = pd.DataFrame(
        {
            "case_id": [f"case{i:03d}" for i in range(160)],
            "patient_id": [f"PERSON-{i // 2:03d}" for i in range(160)],
            **{
                a: pd.Categorical(draw.choice(levels, 160), levels, ordered=True)
                for a, levels in LEVELS.items()
            },
            "area": draw.normal(4000, 500, 160),
        }
    )
    case["area"] += 700 * (case["sex"] == "male").to_numpy()
    rows = case.merge(pd.DataFrame({"structure": STRUCTURES, "part": (0.5, 0.4, 0.1)}), how="cross")
    dice = 1 - 0.06 * 4000 / rows["area"] - draw.gamma(2.0, 0.006, len(rows))
    return rows.assign(dice=dice, true_area_mm2=rows["area"] * rows["part"]).drop(columns=["area", "part"])
