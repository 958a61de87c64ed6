"""The attempts compute what they are compared with."""

import jax
import numpy as np
import pytest

from benchmarks import block_convolution, cpu_attempts, jax_step
from benchmarks.jax_step import Setting


@pytest.mark.parametrize("name", cpu_attempts.CONVOLUTIONS)
def test_all_ways_of_a_direction_agree(name):
    x, kernel, cotangent = cpu_attempts.operands(6, 4, 2, batch=2)
    value = cpu_attempts.CONVOLUTIONS[name](x, kernel, cotangent)
    value = value.transpose(0, 2, 3, 1) if "channels first" in name else value
    expected = cpu_attempts.CONVOLUTIONS[name.partition(",")[0]](x, kernel, cotangent)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)


def test_the_gradients_are_those_of_the_scalar_product():
    x, kernel, cotangent = cpu_attempts.operands(5, 3, 4, batch=2)
    by_input, by_kernel = jax.grad(
        lambda x, kernel: (cpu_attempts.forward(x, kernel) * cotangent).sum(), argnums=(0, 1)
    )(x, kernel)
    np.testing.assert_allclose(
        cpu_attempts.input_gradient(x, kernel, cotangent), by_input, rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(
        cpu_attempts.weight_gradient(x, kernel, cotangent), by_kernel, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("outputs", [2, 8, 9, 16, 17])
def test_a_convolution_in_blocks_has_the_values_and_gradients_of_a_plain_one(outputs):
    x, kernel, cotangent = cpu_attempts.operands(6, 3, outputs, batch=2)
    options = {"dimension_numbers": cpu_attempts.FEATURES_LAST}
    value, gradient = jax.vjp(
        lambda x, kernel: block_convolution.convolve(x, kernel, (1, 1), "SAME", **options), x, kernel
    )
    expected, expected_gradient = jax.vjp(cpu_attempts.forward, x, kernel)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
    for one, other in zip(gradient(cotangent), expected_gradient(cotangent), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_every_variant_of_the_step_runs(monkeypatch):
    monkeypatch.setitem(jax_step.NETWORKS, "unet", {"name": "unet", "widths": (4, 8), "convolutions": 1})
    rows = cpu_attempts.measure_steps(1, 0.0, Setting("unet", 32, "float32", 4))
    assert [row["variant"] for row in rows] == list(cpu_attempts.STEPS)
    assert rows[0]["speed"] == 1 and all(row["milliseconds"] > 0 for row in rows)
