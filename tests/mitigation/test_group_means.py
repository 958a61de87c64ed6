import jax
import jax.numpy as jnp
import numpy as np

from kneefair_jax import mitigation
from tests.mitigation.forms import COUNTS, GROUP, MASK, means


def inverse_frequency(losses):
    valid = np.flatnonzero((GROUP >= 0) & (MASK > 0))
    return (20 / (3 * COUNTS[GROUP[valid]]) * losses[valid]).sum() / len(valid)


FORMS = {
    "erm": (lambda x: x[MASK > 0].mean(), {}),
    "reweighted": (inverse_frequency, {}),
    "group_balanced": (lambda x: means(x).mean(), {}),
    "gap_penalty": (lambda x: x[MASK > 0].mean() + 0.7 * np.ptp(means(x)), {"penalty": 0.7}),
    "vrex": (lambda x: means(x).mean() + 1.3 * means(x).var(), {"penalty": 1.3}),
}


def gap_weights(losses, group, penalty, groups=3):
    objective = mitigation.gap_penalty(penalty=penalty)
    state = objective.init(jnp.ones(groups, jnp.int32))
    return objective.update(jnp.asarray(losses), jnp.asarray(group), jnp.ones(len(losses)), state)[0]


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


def test_erm_counts_examples_of_unknown_group():
    objective = mitigation.erm()
    weights, _ = objective.update(
        jnp.ones(2), jnp.array([-1, 0]), jnp.ones(2), objective.init(jnp.array([1]))
    )
    np.testing.assert_allclose(weights, [0.5, 0.5])


def test_a_minority_of_five_percent_gets_half_of_the_weight_over_all_batches():
    """The trap: dividing by the batch's own sum of weights gives it a quarter at batch 8."""
    rng = np.random.default_rng(0)
    objective = mitigation.reweighted()
    state = objective.init(jnp.array([95, 5]))
    share, faulty, batches = 0.0, 0.0, 4000
    w = np.asarray(state)
    for _ in range(batches):
        group = (rng.uniform(size=8) < 0.05).astype(np.int32)
        weights = w[group] / 8
        share += weights[group == 1].sum() / batches
        faulty += weights[group == 1].sum() / weights.sum() / batches
    exact, _ = objective.update(jnp.ones(8), jnp.asarray(group), jnp.ones(8), state)
    np.testing.assert_allclose(exact, weights, rtol=1e-6)
    assert abs(share - 0.5) < 0.03
    assert faulty < 0.3


def test_reweighted_ignores_unknown_groups():
    objective = mitigation.reweighted()
    state = objective.init(jnp.array([1, 1]))
    weights, _ = objective.update(jnp.ones(3), jnp.array([-1, 0, 1]), jnp.ones(3), state)
    np.testing.assert_allclose(weights, [0, 0.5, 0.5])


def test_a_group_absent_from_training_does_not_change_the_weights_of_the_rest():
    state = mitigation.reweighted().init(jnp.array([3, 0, 1]))
    np.testing.assert_allclose(state, [2 / 3, 0, 2], rtol=1e-6)


def test_the_groups_present_share_the_weight_of_an_absent_group():
    objective = mitigation.group_balanced()
    state = objective.init(jnp.array([9, 1]))
    weights, _ = objective.update(jnp.ones(2), jnp.array([0, 0]), jnp.ones(2), state)
    np.testing.assert_allclose(weights, [0.5, 0.5])


def test_a_rare_group_gets_weight_in_proportion_to_how_often_it_is_present():
    """As documented for plain sampling: 5 % at batch 8 gets half of 1 - 0.95^8 = 0.337."""
    objective = mitigation.group_balanced()
    group = (np.random.default_rng(0).uniform(size=(4000, 8)) < 0.05).astype(np.int32)
    state = objective.init(jnp.array([95, 5]))
    weights = jax.vmap(lambda g: objective.update(jnp.ones(8), g, jnp.ones(8), state)[0])(group)
    share = np.asarray(weights)[group == 1].sum() / 4000
    assert abs(share - 0.168) < 0.01
