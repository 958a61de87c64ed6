"""Random variation of a training batch, on the device and inside jit.

Every draw is a function of (key, position in the global batch), so neither the number of devices nor a restart
changes it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates


class Augmentation(NamedTuple):
    """How strongly a batch is varied; all zero leaves it as it is.

    Attributes:
        flip: probability of a left/right flip, which swaps the labels of sided structures.
        rotation: largest rotation, degrees.
        scale: largest relative change of size.
        shift: largest shift, as a share of height and width.
        gamma: largest log2 of the exponent of the grey values.
        contrast: largest relative change of contrast about the mean.
        noise: largest standard deviation of added noise; grey values span 0 to 1.
    """

    flip: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    noise: float = 0.0


def augment(
    key: jax.Array,
    image: jax.Array,
    label: jax.Array,
    position: jax.Array,
    *,
    strength: Augmentation,
    flip_table: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Varies each example of a batch by its own random draw.

    Args:
        key: of this step.
        image: f32[B, H, W, C] in [0, 1].
        label: i32[B, H, W].
        position: i32[B], each example's position in the global batch.
        strength: of the variation; static.
        flip_table: i32[S + 1], the label that each label becomes on a flip (`anatomy.flip_table`).

    Returns:
        image f32[B, H, W, C] and label i32[B, H, W]; what a turn or a shift brings in from outside repeats the
        border in both: a shaft that leaves the picture goes on.
    """
    keys = jax.vmap(lambda p: jax.random.fold_in(key, p))(position)

    def one(key: jax.Array, image: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _intensity(key, *_geometry(key, image, label, strength, flip_table), strength)

    return jax.vmap(one)(keys, image, label)


def _geometry(
    key: jax.Array, image: jax.Array, label: jax.Array, strength: Augmentation, flip_table: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Flip, then rotation, scale and shift in one interpolation."""
    height, width, _ = image.shape
    flip_key, warp_key = jax.random.split(jax.random.fold_in(key, 0))
    if strength.flip:
        flipped = jax.random.bernoulli(flip_key, strength.flip)
        image = jnp.where(flipped, image[:, ::-1], image)
        label = jnp.where(flipped, jnp.asarray(flip_table)[label[:, ::-1]], label)
    if not (strength.rotation or strength.scale or strength.shift):
        return image, label
    angle, size, down, across = jax.random.uniform(warp_key, (4,), minval=-1.0, maxval=1.0)
    angle = angle * jnp.deg2rad(strength.rotation)
    zoom = jnp.exp2(size * jnp.log2(1.0 + strength.scale))
    # Where each pixel of the result comes from, in pixels, about the centre.
    rows, columns = jnp.mgrid[:height, :width]
    y = rows - (height - 1) / 2 - down * strength.shift * height
    x = columns - (width - 1) / 2 - across * strength.shift * width
    cosine, sine = jnp.cos(angle) / zoom, jnp.sin(angle) / zoom
    source = [cosine * y - sine * x + (height - 1) / 2, sine * y + cosine * x + (width - 1) / 2]
    warp = jax.vmap(lambda channel: map_coordinates(channel, source, order=1, mode="nearest"), -1, -1)
    return warp(image), map_coordinates(label, source, order=0, mode="nearest")


def _intensity(
    key: jax.Array, image: jax.Array, label: jax.Array, strength: Augmentation
) -> tuple[jax.Array, jax.Array]:
    """Grey values only: gamma, contrast, noise."""
    draw_key, noise_key = jax.random.split(jax.random.fold_in(key, 1))
    gamma, contrast, noise = jax.random.uniform(draw_key, (3,))
    if strength.gamma:
        # The offset keeps the gradient-free power of 0 finite for exponents below one.
        image = jnp.clip(image, 1e-6, 1.0) ** jnp.exp2((2 * gamma - 1) * strength.gamma)
    if strength.contrast:
        mean = image.mean()
        image = jnp.clip(mean + (image - mean) * (1 + (2 * contrast - 1) * strength.contrast), 0.0, 1.0)
    if strength.noise:
        image = image + noise * strength.noise * jax.random.normal(noise_key, image.shape)
    return image, label
