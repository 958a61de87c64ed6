"""The U-Net of Ronneberger, Fischer and Brox (MICCAI 2015), with normalization and padding inside, and its layers.

The layers are chosen for speed on CPU, GPU and TPU; `models.resnet` uses them too.
"""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from kneefair_jax.errors import InputError, lookup

# Batch statistics follow the last 1 / (1 - momentum) steps or so; runs here can be a few hundred steps long.
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5  # added to the variance, as in flax and torch
# Added to the deviation, so that a blank image stays finite; far below the contrast of any radiograph.
STANDARDIZE_EPSILON = 1e-3
# Name of a first level -> the pixels along a side of what it takes as one.
STEMS = {"pixel": 1, "patch2": 2}


def standardize(image: jax.Array) -> jax.Array:
    """Scale each image to mean 0 and variance 1, so that exposure and window do not matter.

    Args:
        image: u8 in [0, 255] or f32 in [0, 1], [B, H, W, C]; f64 stays f64.

    Returns:
        f32[B, H, W, C].
    """
    scale = 255.0 if image.dtype == jnp.uint8 else 1.0
    image = image.astype(jnp.promote_types(image.dtype, jnp.float32)) / scale
    mean = image.mean((1, 2, 3), keepdims=True)
    deviation = image.std((1, 2, 3), keepdims=True)
    return (image - mean) / (deviation + STANDARDIZE_EPSILON)


class BatchNorm(nn.Module):
    """Batch normalization as one product and one sum, with the variables of `nn.BatchNorm` and its values to rounding.

    `nn.BatchNorm` subtracts the mean first, and a step stores the centered features beside the features. Here it stores
    the features alone: 27 % less memory for the temporaries of a step on a CPU. The product and the sum nearly cancel
    where the mean is many times the deviation: in float32 the error is about 1e-7 of their ratio, in deviations.

    Attributes:
        axis_name: the mapped axis to pool batch statistics over, under pmap or shard_map.
    """

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """f[B, H, W, C] -> f[B, H, W, C]; statistics are float32 at least."""
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_variance = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        features = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if train:
            mean, mean_square = features.mean((0, 1, 2)), jnp.square(features).mean((0, 1, 2))
            if self.axis_name is not None and not self.is_initializing():
                mean, mean_square = jax.lax.pmean((mean, mean_square), self.axis_name)
            variance = jnp.maximum(mean_square - jnp.square(mean), 0)
            if not self.is_initializing():
                running_mean.value = _average(running_mean.value, mean)
                running_variance.value = _average(running_variance.value, variance)
        else:
            mean, variance = running_mean.value, running_variance.value
        multiplier = scale * jax.lax.rsqrt(variance + BATCH_NORM_EPSILON)
        return (features * multiplier + (bias - mean * multiplier)).astype(x.dtype)


def _average(running: jax.Array, batch: jax.Array) -> jax.Array:
    return BATCH_NORM_MOMENTUM * running + (1 - BATCH_NORM_MOMENTUM) * batch


class Normalization(nn.Module):
    """Batch or group normalization, computed in float32 whatever the compute type.

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
            return BatchNorm(self.axis_name)(x, train)
        if self.kind == "group":
            channels = x.shape[-1]
            groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
            return cast(jax.Array, nn.GroupNorm(num_groups=groups, dtype=x.dtype)(x))
        raise InputError(f"config.model.norm={self.kind!r}: give one of batch, group")


class ConvBlock(nn.Module):
    """`convolutions` times (3 x 3 convolution, normalization, ReLU)."""

    features: int
    convolutions: int
    norm: str
    dtype: Any
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """f[B, H, W, C] -> f[B, H, W, features]."""
        for i in range(self.convolutions):
            # The normalization adds a bias.
            x = nn.Conv(self.features, (3, 3), use_bias=False, dtype=self.dtype)(x)
            # Parameters of published checkpoints have this spelling.
            x = Normalization(self.norm, self.axis_name, name=f"Normalisation_{i}")(x, train)
            x = nn.relu(x)
        return x


def rematerialize[M: nn.Module](block: type[M], remat: bool) -> type[M]:
    """Return the block; with `remat`, the backward pass recomputes its inner activations instead of storing them.

    Most of a step's memory holds the activations between convolutions; with `remat` only a block's input is stored,
    for about a third more arithmetic. Parameters, results and gradients are the same. `train`, the second argument, is
    static.
    """
    # Argument 0 is the module.
    return nn.remat(block, static_argnums=(2,)) if remat else block


def downsample(x: jax.Array) -> jax.Array:
    """Take the 2 x 2 maximum, f[B, 2H, 2W, C] -> f[B, H, W, C].

    The values equal those of `nn.max_pool`, whose gradient (select-and-scatter) is slow on CPU and TPU; the gradient
    here is an elementwise select.
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    rows = elementwise_max(x[:, :, 0], x[:, :, 1])
    return elementwise_max(rows[:, :, :, 0], rows[:, :, :, 1])


