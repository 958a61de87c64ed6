"""The U-Net of Ronneberger, Fischer and Brox (MICCAI 2015), with normalization and padding inside."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kneefair_jax.models.blocks import ConvBlock, Upsample, downsample, rematerialize


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
        remat: whether the backward pass recomputes the blocks (`blocks.rematerialize`).
        axis_name: the mapped axis to pool batch statistics over, under pmap or shard_map.
        bottleneck: an optional module on the deepest features (`heads`).
        critic: an optional module on image and logits (`heads`).
    """

    classes: int
    widths: tuple[int, ...] = (16, 32, 64, 128)
    convolutions: int = 2
    norm: str = "batch"
    dtype: Any = jnp.float32
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
        multiple = 2 ** (len(self.widths) - 1)
        padding = ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0))
        x = jnp.pad(image.astype(self.dtype), padding, mode="edge")

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
        logits = nn.Dense(self.classes, dtype=jnp.promote_types(self.dtype, jnp.float32), name="head")(x)
        logits = logits[:, :height, :width]
        if self.critic is not None:
            self.critic(image, logits, group, train)
        return logits
