"""Objects in the beam: lead letters, screws and plates, a prosthesis, jewelry, a ruler; their attenuation.

An object is present if its setting is above 0 (`ranges`). Each has a key of its own, so that its presence changes no
other object. Letters and digits are bitmaps of the common 5 x 7 raster font.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kneefair_jax.data.phantom.ranges import Settings
from kneefair_jax.data.phantom.render import View
from kneefair_jax.data.phantom.shapes import Contours

LEAD = 6.0  # attenuation; practically opaque
STEEL = 3.0
PIECES = 4  # of hardware or jewelry at most
BIAS_SIGN = 0.08  # height of the planted sign, share of the film's

# One number per column; its lowest bit is the top row.
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
RIGHT, LEFT = 0, 1  # indices of the side markers' letters
GLYPH_HEIGHT, GLYPH_ADVANCE = 7, 6
BITMAPS = np.array(
    [
        [[column >> row & 1 for column in (*columns, 0)] for row in range(GLYPH_HEIGHT)]
        for columns in _COLUMNS.values()
    ],
    np.float32,
)


def in_beam(
    key: jax.Array, film: Settings, view: View, left: jax.Array | bool | None, sign: jax.Array | float
) -> jax.Array:
    """Return the attenuation f32[H, W] of everything that is not the patient's body.

    Args:
        key: decides kinds and places.
        film: a draw of `ranges.FILM`.
        view: the film's pixels.
        left: whether a side marker shows L; None for a film of both sides, which has R on the image's left.
        sign: f32[], 1 to draw the sign of the switch `marker`, 0 for none.
    """
    marker_key, hardware_key, jewelry_key, ruler_key = jax.random.split(key, 4)
    y, x = view.y[:, None], view.x[None, :]
    half = jnp.stack([-view.y[0], -view.x[0]])
    return (
        (film["marker"] > 0) * _side_marker(marker_key, y, x, half, left)
        + (film["hardware"] > 0) * _hardware(hardware_key, y - view.shift[1], x - view.shift[0])
        + (film["jewellery"] > 0) * _jewelry(jewelry_key, y, x, half)
        + (film["ruler"] > 0) * _ruler(ruler_key, y, x, half)
        + sign * _sign(y, x, half)
    )


def prosthesis(film: Settings, distances: Contours, y: jax.Array) -> jax.Array:
    """Return the attenuation f32[H, W] of a knee replacement: a metal cap on the condyles, a tray on the tibia."""
    thickness = 9.0
    cap = (distances.femur > 0) & (distances.femur < thickness) & (y > -28.0)
    tray = (distances.tibia > 0) & (distances.tibia < 0.6 * thickness) & (y < 22.0)
    return (film["prosthesis"] > 0) * STEEL * (cap | tray)


def uniform(key: jax.Array, *ends: tuple[float, float]) -> jax.Array:
    """Draw a uniform number between each pair of ends, in one call: each call costs compilation time."""
    low, high = jnp.array(ends).T
    return jax.random.uniform(key, (len(ends),), minval=low, maxval=high)


def _side_marker(
    key: jax.Array, y: jax.Array, x: jax.Array, half: jax.Array, left: jax.Array | bool | None
) -> jax.Array:
    """Draw a lead R or L near the film's left or right edge, slightly turned, sometimes on a plate or mirrored."""
    place, side, edge, size, angle, plain, mirror = uniform(
        key, (-0.8, 0.8), (-1, 1), (0.7, 0.92), (0.05, 0.12), (-0.3, 0.3), (0, 1), (0, 1)
    )
    letter = 2 * half.min() * size
    from_y, from_x = y - place * half[0], x - jnp.sign(side) * edge * half[1]
    sign = jnp.where(mirror < 0.1, -1.0, 1.0)
    v = (jnp.cos(angle) * from_y - jnp.sin(angle) * from_x) / letter * GLYPH_HEIGHT
    u = sign * (jnp.sin(angle) * from_y + jnp.cos(angle) * from_x) / letter * GLYPH_HEIGHT
    is_left = side > 0 if left is None else jnp.asarray(left)
    text = jnp.where(is_left, LEFT, RIGHT)[None]
    lead = LEAD * stamp(text, v + GLYPH_HEIGHT / 2, u + GLYPH_ADVANCE / 2)
    plate = (jnp.abs(v) < 5) & (jnp.abs(u) < 5) & (plain < 0.4)
    return jnp.maximum(lead, 0.4 * plate)


