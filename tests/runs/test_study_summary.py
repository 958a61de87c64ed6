"""Convergence of runs, from their folders."""

import json

import pytest

from kneefair_jax.runs import study_summary
from kneefair_jax.runs.study_trials import Trial

REPORT = "report.json"


def write(folder, scores, fit=None):
    folder.mkdir(parents=True, exist_ok=True)
    records = [{"step": 1, "loss": 2.0}]
    records += [{"step": i, "validation": {"overall": score}} for i, score in enumerate(scores, 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / REPORT).write_text(json.dumps({"train_scores": fit} if fit else {}))


def test_the_last_rise_and_the_fit_seed_by_seed(tmp_path):
    trials = [Trial("erm", seed) for seed in (3, 4)]
    for trial, score in zip(trials, (0.8, 0.7), strict=True):
        fit = {"race=A": {"dice": score + 0.1, "cases": 9, "patients": 9}}
        write(tmp_path / trial.directory, [0.1, 0.6, score], fit)
    result = study_summary.convergence(tmp_path, {"erm": trials}, REPORT)["erm"]
    assert result["rise"] == pytest.approx([0.2, 0.1])
    assert result["train_scores"] == {"race=A": {"cases": 9, "dice": pytest.approx([0.9, 0.8])}}
    write(tmp_path / trials[1].directory, [0.7])  # evaluated once, by a version without train scores
    assert study_summary.convergence(tmp_path, {"erm": trials}, REPORT)["erm"] == {
        "rise": None,
        "train_scores": None,
    }


def test_several_models_are_one_run(tmp_path):
    for g, scores in enumerate(([0.5, 0.6], [0.5, 0.9])):
        write(tmp_path / f"stages/group_{g}", scores)
    write(tmp_path / "stages/pooled", [0.0, 0.9])
    assert study_summary.validation_rise(tmp_path) == pytest.approx(0.25)
    assert study_summary.validation_rise(tmp_path / "none") is None
