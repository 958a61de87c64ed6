"""Compare the training step on a CPU with other ways to write it, and one convolution's directions with PyTorch's.

    python -m benchmarks.cpu_attempts --torch_python=PYTHON_WITH_TORCH

All variants of the step compute the same function or are named as another network or type; they take turns, and ratios
are medians over rounds. The network is the U-Net of `benchmarks/train_step.py` (widths 16 to 256), batch 8,
128 x 128. Without --torch_python the columns of PyTorch are left out.
"""

import argparse
import contextlib
import functools
import json
import os
import statistics
import subprocess
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from benchmarks import block_convolution
from benchmarks.jax_step import (
    NETWORKS,
    Augmentation,
    Run,
    Setting,
    batch_of,
    first_state,
    in_turns,
    several_steps,
    timer,
    train_step,
)
from benchmarks.machine import conditions
from benchmarks.train_step import STEPS_PER_CALL
from kneefair_jax.models import unet
from kneefair_jax.runtime import atomic
from kneefair_jax.training import sharding

SETTING = Setting("unet", 128, "float32", 8)
# Side, input and output channels of the U-Net's 3 x 3 convolutions.
LAYERS = (
    (128, 16, 16), (128, 32, 16), (64, 32, 32), (64, 64, 32), (32, 64, 64), (16, 128, 128), (8, 256, 256),
)  # fmt: skip
FEATURES_LAST = ("NHWC", "HWIO", "NHWC")
FEATURES_FIRST = ("NCHW", "OIHW", "NCHW")
# The gradient of the weights as a convolution that sums over the batch: kernels are the other operand's images.
OVER_BATCH = ("CHWN", "IHWO", "HWNC")


