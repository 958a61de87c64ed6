"""Weights equal dF/dlosses by finite differences of each F, which the objectives' test files state (`forms`)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax import mitigation
from kneefair_jax.mitigation import registry
from tests import documents
from tests.mitigation import forms
from tests.mitigation.forms import COUNTS, GROUP, LOSSES, MASK, PATIENTS

FORMS = forms.collect()
STEP = 1e-5


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


def test_the_objective_of_the_documentation_keeps_the_contract(monkeypatch):
    monkeypatch.setattr(registry, "OBJECTIVES", registry.OBJECTIVES.copy())
    namespace = {}
    for block in documents.blocks(documents.ROOT / "docs/how_to/extend.md", "python")[:2]:
        exec(block.text, namespace)
    form, settings = namespace["FORMS"]["power_mean"]
    objective = mitigation.create("power_mean", settings)
    losses = jnp.asarray(np.where(MASK > 0, LOSSES, np.nan), jnp.float32)  # padding may hold anything
    arguments = (jnp.asarray(GROUP, jnp.int32), jnp.asarray(MASK, jnp.float32), objective.init(COUNTS))
    weights, _ = objective.update(losses, *arguments)
    np.testing.assert_allclose(weights, differences(form, LOSSES), atol=2e-6)
    np.testing.assert_allclose(objective.value(weights, losses, *arguments), form(LOSSES), rtol=1e-5)
