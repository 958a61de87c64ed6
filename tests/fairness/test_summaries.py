import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from kneefair_jax import groups
from kneefair_jax.fairness import summaries
from kneefair_jax.fairness.summaries import group_sums

MEANS = np.array([0.95, 0.90, 0.92])


def test_by_hand():
    np.testing.assert_allclose(summaries.worst(MEANS), 0.10)
    np.testing.assert_allclose(summaries.gap(MEANS), 0.05)
    np.testing.assert_allclose(summaries.sd(MEANS), np.sqrt(((MEANS - 2.77 / 3) ** 2).mean()))
    np.testing.assert_allclose(summaries.ser(MEANS), 2.0)
    np.testing.assert_allclose(summaries.es(MEANS, np.asarray(0.93)), 0.93 / (1 + 0.02 + 0.03 + 0.01))


def test_the_published_study_s_figures():
    """Race IoU White and Black of Siddiqui et al. 2024, with the ratio they printed."""
    for white, black, ratio in [(0.885, 0.880, 1.043), (0.875, 0.879, 1.032), (0.864, 0.861, 1.025)]:
        assert abs(summaries.ser(np.array([white, black])) - ratio) < 0.004


def test_distances_are_errors_already():
    distance = np.array([1.0, 4.0, 2.0])
    identity = lambda x: x
    assert summaries.worst(distance, identity) == 4
    assert summaries.ser(distance, identity) == 4


def test_ser_is_undefined_when_the_smallest_error_is_zero():
    """The trap: a division by zero."""
    assert np.isnan(summaries.ser(np.array([1.0, 0.9])))


def test_group_means_leave_nan_out_and_empty_groups_are_nan():
    scores = np.array([1.0, 0.5, np.nan, 0.25])
    member = groups.membership(np.array([0, 0, 0, -1]), 2).astype(float)
    np.testing.assert_allclose(summaries.group_means(scores, member), [0.75, np.nan])


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 6))
def test_group_means_against_a_loop(seed, count):
    rng = np.random.default_rng(seed)
    scores = rng.uniform(size=(2, 20))
    scores[rng.uniform(size=scores.shape) < 0.2] = np.nan
    index = rng.integers(-1, count, 20)
    means = summaries.group_means(scores, groups.membership(index, count).astype(float))
    for row in range(2):
        for g in range(count):
            values = scores[row, (index == g) & ~np.isnan(scores[row])]
            expected = values.mean() if len(values) else np.nan
            np.testing.assert_allclose(means[row, g], expected)


@settings(max_examples=30)
@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=6))
def test_bounds_and_equality(values):
    means = np.array(values)
    assert summaries.ser(means) >= 1 and summaries.gap(means) >= 0
    assert summaries.es(means, means.mean()) <= means.mean() + 1e-12
    equal = np.full(3, values[0])
    assert summaries.gap(equal) == 0 and summaries.ser(equal) == 1
    np.testing.assert_allclose(summaries.es(equal, equal[0]), equal[0])
    shuffled = np.random.default_rng(0).permutation(means)
    for function in (summaries.worst, summaries.gap, summaries.sd, summaries.ser):
        np.testing.assert_allclose(function(shuffled), function(means))


@pytest.mark.parametrize("name", ["worst", "gap", "sd", "ser"])
def test_jax_numpy_and_batches_agree(name):
    function = getattr(summaries, name)
    batch = np.random.default_rng(0).uniform(0.5, 0.99, (4, 3)).astype(np.float32)
    np.testing.assert_allclose(jax.jit(function)(jnp.asarray(batch)), function(batch), rtol=2e-5)
    np.testing.assert_allclose(function(batch), [function(row) for row in batch], rtol=1e-6)


def test_es_and_group_means_under_jit():
    scores = jnp.array([0.9, 0.8, 0.7])
    member = jnp.array([[1.0, 0], [0, 1], [0, 1]])
    means = jax.jit(summaries.group_means)(scores, member)
    np.testing.assert_allclose(means, [0.9, 0.75], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(summaries.es)(means, scores.mean()), 0.8 / (1 + 0.1 + 0.05), rtol=1e-6)


NAN = np.nan
# 13 cases in 16 places; columns are two groups of sex, two of race, and an intersection. Quarters add up exactly.
SEX, RACE = np.array([0] * 8 + [1] * 5 + [0] * 3), np.array([0, 1] * 8)
MEMBER = np.stack([SEX == 0, SEX == 1, RACE == 0, RACE == 1, (SEX == 1) & (RACE == 1)], -1).astype(np.float32)
MASK = np.array([1] * 13 + [0] * 3, np.float32)
SCORES = np.stack([np.arange(16) / 4, np.where(np.arange(16) == 9, NAN, 1.0)]).astype(np.float32)
SCORES[:, 13:] = [[NAN, np.inf, -np.inf]] * 2
TOTAL = [[7, 12.5, 10.5, 9, 5], [8, 4, 7, 5, 1]]
COUNT = [[8, 5, 7, 6, 2], [8, 4, 7, 5, 1]]


def check(sums):
    np.testing.assert_array_equal(sums.total, TOTAL)
    np.testing.assert_array_equal(sums.counts, COUNT)
    np.testing.assert_array_equal(sums.mean, np.float32(TOTAL) / np.float32(COUNT))


def test_padding_is_left_out_whatever_it_holds():
    member = MEMBER.copy()
    member[13:] = NAN
    check(jax.jit(group_sums)(SCORES, member, MASK))
    check(jax.vmap(group_sums, in_axes=(0, None, None))(SCORES, member, MASK))


def test_devices_add_up():
    """The trap: means of shards' means, or a group that one of eight devices has not."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    local = lambda *arrays: group_sums(*arrays, axis_name="data")
    specs = {"in_specs": (P(None, "data"), P("data"), P("data")), "out_specs": P()}
    check(jax.jit(jax.shard_map(local, mesh=mesh, **specs))(SCORES, MEMBER, MASK))


def test_shards_of_any_length_add_up():
    parts = [group_sums(jnp.asarray(SCORES[:, s]), MEMBER[s]) for s in (slice(0, 4), slice(4, 13))]
    check(jax.tree.map(jnp.add, *parts))


def test_a_group_without_a_score_has_no_mean():
    sums = group_sums(jnp.array([1.0, NAN]), jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    np.testing.assert_array_equal(sums.counts, [1, 0, 0])
    np.testing.assert_array_equal(sums.mean, [1, NAN, NAN])
