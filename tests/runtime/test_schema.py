import numpy as np
import pytest

from kneefair_jax.runtime.schema import (
    Anything,
    Choice,
    Flag,
    Integer,
    ListOf,
    Nullable,
    Number,
    Omittable,
    Row,
    Table,
    Text,
    abbreviate,
    find_fault,
)

TABLE = Table({"a": Integer(0, 9), "b": Omittable(Table({"c": Nullable(Text(3, non_empty=True))}))})


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (0, Integer(0, 9)),
        (np.int64(9), Integer(0, 9)),
        (1, Number(0, 1)),
        (1e-300, Number(0, 1, exclusive_low=True)),
        (True, Flag()),
        ("", Text()),
        ("a\nb", Text(printable=False)),
        (3, Choice((1, 3))),
        ((1, 2), ListOf(Integer(1, 2), 2, 2, unique=True)),
        ([1, "x"], Row((Integer(1, 1), Text()))),
        ({"a": 1}, TABLE),
        ({"a": 1, "b": {"c": None}}, TABLE),
        ({"any": [[[]]]}, Table(other_fields=Anything())),
    ],
)
def test_what_fits(value, schema):
    assert find_fault(value, schema) is None


@pytest.mark.parametrize(
    ("value", "schema", "place"),
    [
        (-1, Integer(0, 9), ""),
        (10, Integer(0, 9), ""),
        (True, Integer(0, 9), ""),
        (1.0, Integer(0, 9), ""),
        ("1", Integer(0, 9), ""),
        (10**30, Integer(0, 9), ""),
        (float("nan"), Number(0, 1), ""),
        (float("inf"), Number(0, 1), ""),
        (0, Number(0, 1, exclusive_low=True), ""),
        (True, Number(0, 1), ""),
        (1, Flag(), ""),
        ("a\nb", Text(), ""),
        ("", Text(non_empty=True), ""),
        ("abcd", Text(3), ""),
        (True, Choice((1, 3)), ""),
        (["group"], Choice(("group",)), ""),
        ((1,), ListOf(Integer(1, 2), 2, 2), ""),
        ("12", ListOf(Text(), 2, 2), ""),
        ((1, 1), ListOf(Integer(1, 2), 2, 2, unique=True), "[1]"),
        ((1, 3), Row((Integer(1, 2), Integer(1, 2))), "[1]"),
        ((1,), Row((Integer(1, 2), Integer(1, 2))), ""),
        ([], TABLE, ""),
        ({}, TABLE, "a"),
        ({"a": 1, "x": 1}, TABLE, "x"),
        ({"a": 1, "b": {"c": 3}}, TABLE, "b.c"),
        ({"k": [[0]]}, Table(other_fields=ListOf(ListOf(Flag(), 1, 1), 1, 1)), "k[0][0]"),
    ],
)
def test_what_does_not_fit_is_named(value, schema, place):
    fault = find_fault(value, schema)
    assert fault is not None and fault.place == place


def test_a_value_in_a_message_is_short_and_of_one_line():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("a" * 10**6, "a\nb\x1b", deep, 10**5000, list(range(10**5)), float("nan")):
        assert 0 < len(abbreviate(value)) <= 60 and abbreviate(value).isprintable()
