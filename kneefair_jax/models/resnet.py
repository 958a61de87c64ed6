"""ResNet-18 and ResNet-34 (He et al., CVPR 2016) as the encoder of a U-Net."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kneefair_jax.errors import InputError
from kneefair_jax.models.unet import ConvBlock, Normalization, elementwise_max, rematerialize

RESNET18 = (2, 2, 2, 2)
RESNET34 = (3, 4, 6, 3)
STAGE_WIDTHS = (64, 128, 256, 512)
# He et al. (ICCV 2015) by fan-out, with which torchvision initializes its ResNets.
HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; submodules have torchvision's names, with _ for its dots."""

    features: int
    stride: int
    dtype: Any
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """f[B, H, W, C] -> f[B, ceil(H / stride), ceil(W / stride), features]."""

        def norm(x: jax.Array, name: str) -> jax.Array:
            return Normalization("batch", self.axis_name, name=name)(x, train)

        y = _conv(self.features, 3, self.stride, self.dtype, "conv1")(x)
        y = nn.relu(norm(y, "bn1"))
        y = norm(_conv(self.features, 3, 1, self.dtype, "conv2")(y), "bn2")
        if x.shape != y.shape:
            x = norm(_conv(self.features, 1, self.stride, self.dtype, "downsample_0")(x), "downsample_1")
        return nn.relu(x + y)


class ResNetEncoder(nn.Module):
    """torchvision's ResNet without its classifier: features at a half, a quarter, ..., a 32nd of the resolution.

    Attributes:
        blocks: basic blocks of each stage, `RESNET18` or `RESNET34`.
        dtype: of the computation.
        remat: whether the backward pass recomputes the blocks (`unet.rematerialize`).
        axis_name: the mapped axis to pool batch statistics over, under pmap or shard_map.
    """

    blocks: tuple[int, ...] = RESNET18
    dtype: Any = jnp.float32
    remat: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False) -> list[jax.Array]:
        """f[B, H, W, C] -> f[B, H/2, W/2, 64], f[B, H/4, W/4, 64], then 128, 256 and 512 channels; sizes round up."""
        x = _conv(64, 7, 2, self.dtype, "conv1")(image.astype(self.dtype))
        x = nn.relu(Normalization("batch", self.axis_name, name="bn1")(x, train))
        features = [x]
        x = max_pool(x)
        basic_block = rematerialize(BasicBlock, self.remat)
        for stage, (count, width) in enumerate(zip(self.blocks, STAGE_WIDTHS, strict=True), start=1):
            for number in range(count):
                stride = 2 if stage > 1 and number == 0 else 1
                name = f"layer{stage}_{number}"
                x = basic_block(width, stride, self.dtype, self.axis_name, name=name)(x, train)
            features.append(x)
        return features


class ResNetUNet(nn.Module):
    """A U-Net with a ResNet encoder, as in `segmentation_models_pytorch.Unet`, for any height, width and channels.

    Each level of the decoder enlarges by nearest neighbors, concatenates the encoder's features and convolves. The
    encoder has no features at full resolution, so the last level only convolves.

    Example::

        from kneefair_jax.weights import warm_start

        model = ResNetUNet(classes=9)
        variables = model.init(jax.random.key(0), image)            # image f32[B, H, W, 1]
        variables = warm_start.load_imagenet("resnet18.safetensors", variables)
        logits = model.apply(variables, image)                      # f32[B, H, W, 9]

    Attributes:
        classes: output channels, background included.
        blocks: basic blocks of each stage of the encoder, `RESNET18` or `RESNET34`.
        widths: channels of the decoder at full resolution, at half and so on, five in all.
        convolutions: 3 x 3 convolutions of each level of the decoder.
        norm: "batch", the normalization of a ResNet.
        dtype: of the computation; parameters, statistics and logits stay float32.
        stem: "pixel"; a ResNet's first convolution halves the resolution itself.
        remat: whether the backward pass recomputes the blocks (`unet.rematerialize`).
        axis_name: the mapped axis to pool batch statistics over, under pmap or shard_map.
        bottleneck: `(features, group, train, keys) -> features` of the same shape, at a 32nd of the resolution.
        critic: `(image, logits, group, train)`, a module whose loss is sown (`heads`).
    """

    classes: int
    blocks: tuple[int, ...] = RESNET18
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
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
        self, image: jax.Array, train: bool = False, group: jax.Array | None = None, keys: Any = None
    ) -> jax.Array:
        """Standardized images f32[B, H, W, C] -> logits f32[B, H, W, classes].

        With `train`, batch statistics are those of the batch, and "batch_stats" must be mutable.

        Raises:
            InputError: there are not five widths, or the normalization or the stem is another one.
        """
        if len(self.widths) != 5:
            raise InputError(
                f"config.model.widths={self.widths}: give five, because a ResNet halves the resolution five times"
            )
        if self.norm != "batch":
            raise InputError(
                f"config.model.norm={self.norm!r}: give batch, the only normalization of a ResNet"
            )
        if self.stem != "pixel":
            raise InputError(
                f"config.model.stem={self.stem!r}: give pixel; a ResNet halves the resolution first by itself"
            )
        height, width = image.shape[1:3]
        padding = ((0, 0), (0, -height % 32), (0, -width % 32), (0, 0))
        x = jnp.pad(image, padding, mode="edge")
        *skips, x = ResNetEncoder(self.blocks, self.dtype, self.remat, self.axis_name, name="encoder")(
            x, train
        )
        self.sow("intermediates", "deepest", x)  # stored only if a caller makes the collection mutable
        if self.bottleneck is not None:
            x = self.bottleneck(x, group, train, keys)
        block = rematerialize(ConvBlock, self.remat)
        for level, features in reversed(list(enumerate(self.widths))):
            x = enlarge(x)
            if level:
                x = jnp.concatenate([skips[level - 1], x], axis=-1)
            name = f"decoder_{level}"
            x = block(features, self.convolutions, self.norm, self.dtype, self.axis_name, name=name)(x, train)
        logits = nn.Conv(self.classes, (3, 3), dtype=jnp.promote_types(self.dtype, jnp.float32), name="head")(
            x
        )
        logits = logits[:, :height, :width]
        if self.critic is not None:
            self.critic(image, logits, group, train)
        return logits


def max_pool(x: jax.Array) -> jax.Array:
    """Take the 3 x 3 maximum with stride 2 of nonnegative features, f[B, H, W, C] -> f[B, H/2, W/2, C].

    The values equal those of torch's `MaxPool2d(3, 2, 1)`; sizes round up. `nn.max_pool` has another gradient: see
    `unet.downsample` and `unet.elementwise_max`.
    """
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for axis in (1, 2):
        size = x.shape[axis]
        windows = [jax.lax.slice_in_dim(x, start, size - 2 + start, 2, axis) for start in range(3)]
        x = elementwise_max(elementwise_max(windows[0], windows[1]), windows[2])
    return x


def enlarge(x: jax.Array) -> jax.Array:
    """Repeat every pixel twice in each direction, f[B, H, W, C] -> f[B, 2H, 2W, C]."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def _conv(features: int, size: int, stride: int, dtype: Any, name: str) -> nn.Conv:
    """A convolution padded equally on both sides, as in torch; "SAME" would pad less at the start at stride 2."""
    return nn.Conv(
        features,
        (size, size),
        (stride, stride),
        padding=size // 2,
        use_bias=False,
        dtype=dtype,
        kernel_init=HE_FAN_OUT,
        name=name,
    )
