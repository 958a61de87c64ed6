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
