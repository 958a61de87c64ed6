import json
import sys

import pytest

from kneefair_jax import run_folder
from kneefair_jax.errors import InputError
from tests.training import study


def test_the_same_config_may_go_on_and_another_may_not(tmp_path):
    config = study.config()
    run_folder.check_config(tmp_path, config)
    run_folder.open_run(tmp_path, config, {"fingerprint": "f"})
    run_folder.check_config(tmp_path, config)
    config.report.bootstrap_draws = 7
    config.select = "worst_group"
    run_folder.check_config(tmp_path, config)
    config.train.steps = 99
    config.model.widths = (2, 2)
    with pytest.raises(
        InputError, match=r"model.widths is \[2, 2\] but was \[4, 8\]; train.steps is 99 but was 6"
    ):
        run_folder.check_config(tmp_path, config)


def test_the_environment_names_versions_and_no_path(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["/home/me/launch.py", "--workdir=/secret", "--config=c.py", "--workdir", "/x"]
    )
    run_folder.open_run(tmp_path / "run", study.config(), {"fingerprint": "f"})
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["command"] == "python launch.py --config=c.py"
    assert environment["versions"]["jax"] and environment["versions"]["python"]
    assert environment["device"].startswith("8 x")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["train"]["steps"] == 6


def test_flat():
    assert run_folder.flat({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}


def test_json_is_whole_and_strict(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        run_folder.write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not (tmp_path / "x.json").exists()
