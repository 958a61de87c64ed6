import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kneefair_jax import mitigation


def weigh(losses, group, power=1.0, groups=4):
    objective = mitigation.error_bound(power=power)
    losses = jnp.asarray(losses, jnp.float32)
    state = objective.init(jnp.ones(groups, jnp.int32))
    return objective.update(losses, jnp.asarray(group), jnp.ones(len(losses)), state)[0]


def test_docstring_example():
    losses = np.array([0.0, 2, 3])
    weights = weigh(losses, [0, 0, 1])
    np.testing.assert_allclose(weights, [1 / 8, 1 / 8, 3 / 4], rtol=1e-6)
    np.testing.assert_allclose(weights @ losses, 2.5, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=4, max_size=4), st.floats(0, 20))
def test_the_worst_group_weighs_most(losses, power):
    """The trap: in the released code of the paper, the worst group weighs least."""
    weights = np.asarray(weigh(losses, [0, 1, 2, 3], power))
    assert weights[np.argmax(losses)] == weights.max()
    assert (np.diff(weights[np.argsort(losses)]) >= 0).all()
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("power", [0.0, 1.0, 3.0])
def test_an_absent_group_does_not_make_every_weight_zero(power):
    """The trap, of the same code."""
    weights = weigh([1.0, 3.0], [0, 2], power)
    np.testing.assert_allclose(weights, np.array([1, 3**power]) / (1 + 3**power), rtol=1e-6)


def test_power_zero_is_group_balanced():
    np.testing.assert_allclose(weigh([1.0, 3, 5], [0, 0, 1], 0.0), [1 / 4, 1 / 4, 1 / 2])


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_groups_without_loss_are_equals(power):
    np.testing.assert_allclose(weigh([0.0, 0.0], [0, 1], power), [0.5, 0.5])


def test_a_large_power_does_not_overflow():
    np.testing.assert_allclose(weigh([1.0, 2, 3, 4], [0, 1, 2, 3], 500.0), [0, 0, 0, 1])
