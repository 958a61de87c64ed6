import jax.numpy as jnp
import numpy as np

from kneefair_jax import mitigation


def gap_weights(losses, group, penalty, groups=3):
    objective = mitigation.gap_penalty(penalty=penalty)
    state = objective.init(jnp.ones(groups, jnp.int32))
    return objective.update(jnp.asarray(losses), jnp.asarray(group), jnp.ones(len(losses)), state)[0]


def test_docstring_example_of_gap_penalty():
    losses = np.array([1.0, 3, 5])
    weights = gap_weights(losses, [0, 0, 1], 0.5)
    np.testing.assert_allclose(weights, [1 / 12, 1 / 12, 5 / 6], rtol=1e-6)
    np.testing.assert_allclose(weights @ losses, 4.5, rtol=1e-6)


def test_tied_groups_share_the_penalty():
    weights = gap_weights([4.0, 4, 1, 4], [0, 1, 2, -1], 3.0)
    np.testing.assert_allclose(weights, np.array([1, 1, 1, 1]) / 4 + np.array([1.5, 1.5, -3, 0]), rtol=1e-6)


def test_fewer_than_two_groups_have_no_gap():
    np.testing.assert_allclose(gap_weights([4.0, 1, 7], [1, 1, -1], 5.0), [1 / 3] * 3)


def test_equal_groups_have_no_gap():
    np.testing.assert_allclose(gap_weights([2.0, 2, 2], [0, 1, 2], 5.0), [1 / 3] * 3, rtol=1e-6)


def test_an_absent_group_is_not_the_best_group():
    """A mean of 0 for an absent group would make it the best group."""
    weights = gap_weights([1.0, 3], [0, 1], 1.0)
    np.testing.assert_allclose(weights, [0.5 - 1, 0.5 + 1])


def vrex_weights(losses, group, penalty, groups=2):
    objective = mitigation.vrex(penalty=penalty)
    state = objective.init(jnp.ones(groups, jnp.int32))
    return objective.update(jnp.asarray(losses), jnp.asarray(group), jnp.ones(len(losses)), state)[0]


def test_docstring_example_of_vrex():
    losses = np.array([1.0, 3, 5])
    weights = vrex_weights(losses, [0, 0, 1], 1.0)
    np.testing.assert_allclose(weights, [-0.5, -0.5, 2], rtol=1e-6)
    np.testing.assert_allclose(weights @ losses, 3.5 + 2 * 2.25, rtol=1e-6)
    objective, group = mitigation.vrex(penalty=1.0), jnp.array([0, 0, 1])
    state = objective.init(jnp.ones(2, jnp.int32))
    value = objective.value(weights, jnp.asarray(losses), group, jnp.ones(3), state)
    np.testing.assert_allclose(value, 23 / 4, rtol=1e-6)


def test_vrex_without_penalty_is_group_balanced():
    np.testing.assert_allclose(vrex_weights([1.0, 3, 5], [0, 0, 1], 0.0), [1 / 4, 1 / 4, 1 / 2])


def test_one_group_has_no_variance():
    np.testing.assert_allclose(vrex_weights([1.0, 3, 5], [1, 1, -1], 9.0), [0.5, 0.5, 0])


def test_an_absent_group_does_not_count_as_a_loss_of_zero():
    np.testing.assert_allclose(vrex_weights([2.0, 2.0], [0, 1], 9.0, groups=5), [0.5, 0.5])


def test_the_penalty_is_1_in_the_annealed_batches_and_the_set_one_after_them():
    """Each batch is the docstring's example: F = 7/2 + beta 9/4, weights by 1 + 2 beta (L_g - 7/2)."""
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


def test_without_annealing_the_state_is_the_counts():
    counts = jnp.array([7, 2])
    assert mitigation.vrex(penalty=4.0).init(counts).tolist() == [7, 2]
