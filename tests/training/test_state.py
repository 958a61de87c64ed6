"""The optimizer, and the moving average of the weights, which is scored and exported instead of the iterate."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import default
from kneefair_jax.errors import InputError
from kneefair_jax.training import state, steps
from tests.training import test_steps


def fields(**changes):
    return {**default.get_config().optimizer.to_dict(), **changes}


def test_warm_up_then_cosine_to_zero():
    rate = state.learning_rate(fields(learning_rate=1.0, warmup_steps=10), 110)
    np.testing.assert_allclose(
        [rate(0), rate(5), rate(10), rate(60), rate(110)], [1 / 11, 6 / 11, 1, 0.5, 0], atol=1e-6
    )


def test_constant_without_warm_up():
    rate = state.learning_rate(fields(schedule="constant", warmup_steps=0, learning_rate=0.3), 10)
    np.testing.assert_allclose([rate(0), rate(9)], [0.3, 0.3])


def test_clipping_comes_before_the_optimiser():
    config = fields(name="sgd", schedule="constant", warmup_steps=0, learning_rate=1.0, clip_norm=1.0)
    params, gradient = jnp.zeros(2), jnp.array([3.0, 4.0])
    for clip, expected in ((1.0, [-0.6, -0.8]), (0.0, [-3.0, -4.0])):
        transform = state.create_optimizer({**config, "clip_norm": clip}, 10)
        update, _ = transform.update(gradient, transform.init(params), params)
        np.testing.assert_allclose(update, expected, rtol=1e-6)


def test_decoupled_decay_is_adamw_s():
    config = fields(name="adamw", weight_decay=0.1, clip_norm=0.0, warmup_steps=0, schedule="constant")
    params = jnp.ones(2)
    configured, reference = (
        state.create_optimizer(config, 10),
        optax.adamw(config["learning_rate"], weight_decay=0.1),
    )
    a, _ = configured.update(jnp.ones(2), configured.init(params), params)
    b, _ = reference.update(jnp.ones(2), reference.init(params), params)
    np.testing.assert_allclose(a, b)
    with pytest.raises(InputError, match="weight_decay=0.1 is for adamw"):
        state.create_optimizer(fields(weight_decay=0.1), 10)


@pytest.mark.parametrize(
    ("field", "message"), [("name", "give one of adam"), ("schedule", "constant, cosine")]
)
def test_unknown_names(field, message):
    with pytest.raises(InputError, match=message):
        state.create_optimizer(fields(**{field: "other"}), 10)


def test_one_part_alone_moves_and_is_clipped_by_its_own_norm():
    config = fields(name="adamw", weight_decay=0.1, warmup_steps=0, schedule="constant", learning_rate=1.0)
    transform = state.restrict_optimizer(state.create_optimizer(config, 10), "head")
    params = {"head": {"kernel": jnp.ones(2)}, "encoder_0": {"kernel": jnp.ones(2), "head": jnp.ones(2)}}
    gradient = jax.tree.map(lambda p: 1e6 * p, params)
    update, _ = transform.update(gradient, transform.init(params), params)
    np.testing.assert_allclose(update["head"]["kernel"], -1.1, rtol=1e-4)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(update["encoder_0"]))


def test_the_average_follows_the_iterate_of_a_run_without_it():
    setting = {"widths": (4,), "flip": 0.5}
    plain, state = test_steps.parts("erm", **setting)
    averaging, _ = test_steps.parts("erm", options=steps.StepOptions(ema=0.2), **setting)
    plain, averaging = jax.jit(plain), jax.jit(averaging)
    averaged = state._replace(iterate=state.variables)
    expected = jax.tree.map(np.asarray, state.variables)
    for decay in (0.1, 2 / 11, 0.2):  # (1 + step) / (10 + step), up to 0.2
        state, _ = plain(state, test_steps.batch())
        averaged, _ = averaging(averaged, test_steps.batch())
        expected = jax.tree.map(lambda a, b, d=decay: d * a + (1 - d) * b, expected, state.variables)
        chex.assert_trees_all_close(averaged.iterate, state.variables, atol=1e-7)
        chex.assert_trees_all_close(averaged.variables, expected, atol=1e-6)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), averaged.iterate, averaged.variables)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_a_warm_start_replaces_the_iterate_too_by_a_copy():
    step, state = test_steps.parts("erm", widths=(4,), options=steps.StepOptions(ema=0.9))
    start = jax.tree.map(lambda leaf: leaf + 1, state.variables)
    started = state._replace(iterate=state.variables).with_variables(start)
    chex.assert_trees_all_equal(started.iterate, start)
    after, _ = jax.jit(step, donate_argnums=0)(
        started, test_steps.batch()
    )  # refuses an array that comes twice
    assert jax.tree.structure(after) == jax.tree.structure(started)
    assert state.with_variables(start).iterate == ()
