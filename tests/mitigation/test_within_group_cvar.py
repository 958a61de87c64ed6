import jax.numpy as jnp
import numpy as np

from kneefair_jax import mitigation


def weigh(losses, group, alpha=0.5, groups=2):
    objective = mitigation.within_group_cvar(alpha=alpha)
    state = objective.init(jnp.ones(groups, jnp.int32))
    return objective.update(jnp.asarray(losses), jnp.asarray(group), jnp.ones(len(losses)), state)[0]


def test_docstring_example():
    losses = np.array([1.0, 3, 2, 4, 6])
    weights = weigh(losses, [0, 0, 1, 1, 1])
    np.testing.assert_allclose(weights, [0, 1 / 2, 0, 1 / 6, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(weights @ losses, 25 / 6, rtol=1e-6)


def test_all_of_each_group_is_group_balanced():
    losses, group = np.array([1.0, 3, 2, 4, 6]), np.array([0, 0, 0, 1, 1])
    objective = mitigation.group_balanced()
    expected, _ = objective.update(losses, group, jnp.ones(5), objective.init(jnp.array([3, 2])))
    np.testing.assert_allclose(weigh(losses, group, alpha=1.0), expected, rtol=1e-6)


def test_a_group_with_the_easier_cases_still_has_its_half():
    """Over the whole batch, the worst half is group 1 alone."""
    weights = weigh([0.1, 0.2, 5.0, 6.0], [0, 0, 1, 1])
    np.testing.assert_allclose(weights, [0, 0.5, 0, 0.5])
    whole = mitigation.cvar_dro()
    data = (jnp.array([0.1, 0.2, 5.0, 6.0]), jnp.array([0, 0, 1, 1]), jnp.ones(4))
    np.testing.assert_allclose(whole.update(*data, whole.init(jnp.ones(2)))[0], [0, 0, 0.5, 0.5])


def test_absent_and_unknown_groups_take_nothing():
    np.testing.assert_allclose(weigh([9.0, 1, 2], [-1, 2, 2], groups=4), [0, 0, 1])
