"""What hides a part of the picture: a blank rectangle, a marker, the edge of the collimated field."""

import jax
import jax.numpy as jnp

from kneefair_jax.data.augment.strength import Augmentation

# Side markers are letters of lead; which one is drawn says nothing of the side.
LETTERS = (
    ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    ("####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"),
)
# Of the height of the picture.
SMALLEST_LETTER, LARGEST_LETTER = 0.06, 0.14
# How far a collimated border reaches in, as a share of the side.
DEEPEST_BORDER = 0.25


def vary(
    key: jax.Array, image: jax.Array, label: jax.Array, strength: Augmentation
) -> tuple[jax.Array, jax.Array]:
    """Covers parts of image f32[H, W, C]; of label i32[H, W] only what lies outside of the collimated field."""
    hole_key, letter_key, border_key = jax.random.split(key, 3)
    if strength.cut_out:
        hole, grey = _hole(hole_key, label.shape, strength.cut_out)
        image = jnp.where(hole[..., None], grey, image)
    if strength.marker:
        letter, grey = _letter(letter_key, label.shape)
        shown = letter & jax.random.bernoulli(jax.random.fold_in(letter_key, 0), strength.marker)
        image = jnp.where(shown[..., None], jnp.maximum(image, grey), image)
    if strength.collimation:
        border, grey = _border(border_key, label.shape)
        shown = border & jax.random.bernoulli(jax.random.fold_in(border_key, 0), strength.collimation)
        image = jnp.where(shown[..., None], grey, image)
        # Behind a blank or a letter bone goes on; where no X-rays went, nobody can say where it is.
        label = jnp.where(shown, 0, label)
    return image, label


def _hole(key: jax.Array, shape: tuple[int, ...], largest: float) -> tuple[jax.Array, jax.Array]:
    """A rectangle anywhere, bool[H, W], and its grey (DeVries & Taylor 2017, with sides and grey at random)."""
    tall, wide, top, left, grey = jax.random.uniform(key, (5,))
    tall, wide = tall * largest, wide * largest
    top, left = top * (1 - tall), left * (1 - wide)
    y, x = ((jnp.arange(size) + 0.5) / size for size in shape)
    return ((y >= top) & (y < top + tall))[:, None] & ((x >= left) & (x < left + wide)), grey


def _letter(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """A letter anywhere, bool[H, W], and its grey."""
    bitmaps = jnp.array([[[sign == "#" for sign in line] for line in letter] for letter in LETTERS])
    _, lines, signs = bitmaps.shape
    height, width = shape
    size, top, left, grey, which = jax.random.uniform(key, (5,))
    dot = (SMALLEST_LETTER + size * (LARGEST_LETTER - SMALLEST_LETTER)) * height / lines  # pixels
    line = jnp.floor((jnp.arange(height) - top * (height - lines * dot)) / dot)
    sign = jnp.floor((jnp.arange(width) - left * (width - signs * dot)) / dot)
    bitmap = bitmaps[(which * len(LETTERS)).astype(jnp.int32)].astype(jnp.float32)
    # Picking lines and signs by products of zeros and ones: no gather.
    down, across = line[:, None] == jnp.arange(lines), sign[:, None] == jnp.arange(signs)
    return jnp.einsum("hl,ls,ws->hw", down * 1.0, bitmap, across * 1.0) > 0, 0.8 + 0.2 * grey


def _border(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """What lies beyond a rectangle, bool[H, W], and its grey, nearly black or nearly white."""
    *edges, grey, bright = jax.random.uniform(key, (6,))
    top, bottom, left, right = (edge * DEEPEST_BORDER for edge in edges)
    y, x = ((jnp.arange(size) + 0.5) / size for size in shape)
    inside = ((y > top) & (y < 1 - bottom))[:, None] & ((x > left) & (x < 1 - right))
    return ~inside, jnp.where(bright < 0.5, 0.1 * grey, 1 - 0.1 * grey)
