import jax.numpy as jnp
import numpy as np

from kneefair_jax import mitigation


def test_docstring_example():
    objective = mitigation.erm()
    losses = jnp.array([1.0, 3.0, 5.0])
    weights, _ = objective.update(
        losses, jnp.array([0, 1, 0]), jnp.array([1.0, 1.0, 0.0]), objective.init(jnp.array([2, 1]))
    )
    np.testing.assert_allclose(weights, [0.5, 0.5, 0])
    np.testing.assert_allclose((weights * losses).sum(), 2)


def test_an_unknown_group_is_an_example_like_any_other():
    objective = mitigation.erm()
    weights, _ = objective.update(
        jnp.ones(2), jnp.array([-1, 0]), jnp.ones(2), objective.init(jnp.array([1]))
    )
    np.testing.assert_allclose(weights, [0.5, 0.5])
