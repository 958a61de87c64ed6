"""The moving average of the weights: what is scored and exported, while the optimizer goes on from its own iterate."""

import chex
import jax
import numpy as np

from kneefair_jax.training import steps
from tests.training import test_steps


def test_the_average_follows_the_iterate_of_a_run_without_it():
    setting = {"widths": (4,), "flip": 0.5}
    plain, state = test_steps.parts("erm", **setting)
    averaging, _ = test_steps.parts("erm", options=steps.StepOptions(ema=0.2), **setting)
    plain, averaging = jax.jit(plain), jax.jit(averaging)
    averaged = state._replace(iterate=state.variables)
    expected = jax.tree.map(np.asarray, state.variables)
    for decay in (0.1, 2 / 11, 0.2):  # (1 + step) / (10 + step), up to 0.2
        state, _ = plain(state, test_steps.batch())
        averaged, _ = averaging(averaged, test_steps.batch())
        expected = jax.tree.map(lambda a, b, d=decay: d * a + (1 - d) * b, expected, state.variables)
        chex.assert_trees_all_close(averaged.iterate, state.variables, atol=1e-7)
        chex.assert_trees_all_close(averaged.variables, expected, atol=1e-6)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), averaged.iterate, averaged.variables)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_a_warm_start_replaces_the_iterate_too_by_a_copy():
    step, state = test_steps.parts("erm", widths=(4,), options=steps.StepOptions(ema=0.9))
    start = jax.tree.map(lambda leaf: leaf + 1, state.variables)
    started = state._replace(iterate=state.variables).with_variables(start)
    chex.assert_trees_all_equal(started.iterate, start)
    after, _ = jax.jit(step, donate_argnums=0)(
        started, test_steps.batch()
    )  # refuses an array that comes twice
    assert jax.tree.structure(after) == jax.tree.structure(started)
    assert state.with_variables(start).iterate == ()
