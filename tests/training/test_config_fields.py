"""Every field of every shipped config is declared, and every number has a range that is kept to."""

import importlib

import pytest
from ml_collections import ConfigDict

from configs import default
from kneefair_jax.errors import InputError
from kneefair_jax.runtime.schema import Integer, ListOf, Number, Omittable, Row, Table, find_fault
from kneefair_jax.training import config_checks
from kneefair_jax.training.config_fields import CONFIG
from tests.test_configs import NAMES


def leaves(tree, place=()):
    for name, value in tree.items():
        if isinstance(value, dict):
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
