import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kneefair_jax import mitigation
from kneefair_jax.mitigation.cvar import tail_weights
from tests.mitigation.forms import GROUP, MASK, cvar

SIZE = 8
# Few distinct values, so that many are tied.
LOSSES = st.lists(st.integers(0, 5), min_size=SIZE, max_size=SIZE)
ALPHAS = st.floats(0.01, 1.0)


FORMS = {
    "cvar_dro": (lambda x: cvar(x[MASK > 0], 0.36), {"alpha": 0.36}),
    "within_group_cvar": (
        lambda x: np.mean([cvar(x[(g == GROUP) & (MASK > 0)], 0.6) for g in range(3)]),
        {"alpha": 0.6},
    ),
}


def weigh(losses, mask=None, alpha=0.5):
    objective = mitigation.cvar_dro(alpha=alpha)
    losses = jnp.asarray(losses, jnp.float32)
    mask = jnp.ones(len(losses)) if mask is None else jnp.asarray(mask, jnp.float32)
    unknown = jnp.full(len(losses), -1, jnp.int32)
    return np.asarray(objective.update(losses, unknown, mask, objective.init(jnp.array([1])))[0], np.float64)


def test_examples_tied_at_the_threshold_share_its_weight():
    np.testing.assert_allclose(weigh([3, 1, 1, 1, 0, 0]), [1 / 3, 2 / 9, 2 / 9, 2 / 9, 0, 0], rtol=1e-6)


def test_alpha_one_is_the_mean_and_a_small_alpha_the_maximum():
    np.testing.assert_allclose(weigh([1, 4, 2, 3], alpha=1.0), [0.25] * 4)
    np.testing.assert_allclose(weigh([1, 4, 2, 3], alpha=0.01), [0, 1, 0, 0], rtol=1e-6)


def test_padding_is_not_counted():
    np.testing.assert_allclose(weigh([9, 1, 2, 9], [0, 1, 1, 0]), [0, 0, 1, 0])


@settings(max_examples=40)
@given(LOSSES, ALPHAS)
def test_the_weights_attain_the_maximum_that_defines_cvar(losses, alpha):
    """The largest w @ l over 0 <= w <= 1/k, sum w = 1, computed by sorting in descending order."""
    weights = weigh(losses, alpha=alpha)
    tail = alpha * SIZE
    assert (weights >= 0).all()
    assert weights.max() <= (1 + 1e-5) / min(tail, SIZE)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)
    best = np.clip(tail - np.arange(SIZE), 0, 1) / tail
    np.testing.assert_allclose(weights @ losses, best @ np.sort(losses)[::-1], rtol=1e-5, atol=1e-6)


@settings(max_examples=25)
@given(LOSSES, ALPHAS, ALPHAS)
def test_a_smaller_alpha_gives_a_larger_value(losses, first, second):
    small, large = sorted([first, second])
    values = [weigh(losses, alpha=alpha) @ np.array(losses, float) for alpha in (small, large)]
    assert values[0] >= values[1] - 1e-4


@settings(max_examples=25)
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
def test_cvar_dro_uses_no_group(share):
    losses = np.random.default_rng(1).uniform(size=20)
    objective = mitigation.cvar_dro()
    group = (np.arange(20) < share * 20).astype(np.int32)
    state = objective.init(jnp.array([1, 1]))
    weights, _ = objective.update(jnp.asarray(losses, jnp.float32), jnp.asarray(group), jnp.ones(20), state)
    np.testing.assert_array_equal(weights, weigh(losses).astype(np.float32))


def weigh_within_groups(losses, group, alpha=0.5, groups=2):
    objective = mitigation.within_group_cvar(alpha=alpha)
    state = objective.init(jnp.ones(groups, jnp.int32))
    return objective.update(jnp.asarray(losses), jnp.asarray(group), jnp.ones(len(losses)), state)[0]


def test_within_group_cvar_of_all_examples_is_group_balanced():
    losses, group = np.array([1.0, 3, 2, 4, 6]), np.array([0, 0, 0, 1, 1])
    objective = mitigation.group_balanced()
    expected, _ = objective.update(losses, group, jnp.ones(5), objective.init(jnp.array([3, 2])))
    np.testing.assert_allclose(weigh_within_groups(losses, group, alpha=1.0), expected, rtol=1e-6)


def test_the_easier_group_keeps_half_of_the_weight():
    """`cvar_dro` gives all weight to group 1, which holds the worst half of the batch."""
    weights = weigh_within_groups([0.1, 0.2, 5.0, 6.0], [0, 0, 1, 1])
    np.testing.assert_allclose(weights, [0, 0.5, 0, 0.5])
    objective = mitigation.cvar_dro()
    data = (jnp.array([0.1, 0.2, 5.0, 6.0]), jnp.array([0, 0, 1, 1]), jnp.ones(4))
    np.testing.assert_allclose(objective.update(*data, objective.init(jnp.ones(2)))[0], [0, 0, 0.5, 0.5])


def test_within_group_cvar_ignores_absent_and_unknown_groups():
    np.testing.assert_allclose(weigh_within_groups([9.0, 1, 2], [-1, 2, 2], groups=4), [0, 0, 1])
