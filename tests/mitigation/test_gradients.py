"""Weights equal dF/dlosses by finite differences of each F, written in NumPy in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax import mitigation
from tests import documents

COUNTS, PATIENTS = np.array([12, 3, 5, 0]), np.array([6, 3, 4, 0])
GROUP = np.array([0, 0, 0, 1, 1, 2, 0, -1, 2, 0, 1, 2])
MASK = np.array([1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 0, 1.0])
LOSSES = np.random.default_rng(0).permutation(np.linspace(0.2, 2, 12))  # nothing is tied
STEP = 1e-5


def means(losses):
    return np.array([losses[(g == GROUP) & (MASK > 0)].mean() for g in range(3)])


def cvar(losses, alpha):
    """The minimum over c of c + mean(max(l - c, 0)) / alpha, attained at a loss (Rockafellar and Uryasev)."""
    return min(c + np.maximum(losses - c, 0).mean() / alpha for c in losses)


def dro_weights():
    """The recurrence of `group_dro` from q = [1/3, 1/3, 1/3, 0] with three groups present; constant, as in sg[q]."""
    raised = np.exp(0.1 * (means(LOSSES) + 2 / np.sqrt(PATIENTS[:3])))
    return raised / raised.sum()


def error_weights():
    raised = means(LOSSES) ** 1.5
    return raised / raised.mean()


# F(losses), and the settings of the objective.
FORMS = {
    "erm": (lambda x: x[MASK > 0].mean(), {}),
    "reweighted": (
        lambda x: sum(20 / (3 * COUNTS[g]) * x[i] for i, g in enumerate(GROUP) if g >= 0 and MASK[i]) / 9,
        {},
    ),
    "group_balanced": (lambda x: means(x).mean(), {}),
    "group_dro": (lambda x: dro_weights() @ means(x), {"eta": 0.1, "adjustment": 2.0}),
    "cvar_dro": (lambda x: cvar(x[MASK > 0], 0.36), {"alpha": 0.36}),
    "within_group_cvar": (
        lambda x: np.mean([cvar(x[(g == GROUP) & (MASK > 0)], 0.6) for g in range(3)]),
        {"alpha": 0.6},
    ),
    "gap_penalty": (lambda x: x[MASK > 0].mean() + 0.7 * np.ptp(means(x)), {"penalty": 0.7}),
    "vrex": (lambda x: means(x).mean() + 1.3 * means(x).var(), {"penalty": 1.3}),
    "error_bound": (lambda x: (error_weights() * means(x)).mean(), {"power": 1.5}),
}


def objective_and_arguments(name):
    objective = mitigation.create(name, FORMS[name][1])
    arguments = (jnp.asarray(GROUP, jnp.int32), jnp.asarray(MASK, jnp.float32))
    return objective, (*arguments, objective.init(COUNTS, PATIENTS))


def weights_of(name, losses):
    objective, arguments = objective_and_arguments(name)
    return objective.update(losses, *arguments)[0]


def differences(function, point):
    """Central differences: f64[n]."""
    steps = STEP * np.eye(len(point))
    return np.array([(function(point + step) - function(point - step)) / (2 * STEP) for step in steps])


def test_every_objective_has_a_form():
    assert set(FORMS) == set(mitigation.OBJECTIVES)


@pytest.mark.parametrize("name", sorted(FORMS))
def test_the_weights_are_the_derivative(name):
    weights = jax.jit(weights_of, static_argnums=0)(name, jnp.asarray(LOSSES, jnp.float32))
    np.testing.assert_allclose(weights, differences(FORMS[name][0], LOSSES), atol=2e-6)


@pytest.mark.parametrize("name", sorted(FORMS))
def test_the_value_is_the_objective(name):
    """The sum of weights x losses is a different number where F is not linear in the losses."""
    objective, arguments = objective_and_arguments(name)
    losses = jnp.asarray(np.where(MASK > 0, LOSSES, np.nan), jnp.float32)  # padding may hold anything
    value = objective.value(weights_of(name, losses), losses, *arguments)
    np.testing.assert_allclose(value, FORMS[name][0](LOSSES), rtol=1e-5)


@pytest.mark.parametrize("name", sorted(FORMS))
def test_the_gradient_reaches_the_parameters(name):
    """A weighted loss of `.item()` values would have a value but no gradient."""
    base = LOSSES.reshape(6, 2)

    def losses_of(theta, xp):
        return (base * xp.exp(theta * xp.arange(1, 7)[:, None] / 6)).reshape(-1)

    def total(theta):
        losses = losses_of(theta, jnp)
        return jnp.sum(jax.lax.stop_gradient(weights_of(name, losses)) * losses)

    gradient = jax.jit(jax.grad(total))(jnp.zeros(2, jnp.float32))
    expected = differences(lambda theta: FORMS[name][0](losses_of(theta, np)), np.zeros(2))
    assert abs(expected).min() > 1e-3
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


def test_the_objective_of_the_documentation_keeps_the_contract():
    namespace = {}
    exec(documents.blocks(documents.ROOT / "docs/how_to/extend.md", "python")[0].text, namespace)
    objective = namespace["power_mean"](power=3.0)

    def form(losses):
        return (means(losses) ** 3).mean() ** (1 / 3)

    losses = jnp.asarray(np.where(MASK > 0, LOSSES, np.nan), jnp.float32)  # padding may hold anything
    arguments = (jnp.asarray(GROUP, jnp.int32), jnp.asarray(MASK, jnp.float32), objective.init(COUNTS))
    weights, _ = objective.update(losses, *arguments)
    np.testing.assert_allclose(weights, differences(form, LOSSES), atol=2e-6)
    np.testing.assert_allclose(objective.value(weights, losses, *arguments), form(LOSSES), rtol=1e-5)
