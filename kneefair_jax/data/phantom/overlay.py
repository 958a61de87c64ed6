"""What is put on the exposed picture: the beam's edges, stitching seams, burnt-in text, inverted grey values."""

import jax
import jax.numpy as jnp

from kneefair_jax.data.phantom import glyphs
from kneefair_jax.data.phantom.ranges import Settings

LETTERS = 9  # of a burnt-in line


def finish(key: jax.Array, grey: jax.Array, film: Settings) -> tuple[jax.Array, jax.Array]:
    """Puts on a picture what its settings ask for.

    Args:
        key: decides places and strengths.
        grey: f32[H, W] in [0, 1], bone bright.
        film: a draw of `ranges.FILM`.

    Returns:
        The picture f32[H, W], and bool[H, W]: where the beam fell, outside of which nobody can say what is there.
    """
    edge_key, seam_key, text_key, shade_key = jax.random.split(key, 4)
    height, width = grey.shape
    down = ((jnp.arange(height) + 0.5) / height)[:, None]
    across = ((jnp.arange(width) + 0.5) / width)[None, :]
    grey = jnp.where(film["seam"] > 0, _seam(seam_key, grey, down), grey)
    beam = jnp.where(film["collimation"] > 0, _beam(edge_key, down, across), 1.0)
    grey = beam * grey + (1 - beam) * jnp.where(film["unexposed"] > 0, 1.0, 0.0)
    letters = _text(text_key, down, across, height / width)
    shade = (jax.random.uniform(shade_key) < 0.8).astype(jnp.float32)
    grey = jnp.where((film["text"] > 0) & (letters > 0), shade, grey)
    return jnp.where(film["inverted"] > 0, 1 - grey, grey), beam > 0.5


def _seam(key: jax.Array, grey: jax.Array, down: jax.Array) -> jax.Array:
    """Below a line the exposure is another; the line itself may show."""
    place, step, line = jax.random.uniform(
        key, (3,), minval=jnp.array([0.05, -0.2, -1.0]), maxval=jnp.array([0.95, 0.2, 1.0])
    )
    joined = jnp.where(down > place, grey * (1 + step) + 0.5 * jnp.minimum(step, 0), grey)
    at_line = jnp.abs(down - place) < 0.5 / grey.shape[0] + 0.002
    return jnp.clip(jnp.where(at_line & (jnp.abs(line) > 0.4), 0.5 + 0.5 * jnp.sign(line), joined), 0.0, 1.0)


def _beam(key: jax.Array, down: jax.Array, across: jax.Array) -> jax.Array:
    """1 inside of a slightly turned rectangle, 0 outside, with a penumbra between."""
    drawn = jax.random.uniform(key, (10,))
    # Some of the four edges are in the picture.
    margins = jnp.where(drawn[:4] < 0.6, 0.16 * drawn[4:8] ** 2, -0.5)
    angle = 0.1 * drawn[8] - 0.05
    softness = 0.002 * 15 ** drawn[9]
    v, u = down - 0.5, across - 0.5
    v, u = v * jnp.cos(angle) - u * jnp.sin(angle), v * jnp.sin(angle) + u * jnp.cos(angle)
    inside = jnp.minimum(
        jnp.minimum(v + 0.5 - margins[0], 0.5 - v - margins[1]),
        jnp.minimum(u + 0.5 - margins[2], 0.5 - u - margins[3]),
    )
    return jax.nn.sigmoid(inside / softness)


def _text(key: jax.Array, down: jax.Array, across: jax.Array, ratio: float) -> jax.Array:
    """A line of digits anywhere near the top or the bottom; 1 on its strokes."""
    drawn = jax.random.uniform(key, (LETTERS + 3,))
    text = jnp.floor(drawn[:LETTERS] * len(glyphs.BITMAPS)).astype(jnp.int32)
    top, left, size = -0.13 + 0.21 * drawn[-3], 0.6 * drawn[-2], 0.025 + 0.035 * drawn[-1]
    v = (down - jnp.where(top < -0.025, 1 + top, jnp.maximum(top, 0))) / size * glyphs.HEIGHT
    u = (across - left) / (size * ratio) * glyphs.HEIGHT
    shape = jnp.broadcast_shapes(v.shape, u.shape)
    return glyphs.stamp(text, jnp.broadcast_to(v, shape), jnp.broadcast_to(u, shape))
