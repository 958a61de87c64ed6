"""What every group objective must satisfy, whatever it computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from kneefair_jax import mitigation

COUNTS = jnp.array([12, 3, 5], jnp.int32)


def batch(seed, size=16, groups=3):
    rng = np.random.default_rng(seed)
    losses = rng.uniform(0.1, 2, size).astype(np.float32)
    group = rng.integers(-1, groups, size).astype(np.int32)
    mask = (rng.uniform(size=size) > 0.2).astype(np.float32)
    return losses, group, mask


@pytest.fixture(params=sorted(mitigation.OBJECTIVES))
def objective(request):
    return mitigation.OBJECTIVES[request.param]()


def test_padding_has_no_weight(objective):
    losses, group, mask = batch(0)
    weights, _ = objective.update(losses, group, mask, objective.init(COUNTS))
    assert (np.asarray(weights)[mask == 0] == 0).all()
    changed = np.where(mask > 0, losses, 99.0).astype(np.float32)
    again, _ = objective.update(changed, group, mask, objective.init(COUNTS))
    np.testing.assert_array_equal(weights, again)


def test_an_empty_batch_weighs_nothing_and_is_finite(objective):
    losses, group, mask = batch(1)
    weights, _ = objective.update(losses, group, 0 * mask, objective.init(COUNTS))
    np.testing.assert_array_equal(weights, np.zeros_like(losses))


def test_order_of_examples_does_not_matter(objective):
    losses, group, mask = batch(2)
    order = np.random.default_rng(0).permutation(len(losses))
    state = objective.init(COUNTS)
    weights, _ = objective.update(losses, group, mask, state)
    permuted, _ = objective.update(losses[order], group[order], mask[order], state)
    np.testing.assert_allclose(np.asarray(weights)[order], permuted, rtol=1e-6)


def test_names_of_groups_do_not_matter(objective):
    losses, group, mask = batch(3)
    renamed = np.array([2, 0, 1])
    weights, _ = objective.update(losses, group, mask, objective.init(COUNTS))
    other, _ = objective.update(
        losses,
        np.where(group < 0, -1, renamed[group]).astype(np.int32),
        mask,
        objective.init(COUNTS[jnp.argsort(jnp.array(renamed))]),
    )
    np.testing.assert_allclose(weights, other, rtol=1e-6)


def test_eight_devices_give_the_weights_of_one(objective):
    losses, group, mask = batch(4)
    state = objective.init(COUNTS)
    expected, _ = objective.update(losses, group, mask, state)

    def local(losses, group, mask):
        return objective.update(losses, group, mask, state, axis_name="data")[0]

    by_pmap = jax.pmap(local, axis_name="data")(*(x.reshape(8, 2) for x in (losses, group, mask)))
    np.testing.assert_allclose(np.asarray(by_pmap).reshape(-1), expected, rtol=1e-6)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    by_shard_map = jax.shard_map(local, mesh=mesh, in_specs=(P("data"),) * 3, out_specs=P("data"))
    np.testing.assert_allclose(jax.jit(by_shard_map)(losses, group, mask), expected, rtol=1e-6)


def test_jit_and_no_jit_agree_and_the_state_keeps_its_shape(objective):
    losses, group, mask = batch(5)
    state = objective.init(COUNTS)
    weights, new = objective.update(losses, group, mask, state)
    jitted, new_jitted = jax.jit(objective.update)(losses, group, mask, state)
    np.testing.assert_allclose(weights, jitted, rtol=1e-6)
    assert jax.tree.structure(new) == jax.tree.structure(state) == jax.tree.structure(new_jitted)
