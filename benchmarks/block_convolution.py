"""A 3 x 3 convolution with few channels that computes several pixels at once: an attempt of `cpu_attempts`.

XLA gives its fast library (YNNPACK) on a CPU only convolutions of more than 16 features. Here a kernel of that many
outputs holds the given one once for each pixel of a block, shifted, with zeros around it, and moves by whole blocks.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

FEW_CHANNELS = 16


def convolve(x: jax.Array, kernel: jax.Array, *args: Any, **options: Any) -> jax.Array:
    """`lax.conv_general_dilated` as `nn.Conv` calls it; `in_blocks` where channels are few.

    Args:
        x: f[B, H, W, I].
        kernel: f[3, 3, I, O].
        args: strides and padding, 1 and "SAME".
        options: of `lax.conv_general_dilated`.

    Returns:
        f[B, H, W, O].
    """
    if max(kernel.shape[2:]) > FEW_CHANNELS:
        return lax.conv_general_dilated(x, kernel, *args, **options)
    return in_blocks(x, kernel)


def wide_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """f[B, H, W, I], f[3, 3, I, O] -> f[B, H, W, O], for even heights and widths.

    Blocks have 1 x 2 pixels, and 2 x 2 for 8 outputs or fewer.
    """
    (batch, height, width, _), outputs = x.shape, kernel.shape[-1]
    rows, columns = (2, 2) if outputs <= FEW_CHANNELS // 2 else (1, 2)
    shifted = [
        jnp.pad(kernel, ((row, rows - 1 - row), (column, columns - 1 - column), (0, 0), (0, 0)))
        for row in range(rows)
        for column in range(columns)
    ]
    y = lax.conv_general_dilated(
        x,
        jnp.concatenate(shifted, -1),
        (rows, columns),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    y = y.reshape(batch, height // rows, width // columns, rows, columns, outputs)
    return y.swapaxes(2, 3).reshape(batch, height, width, outputs)


in_blocks = jax.custom_vjp(wide_convolution)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return wide_convolution(x, kernel), (x, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    # The gradient of a strided convolution's input is slow on a CPU; this is a convolution of whole blocks again.
    x, kernel = saved
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    transpose = jax.linear_transpose(lambda kernel: wide_convolution(x, kernel), kernel)
    return wide_convolution(cotangent, turned), transpose(cotangent)[0]


in_blocks.defvjp(_forward, _backward)
