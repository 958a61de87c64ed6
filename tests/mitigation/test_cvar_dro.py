import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kneefair_jax import mitigation
from kneefair_jax.mitigation.cvar_dro import tail_weights

SIZE = 8
# Few different values, so that many are tied.
LOSSES = st.lists(st.integers(0, 5), min_size=SIZE, max_size=SIZE)
ALPHAS = st.floats(0.01, 1.0)


def weigh(losses, mask=None, alpha=0.5):
    objective = mitigation.cvar_dro(alpha=alpha)
    losses = jnp.asarray(losses, jnp.float32)
    mask = jnp.ones(len(losses)) if mask is None else jnp.asarray(mask, jnp.float32)
    unknown = jnp.full(len(losses), -1, jnp.int32)
    return np.asarray(objective.update(losses, unknown, mask, objective.init(jnp.array([1])))[0], np.float64)


def test_docstring_example():
    losses = np.array([1, 4, 2, 3, 0.0])
    weights = weigh(losses)
    np.testing.assert_allclose(weights, [0, 0.4, 0.2, 0.4, 0], rtol=1e-6)
    np.testing.assert_allclose(weights @ losses, 3.2, rtol=1e-6)


def test_those_tied_at_the_threshold_share_it():
    np.testing.assert_allclose(weigh([3, 1, 1, 1, 0, 0]), [1 / 3, 2 / 9, 2 / 9, 2 / 9, 0, 0], rtol=1e-6)


def test_all_of_it_is_the_mean_and_a_sliver_is_the_maximum():
    np.testing.assert_allclose(weigh([1, 4, 2, 3], alpha=1.0), [0.25] * 4)
    np.testing.assert_allclose(weigh([1, 4, 2, 3], alpha=0.01), [0, 1, 0, 0], rtol=1e-6)


def test_padding_is_not_counted():
    np.testing.assert_allclose(weigh([9, 1, 2, 9], [0, 1, 1, 0]), [0, 0, 1, 0])


@settings(max_examples=40, deadline=None)
@given(LOSSES, ALPHAS)
def test_the_weights_reach_the_maximum_that_defines_it(losses, alpha):
    """The largest w @ l over 0 <= w <= 1/k, sum w = 1: by sorting, the worst first."""
    weights = weigh(losses, alpha=alpha)
    tail = alpha * SIZE
    assert (weights >= 0).all()
    assert weights.max() <= (1 + 1e-5) / min(tail, SIZE)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)
    best = np.clip(tail - np.arange(SIZE), 0, 1) / tail
    np.testing.assert_allclose(weights @ losses, best @ np.sort(losses)[::-1], rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(LOSSES, ALPHAS, ALPHAS)
def test_a_smaller_share_is_a_worse_one(losses, one, other):
    small, large = sorted([one, other])
    found = [weigh(losses, alpha=alpha) @ np.array(losses, float) for alpha in (small, large)]
    assert found[0] >= found[1] - 1e-4


@settings(max_examples=25, deadline=None)
@given(LOSSES, ALPHAS)
def test_a_larger_loss_never_weighs_less(losses, alpha):
    weights = weigh(losses, alpha=alpha)
    assert (np.diff(weights[np.argsort(losses, kind="stable")]) >= -1e-6).all()


def test_each_group_s_weights_sum_to_one():
    rng = np.random.default_rng(0)
    losses, group = jnp.asarray(rng.uniform(size=12), jnp.float32), jnp.asarray(np.arange(12) % 3)
    weights = tail_weights(losses, group, jnp.ones(12), 0.3)
    np.testing.assert_allclose(np.bincount(group, weights), 1, rtol=1e-6)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_it_needs_no_group(share):
    losses = np.random.default_rng(1).uniform(size=20)
    objective = mitigation.cvar_dro()
    group = (np.arange(20) < share * 20).astype(np.int32)
    state = objective.init(jnp.array([1, 1]))
    weights, _ = objective.update(jnp.asarray(losses, jnp.float32), jnp.asarray(group), jnp.ones(20), state)
    np.testing.assert_array_equal(weights, weigh(losses).astype(np.float32))
