import contextlib
import functools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kneefair_jax import mitigation
from kneefair_jax.errors import InputError
from kneefair_jax.training import sharding, steps
from tests.training import test_steps

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
        run = sharding.compile_step(parallel, partial(step, axis=parallel.axis))
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


pytestmark = pytest.mark.usefixtures("terminal_log")

SQUARE = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)


def test_the_cost_of_a_product_is_what_it_is_by_hand():
    product = jax.jit(jnp.dot)
    flops = sharding.written_flops(product, SQUARE, SQUARE)
    assert flops == 2 * 1024**3
    text = sharding.step_cost(product.lower(SQUARE, SQUARE).compile(), flops)
    # Two arguments of 4 MiB.
    assert text.startswith("a step on each device: 2.15 GFLOP, ")
    assert text.endswith(" MiB of temporaries, 8 MiB of arguments")


def test_flops_are_counted_before_the_backend_replaces_operations():
    """A call of a library in place of a product (cuDNN's convolutions on a GPU) would not be counted."""

    @jax.jit
    def twice(x, y):
        return jnp.dot(x, y) + jnp.dot(x, y)

    # The compiled program computes the common product once.
    assert twice.lower(SQUARE, SQUARE).compile().cost_analysis()["flops"] < 1.1 * 2 * 1024**3
    assert sharding.written_flops(twice, SQUARE, SQUARE) == 2 * 2 * 1024**3 + 1024**2


def test_with_an_accelerator_the_program_is_lowered_for_the_cpu(monkeypatch):
    accelerator, cpu = jax.devices()[0], jax.devices()[3]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda backend=None: [cpu])
    table = jnp.arange(64.0)  # closed over, on the default device
    x = jax.device_put(jnp.ones((64, 64)), accelerator)
    assert sharding.written_flops(jax.jit(lambda x: x @ x + table), x) == 2 * 64**3 + 64**2


def test_without_a_cpu_backend_flops_are_left_out(monkeypatch):
    def no_backend(backend=None):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", no_backend)
    product = jax.jit(jnp.dot)
    flops = sharding.written_flops(product, SQUARE, SQUARE)
    assert flops is None
    assert "FLOP" not in sharding.step_cost(product.lower(SQUARE, SQUARE).compile(), flops)


def test_each_way_of_sharing_a_step_counts_the_work_of_one_device(capsys):
    mesh = sharding.data_mesh()

    def step(state, batch, teachers, axis=None):
        product = jnp.einsum("bij,bjk->ik", batch["x"], batch["x"])
        return state + (product if axis is None else jax.lax.psum(product, axis)), {}

    for parallel in sharding.PARALLEL.values():
        run = sharding.compile_step(parallel, functools.partial(step, axis=parallel.axis))
        state = jax.device_put(np.zeros((200, 200), np.float32), sharding.replicated(mesh))
        run(state, parallel.place({"x": np.ones((16, 200, 200), np.float32)}, mesh), None)
        # 2 of 16 products of 200 x 200 on each of 8 devices.
        gigaflops = float(capsys.readouterr().out.split()[5])
        assert gigaflops == pytest.approx(2 * 2 * 200**3 / 1e9, rel=0.01)


def test_a_compilation_after_the_first_evaluation_is_reported(capsys):
    with contextlib.closing(sharding.Compilations()) as compilations:
        double = jax.jit(lambda x: 2 * x)
        double(jnp.ones(3))
        compilations.report(10)
        double(jnp.ones(3))
        compilations.report(20)
        before = compilations.count
        assert before > 0 and not capsys.readouterr().out
        four = jnp.ones(4)
        double(four)
        assert compilations.count > before
        compilations.report(30)
        assert "compiled again by step 30" in capsys.readouterr().out
    count = compilations.count
    double(jnp.ones(5))
    assert compilations.count == count


@pytest.mark.parametrize("name", sorted(mitigation.OBJECTIVES))
def test_linear_are_those_whose_weights_do_not_depend_on_the_losses(name):
    objective, rng = mitigation.create(name, {}), np.random.default_rng(0)
    state = objective.init(jnp.array([9, 3]))
    group = jnp.array([0, 0, 0, 1, -1, 0, 1, 0])
    given = [objective.update(rng.random(8, np.float32), group, jnp.ones(8), state)[0] for _ in range(5)]
    spread = max(float(abs(given[0] - other).max()) for other in given)
    assert (spread < 1e-7) == mitigation.OBJECTIVES[name].is_linear


def test_a_part_is_every_nth_example_and_joined_they_are_in_order_again():
    tree = {"a": jnp.arange(6), "key": jax.vmap(jax.random.key)(jnp.arange(6))}
    pieces = sharding.split_micro_batches(tree, 2)
    np.testing.assert_array_equal(pieces["a"], [[0, 2, 4], [1, 3, 5]])
    assert pieces["key"].shape == (2, 3)
    chex.assert_trees_all_equal(sharding.join_micro_batches(pieces)["a"], tree["a"])


