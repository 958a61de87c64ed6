"""The demo and the completion scripts."""

import pytest

from kneefair_jax.cli import demo, main
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
    assert f"segmented knee: {tmp_path}/segmented/overlays/knee.png" in out


def test_the_demo_passes_the_status_of_a_failed_segmentation_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(modes, "train", lambda config, workdir: None)
    monkeypatch.setattr(gallery, "main", lambda words: 0)
    monkeypatch.setattr(cli, "main", lambda words: 2)
    assert demo.main([str(tmp_path)]) == 2
    out = capsys.readouterr().out
    assert "report: " in out and "segmented knee" not in out


def test_the_demo_validates_its_config_as_training_does(tmp_path, monkeypatch, capsys):
    config = tmp_path / "config.py"
    config.write_text(
        "from kneefair_jax.configs import quickstart\n\n\n"
        "def get_config():\n    config = quickstart.get_config()\n    config.loss = 'length'\n    return config\n"
    )
    monkeypatch.setattr(demo, "CONFIG", str(config))
    monkeypatch.setattr(modes, "train", None)
    assert demo.main([str(tmp_path)]) == 2
    assert "config.loss='length'" in capsys.readouterr().err


def test_completion_knows_every_task_and_field():
    whole = main.all_tasks()
    tasks = next(action.choices for action in whole._actions if action.dest == "task")
    assert set(tasks) == set(main.SUMMARIES)
    assert "--config.train.steps" in tasks["train"]._option_string_actions
    assert {"--shard", "--dry-run"} <= set(tasks["study"]._option_string_actions)
    assert "--attributes" in tasks["audit"]._option_string_actions


@pytest.mark.parametrize("shell", main.SHELLS)
def test_completion_prints_a_script(shell, capsys):
    assert main.completion([shell]) == 0
    assert "kneefair" in capsys.readouterr().out
