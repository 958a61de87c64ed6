import jax
import jax.numpy as jnp
import numpy as np

from kneefair_jax import mitigation


def test_docstring_example():
    objective = mitigation.group_balanced()
    losses = jnp.array([1.0, 3.0, 5.0])
    state = objective.init(jnp.array([9, 1]))
    weights, _ = objective.update(losses, jnp.array([0, 0, 1]), jnp.ones(3), state)
    np.testing.assert_allclose(weights, [1 / 4, 1 / 4, 1 / 2])
    np.testing.assert_allclose((weights * losses).sum(), 7 / 2)


def test_a_group_absent_from_the_batch_leaves_its_weight_to_the_others():
    objective = mitigation.group_balanced()
    state = objective.init(jnp.array([9, 1]))
    weights, _ = objective.update(jnp.ones(2), jnp.array([0, 0]), jnp.ones(2), state)
    np.testing.assert_allclose(weights, [0.5, 0.5])


def test_a_seldom_minority_gets_its_chance_of_being_present():
    """What the docstring says of plain sampling: 5 % at batch 8 gets half of 1 - 0.95^8 = 0.337."""
    objective = mitigation.group_balanced()
    group = (np.random.default_rng(0).uniform(size=(4000, 8)) < 0.05).astype(np.int32)
    state = objective.init(jnp.array([95, 5]))
    weights = jax.vmap(lambda g: objective.update(jnp.ones(8), g, jnp.ones(8), state)[0])(group)
    share = np.asarray(weights)[group == 1].sum() / 4000
    assert abs(share - 0.168) < 0.01
