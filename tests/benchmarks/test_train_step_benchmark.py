"""The benchmark of the training step runs, and hands PyTorch the same network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import jax_step, roofline, torch_row, train_step
from benchmarks.jax_step import Setting
from kneefair_jax import models

LIMITS = roofline.Roofline({"float32": 1e9, "bfloat16": 2e9}, 1e8)


def test_the_least_time_is_that_of_arithmetic_or_of_memory():
    assert LIMITS.seconds("bfloat16", 4e9, 1e8) == 2
    assert LIMITS.seconds("float32", 1e9, 3e8) == 3


def convolution_flops():
    """Of a step of two images of 16 x 16 with widths 32 and 64.

    Products with the padding are not counted: of three taps a row, 3 n - 2 hit an image n pixels wide.
    """

    def conv(side, inputs, outputs):
        return (3 * side - 2) ** 2 * inputs * outputs

    stem = conv(16, 1, 32)
    encoder = stem + conv(16, 32, 32) + conv(8, 32, 64) + conv(8, 64, 64)
    decoder = 8**2 * 64 * 4 * 32 + conv(16, 64, 32) + conv(16, 32, 32) + 16**2 * 32 * 5
    # Forward, and gradients of inputs and of weights; the image has none.
    return 2 * 2 * (3 * (encoder + decoder) - stem)


@pytest.mark.slow
def test_rows(tmp_path):
    results = []
    train_step.run(
        [Setting("unet", 16, "float32", 2), Setting("none", 8, "float32", 2)],
        lambda result: results.append(dict(result)),
        torch_python=None,
        deadline=float("inf"),
        networks={"unet": {"name": "unet", "widths": (32, 64)}},
        rounds=2,
        round_seconds=0.001,
        limits=LIMITS,
        extra=True,
    )
    last = results[-1]
    assert [error.split(":")[0] for error in last["errors"]] == ["none 8 float32 x2"]
    (row,) = last["rows"]
    cost = row["jax"]
    assert len(cost["rounds"]) == 2 and cost["milliseconds"] > 0 and cost["peak_bytes"] > 0
    expected = convolution_flops()
    assert expected < cost["flops"] < 1.05 * expected
    assert cost["roofline_share"] == LIMITS.seconds("float32", cost["flops"], cost["bytes_accessed"]) / (
        cost["milliseconds"] / 1e3
    )
    assert cost["forward_milliseconds"] > 0 and cost["several_milliseconds"] > 0
    assert "torch_eager" not in row
    assert "without PyTorch" in train_step.lines(last["rows"])[-1]


def test_the_ratio_of_the_forward_pass_is_a_median_over_rounds():
    row = {"jax": {}, "torch_eager": {}}
    train_step.add_extra(
        row,
        "forward",
        [(2.0, {"torch_eager": 4.0}), (4.0, {"torch_eager": 4.0}), (3.0, {"torch_eager": 9.0})],
    )
    assert row["jax"] == {"forward_milliseconds": 3.0}
    assert row["torch_eager"] == {"forward_milliseconds": 4.0, "forward_ratio": 2.0}


def test_rows_are_chosen_by_title_in_the_order_of_the_texts():
    settings = [Setting("unet", side, "float32", 2) for side in (8, 16, 32)]
    assert train_step.select(settings, "unet 32, float32") == [settings[2], *settings[:2]]
    assert train_step.select(settings, "") == settings


def test_no_row_starts_when_the_time_is_over():
    results = []
    train_step.run(
        [Setting("unet", 8, "float32", 2)], results.append, torch_python=None, deadline=0.0, limits=LIMITS
    )
    assert results[-1]["not_measured"] == ["unet 8 float32 x2"] and not results[-1]["rows"]


def test_an_interpreter_without_torch_is_an_error_of_the_result(tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    results = []
    train_step.run([], results.append, torch_python=str(script), deadline=0.0, limits=LIMITS)
    assert "status 3" in results[-1]["errors"][0]


def test_the_state_dict_has_torch_s_names_and_shapes():
    model = models.create(jax_step.NETWORKS["resnet18"], classes=5)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 1)))["params"]
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes)
    arrays = torch_row.torch_arrays(params)
    assert arrays["encoder.conv1.weight"].shape == (64, 1, 7, 7)
    assert arrays["encoder.layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert arrays["encoder.layer4.1.bn2.bias"].shape == (512,)
    assert arrays["decoder_3.Conv_0.weight"].shape == (128, 256 + 128, 3, 3)
    assert sum(array.size for array in arrays.values()) == models.registry.count(params)


def test_an_up_sampling_is_the_transposed_convolution_of_the_state_dict():
    rng = np.random.default_rng(0)
    module = models.unet.Upsample(3, jnp.float32)
    x = rng.normal(size=(1, 2, 2, 5)).astype(np.float32)
    variables = module.init(jax.random.key(0), x)
    weight = torch_row.torch_arrays({"up_0": variables["params"]})["up_0.weight"]
    assert weight.shape == (5, 3, 2, 2)
    # By the definition of a transposed convolution with stride 2: every pixel paints a square of its own.
    expected = np.zeros((1, 4, 4, 3))
    for row, column in np.ndindex(2, 2):
        patch = np.einsum("i,ioyx->yxo", x[0, row, column], weight)
        expected[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = patch
    np.testing.assert_allclose(module.apply(variables, x), expected, rtol=1e-5, atol=1e-6)
