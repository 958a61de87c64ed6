import jax.numpy as jnp
import numpy as np

from kneefair_jax import mitigation


def weigh(losses, group, penalty, groups=3):
    objective = mitigation.gap_penalty(penalty=penalty)
    state = objective.init(jnp.ones(groups, jnp.int32))
    return objective.update(jnp.asarray(losses), jnp.asarray(group), jnp.ones(len(losses)), state)[0]


def test_docstring_example():
    losses = np.array([1.0, 3, 5])
    weights = weigh(losses, [0, 0, 1], 0.5)
    np.testing.assert_allclose(weights, [1 / 12, 1 / 12, 5 / 6], rtol=1e-6)
    np.testing.assert_allclose(weights @ losses, 4.5, rtol=1e-6)


def test_tied_groups_share_the_price():
    weights = weigh([4.0, 4, 1, 4], [0, 1, 2, -1], 3.0)
    np.testing.assert_allclose(weights, np.array([1, 1, 1, 1]) / 4 + np.array([1.5, 1.5, -3, 0]), rtol=1e-6)


def test_fewer_than_two_groups_have_no_gap():
    np.testing.assert_allclose(weigh([4.0, 1, 7], [1, 1, -1], 5.0), [1 / 3] * 3)


def test_equal_groups_have_no_gap_to_close():
    np.testing.assert_allclose(weigh([2.0, 2, 2], [0, 1, 2], 5.0), [1 / 3] * 3, rtol=1e-6)


def test_an_absent_group_is_not_the_best_with_a_loss_of_zero():
    """The trap: a mean of 0 where there is none."""
    weights = weigh([1.0, 3], [0, 1], 1.0)
    np.testing.assert_allclose(weights, [0.5 - 1, 0.5 + 1])
