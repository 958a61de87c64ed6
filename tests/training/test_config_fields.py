"""Every field of every shipped config is declared, and every number has a range that is kept to."""

import importlib

import pytest
from ml_collections import ConfigDict

from configs import default
from kneefair_jax import mitigation
from kneefair_jax.errors import InputError
from kneefair_jax.runtime.schema import Integer, ListOf, Number, Omittable, Row, Table, find_fault
from kneefair_jax.training import config_checks, config_fields
from kneefair_jax.training.config_fields import CONFIG, SETTINGS
from tests.test_configs import NAMES


def leaves(tree, place=()):
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*place, name))
        else:
            yield (*place, name), value


def schema_of(place):
    schema = CONFIG
    for name in place:
        schema = schema.schema if isinstance(schema, Omittable) else schema
        schema = schema.fields.get(name, schema.other_fields)
    return schema.schema if isinstance(schema, Omittable) else schema


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


LEAVES = list(leaves(default.get_config().to_dict()))
NUMBERS = [place for place, value in LEAVES if is_number(value)]
LISTS = [place for place, value in LEAVES if isinstance(value, tuple) and value and is_number(value[0])]


@pytest.mark.parametrize("name", NAMES)
def test_shipped_configs_are_within_the_ranges(name):
    config_checks.check_ranges(importlib.import_module(f"configs.{name}").get_config())


def test_default_lists_every_field_of_the_schema_and_no_other():
    config = default.get_config()
    config.study = default.study("title", {"erm": {}})
    sources = (default.folder, default.oai, default.siddiqui, default.phantom, default.external)
    listed = {place for place, _ in leaves(config.to_dict())}
    for source in sources:
        fields = source().to_dict()
        listed |= {("data", *place) for place, _ in leaves(fields)}
        assert not find_fault(config.data.to_dict() | fields, CONFIG.fields["data"])
    assert {field_of(place) for place in listed} == set(declared(CONFIG))
    assert not find_fault(config.to_dict(), CONFIG)


def declared(schema, place=()):
    """Every field that a schema names; a table of other names is one field."""
    schema = schema.schema if isinstance(schema, Omittable) else schema
    if isinstance(schema, Table) and schema.other_fields is None:
        for name, field in schema.fields.items():
            yield from declared(field, (*place, name))
    else:
        yield place


def field_of(place):
    """The declared field of a place: a table whose names are the user's is one field."""
    for end in range(1, len(place)):
        if isinstance(schema := schema_of(place[:end]), Table) and schema.other_fields:
            return place[:end]
    return place


def test_the_default_of_each_setting_is_the_one_that_counts_as_unset():
    section = default.get_config().mitigation
    for part, settings in SETTINGS.items():
        assert set(section[part]) == {"name", *settings}
        for name, setting in settings.items():
            assert section[part][name] == setting.default


def test_the_settings_of_objectives_are_their_arguments_and_agree_where_they_are_shared():
    for name, objective in mitigation.OBJECTIVES.items():
        assert objective.defaults.keys() == objective.ranges.keys()
        for field, default_value in objective.defaults.items():
            setting = SETTINGS["objective"][field]
            assert (setting.schema, setting.default) == (objective.ranges[field], default_value)
            assert name in setting.methods and objective.ranges[field].accepts(default_value)


def test_the_walk_sees_numbers():
    assert len(NUMBERS) > 40 and ("data", "size") in LISTS and ("model", "widths") in LISTS


@pytest.mark.parametrize("place", NUMBERS, ids=".".join)
def test_every_number_has_a_range(place):
    schema = schema_of(place)
    assert isinstance(schema, Integer | Number)
    field = ".".join(place)
    outside = [
        schema.low - 1,
        schema.high + 1,
        schema.high * 2 + 1,
        float("nan"),
        float("inf"),
        True,
        "1",
        (1,),
    ]
    for value in outside:
        config = default.get_config().to_dict()
        section = config
        for name in place[:-1]:
            section = section[name]
        section[place[-1]] = value
        with pytest.raises(InputError, match=f"config.{field}="):
            config_checks.check_ranges(ConfigDict(config))


@pytest.mark.parametrize("place", LISTS, ids=".".join)
def test_every_list_of_numbers_has_a_length_and_a_range(place):
    schema = schema_of(place)
    assert isinstance(schema, ListOf | Row)
    for value in (1, (), (1,) * 1000, (-1, -1), (1e30, 1e30), ("a", "b"), "12"):
        assert find_fault(value, schema) is not None, value


def test_a_field_that_is_missing_or_unknown_is_refused():
    config = default.get_config()
    del config.train.steps
    with pytest.raises(InputError, match=r"config\.train\.steps is missing"):
        config_checks.check_ranges(config)
    config = default.get_config()
    config.train.stepz = 3
    with pytest.raises(InputError, match=r"config\.train\.stepz"):
        config_checks.check_ranges(config)
    del config.train
    with pytest.raises(InputError, match=r"config\.train is missing"):
        config_checks.check_ranges(config)
    assert isinstance(CONFIG, Table)


@pytest.mark.parametrize(
    ("field", "closest"),
    [
        ("train.stepz", "train.steps"),
        ("trian.steps", "train.steps"),
        ("mitigation.objective.ata", "mitigation.objective.eta"),
        ("learning_rat", "optimizer.learning_rate"),
        ("data.zzz", None),
    ],
)
def test_a_typo_of_a_field_gets_the_closest_field(field, closest):
    assert config_fields.closest_field(field) == closest
    message = config_fields.describe_unknown(field)
    assert field in message and (f"did you mean {closest}?" if closest else "configs/default.py") in message


def test_a_field_of_another_source_names_the_sources_that_read_it():
    message = config_fields.describe_unknown("data.root", "phantom")
    assert "data.source=phantom" in message and "folder, oai and siddiqui do" in message
    assert "folder does" in config_fields.describe_unknown("data.metadata", "oai")
    assert "external()" in config_fields.describe_unknown("data.external", "phantom")
    assert "config file" in config_fields.describe_unknown("report.equivalence_margin.dice", "folder")


def test_the_fields_of_each_source_are_those_of_the_default_config():
    for source in ("folder", "oai", "siddiqui", "phantom"):
        fields = set(getattr(default, source)()) - {"source", *config_fields.EXTERNAL_FIELDS}
        assert fields == set(config_fields.SOURCE_FIELDS[source]), source


def test_a_value_of_another_type_names_field_value_and_range():
    message = config_fields.describe_illegal("train.steps", "ten")
    assert "config.train.steps=ten" in message and CONFIG.fields["train"].fields["steps"].expected in message
    assert "True or False" in config_fields.describe_illegal("report.intersections", "maybe")


def test_a_typo_in_a_config_file_gets_the_closest_field():
    config = default.get_config()
    config.train.stepz = 3
    with pytest.raises(InputError, match=r"config\.train\.stepz=3: .* did you mean train\.steps\?"):
        config_checks.check_ranges(config)
