import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from kneefair_jax.fairness.group_sums import group_sums

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