class FlaxBatchNorm(nn.Module):
    """The batch normalization of flax, which subtracts the mean first, with the attributes of `unet.BatchNorm`."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """f[B, H, W, C] -> f[B, H, W, C]."""
        layer = nn.BatchNorm(
            use_running_average=not train, momentum=unet.BATCH_NORM_MOMENTUM, axis_name=self.axis_name
        )
        return jnp.asarray(layer(x))


class TransposedConvolution(nn.Module):
    """A 2 x 2 transposed convolution with stride 2, with the attributes of `unet.Upsample`."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """f[B, H, W, C] -> f[B, 2H, 2W, features]."""
        return jnp.asarray(nn.ConvTranspose(self.features, (2, 2), strides=(2, 2), dtype=self.dtype)(x))


class FourDimensionalDense(unet.Upsample):
    """`unet.Upsample` with its dense layer over four dimensions."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """f[B, H, W, C] -> f[B, 2H, 2W, features]."""
        batch, height, width, _ = x.shape
        x = nn.Dense(4 * self.features, dtype=self.dtype)(x).reshape(
            batch, height, width, 2, 2, self.features
        )
        return jnp.swapaxes(x, 2, 3).reshape(batch, 2 * height, 2 * width, self.features)


def max_pool(x: jax.Array) -> jax.Array:
    """`nn.max_pool` over 2 x 2 pixels, whose gradient is select-and-scatter."""
    return jnp.asarray(nn.max_pool(x, (2, 2), strides=(2, 2)))


BLOCK_LAYERS = types.SimpleNamespace(
    **vars(nn) | {"Conv": functools.partial(nn.Conv, conv_general_dilated=block_convolution.convolve)}
)
PARTS = "`train.accumulation=4`"
LOOP = "`train.accumulation=4` in a loop"
SEVERAL = "four steps of one program (`train.steps_per_call=4`)"
TWO_DEVICES = "two virtual devices, half of the batch on each"
# Name -> replaced attributes of `models.unet`, changed fields of the network, and XLA's options.
STEPS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "as shipped": ({}, {}, {}),
    "`nn.BatchNorm` of flax": ({"BatchNorm": FlaxBatchNorm}, {}, {}),
    "up-sampling by a dense layer over four dimensions": ({"Upsample": FourDimensionalDense}, {}, {}),
    "up-sampling by `nn.ConvTranspose`": ({"Upsample": TransposedConvolution}, {}, {}),
    "`nn.max_pool`": ({"downsample": max_pool}, {}, {}),
    "several pixels at once where channels are few": ({"nn": BLOCK_LAYERS}, {}, {}),
    TWO_DEVICES: ({}, {}, {}),
    SEVERAL: ({}, {}, {}),
    PARTS: ({}, {}, {}),
    LOOP: ({}, {}, {}),
    "blocks computed again in the backward pass (`model.remat`)": ({}, {"remat": True}, {}),
    "group normalization (another network)": ({}, {"norm": "group"}, {}),
    "a first level of 2 x 2 pixels (`model.stem=patch2`, another network)": ({}, {"stem": "patch2"}, {}),
    "bfloat16 (another type)": ({}, {"dtype": "bfloat16"}, {}),
    "XLA: vectors of 512 bits": ({}, {}, {"xla_cpu_prefer_vector_width": 512}),
    "XLA: preset for speed": ({}, {}, {"xla_cpu_opt_preset": "CPU_OPT_PRESET_FAST_RUNTIME"}),
    "XLA: scheduler for concurrency": (
        {}, {}, {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_CONCURRENCY_OPTIMIZED"},
    ),
}  # fmt: skip


def compile_variant(name: str, setting: Setting = SETTING) -> tuple[Run, float]:
    """Return the timer of a variant of the step, and the MiB of its temporaries."""
    replaced, fields, options = STEPS[name]
    network = NETWORKS[setting.network] | fields
    setting = setting._replace(dtype=network.pop("dtype", setting.dtype))
    with contextlib.ExitStack() as stack:
        for attribute, value in replaced.items():
            stack.enter_context(mock.patch.object(unet, attribute, value))
        start = first_state(setting, network)
        devices = jax.devices()[: 2 if name == TWO_DEVICES else 1]
        mesh = Mesh(np.array(devices), (sharding.AXIS,))
        current = jax.device_put(start, sharding.replicated(mesh), may_alias=False)
        batch = jax.device_put(batch_of(setting), sharding.split(mesh), may_alias=False)
        step = train_step(setting, network, Augmentation())
        if name in (PARTS, LOOP):
            stack.enter_context(mock.patch.object(sharding, "_MAX_UNROLLED", 0 if name == LOOP else 4))
            step = train_step(setting, network, Augmentation(), micro_batches=4)
        if name == SEVERAL:
            step, batch = several_steps(setting, network), (batch,) * STEPS_PER_CALL
        lowered = step.lower(current, batch, None)
    compiled = lowered.compile(compiler_options=options or None)
    mebibytes = compiled.memory_analysis().temp_size_in_bytes / 2**20
    run = timer(lambda current, batch: compiled(current, batch, None), current, batch)
    return (lambda calls: run(calls) / STEPS_PER_CALL) if name == SEVERAL else run, mebibytes


def measure_steps(rounds: int, seconds: float, setting: Setting = SETTING) -> list[dict[str, Any]]:
    """Time all variants of the step in turns; `speed` is the shipped step's time over the variant's."""
    variants = {name: compile_variant(name, setting) for name in STEPS}
    times = in_turns({name: run for name, (run, _) in variants.items()}, rounds, seconds)
    shipped = times["as shipped"]
    return [
        {
            "variant": name,
            "milliseconds": statistics.median(values),
            "speed": statistics.median(a / b for a, b in zip(shipped, values, strict=True)),
            "temporaries_mib": variants[name][1],
        }
        for name, values in times.items()
    ]


def forward(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The package's convolution: f[B, H, W, C], f[3, 3, C, F] -> f[B, H, W, F]."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=FEATURES_LAST)


def input_gradient(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Of `forward` by its input."""
    return jax.linear_transpose(lambda x: forward(x, kernel), x)(cotangent)[0]


