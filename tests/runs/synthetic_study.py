"""Runs that took no training: folders with what a finished run leaves, the scores made up."""

import json

import numpy as np
import pandas as pd

from configs import study as configs
from kneefair_jax import groups
from kneefair_jax.cohort import SPLITS
from kneefair_jax.evaluation import case_table
from kneefair_jax.runtime import atomic, run_directory
from kneefair_jax.training import checkpoint

GAPS = {"erm": 0.10, "equal_share": 0.05, "group_dro": 0.04, "oracle": 0.03}


def config(**study):
    fields = configs.get_config()
    fields.study.update(
        {"methods": ("erm", "equal_share", "group_dro"), "seeds": (3, 4, 5), "bootstrap_draws": 50}
    )
    fields.study.update(study)
    fields.data.phantom.patients = 200  # only the table is read
    fields.lock()
    return fields


def one(config, workdir, directory, training):
    """In place of `run_experiment`."""
    assert training
    directory.mkdir(parents=True, exist_ok=True)
    cases = pd.DataFrame(
        {"case_id": [f"c{i}" for i in range(60)], "patient_id": [f"p{i}" for i in range(60)]}
    )
    cases["race"] = groups.categorical(pd.Series(["A", "B"] * 30))
    cases["split"] = [SPLITS[i % 3] for i in range(60)]
    strength = config.data.phantom.bias["race=B"]["representation"]
    method = workdir.parent.name
    gap = GAPS[method] + (0 if strength else -0.01)
    rng = np.random.default_rng(config.seed)
    dice = 0.9 - gap * (cases["race"] == "B").to_numpy() + rng.normal(0, 0.002, 60)
    tables = [
        cases.assign(model=rule, structure=part, dice=dice + step, iou=dice - 0.1, hd95_mm=2.0)
        for rule in checkpoint.SELECTION_RULES
        for part, step in (("femur", 0.01), ("tibia", -0.01))
    ]
    run_directory.open_run(workdir, config, table="t", pixels=f"{strength}")
    pd.concat(tables).to_parquet(workdir / case_table.TABLE)
    few = {"train": (20, round(20 * (1 - 0.95 * strength))), "test": (10, 10)}
    rows = [
        {"group": name, "split": split, "patients": n, "cases": n}
        for split, (a, b) in few.items()
        for name, n in (("race=A", a), ("race=B", b), ("all", a + b))
    ]
    pd.DataFrame(rows).to_csv(workdir / "cohort.csv", index=False)
    report = {
        "scores": {
            "dice": {"overall": {"mean": 0.9}, "groups": {"race=A": {"mean": 0.9}, "race=B": {"mean": None}}}
        },
        "run": {"times": {"train_seconds": 2.0}, "grid": [64, 64]}
        | {"device": "d", "versions": {}, "commit": "c"},
    }
    (workdir / "report").mkdir()
    atomic.write_json(workdir / "report" / "report.json", report)
    print("trained", json.dumps(method))
