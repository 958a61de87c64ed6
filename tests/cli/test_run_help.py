"""The help of the config's fields: every field of `configs/default.py`, with its default and its comment."""

from kneefair_jax.cli import run_help
from kneefair_jax.configs import default
from kneefair_jax.runtime import run_directory


def fields():
    return {field.name: field for group in run_help.groups() for field in group.fields}


def test_every_field_of_every_section_is_listed():
    listed = fields()
    config = default.get_config()
    for section in (default.folder, default.external, default.oai, default.siddiqui, default.phantom):
        config.data.update(section())
    names = set(run_directory.flatten(config.to_dict()))
    names = {name for name in names if not name.startswith(("data.quality.", "data.bins."))}
    assert names | {"data.quality", "data.bins", "data.phantom.bias"} <= set(listed)


def test_a_field_has_its_default_and_its_comment():
    listed = fields()
    assert listed["train.steps"] == ("train.steps", "1000", "1 to 10,000,000")
    assert listed["init_from"].comment.startswith("trained weights")  # within parentheses
    margin = listed["report.equivalence_margin"]
    assert margin.default == "{}" and "dice=0.01" in margin.comment  # in the line above
    assert "V00ACCEPT" in listed["data.quality"].comment


def test_a_misspelled_field_is_named_with_its_near_name():
    message = run_help.misspelled_field(["config.seed", "config.data.bins.age", "config.train.stepz"])
    assert message == "the config has no field train.stepz; did you mean train.steps?"
    assert "train.steps?" in run_help.misspelled_field(["config.trian.steps"])
    known = ["config.train", "config.study.settings.erm", "config.data.phantom.bias", "config.unlike.all"]
    assert run_help.misspelled_field(known) == ""


def test_every_field_but_the_obvious_has_a_comment():
    without = {field.name for field in fields().values() if not field.comment}
    assert without <= {"data.source", "data.metadata", "study.title", "study.settings"}
