"""A batch in parts is the whole batch, where the weights are known before the losses; elsewhere it is refused."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax import mitigation
from kneefair_jax.errors import InputError
from kneefair_jax.training import accumulation, steps
from tests.training import test_steps


@pytest.mark.parametrize("name", sorted(mitigation.OBJECTIVES))
def test_linear_are_those_whose_weights_do_not_depend_on_the_losses(name):
    objective, rng = mitigation.OBJECTIVES[name](), np.random.default_rng(0)
    state = objective.init(jnp.array([9, 3]))
    group = jnp.array([0, 0, 0, 1, -1, 0, 1, 0])
    given = [objective.update(rng.random(8, np.float32), group, jnp.ones(8), state)[0] for _ in range(5)]
    spread = max(float(abs(given[0] - other).max()) for other in given)
    assert (spread < 1e-7) == (name in mitigation.LINEAR)


def test_a_part_is_every_nth_example_and_joined_they_are_in_order_again():
    tree = {"a": jnp.arange(6), "key": jax.vmap(jax.random.key)(jnp.arange(6))}
    pieces = accumulation.split(tree, 2)
    np.testing.assert_array_equal(pieces["a"], [[0, 2, 4], [1, 3, 5]])
    assert pieces["key"].shape == (2, 3)
    chex.assert_trees_all_equal(accumulation.join(pieces)["a"], tree["a"])


def test_parts_make_the_step_of_the_whole_batch():
    """With sharpness-aware steps, an adversary and weights: all that goes through the network more than once."""
    setting = {"norm": "group", "widths": (4,), "head": "adversarial", "flip": 0.5, "noise": 0.05}
    setting["options"] = steps.StepOptions(sharpness=0.3)
    data = test_steps.batch()
    data["weight"] = np.linspace(0.5, 1.5, 8).astype(np.float32)
    data["mask"][5] = 0
    step, state = test_steps.parts("group_balanced", **setting)
    expected = jax.jit(step)(state, data)
    in_four, _ = test_steps.parts("group_balanced", micro_batches=4, **setting)
    chex.assert_trees_all_close(jax.jit(in_four)(state, data), expected, atol=2e-6, rtol=1e-5)
    local, _ = test_steps.parts("group_balanced", micro_batches=2, axis_name="data", **setting)
    rows = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), data)
    four = jax.pmap(local, axis_name="data", in_axes=(None, 0), out_axes=None, devices=jax.devices()[:4])
    chex.assert_trees_all_close(four(state, rows), expected, atol=2e-6, rtol=1e-5)


def test_batch_statistics_follow_part_after_part():
    """As two steps on half a batch each would move them."""
    step, state = test_steps.parts("erm", widths=(4,), micro_batches=2)
    data = test_steps.batch()
    new, _ = jax.jit(step)(state, data)
    of_half, _ = test_steps.parts("erm", widths=(4,))
    run = jax.jit(of_half)
    expected = state
    for part in range(2):
        half = {name: array[part::2] for name, array in data.items()}
        moved, _ = run(expected, half)
        expected = state._replace(batch_stats=moved.batch_stats)
    chex.assert_trees_all_close(new.batch_stats, expected.batch_stats, atol=1e-6)


def test_what_cannot_be_cut_is_refused():
    accumulation.check(1, "group_dro", 9, 2)
    accumulation.check(4, "erm", 16, 4)
    with pytest.raises(InputError, match="objective 'vrex' depend .* one of erm, group_balanced, reweighted"):
        accumulation.check(2, "vrex", 16, 1)
    with pytest.raises(InputError, match="a batch of 16 on 3 devices .* multiple of 6"):
        accumulation.check(2, "erm", 16, 3)
