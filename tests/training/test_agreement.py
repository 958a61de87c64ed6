"""Five steps in float64: on one device, on eight under jit and under pmap, they end in the same state to 1e-9."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kneefair_jax.training import sharding
from tests.training import test_steps


def wide(tree):
    return jax.tree.map(lambda x: x.astype(np.float64) if jnp.issubdtype(x.dtype, np.floating) else x, tree)


@pytest.mark.slow
def test_one_device_eight_and_pmap_agree_in_float64():
    """Adam divides small gradients by their own size: float32 could not tell an error from rounding here."""
    with jax.enable_x64(True):
        setting = {
            "optimizer": optax.adam(1e-2),
            "widths": (4,),
            "dtype": "float64",
            "flip": 0.5,
            "noise": 0.05,
        }
        mesh, data, found = sharding.data_mesh(), wide(test_steps.batch()), {}
        alone = jax.sharding.Mesh(np.array(jax.devices()[:1]), (sharding.AXIS,))
        for name, way, devices in (("one", "jit", alone), ("jit", "jit", mesh), ("pmap", "pmap", mesh)):
            parallel = sharding.PARALLEL[way]
            step, first = test_steps.parts("group_dro", axis_name=parallel.axis, **setting)
            state = jax.device_put(wide(jax.device_get(first)), sharding.replicated(devices))
            # The third argument is of teachers.
            run = parallel.compile(step)
            for _ in range(5):
                state, _ = run(state, parallel.place(data, devices), None)
            found[name] = jax.device_get(state)
        assert {x.dtype for x in jax.tree.leaves(found["one"].params)} == {np.dtype("float64")}
        for name in ("jit", "pmap"):
            chex.assert_trees_all_close(found[name], found["one"], rtol=1e-9, atol=1e-10)