def elementwise_max(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the elementwise maximum; at a tie the first argument gets the gradient, as in torch's max-pooling.

    The gradients of `jnp.max` and `jnp.maximum` test which input *equals* the maximum. Where a compiler recomputes the
    input and rounds it differently, none does, and the gradient is 0 / 0 or 0.
    """
    return jnp.where(a >= b, a, b)


def patches(x: jax.Array, side: int) -> jax.Array:
    """Make channels of the pixels of each patch, f[B, s H, s W, C] -> f[B, H, W, s s C] ("space to depth")."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // side, side, width // side, side, channels)
    return x.swapaxes(2, 3).reshape(batch, height // side, width // side, side * side * channels)


class Upsample(nn.Module):
    """Learned 2 x 2 up-sampling, f[B, H, W, C] -> f[B, 2H, 2W, features].

    A dense layer to 4 x features and a reshape compute the same function as a 2 x 2 transposed convolution with stride
    2, whose output windows do not overlap. XLA runs the dense layer far faster, and on a CPU its gradient over a matrix
    of pixels faster than over four dimensions.
    """

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """f[B, H, W, C] -> f[B, 2H, 2W, features]."""
        batch, height, width, channels = x.shape
        x = nn.Dense(4 * self.features, dtype=self.dtype)(x.reshape(-1, channels))
        x = x.reshape(batch, height, width, 2, 2, self.features)
        x = jnp.swapaxes(x, 2, 3)
        return x.reshape(batch, 2 * height, 2 * width, self.features)


class UNet(nn.Module):
    """Encoder, decoder and skip connections, for any height, width and number of channels.

    Example::

        model = UNet(classes=5)
        variables = model.init(jax.random.key(0), image)            # image f32[B, H, W, C]
        logits = model.apply(variables, image)                      # f32[B, H, W, 5]
        logits, updates = model.apply(variables, image, train=True, mutable=["batch_stats"])

    Attributes:
        classes: output channels, background included.
        widths: channels at full resolution, at half, at a quarter and so on: its length is the depth.
        convolutions: 3 x 3 convolutions of each block.
        norm: "batch" or "group".
        dtype: of the computation; parameters, statistics and logits stay float32.
        stem: "pixel"; or "patch2", where the first level takes 2 x 2 pixels as one with 4 times the channels, and the
            last features are up-sampled before the head: another network, with a quarter of the arithmetic.
        remat: whether the backward pass recomputes the blocks (`rematerialize`).
        axis_name: the mapped axis to pool batch statistics over, under pmap or shard_map.
        bottleneck: an optional module on the deepest features (`heads`).
        critic: an optional module on image and logits (`heads`).
    """

    classes: int
    widths: tuple[int, ...] = (16, 32, 64, 128)
    convolutions: int = 2
    norm: str = "batch"
    dtype: Any = jnp.float32
    stem: str = "pixel"
    remat: bool = False
    axis_name: str | None = None
    bottleneck: nn.Module | None = None
    critic: nn.Module | None = None

    @nn.compact
    def __call__(
        self,
        image: jax.Array,
        train: bool = False,
        group: jax.Array | None = None,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """Standardized images f32[B, H, W, C] -> logits f32[B, H, W, classes].

        With `train`, batch statistics are those of the batch, and "batch_stats" must be mutable. Only the optional
        modules use `group`, i32[B] (-1 unknown), and `keys`, a random key for each example.
        """
        height, width = image.shape[1:3]
        patch = lookup(STEMS, self.stem, "config.model.stem")
        multiple = patch * 2 ** (len(self.widths) - 1)
        padding = ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0))
        x = patches(jnp.pad(image.astype(self.dtype), padding, mode="edge"), patch)

        def block(features: int, name: str) -> ConvBlock:
            conv_block = rematerialize(ConvBlock, self.remat)
            return conv_block(features, self.convolutions, self.norm, self.dtype, self.axis_name, name=name)

        skips = []
        for level, features in enumerate(self.widths):
            if level:
                skips.append(x)
                x = downsample(x)
            x = block(features, f"encoder_{level}")(x, train)
        self.sow("intermediates", "deepest", x)  # stored only if a caller makes the collection mutable
        if self.bottleneck is not None:
            x = self.bottleneck(x, group, train, keys)
        for level in reversed(range(len(skips))):
            x = Upsample(self.widths[level], self.dtype, name=f"up_{level}")(x)
            x = jnp.concatenate([skips[level], x], axis=-1)
            x = block(self.widths[level], f"decoder_{level}")(x, train)
        if patch > 1:
            x = nn.relu(Upsample(self.widths[0], self.dtype, name="up_stem")(x))
        head = nn.Dense(self.classes, dtype=jnp.promote_types(self.dtype, jnp.float32), name="head")
        logits = head(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], self.classes)
        logits = logits[:, :height, :width]
        if self.critic is not None:
            self.critic(image, logits, group, train)
        return logits
