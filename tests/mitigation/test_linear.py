import jax
import jax.numpy as jnp
import numpy as np

from kneefair_jax import mitigation


def test_docstring_example_of_erm():
    objective = mitigation.erm()
    losses = jnp.array([1.0, 3.0, 5.0])
    weights, _ = objective.update(
        losses, jnp.array([0, 1, 0]), jnp.array([1.0, 1.0, 0.0]), objective.init(jnp.array([2, 1]))
    )
    np.testing.assert_allclose(weights, [0.5, 0.5, 0])
    np.testing.assert_allclose((weights * losses).sum(), 2)


def test_erm_counts_examples_of_unknown_group():
    objective = mitigation.erm()
    weights, _ = objective.update(
        jnp.ones(2), jnp.array([-1, 0]), jnp.ones(2), objective.init(jnp.array([1]))
    )
    np.testing.assert_allclose(weights, [0.5, 0.5])


def test_docstring_example_of_reweighted():
    objective = mitigation.reweighted()
    state = objective.init(jnp.array([3, 1]))
    np.testing.assert_allclose(state, [2 / 3, 2], rtol=1e-6)
    losses = jnp.array([1.0, 1.0, 4.0])
    weights, _ = objective.update(losses, jnp.array([0, 0, 1]), jnp.ones(3), state)
    np.testing.assert_allclose(weights, [2 / 9, 2 / 9, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose((weights * losses).sum(), 28 / 9, rtol=1e-6)


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


def test_docstring_example_of_group_balanced():
    objective = mitigation.group_balanced()
    losses = jnp.array([1.0, 3.0, 5.0])
    state = objective.init(jnp.array([9, 1]))
    weights, _ = objective.update(losses, jnp.array([0, 0, 1]), jnp.ones(3), state)
    np.testing.assert_allclose(weights, [1 / 4, 1 / 4, 1 / 2])
    np.testing.assert_allclose((weights * losses).sum(), 7 / 2)


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
