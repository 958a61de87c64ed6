"""Random variation of a training batch, on the device and inside jit.

Geometry, grey values and covers vary in the order of a radiograph's making: the patient is placed, the film is exposed,
marked and collimated, then inverted. Each draw is a function of (key, position in the global batch), so neither the
number of devices nor a restart changes it. A variation of strength 0 is absent from the program, not multiplied by 0.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from scipy.interpolate import BSpline

# Cells of the elastic warp's control grid along each side: bends of a quarter of the picture.
CELLS = 4
# Side markers are letters of lead; the letter drawn does not depend on the side.
LETTERS = (
    ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    ("####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"),
)
# Heights of letters, as a share of the picture's height.
MIN_LETTER, MAX_LETTER = 0.06, 0.14
# How far a collimated border reaches into the picture, as a share of the side.
MAX_BORDER = 0.25


class Augmentation(NamedTuple):
    """Strengths of the variations; a batch stays unchanged if all of them are zero.

    Attributes:
        flip: probability of a left/right flip, which swaps the labels of sided structures.
        rotation: largest rotation, degrees.
        scale: largest relative change of size.
        stretch: largest relative change of width against height.
        shear: largest shear, pixels across for each pixel down.
        shift: largest shift, as a share of height and width.
        elastic: largest elastic displacement, as a share of height and width; up to 1/16 nothing can fold.
        gamma: largest log2 of the exponent of the grey values.
        contrast: largest relative change of contrast about the mean.
        blur: largest standard deviation of a Gaussian blur, pixels.
        noise: largest standard deviation of added noise; grey values span 0 to 1.
        cut_out: largest sides of a rectangle painted over in one grey, as a share of height and width.
        marker: probability of a bright letter at a random place, like a side marker.
        collimation: probability of a dark or bright border outside a rectangle; its labels become background.
        invert: probability of inverted grey values.
    """

    flip: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    cut_out: float = 0.0
    marker: float = 0.0
    collimation: float = 0.0
    invert: float = 0.0


def augment(
    key: jax.Array,
    image: jax.Array,
    label: jax.Array,
    position: jax.Array,
    *,
    strength: Augmentation,
    flip_table: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Vary each example of a batch by its own random draw.

    Args:
        key: the key of this step.
        image: f32[B, H, W, C] in [0, 1].
        label: i32[B, H, W].
        position: i32[B], each example's position in the global batch.
        strength: strengths of the variations; static.
        flip_table: i32[S + 1], the label that each label becomes on a flip (`anatomy.flip_table`).

    Returns:
        image f32[B, H, W, C] and label i32[B, H, W]. A warp repeats the border of both outside the picture, so a shaft
        that leaves the picture continues.
    """
    if strength == Augmentation():
        return image, label
    keys = jax.vmap(lambda p: jax.random.fold_in(key, p))(position)

    def vary(key: jax.Array, image: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        image, label = vary_geometry(jax.random.fold_in(key, 0), image, label, strength, flip_table)
        image = vary_intensity(jax.random.fold_in(key, 1), image, strength)
        image, label = cover(jax.random.fold_in(key, 2), image, label, strength)
        return invert(jax.random.fold_in(key, 3), image, strength.invert), label

    return jax.vmap(vary)(keys, image, label)


def vary_geometry(
    key: jax.Array, image: jax.Array, label: jax.Array, strength: Augmentation, flip_table: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Flip an image f32[H, W, C] and its label i32[H, W], then warp both in one interpolation."""
    flip_key, warp_key = jax.random.split(key)
    if strength.flip:
        is_flipped = jax.random.bernoulli(flip_key, strength.flip)
        image = jnp.where(is_flipped, image[:, ::-1], image)
        label = jnp.where(is_flipped, jnp.asarray(flip_table)[label[:, ::-1]], label)
    warp_strengths = (strength.rotation, strength.scale, strength.stretch, strength.shear, strength.shift)
    if not any((*warp_strengths, strength.elastic)):
        return image, label
    return resample(image, label, warp_source(warp_key, label.shape, strength))


def warp_source(
    key: jax.Array, shape: tuple[int, ...], strength: Augmentation
) -> tuple[jax.Array, jax.Array]:
    """Draw a warp: the source row and column of each pixel of the result, f32[H, W] each.

    About the center, p <- R(angle) S(scale) [stretch, shear] (p - shift) + elastic(p).
    """
    height, width = shape
    angle, size, down, across = jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0)
    rows, columns = jnp.mgrid[:height, :width]
    y = rows - (height - 1) / 2 - down * strength.shift * height
    x = columns - (width - 1) / 2 - across * strength.shift * width
    if strength.stretch or strength.shear:
        log_ratio, slant = jax.random.uniform(jax.random.fold_in(key, 0), (2,), minval=-1.0, maxval=1.0)
        ratio = jnp.exp2(log_ratio / 2 * jnp.log2(1.0 + strength.stretch))  # the width's is the inverse
        y, x = y * ratio, (x - slant * strength.shear * y) / ratio
    angle = angle * jnp.deg2rad(strength.rotation)
    zoom = jnp.exp2(size * jnp.log2(1.0 + strength.scale))
    cosine, sine = jnp.cos(angle) / zoom, jnp.sin(angle) / zoom
    y, x = cosine * y - sine * x + (height - 1) / 2, sine * y + cosine * x + (width - 1) / 2
    if strength.elastic:
        bend_y, bend_x = elastic_field(jax.random.fold_in(key, 1), shape)
        y, x = y + strength.elastic * height * bend_y, x + strength.elastic * width * bend_x
    return y, x


def elastic_field(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draw a smooth field f32[2, H, W] within [-1, 1]: cubic B-splines on a coarse grid (free-form deformation).

    Displacements of up to d of the sides have derivatives of up to 2 d CELLS along each of them, so that nothing folds
    while 4 d CELLS < 1.

    Reference:
        Rueckert et al. 1999, doi 10.1109/42.796284.
    """
    amount_key, control_key = jax.random.split(key)
    side = CELLS + 3
    control = jax.random.uniform(control_key, (2, side, side), minval=-1.0, maxval=1.0)
    along_y, along_x = (_splines(size) for size in shape)
    return jax.random.uniform(amount_key) * jnp.einsum("hi,dij,wj->dhw", along_y, control, along_x)


def _splines(size: int) -> np.ndarray:
    """Return the CELLS + 3 cubic B-splines at `size` pixels, f32[size, CELLS + 3]; those at a pixel sum to 1."""
    knots = np.arange(-3, CELLS + 4)
    matrix = BSpline.design_matrix(np.linspace(0, CELLS, size), knots, 3).toarray()
    return np.asarray(matrix, np.float32)


def resample(
    image: jax.Array, label: jax.Array, source: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Interpolate the image linearly and take the label of the nearest pixel; outside the picture, of its border."""

    def interpolate(channel: jax.Array) -> jax.Array:
        values: jax.Array = map_coordinates(channel, source, order=1, mode="nearest")
        return values

    warp = jax.vmap(interpolate, -1, -1)
    return warp(image), map_coordinates(label, source, order=0, mode="nearest")


def vary_intensity(key: jax.Array, image: jax.Array, strength: Augmentation) -> jax.Array:
    """Vary gamma, contrast, blur and noise of an image f32[H, W, C] in [0, 1]; noise may leave that range."""
    draw_key, noise_key = jax.random.split(key)
    gamma, contrast, noise = jax.random.uniform(draw_key, (3,))
    if strength.gamma:
        # The offset keeps the gradient-free power of 0 finite for exponents below one.
        image = jnp.clip(image, 1e-6, 1.0) ** jnp.exp2((2 * gamma - 1) * strength.gamma)
    if strength.contrast:
        mean = image.mean()
        image = jnp.clip(mean + (image - mean) * (1 + (2 * contrast - 1) * strength.contrast), 0.0, 1.0)
    if strength.blur:
        image = blur(image, jax.random.uniform(jax.random.fold_in(draw_key, 0)) * strength.blur)
    if strength.noise:
        image = image + noise * strength.noise * jax.random.normal(noise_key, image.shape)
    return image


def blur(image: jax.Array, sigma: jax.Array) -> jax.Array:
    """Blur an image f32[H, W, C] by a Gaussian of standard deviation `sigma` pixels, normalized within the picture.

    Two matrix products: a width drawn on the device needs no kernel of a fixed size.
    """

    def weights(size: int) -> jax.Array:
        distance = jnp.arange(size)[:, None] - jnp.arange(size)
        return jax.nn.softmax(-0.5 * (distance / jnp.maximum(sigma, 1e-3)) ** 2)

    height, width, _ = image.shape
    return jnp.einsum("hi,ijc,wj->hwc", weights(height), image, weights(width))


def invert(key: jax.Array, image: jax.Array, probability: float) -> jax.Array:
    """Invert the grey values at random, as in MONOCHROME1 read without its flag."""
    if not probability:
        return image
    return jnp.where(jax.random.bernoulli(key, probability), 1.0 - image, image)


def cover(
    key: jax.Array, image: jax.Array, label: jax.Array, strength: Augmentation
) -> tuple[jax.Array, jax.Array]:
    """Cover parts of an image f32[H, W, C] by a rectangle, a letter and a border.

    The label i32[H, W] becomes background outside the collimated field, where no X-rays fell. Bone behind a rectangle
    or a letter keeps its label.
    """
    hole_key, letter_key, border_key = jax.random.split(key, 3)
    if strength.cut_out:
        hole, grey = _hole(hole_key, label.shape, strength.cut_out)
        image = jnp.where(hole[..., None], grey, image)
    if strength.marker:
        letter, grey = _letter(letter_key, label.shape)
        letter &= jax.random.bernoulli(jax.random.fold_in(letter_key, 0), strength.marker)
        image = jnp.where(letter[..., None], jnp.maximum(image, grey), image)
    if strength.collimation:
        border, grey = _border(border_key, label.shape)
        border &= jax.random.bernoulli(jax.random.fold_in(border_key, 0), strength.collimation)
        image = jnp.where(border[..., None], grey, image)
        label = jnp.where(border, 0, label)
    return image, label


def _hole(key: jax.Array, shape: tuple[int, ...], max_share: float) -> tuple[jax.Array, jax.Array]:
    """Draw a rectangle anywhere, bool[H, W], and its grey.

    Reference:
        DeVries and Taylor 2017, arXiv 1708.04552; here sides and grey are random.
    """
    tall, wide, top, left, grey = jax.random.uniform(key, (5,))
    tall, wide = tall * max_share, wide * max_share
    top, left = top * (1 - tall), left * (1 - wide)
    y, x = ((jnp.arange(size) + 0.5) / size for size in shape)
    return ((y >= top) & (y < top + tall))[:, None] & ((x >= left) & (x < left + wide)), grey


def _letter(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Draw a letter anywhere, bool[H, W], and its grey."""
    bitmaps = jnp.array([[[sign == "#" for sign in line] for line in letter] for letter in LETTERS])
    _, lines, signs = bitmaps.shape
    height, width = shape
    size, top, left, grey, choice = jax.random.uniform(key, (5,))
    dot = (MIN_LETTER + size * (MAX_LETTER - MIN_LETTER)) * height / lines  # pixels
    line = jnp.floor((jnp.arange(height) - top * (height - lines * dot)) / dot)
    sign = jnp.floor((jnp.arange(width) - left * (width - signs * dot)) / dot)
    bitmap = bitmaps[(choice * len(LETTERS)).astype(jnp.int32)].astype(jnp.float32)
    # Products of zeros and ones select lines and signs without a gather.
    down, across = line[:, None] == jnp.arange(lines), sign[:, None] == jnp.arange(signs)
    return jnp.einsum("hl,ls,ws->hw", down * 1.0, bitmap, across * 1.0) > 0, 0.8 + 0.2 * grey


def _border(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Draw the outside of a rectangle, bool[H, W], and its grey, nearly black or nearly white."""
    *edges, grey, bright = jax.random.uniform(key, (6,))
    top, bottom, left, right = (edge * MAX_BORDER for edge in edges)
    y, x = ((jnp.arange(size) + 0.5) / size for size in shape)
    field = ((y > top) & (y < 1 - bottom))[:, None] & ((x > left) & (x < 1 - right))
    return ~field, jnp.where(bright < 0.5, 0.1 * grey, 1 - 0.1 * grey)
