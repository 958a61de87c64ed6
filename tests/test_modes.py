"""Folds: each a run of its own, and their union a cohort reported whole."""

import json

import pandas as pd
import pytest

from configs import folder as folder_config
from kneefair_jax import modes
from kneefair_jax.errors import InputError
from tests.films import folder


def config(root, fold=-1):
    made = folder_config.get_config()
    made.data.update({"root": str(root), "size": (16, 16), "folds": 2, "fold": fold})
    made.model.widths = (2, 4)
    made.train.update({"steps": 2, "eval_every": 2, "batch_size": 8})
    made.report.bootstrap_draws = 20
    return made


def test_every_patient_is_scored_once_by_a_model_that_never_saw_it(tmp_path, capsys):
    root = folder(tmp_path / "films")
    modes.train(config(root, fold=1), tmp_path / "run")
    assert "waits for fold_0" in capsys.readouterr().out
    assert not (tmp_path / "run" / "report").exists()
    modes.train(config(root), tmp_path / "run")
    union = pd.read_parquet(tmp_path / "run" / "cases.parquet")
    mine = union[union["model"] == "overall"]
    assert sorted(mine["case_id"].unique()) == sorted(f"c{i}" for i in range(24))
    assert not mine.duplicated(["case_id", "structure"]).any()
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    assert report["scores"]["dice"]["overall"]["cases"] == 24
    assert report["scores"]["dice"]["groups"]["age=missing"]["cases"] == 2
    assert len(report["run"]["step"]) == 2
    for fold in range(2):
        table = pd.read_csv(tmp_path / "run" / f"fold_{fold}" / "cohort.csv")
        counts = table[table["group"] == "all"].set_index("split")["patients"]
        assert counts["test"] == 6 and counts["all"] == 12
    other = config(root, fold=1)
    other.loss = "focal"
    with pytest.raises(InputError, match="holds a run of another config"):
        modes.train(other, tmp_path / "run")
    # One store serves them all.
    assert len(list((tmp_path / "run" / "store" / "case_store").iterdir())) == 1
    modes.evaluate_only(config(root), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "report" / "report.json").read_text())["scores"] == report["scores"]
