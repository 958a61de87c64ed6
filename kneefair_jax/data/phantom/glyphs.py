"""Letters and digits as bitmaps, for side markers and burnt-in text: the common 5 x 7 raster font."""

import jax
import jax.numpy as jnp
import numpy as np

# A column a number, its lowest bit on top.
_COLUMNS = {
    "R": (0x7F, 0x09, 0x19, 0x29, 0x46),
    "L": (0x7F, 0x40, 0x40, 0x40, 0x40),
    "0": (0x3E, 0x51, 0x49, 0x45, 0x3E),
    "1": (0x00, 0x42, 0x7F, 0x40, 0x00),
    "2": (0x42, 0x61, 0x51, 0x49, 0x46),
    "3": (0x21, 0x41, 0x45, 0x4B, 0x31),
    "4": (0x18, 0x14, 0x12, 0x7F, 0x10),
    "5": (0x27, 0x45, 0x45, 0x45, 0x39),
    "6": (0x3C, 0x4A, 0x49, 0x49, 0x30),
    "7": (0x01, 0x71, 0x09, 0x05, 0x03),
    "8": (0x36, 0x49, 0x49, 0x49, 0x36),
    "9": (0x06, 0x49, 0x49, 0x29, 0x1E),
}
RIGHT, LEFT = 0, 1  # numbers of the side markers' letters
HEIGHT, ADVANCE = 7, 6
BITMAPS = np.array(
    [
        [[column >> row & 1 for column in (*columns, 0)] for row in range(HEIGHT)]
        for columns in _COLUMNS.values()
    ],
    np.float32,
)


def stamp(text: jax.Array, v: jax.Array, u: jax.Array) -> jax.Array:
    """A line of glyphs, looked up at places on it.

    Args:
        text: i32[T], numbers of glyphs.
        v: f32, height from the line's top, in glyph pixels (a letter is 7 high).
        u: f32 of the same shape, distance from its left end; a letter and its gap are 6 wide.

    Returns:
        f32 of that shape, 1 on a letter's strokes, 0 beside them and outside of the line.
    """
    line = jnp.asarray(BITMAPS)[text]  # [T, 7, 6]
    row, column = jnp.floor(v).astype(jnp.int32), jnp.floor(u).astype(jnp.int32)
    inside = (row >= 0) & (row < HEIGHT) & (column >= 0) & (column < ADVANCE * len(text))
    column = jnp.clip(column, 0, ADVANCE * len(text) - 1)
    lit = line[column // ADVANCE, jnp.clip(row, 0, HEIGHT - 1), column % ADVANCE]
    return jnp.where(inside, lit, 0.0)
