"""The parts of a U-Net, each chosen to be fast on CPU, GPU and TPU alike."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kneefair_jax.errors import InputError

# Batch statistics follow the last 1 / (1 - momentum) steps or so; runs here can be a few hundred steps long.
BATCH_NORM_MOMENTUM = 0.9


class Normalisation(nn.Module):
    """Batch or group normalisation, computed in float32 whatever the compute type.

    Attributes:
        kind: "batch" (statistics over the global batch) or "group" (over groups of channels of one example).
        axis_name: the mapped axis to pool batch statistics over, under pmap or shard_map.
    """

    kind: str
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """f[B, H, W, C] -> f[B, H, W, C]."""
        if self.kind == "batch":
            return nn.BatchNorm(
                use_running_average=not train,
                momentum=BATCH_NORM_MOMENTUM,
                axis_name=self.axis_name,
                dtype=x.dtype,
            )(x)
        if self.kind == "group":
            channels = x.shape[-1]
            groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
            return nn.GroupNorm(num_groups=groups, dtype=x.dtype)(x)
        raise InputError(f"config.model.norm={self.kind!r}: give one of batch, group")


class ConvBlock(nn.Module):
    """`convolutions` times (3 x 3 convolution, normalisation, ReLU)."""

    features: int
    convolutions: int
    norm: str
    dtype: Any
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """f[B, H, W, C] -> f[B, H, W, features]."""
        for _ in range(self.convolutions):
            # The normalisation that follows has a bias of its own.
            x = nn.Conv(self.features, (3, 3), use_bias=False, dtype=self.dtype)(x)
            x = Normalisation(self.norm, self.axis_name)(x, train)
            x = nn.relu(x)
        return x


def rematerialised[M: nn.Module](block: type[M], remat: bool) -> type[M]:
    """The same block; with `remat`, what it computes inside is computed once more in the backward pass, not kept.

    Of a step's memory, most is what lies between convolutions; this keeps a block's input alone, for about a third
    more arithmetic. Parameters, results and gradients are the same. `train`, the second argument, is static.
    """
    # The first argument counted is the module itself.
    return nn.remat(block, static_argnums=(2,)) if remat else block


def downsample(x: jax.Array) -> jax.Array:
    """2 x 2 maximum, f[B, 2H, 2W, C] -> f[B, H, W, C].

    The same values as `nn.max_pool`, whose gradient (select-and-scatter) is slow on CPU and TPU; this one's is
    an elementwise choice.
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    rows = larger(x[:, :, 0], x[:, :, 1])
    return larger(rows[:, :, :, 0], rows[:, :, :, 1])


def larger(a: jax.Array, b: jax.Array) -> jax.Array:
    """The larger of two, elementwise; the first has a tie's gradient, as in torch's max-pooling.

    Not `jnp.max` or `jnp.maximum`, whose gradient asks which input *equals* the maximum: where a compiler computes the
    input once more, and rounds it otherwise, none does, and the gradient is 0 / 0 or lost.
    """
    return jnp.where(a >= b, a, b)


class Upsample(nn.Module):
    """Learnt 2 x 2 up-sampling, f[B, H, W, C] -> f[B, 2H, 2W, features].

    The same function as a 2 x 2 transposed convolution with stride 2, whose output windows do not overlap:
    a dense layer to 4 x features, then a reshape. XLA runs the dense layer far faster.
    """

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """See the class."""
        batch, height, width, _ = x.shape
        x = nn.Dense(4 * self.features, dtype=self.dtype)(x)
        x = x.reshape(batch, height, width, 2, 2, self.features)
        x = jnp.swapaxes(x, 2, 3)
        return x.reshape(batch, 2 * height, 2 * width, self.features)