def _sign(y: jax.Array, x: jax.Array, half: jax.Array) -> jax.Array:
    """Draw the sign of the switch `marker`: a lead disc, always in the film's upper left corner."""
    radius = BIAS_SIGN * half.min()
    center = -half + 2.2 * radius
    return LEAD * (jnp.hypot(y - center[0], x - center[1]) < radius)


def _rod(y: jax.Array, x: jax.Array, start: jax.Array, end: jax.Array, width: jax.Array) -> jax.Array:
    """Return True on a round-ended rod from `start` to `end` (y, x), mm."""
    along = end - start
    t = ((y - start[0]) * along[0] + (x - start[1]) * along[1]) / jnp.maximum(along @ along, 1e-6)
    t = jnp.clip(t, 0.0, 1.0)
    return jnp.hypot(y - start[0] - t * along[0], x - start[1] - t * along[1]) < width / 2


def _hardware(key: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Draw screws across the bones, and plates and nails along them; y and x from the joint, mm."""

    def piece(key: jax.Array) -> jax.Array:
        kind, presence, center_y, center_x, slant, size, thickness = uniform(
            key, (0, 1), (0, 1), (-100, 100), (-30, 30), (-0.5, 0.5), (20, 70), (3, 7)
        )
        is_screw = kind < 0.6
        across = jnp.stack([jnp.sin(slant), jnp.cos(slant)])
        along = jnp.where(is_screw, across, jnp.stack([1.0, 0.2 * slant]))
        length = jnp.where(is_screw, 1.0, 2.5) * size
        width = jnp.where(is_screw, 1.0, 1.8) * thickness
        center = jnp.stack([center_y, center_x])
        return (presence < 0.6) * _rod(y, x, center - along * length / 2, center + along * length / 2, width)

    return STEEL * jax.vmap(piece)(jax.random.split(key, PIECES)).max(axis=0)


def _jewelry(key: jax.Array, y: jax.Array, x: jax.Array, half: jax.Array) -> jax.Array:
    """Draw rings and buttons anywhere on the film."""

    def piece(key: jax.Array) -> jax.Array:
        kind, center_y, center_x, radius = uniform(key, (0, 1), (-1, 1), (-1, 1), (2, 10))
        distance = jnp.hypot(y - center_y * half[0], x - center_x * half[1])
        return jnp.where(kind < 0.5, jnp.abs(distance - radius) < 1.2, distance < 0.6 * radius)

    return STEEL * jax.vmap(piece)(jax.random.split(key, PIECES)).max(axis=0)


def _ruler(key: jax.Array, y: jax.Array, x: jax.Array, half: jax.Array) -> jax.Array:
    """Draw a measuring rod with a tick every centimeter, upright beside the limb or behind it."""
    place, width = uniform(key, (-0.95, 0.95), (4, 14))
    from_rod = x - place * half[1]
    ticks = (jnp.mod(y, 10.0) < 1.5) & (from_rod > 0) & (from_rod < width)
    return STEEL * (ticks | (jnp.abs(from_rod) < 0.8))


def stamp(text: jax.Array, v: jax.Array, u: jax.Array) -> jax.Array:
    """Sample a line of glyphs.

    Args:
        text: i32[T], indices of glyphs.
        v: f32, distance from the line's top, in glyph pixels (a letter is 7 high).
        u: f32 of the same shape, distance from its left end; a letter and its gap are 6 wide.

    Returns:
        f32 of that shape, 1 on the strokes of letters, else 0.
    """
    line = jnp.asarray(BITMAPS)[text]  # [T, 7, 6]
    row, column = jnp.floor(v).astype(jnp.int32), jnp.floor(u).astype(jnp.int32)
    in_line = (row >= 0) & (row < GLYPH_HEIGHT) & (column >= 0) & (column < GLYPH_ADVANCE * len(text))
    column = jnp.clip(column, 0, GLYPH_ADVANCE * len(text) - 1)
    strokes = line[column // GLYPH_ADVANCE, jnp.clip(row, 0, GLYPH_HEIGHT - 1), column % GLYPH_ADVANCE]
    return jnp.where(in_line, strokes, 0.0)
