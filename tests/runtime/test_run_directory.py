import hashlib
import json
import re
import shlex
import sys

import numpy as np
import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, run_directory
from tests.training import study


def test_the_same_config_may_go_on_and_another_may_not(tmp_path):
    config = study.config()
    run_directory.check_config(tmp_path, config)
    run_directory.open_run(tmp_path, config, table="t", pixels="p")
    run_directory.check_config(tmp_path, config)
    config.report.bootstrap_draws = 7
    config.select = "worst_group"
    run_directory.check_config(tmp_path, config)
    config.train.steps = 99
    config.model.widths = (2, 2)
    with pytest.raises(
        InputError, match=r"model.widths is \[2, 2\] but was \[4\]; train.steps is 99 but was 6"
    ):
        run_directory.check_config(tmp_path, config)


def test_a_run_of_a_version_without_a_field_goes_on_with_the_value_that_it_had(tmp_path):
    config = study.config()
    run_directory.open_run(tmp_path, config, table="t", pixels="p")
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["model"]["stem"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    run_directory.check_config(tmp_path, config)
    config.model.stem = "patch2"
    with pytest.raises(InputError, match="model.stem is 'patch2' but was 'pixel'"):
        run_directory.check_config(tmp_path, config)


def test_the_environment_names_versions_and_no_path(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["/home/me/launch.py", "--workdir=/secret", "--config=c.py", "--workdir", "/x"]
    )
    run_directory.open_run(tmp_path / "run", study.config(), table="t", pixels="p")
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["command"] == "python launch.py --config=c.py"
    assert environment["versions"]["jax"] and environment["versions"]["python"]
    assert environment["device"].startswith("8 x")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["train"]["steps"] == 6


def test_flat():
    assert run_directory.flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}


def test_json_is_whole_and_strict(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_no_absolute_path_is_published(monkeypatch):
    config = study.config()
    config.data.store = "/home/me/store"
    assert run_directory.public_config(config)["data"]["store"] == "store"
    monkeypatch.setattr(sys, "argv", ["launch.py", "--config.data.root=/home/me/knees", "--config=../c.py"])
    assert (
        run_directory.environment()["command"] == "python launch.py --config.data.root=knees --config=../c.py"
    )


def test_other_data_is_refused_whichever_part_changed(tmp_path):
    run_directory.check_data(tmp_path, table="t", pixels="p")
    run_directory.open_run(tmp_path, study.config(), table="t", pixels="p")
    run_directory.check_data(tmp_path, table="t", pixels="p")
    run_directory.check_data(tmp_path, table="t")
    for data, changed in ({"table": "u"}, "table"), ({"table": "t", "pixels": "q"}, "pixels"):
        with pytest.raises(InputError, match=f"its {changed} changed"):
            run_directory.check_data(tmp_path, **data)


def test_the_environment_is_that_of_the_first_start(tmp_path):
    run_directory.open_run(tmp_path, study.config(), table="t", pixels="p")
    text = (tmp_path / "environment.json").read_text()
    run_directory.open_run(tmp_path, study.config(), table="t", pixels="p")
    assert (tmp_path / "environment.json").read_text() == text


def test_the_fingerprint_of_a_table_is_of_cases_patients_splits_and_groups():
    cases = study.cohort().cases
    group = np.zeros(len(cases), int)
    first = run_directory.table_fingerprint(cases, group)
    assert first == run_directory.table_fingerprint(cases.copy(), group)
    for column in ("case_id", "patient_id", "split"):
        changed = cases.assign(**{column: ["x", *cases[column][1:]]})
        assert run_directory.table_fingerprint(changed, group) != first
    assert run_directory.table_fingerprint(cases, group + 1) != first


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        run_directory.check_config(tmp_path / "file", study.config())


@pytest.mark.parametrize(
    "word", ["--config.a=('sex',)", "--config.a=it's $HOME", "--config.title=two words", "plain"]
)
def test_a_command_can_be_typed_again(word):
    command = run_directory.public_command(["launch.py", word])
    assert shlex.split(command) == ["python", "launch.py", word]


def test_a_path_with_an_equals_sign_is_cut_whole():
    words = [
        "launch.py",
        "--config.data.root=/data/Smith=Jo, A./knees",
        "--config.data.beam=--temp=/home/jo/t",
    ]
    assert shlex.split(run_directory.public_command(words)) == [
        *("python", "launch.py"),
        *("--config.data.root=knees", "--config.data.beam=--temp=t"),
    ]


def test_tuples_of_strings_are_quoted_as_a_person_would():
    assert run_directory.public_command(["launch.py", "--a=('sex',)"]) == "python launch.py \"--a=('sex',)\""


def test_a_run_goes_on_by_a_config_whose_paths_were_cut(tmp_path):
    config = study.config()
    config.init_from = "/home/me/runs/pretrained"
    run_directory.open_run(tmp_path, config, table="t", pixels="p")
    assert "/home" not in (tmp_path / "config.json").read_text()
    run_directory.check_config(tmp_path, config)
    # One that an earlier version wrote has the whole path.
    previous = json.loads((tmp_path / "config.json").read_text()) | {"init_from": config.init_from}
    atomic.write_json(tmp_path / "config.json", previous)
    run_directory.check_config(tmp_path, config)
    config.init_from = "/home/me/runs/other/../pretrained"
    run_directory.check_config(tmp_path, config)
    config.init_from = "/home/me/runs/another"
    with pytest.raises(InputError, match="init_from is 'another' but was 'pretrained'"):
        run_directory.check_config(tmp_path, config)


def test_two_paths_with_the_same_last_part_are_two_configs(tmp_path):
    config = study.config()
    config.init_from, config.data.root = "/a/runs/seed1/best", "/a/films"
    run_directory.open_run(tmp_path, config, table="t", pixels="p")
    assert "seed1" not in (tmp_path / "environment.json").read_text()
    config.data.root = "/b/films"  # may change
    run_directory.check_config(tmp_path, config)
    for other in "/a/runs/seed2/best", "best":
        config.init_from = other
        with pytest.raises(InputError, match="init_from .*'best'.*--workdir"):
            run_directory.check_config(tmp_path, config)
    # A run of an earlier version has no hash and goes on.
    environment = json.loads((tmp_path / "environment.json").read_text())
    del environment["path_sha256"]
    atomic.write_json(tmp_path / "environment.json", environment)
    run_directory.check_config(tmp_path, config)


def test_the_date_is_that_of_the_source_where_it_is_set(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert run_directory.today() == "1970-01-02"
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", run_directory.today())


def test_digests_of_files_by_name(tmp_path):
    (tmp_path / "a.csv").write_text("a\n")
    digest = hashlib.sha256(b"a\n").hexdigest()
    assert run_directory.file_digests([tmp_path / "a.csv", tmp_path, None, {"c1": 1}]) == {"a.csv": digest}
