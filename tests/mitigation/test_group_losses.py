import jax.numpy as jnp
import numpy as np

from kneefair_jax.mitigation.group_losses import group_losses, training_counts


def test_docstring_example():
    batch = group_losses(jnp.array([1.0, 3, 5, 9]), jnp.array([0, 0, 1, -1]), jnp.ones(4), 2)
    np.testing.assert_array_equal(batch.mean, [2, 5])
    np.testing.assert_array_equal(batch.size, [2, 1])
    np.testing.assert_array_equal(batch.member, [[1, 0], [1, 0], [0, 1], [0, 0]])
    np.testing.assert_allclose(batch.weights(jnp.array([1.0, 3.0])), [0.5, 0.5, 3, 0])


def test_an_absent_group_has_no_share():
    batch = group_losses(jnp.array([1.0, 3]), jnp.array([2, 0]), jnp.ones(2), 4)
    np.testing.assert_array_equal(batch.present, [True, False, True, False])
    np.testing.assert_array_equal(batch.share, [0.5, 0, 0.5, 0])
    np.testing.assert_array_equal(batch.mean, [3, 0, 1, 0])


def test_a_group_beyond_the_last_is_unknown():
    batch = group_losses(jnp.array([1.0, 3]), jnp.array([0, 2]), jnp.ones(2), 2)
    np.testing.assert_array_equal(batch.size, [1, 0])


def test_the_state_of_the_stateless_is_the_counts():
    np.testing.assert_array_equal(training_counts(jnp.array([3, 0]), jnp.array([2, 0])), [3, 0])
