import jax.numpy as jnp
import numpy as np

from kneefair_jax.mitigation import ascend


def test_docstring_example():
    """The norm is over all arrays together."""
    params, gradient = (
        {"a": jnp.array([1.0]), "b": jnp.array([0.0])},
        {"a": jnp.array([3.0]), "b": jnp.array([4.0])},
    )
    point = ascend(params, gradient, 0.5)
    np.testing.assert_allclose([point["a"][0], point["b"][0]], [1.3, 0.4], rtol=1e-6)


def test_parameters_stay_where_the_gradient_is_zero():
    np.testing.assert_array_equal(ascend(jnp.array([1.0, -2.0]), jnp.zeros(2), 0.5), [1.0, -2.0])
