"""Where each pixel comes from: a flip, then an affine and an elastic warp in one interpolation."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from scipy.interpolate import BSpline

from kneefair_jax.data.augment.strength import Augmentation

# Cells of the elastic warp's control grid along each side: bends of a quarter of the picture.
CELLS = 4


def vary(
    key: jax.Array, image: jax.Array, label: jax.Array, strength: Augmentation, flip_table: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Flips and warps image f32[H, W, C] and label i32[H, W]."""
    flip_key, warp_key = jax.random.split(key)
    if strength.flip:
        flipped = jax.random.bernoulli(flip_key, strength.flip)
        image = jnp.where(flipped, image[:, ::-1], image)
        label = jnp.where(flipped, jnp.asarray(flip_table)[label[:, ::-1]], label)
    if not any((*_affine(strength), strength.shift, strength.elastic)):
        return image, label
    return resample(image, label, source(warp_key, label.shape, strength))


def source(key: jax.Array, shape: tuple[int, ...], strength: Augmentation) -> tuple[jax.Array, jax.Array]:
    """Draws a warp: the row and the column, f32[H, W] each, that every pixel of the result comes from.

    About the centre, p <- R(angle) S(scale) [stretch, shear] (p - shift) + elastic(p).
    """
    height, width = shape
    angle, size, down, across = jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0)
    rows, columns = jnp.mgrid[:height, :width]
    y = rows - (height - 1) / 2 - down * strength.shift * height
    x = columns - (width - 1) / 2 - across * strength.shift * width
    if strength.stretch or strength.shear:
        wide, slant = jax.random.uniform(jax.random.fold_in(key, 0), (2,), minval=-1.0, maxval=1.0)
        ratio = jnp.exp2(wide / 2 * jnp.log2(1.0 + strength.stretch))  # of each side, the other way round
        y, x = y * ratio, (x - slant * strength.shear * y) / ratio
    angle = angle * jnp.deg2rad(strength.rotation)
    zoom = jnp.exp2(size * jnp.log2(1.0 + strength.scale))
    cosine, sine = jnp.cos(angle) / zoom, jnp.sin(angle) / zoom
    y, x = cosine * y - sine * x + (height - 1) / 2, sine * y + cosine * x + (width - 1) / 2
    if strength.elastic:
        bend_y, bend_x = elastic(jax.random.fold_in(key, 1), shape)
        y, x = y + strength.elastic * height * bend_y, x + strength.elastic * width * bend_x
    return y, x


def elastic(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A smooth random field f32[2, H, W] within [-1, 1]: cubic B-splines on a coarse grid, as in free-form deformation.

    Rueckert et al. 1999. Displacements of up to d of the sides have derivatives of up to 2 d CELLS along each of them,
    so that nothing folds while 4 d CELLS < 1.
    """
    amount_key, control_key = jax.random.split(key)
    side = CELLS + 3
    control = jax.random.uniform(control_key, (2, side, side), minval=-1.0, maxval=1.0)
    along_y, along_x = (_splines(size) for size in shape)
    return jax.random.uniform(amount_key) * jnp.einsum("hi,dij,wj->dhw", along_y, control, along_x)


def resample(
    image: jax.Array, label: jax.Array, source: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Reads the image linearly and the label at the nearest pixel; beyond the border, the border."""
    warp = jax.vmap(lambda channel: map_coordinates(channel, source, order=1, mode="nearest"), -1, -1)
    return warp(image), map_coordinates(label, source, order=0, mode="nearest")


def _affine(strength: Augmentation) -> tuple[float, ...]:
    return strength.rotation, strength.scale, strength.stretch, strength.shear


def _splines(size: int) -> np.ndarray:
    """The CELLS + 3 cubic B-splines at `size` pixels, f32[size, CELLS + 3]; those at a pixel sum to 1."""
    knots = np.arange(-3, CELLS + 4)
    return BSpline.design_matrix(np.linspace(0, CELLS, size), knots, 3).toarray().astype(np.float32)
