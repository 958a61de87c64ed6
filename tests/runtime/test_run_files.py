"""Every field of the earlier layout is refused with its new name: as a flag, in a config file and in a run folder."""

import json
import sys

import pytest

from configs import default
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import run_directory, run_files
from tests.launched import run_in_process

OLD = {
    "groups": ["sex"],
    "sampler": "shuffled",
    "objective": "erm",
    "head": "none",
    "schedule": "single",
    "sharpness": 0.0,
    **dict.fromkeys(("eta", "adjustment", "alpha", "penalty", "anneal_steps", "power"), 0.1),
    **dict.fromkeys(("strength", "ramp", "distillation", "temperature"), 1),
    **dict.fromkeys(("start", "extra_steps", "share", "upweight"), 1),
}


def test_every_moved_field_has_a_place_in_the_new_layout():
    fields = set(run_directory.flatten(default.get_config().to_dict()))
    moved = run_files.moved_fields({"mitigation": OLD})
    assert set(moved) == {f"mitigation.{name}" for name in OLD} - {
        "mitigation.groups",
        "mitigation.sharpness",
    }
    assert set(moved.values()) <= fields
    assert moved["mitigation.eta"] == "mitigation.objective.eta"
    assert moved["mitigation.head"] == "mitigation.head.name"


def test_a_renamed_section_has_its_new_name_with_its_fields():
    assert run_files.new_name("report.delta.dice") == "report.equivalence_margin.dice"
    moved = run_files.moved_fields({"report": {"delta": {"dice": 0.02}, "primary": "dice"}})
    assert moved == {"report.delta": "report.equivalence_margin"}


def test_the_new_layout_has_no_moved_field():
    config = default.get_config().to_dict()
    assert not run_files.moved_fields(config | {"study": {"settings": {"erm": {}}}})
    assert run_files.new_name("mitigation.objective.eta") is None
    assert run_files.new_name("train.steps") is None


def test_the_reaction_to_unreadable_cases_has_a_new_name():
    moved = run_files.moved_fields({"data": {"on_broken": "skip", "on_read_error": "stop"}})
    assert moved == {"data.on_broken": "data.on_read_error"}


def test_a_method_of_a_study_has_moved_fields_too():
    study = {"settings": {"jtt": {"schedule": "jtt", "share": 0.2}}}
    assert run_files.moved_fields({"study": study}) == {
        "study.settings.jtt.schedule": "study.settings.jtt.schedule.name",
        "study.settings.jtt.share": "study.settings.jtt.schedule.share",
    }


def test_an_old_run_folder_is_refused_by_name(tmp_path):
    config = default.get_config()
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_dict() | {"mitigation": OLD}))
    with pytest.raises(InputError) as refused:
        run_directory.check_config(tmp_path, config)
    message = str(refused.value)
    assert str(path) in message and "earlier version" in message and "--workdir" in message
    assert "mitigation.sampler is now mitigation.sampler.name" in message and "and 15 more" in message
    path.write_text(json.dumps(config.to_dict()))
    assert run_files.read_config(path)["mitigation"]["objective"]["name"] == "erm"


@pytest.mark.parametrize(
    ("flag", "new"),
    [
        ("--config.mitigation.eta=0.3", "mitigation.objective.eta"),
        ("--config.mitigation.sampler=equal_share", "mitigation.sampler.name"),
        ("--noconfig.mitigation.ramp", "mitigation.head.ramp"),
        ("--config.study.settings.jtt.extra_steps=3", "study.settings.jtt.schedule.extra_steps"),
    ],
)
def test_an_old_flag_is_refused_with_its_new_name(flag, new, tmp_path):
    result = run_in_process(
        [sys.executable, "launch.py", "--config=configs/quickstart.py", f"--workdir={tmp_path}", flag]
    )
    error = result.stderr
    assert result.returncode == 2 and error.count("\n") == 1
    assert flag.partition("=")[0].replace("--no", "--") in error and f"--config.{new}" in error
