import jax.numpy as jnp
import numpy as np

from kneefair_jax import mitigation


def weigh(losses, group, penalty, groups=2):
    objective = mitigation.vrex(penalty=penalty)
    state = objective.init(jnp.ones(groups, jnp.int32))
    return objective.update(jnp.asarray(losses), jnp.asarray(group), jnp.ones(len(losses)), state)[0]


def test_docstring_example():
    losses = np.array([1.0, 3, 5])
    weights = weigh(losses, [0, 0, 1], 1.0)
    np.testing.assert_allclose(weights, [-0.5, -0.5, 2], rtol=1e-6)
    np.testing.assert_allclose(weights @ losses, 3.5 + 2 * 2.25, rtol=1e-6)
    objective, group = mitigation.vrex(penalty=1.0), jnp.array([0, 0, 1])
    state = objective.init(jnp.ones(2, jnp.int32))
    value = objective.value(weights, jnp.asarray(losses), group, jnp.ones(3), state)
    np.testing.assert_allclose(value, 23 / 4, rtol=1e-6)


def test_no_price_is_group_balanced():
    np.testing.assert_allclose(weigh([1.0, 3, 5], [0, 0, 1], 0.0), [1 / 4, 1 / 4, 1 / 2])


def test_one_group_has_no_variance():
    np.testing.assert_allclose(weigh([1.0, 3, 5], [1, 1, -1], 9.0), [0.5, 0.5, 0])


def test_an_absent_group_is_no_group_of_loss_zero():
    np.testing.assert_allclose(weigh([2.0, 2.0], [0, 1], 9.0, groups=5), [0.5, 0.5])


def test_the_penalty_is_1_in_the_annealed_batches_and_the_stated_one_after_them():
    """Each batch by the docstring's example: F = 7/2 + beta 9/4, weights by 1 + 2 beta (L_g - 7/2)."""
    objective = mitigation.vrex(penalty=4.0, anneal_steps=2)
    losses, group, ones = jnp.array([1.0, 3, 5]), jnp.array([0, 0, 1]), jnp.ones(3)
    state = objective.init(jnp.ones(2, jnp.int32))
    for beta in (1, 1, 4, 4):
        weights, new = objective.update(losses, group, ones, state)
        first, second = (1 - 3 * beta) / 4, (1 + 3 * beta) / 2
        np.testing.assert_allclose(weights, [first, first, second], rtol=1e-6)
        np.testing.assert_allclose(
            objective.value(weights, losses, group, ones, state), 3.5 + 2.25 * beta, rtol=1e-6
        )
        state = new
    assert state.step == 4


def test_without_annealing_the_state_is_that_of_earlier_checkpoints():
    counts = jnp.array([7, 2])
    assert mitigation.vrex(penalty=4.0).init(counts).tolist() == [7, 2]