def test_parts_make_the_step_of_the_whole_batch():
    """With sharpness-aware steps, an adversary and weights: all that goes through the network more than once."""
    setting = {"norm": "group", "widths": (4,), "head": "adversarial", "flip": 0.5, "noise": 0.05}
    setting["options"] = steps.StepOptions(sharpness=0.3)
    data = test_steps.batch()
    data["weight"] = np.linspace(0.5, 1.5, 8).astype(np.float32)
    data["mask"][5] = 0
    step, state = test_steps.parts("group_balanced", **setting)
    expected = jax.jit(step)(state, data)
    in_four, _ = test_steps.parts("group_balanced", micro_batches=4, **setting)
    chex.assert_trees_all_close(jax.jit(in_four)(state, data), expected, atol=2e-6, rtol=1e-5)
    local, _ = test_steps.parts("group_balanced", micro_batches=2, axis_name="data", **setting)
    rows = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), data)
    four = jax.pmap(local, axis_name="data", in_axes=(None, 0), out_axes=None, devices=jax.devices()[:4])
    chex.assert_trees_all_close(four(state, rows), expected, atol=2e-6, rtol=1e-5)


def test_on_a_cpu_parts_need_no_loop_and_give_what_a_loop_gives():
    """XLA's convolutions in a loop are ten times as slow on a CPU."""

    def add(carry, x):
        return carry + x["a"].sum(), {"twice": 2 * x["a"], "carry": carry}

    xs = {"a": jnp.arange(12.0).reshape(4, 3)}
    chex.assert_trees_all_close(
        sharding.unrolled_scan(add, jnp.float32(1), xs), jax.lax.scan(add, jnp.float32(1), xs)
    )
    step, state = test_steps.parts("erm", widths=(4,), micro_batches=4)
    assert "scan[" not in str(jax.make_jaxpr(step)(state, test_steps.batch()))


@pytest.mark.slow
def test_parts_without_a_loop_take_the_memory_of_one_part():
    def temporary_bytes(micro_batches):
        step, state = test_steps.parts("erm", widths=(8, 16), micro_batches=micro_batches)
        compiled = jax.jit(step, donate_argnums=0).lower(state, large).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    data = test_steps.batch()
    large = data | {name: data[name].repeat(4, 1).repeat(4, 2) for name in ("image", "label")}
    assert temporary_bytes(4) < 0.5 * temporary_bytes(1)


@pytest.mark.slow
def test_the_stated_arithmetic_is_that_of_all_parts_and_steps(capsys):
    """Of programs without a loop; the optimizer and the sums of gradients are the difference."""

    def gigaflop(step, batch, micro_batches=1):
        compiled = sharding.compile_step(sharding.PARALLEL["jit"], step, micro_batches)
        _, state = test_steps.parts("erm", widths=(8, 16))
        compiled(jax.device_put(state), batch, None)
        text = capsys.readouterr().out
        return text, float(text.split(" GFLOP")[0].rsplit(" ", 1)[1])

    batch = jax.device_put(test_steps.batch())
    step, _ = test_steps.parts("erm", widths=(8, 16))
    text, one = gigaflop(step, batch)
    assert "a step" in text
    in_four, _ = test_steps.parts("erm", widths=(8, 16), micro_batches=4)
    text, whole = gigaflop(in_four, batch, 4)
    assert "parts" not in text and one <= whole < 1.1 * one
    text, three = gigaflop(sharding.several_steps(step), (batch,) * 3)
    assert "a program of 3 steps" in text and three == pytest.approx(3 * one, rel=0.02)


def test_more_parts_than_are_written_out_run_in_a_loop(monkeypatch):
    step, state = test_steps.parts("erm", widths=(4,), micro_batches=4, norm="group")
    expected = jax.jit(step)(state, test_steps.batch())
    monkeypatch.setattr(sharding, "_MAX_UNROLLED", 2)
    step, state = test_steps.parts("erm", widths=(4,), micro_batches=4, norm="group")
    assert "scan[" in str(jax.make_jaxpr(step)(state, test_steps.batch()))
    chex.assert_trees_all_close(jax.jit(step)(state, test_steps.batch()), expected, atol=2e-6, rtol=1e-5)


def test_batch_statistics_follow_part_after_part():
    """As two steps on half a batch each would move them."""
    step, state = test_steps.parts("erm", widths=(4,), micro_batches=2)
    data = test_steps.batch()
    new, _ = jax.jit(step)(state, data)
    of_half, _ = test_steps.parts("erm", widths=(4,))
    run = jax.jit(of_half)
    expected = state
    for part in range(2):
        half = {name: array[part::2] for name, array in data.items()}
        moved, _ = run(expected, half)
        expected = state._replace(batch_stats=moved.batch_stats)
    chex.assert_trees_all_close(new.batch_stats, expected.batch_stats, atol=1e-6)


def test_what_cannot_be_cut_is_refused():
    sharding.check_micro_batches(1, "group_dro", 9, 2)
    sharding.check_micro_batches(4, "erm", 16, 4)
    with pytest.raises(InputError, match="objective 'vrex' depend .* one of erm, group_balanced, reweighted"):
        sharding.check_micro_batches(2, "vrex", 16, 1)
    with pytest.raises(InputError, match="a batch of 16 on 3 devices .* multiple of 6"):
        sharding.check_micro_batches(2, "erm", 16, 3)


def wide(tree):
    return jax.tree.map(lambda x: x.astype(np.float64) if jnp.issubdtype(x.dtype, np.floating) else x, tree)


@pytest.mark.slow
def test_one_device_eight_and_pmap_agree_in_float64():
    """Five steps end in the same state to 1e-9; in float32, Adam's division of small gradients would hide an error."""
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