def weight_gradient(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Of `forward` by its kernel, as JAX writes it."""
    return jax.linear_transpose(lambda kernel: forward(x, kernel), kernel)(cotangent)[0]


def roles_exchanged(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    """`weight_gradient` with the image as kernel of a convolution of the cotangent."""
    pads = ((1, 1), (1, 1))
    out = lax.conv_general_dilated(cotangent, x, (1, 1), pads, dimension_numbers=OVER_BATCH)
    return out[::-1, ::-1].swapaxes(2, 3)


def shifted_product(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    """`weight_gradient` as one matrix product: the image shifted along rows, the cotangent along columns."""
    height, width, inputs, outputs = *x.shape[1:], cotangent.shape[-1]
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    images = jnp.concatenate([padded[:, :, k : k + width] for k in range(3)], -1)
    padded = jnp.pad(cotangent, ((0, 0), (1, 1), (0, 0), (0, 0)))
    cotangents = jnp.concatenate([padded[:, 2 - k : 2 - k + height] for k in range(3)], -1)
    out = images.reshape(-1, 3 * inputs).T @ cotangents.reshape(-1, 3 * outputs)
    return out.reshape(3, inputs, 3, outputs).transpose(2, 0, 1, 3)


def product_by_image(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    """`shifted_product` image after image, so that the copies stay in the cache."""

    def add(total: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + shifted_product(pair[0][None], kernel, pair[1][None]), None

    return lax.scan(add, jnp.zeros_like(kernel), (x, cotangent))[0]


def channels_first(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    """`forward` with images [B, C, H, W]; the operands are transposed inside, as in a network they would not be."""
    del cotangent
    x, kernel = x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1)
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=FEATURES_FIRST)


def two_halves(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    """`forward` as the sum of two convolutions of half of the input channels, instead of a concatenation."""
    del cotangent
    half = x.shape[-1] // 2
    return forward(x[..., :half], kernel[:, :, :half]) + forward(x[..., half:], kernel[:, :, half:])


def pixels_at_once(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    """`forward` of a block of pixels at once."""
    del cotangent
    return block_convolution.wide_convolution(x, kernel)


def gradient_of_pixels_at_once(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    """`weight_gradient` of `pixels_at_once`."""
    transpose = jax.linear_transpose(lambda kernel: block_convolution.wide_convolution(x, kernel), kernel)
    return transpose(cotangent)[0]


CONVOLUTIONS: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "forward": lambda x, kernel, cotangent: forward(x, kernel),
    "forward, channels first": channels_first,
    "forward, two halves": two_halves,
    "forward, pixels at once": pixels_at_once,
    "input gradient": input_gradient,
    "weight gradient": weight_gradient,
    "weight gradient, roles exchanged": roles_exchanged,
    "weight gradient, one product": shifted_product,
    "weight gradient, product by image": product_by_image,
    "weight gradient, pixels at once": gradient_of_pixels_at_once,
}


def operands(side: int, inputs: int, outputs: int, batch: int = 8) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Image, kernel and cotangent of a layer, from a standard normal distribution."""
    rng = np.random.default_rng(0)
    shapes = (batch, side, side, inputs), (3, 3, inputs, outputs), (batch, side, side, outputs)
    x, kernel, cotangent = (jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes)
    return x, kernel, cotangent


def measure_convolutions(repetitions: int) -> list[dict[str, Any]]:
    """GFLOP/s of each direction of each layer, by the median time."""
    rows = []
    for side, inputs, outputs in LAYERS:
        arrays = operands(side, inputs, outputs)
        operations = 2 * 9 * inputs * outputs * 8 * side**2
        row: dict[str, Any] = {"side": side, "inputs": inputs, "outputs": outputs}
        for name, function in CONVOLUTIONS.items():
            compiled = jax.jit(function).lower(*arrays).compile()
            jax.block_until_ready(compiled(*arrays))
            times = []
            for _ in range(repetitions):
                begin = time.perf_counter()
                jax.block_until_ready(compiled(*arrays))
                times.append(time.perf_counter() - begin)
            row[name] = operations / statistics.median(times) / 1e9
        rows.append(row)
    return rows


def torch_convolutions(python: str, repetitions: int) -> Iterator[dict[str, float]]:
    """GFLOP/s of PyTorch's directions, channels last, a dictionary for each layer."""
    command = [python, "-m", "benchmarks.torch_convolution", json.dumps(LAYERS), str(repetitions)]
    root = Path(__file__).parents[1]
    out = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout
    yield from json.loads(out.splitlines()[-1])


def main() -> None:
    """Print the result and write it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch_python", help="an interpreter with torch; without it, no PyTorch")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "cpu_attempts.json")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)  # variants of one device use the first, with all threads
    result: dict[str, Any] = {
        **conditions(),
        "load_average": os.getloadavg(),
        "setting": SETTING._asdict(),
        "convolutions": measure_convolutions(2 * options.rounds + 1),
    }
    if options.torch_python:
        rates = torch_convolutions(options.torch_python, 2 * options.rounds + 1)
        for row, torch_row in zip(result["convolutions"], rates, strict=True):
            row["torch"] = torch_row
    result["steps"] = measure_steps(options.rounds, 1.0)
    print(json.dumps(result, indent=1))
    atomic.write_json(options.out, result)


if __name__ == "__main__":
    main()
