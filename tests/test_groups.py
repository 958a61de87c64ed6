import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneefair_jax import groups
from kneefair_jax.errors import InputError

LEVELS = st.sampled_from(["a", "b", "c", "", None, "missing"])


def cases(sex, race):
    return pd.DataFrame(
        {
            "sex": groups.categorical(pd.Series(sex, dtype=object)),
            "race": groups.categorical(pd.Series(race, dtype=object)),
        }
    )


def test_whole_edges_read_as_ages():
    ages = pd.Series([50, 51, 64, 65, 79, np.nan])
    column = groups.bin_values(ages, (50, 64))
    assert column.tolist() == ["<=50", "51-64", "51-64", ">=65", ">=65", "missing"]
    assert column.cat.categories.tolist() == ["<=50", "51-64", ">=65", "missing"]
    assert groups.bin_values(pd.Series([3, 2, 1]), (1, 2)).tolist() == [">=3", "2", "<=1"]


def test_whole_edges_of_fractions_are_not_rounded():
    """A body mass index of 25.4 is above 25."""
    column = groups.bin_values(pd.Series([25.0, 25.4, 30.0, 30.1]), (25, 30))
    assert column.tolist() == ["<=25", "25-30", "25-30", ">30"]


def test_other_edges_belong_to_the_bin_they_close():
    assert groups.bin_values(pd.Series([1.5, 1.6, 2.5, 9]), (1.5, 2.5)).tolist() == [
        "<=1.5",
        "1.5-2.5",
        "1.5-2.5",
        ">2.5",
    ]


@pytest.mark.parametrize("edges", [(), (64, 50), (50, 50)])
def test_edges_must_ascend(edges):
    with pytest.raises(InputError, match="ascending"):
        groups.bin_values(pd.Series([1.0], name="age"), edges)


@given(st.lists(st.floats(0, 100) | st.just(np.nan), min_size=1), st.sets(st.integers(1, 99), min_size=1))
def test_binned_agrees_with_counting(numbers, edges):
    edges = sorted(edges)
    column = groups.bin_values(pd.Series(numbers, dtype=float), edges)
    for number, level in zip(numbers, column, strict=True):
        if np.isnan(number):
            assert level == groups.MISSING
        else:
            above = sum(number > edge for edge in edges)
            assert level.startswith("<=") == (above == 0) and level.startswith(">") == (above == len(edges))


def test_categorical_order_and_missing_last():
    values = pd.Series(["b", None, " a ", "", "missing", "b"], index=[7, 3, 1, 2, 9, 5])
    column = groups.categorical(values)
    assert column.tolist() == ["b", "missing", "a", "missing", "missing", "b"]
    assert column.cat.categories.tolist() == ["a", "b", "missing"]
    assert column.index.tolist() == [7, 3, 1, 2, 9, 5]
    assert groups.categorical(values, ["c", "b", "a"]).cat.categories.tolist() == ["b", "a", "missing"]


def test_a_level_missing_from_the_order_is_refused():
    with pytest.raises(ValueError, match="'b'"):
        groups.categorical(pd.Series(["a", "b"]), ["a"])


def test_partition_by_hand():
    table = cases(["m", "f", "", "f"], ["W", "B", "B", None])
    assert groups.partition(table, ["sex"]).names == ("sex=f", "sex=m")
    pairs = groups.partition(table, ["sex", "race"], missing_as_level=True)
    assert pairs.names == ("sex=f,race=B", "sex=f,race=missing", "sex=m,race=W", "sex=missing,race=B")
    assert pairs.index.tolist() == [2, 0, 3, 1]
    assert [part.attributes for part in groups.partitions(table, ["sex", "race"])] == [
        ("sex",),
        ("race",),
        ("sex", "race"),
    ]


def test_partitions_without_pairs():
    table = cases(["m", "f"], ["W", "B"])
    partitions = groups.partitions(table, ["sex", "race"], intersections=False)
    assert [part.names for part in partitions] == [("sex=f", "sex=m"), ("race=B", "race=W")]


@given(st.lists(st.tuples(LEVELS, LEVELS), min_size=1, max_size=30))
def test_missing_is_never_part_of_another_group(rows):
    table = cases(*zip(*rows, strict=True))
    missing = (table == groups.MISSING).any(axis=1).to_numpy()
    for attributes in (["sex"], ["race"], ["sex", "race"]):
        has_missing = (table[attributes] == groups.MISSING).any(axis=1).to_numpy()
        strict = groups.partition(table, attributes)
        np.testing.assert_array_equal(strict.index == groups.UNKNOWN, has_missing)
        full = groups.partition(table, attributes, missing_as_level=True)
        assert (full.index >= 0).all() and full.counts.sum() == len(rows) and (full.counts > 0).all()
        for row, group in enumerate(full.index):
            levels = [f"{a}={table[a].iloc[row]}" for a in attributes]
            assert full.names[group] == ",".join(levels)
    matrix = groups.membership(groups.partition(table, ["sex", "race"]).index, 9)
    np.testing.assert_array_equal(matrix.sum(axis=1), ~missing)


def test_membership_by_hand():
    matrix = groups.membership(np.array([1, -1, 0]), 2)
    assert matrix.dtype == np.float32 and matrix.tolist() == [[0, 1], [0, 0], [1, 0]]


def test_group_index_of_another_table():
    """The other table may have fewer or more levels, or another order."""
    like = groups.partition(cases(list("abb"), list("xxy")), ["sex", "race"])
    assert like.names == ("sex=a,race=x", "sex=b,race=x", "sex=b,race=y")
    table = cases(["b", "a", "", "c", "b", "a"], ["y", "y", "x", "x", "x", "x"])
    index = groups.group_index(table, like)
    assert index.tolist() == [2, -1, -1, -1, 1, 0] and index.dtype == np.int32
    assert groups.group_index(cases([""] * 2, list("xy")), like).tolist() == [-1, -1]
    np.testing.assert_array_equal(groups.group_index(cases(list("abb"), list("xxy")), like), like.index)


def test_a_level_that_ends_like_a_missing_one_is_a_level():
    assert groups.is_missing("sex=missing") and groups.is_missing("sex=f,race=missing")
    assert not groups.is_missing("sex=x=missing") and not groups.is_missing("sex=f,race=not missing")


def test_unranked_groups_have_a_reason():
    assert groups.unranked_reason("sex=f", 10, 10) is None
    assert "n < 10" in groups.unranked_reason("sex=f", 9, 10)
    assert groups.unranked_reason("sex=f", 0, 0) is not None
    assert "unknown" in groups.unranked_reason("sex=missing", 50, 10)


def test_without_attributes_all_rows_are_one_group():
    partition = groups.partition(pd.DataFrame({"case_id": ["a", "b"]}), ())
    assert partition.names == ("all",) and partition.index.tolist() == [0, 0] and partition.attributes == ()
