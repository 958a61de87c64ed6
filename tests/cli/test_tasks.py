"""The demo and the completion scripts."""

import pytest

from kneefair_jax.cli import completion, demo, main
from kneefair_jax.data.phantom import gallery
from kneefair_jax.predict import cli
from kneefair_jax.runs import modes


def test_the_demo_trains_then_segments_and_names_the_results(tmp_path, monkeypatch, capsys):
    runs = []
    monkeypatch.setattr(modes, "train", lambda config, workdir: runs.append((config.train.steps, workdir)))
    monkeypatch.setattr(gallery, "main", lambda words: runs.append(words) or 0)
    monkeypatch.setattr(cli, "main", lambda words: runs.append(words) or 0)
    assert demo.main([str(tmp_path)]) == 0
    knee = str(tmp_path / "knee.png")
    assert runs[:2] == [(400, tmp_path / "quickstart"), ["--knee", knee]]
    assert runs[2][:4] == ["--checkpoint", "phantom", "--images", knee]
    out = capsys.readouterr().out
    assert f"report: {tmp_path}/quickstart/report/index.html" in out


def test_completion_knows_every_task_and_field():
    whole = completion.all_tasks()
    tasks = next(action.choices for action in whole._actions if action.dest == "task")
    assert set(tasks) == set(main.SUMMARIES)
    assert "--config.train.steps" in tasks["train"]._option_string_actions
    assert "--attributes" in tasks["audit"]._option_string_actions


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_completion_prints_a_script(shell, capsys):
    assert completion.main([shell]) == 0
    assert "kneefair" in capsys.readouterr().out
