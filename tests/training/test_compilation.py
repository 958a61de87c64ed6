"""What a step says of itself, and that a compilation too many is noticed."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax.training import compilation, sharding

pytestmark = pytest.mark.usefixtures("terminal_log")

SQUARE = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)


def test_the_cost_of_a_product_is_what_it_is_by_hand():
    product = jax.jit(jnp.dot)
    flops = compilation.written_flops(product, SQUARE, SQUARE)
    assert flops == 2 * 1024**3
    text = compilation.cost(product.lower(SQUARE, SQUARE).compile(), flops)
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
    assert compilation.written_flops(twice, SQUARE, SQUARE) == 2 * 2 * 1024**3 + 1024**2


def test_with_an_accelerator_the_program_is_lowered_for_the_cpu(monkeypatch):
    accelerator, cpu = jax.devices()[0], jax.devices()[3]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda backend=None: [cpu])
    table = jnp.arange(64.0)  # closed over, on the default device
    x = jax.device_put(jnp.ones((64, 64)), accelerator)
    assert compilation.written_flops(jax.jit(lambda x: x @ x + table), x) == 2 * 64**3 + 64**2


def test_without_a_cpu_backend_flops_are_left_out(monkeypatch):
    def no_backend(backend=None):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", no_backend)
    product = jax.jit(jnp.dot)
    flops = compilation.written_flops(product, SQUARE, SQUARE)
    assert flops is None
    assert "FLOP" not in compilation.cost(product.lower(SQUARE, SQUARE).compile(), flops)


def test_each_way_of_sharing_a_step_counts_the_work_of_one_device(capsys):
    mesh = sharding.data_mesh()

    def step(state, batch, teachers, axis=None):
        product = jnp.einsum("bij,bjk->ik", batch["x"], batch["x"])
        return state + (product if axis is None else jax.lax.psum(product, axis)), {}

    for parallel in sharding.PARALLEL.values():
        run = compilation.compile_step(parallel, functools.partial(step, axis=parallel.axis))
        state = jax.device_put(np.zeros((200, 200), np.float32), sharding.replicated(mesh))
        run(state, parallel.place({"x": np.ones((16, 200, 200), np.float32)}, mesh), None)
        # 2 of 16 products of 200 x 200 on each of 8 devices.
        gigaflops = float(capsys.readouterr().out.split()[5])
        assert gigaflops == pytest.approx(2 * 2 * 200**3 / 1e9, rel=0.01)


def test_a_compilation_after_the_first_evaluation_is_told_of(capsys):
    with contextlib.closing(compilation.Compilations()) as compilations:
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
