from functools import partial

import jax
import numpy as np
import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.training import compilation, sharding

pytestmark = pytest.mark.usefixtures("terminal_log")


def test_a_batch_is_split_and_a_tree_is_everywhere():
    mesh = sharding.data_mesh()
    batch = sharding.global_batch({"case": np.arange(16)}, mesh)["case"]
    assert [shard.data.shape for shard in batch.addressable_shards] == [(2,)] * 8
    np.testing.assert_array_equal(batch, np.arange(16))
    everywhere = jax.device_put({"w": np.ones(3)}, sharding.replicated(mesh))["w"]
    assert len(everywhere.addressable_shards) == 8 and everywhere.is_fully_replicated


def test_batch_sizes():
    mesh = sharding.data_mesh()
    sharding.check_batch_size(16, mesh)
    with pytest.raises(InputError, match="batch_size=4 cannot be shared by 8 devices; give 8$"):
        sharding.check_batch_size(4, mesh)


def test_pmap_takes_what_a_host_reads_and_returns_what_jit_does(capsys):
    mesh = sharding.data_mesh()
    batch = {"x": np.arange(16, dtype=np.float32)}

    def step(state, batch, teachers, axis=None):
        total = batch["x"].sum()
        return state + (total if axis is None else jax.lax.psum(total, axis)) + teachers, {"one": state}

    results = {}
    for name, parallel in sharding.PARALLEL.items():
        state = jax.device_put(np.float32(1), sharding.replicated(mesh))
        run = compilation.compile_step(parallel, partial(step, axis=parallel.axis))
        two = jax.device_put(np.float32(2), sharding.replicated(mesh))
        results[name], metrics = run(state, parallel.place(batch, mesh), two)
        assert "a step on each device: " in capsys.readouterr().out
        # What is on the host is not sent unasked.
        unasked = batch if name == "jit" else {"x": batch["x"].reshape(8, 2)}
        with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
            run(jax.device_put(np.float32(1), sharding.replicated(mesh)), unasked, two)
        assert results[name].sharding.is_equivalent_to(sharding.replicated(mesh), 0)
        assert float(metrics["one"]) == 1
    assert {name: float(value) for name, value in results.items()} == {"jit": 123.0, "pmap": 123.0}
