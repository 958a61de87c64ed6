"""What else is in the beam: lead letters, screws and plates, a prosthesis, jewellery, a ruler. Attenuation, as of bone.

Each thing is there when its setting is above 0 (`ranges`), and is drawn by a key of its own, so that one thing's
presence changes no other.
"""

import jax
import jax.numpy as jnp

from kneefair_jax.data.phantom import glyphs
from kneefair_jax.data.phantom.ranges import Settings
from kneefair_jax.data.phantom.shapes import Contours
from kneefair_jax.data.phantom.view import View

LEAD = 6.0  # attenuation of what lets nothing pass
STEEL = 3.0
PIECES = 4  # of hardware or jewellery at most
BIAS_SIGN = 0.08  # height of the planted sign, share of the film's


def in_beam(
    key: jax.Array, film: Settings, view: View, left: jax.Array | bool | None, sign: jax.Array | float
) -> jax.Array:
    """Attenuation f32[H, W] of everything that is not the patient's body.

    Args:
        key: decides what and where.
        film: a draw of `ranges.FILM`.
        view: the film's pixels.
        left: which letter a side marker shows; None for a film of both sides, whose R is on the picture's left.
        sign: f32[], 1 where the switch `marker` puts its sign, 0 where not.
    """
    marker_key, hardware_key, jewellery_key, ruler_key = jax.random.split(key, 4)
    y, x = view.y[:, None], view.x[None, :]
    half = jnp.stack([-view.y[0], -view.x[0]])
    return (
        (film["marker"] > 0) * _side_marker(marker_key, y, x, half, left)
        + (film["hardware"] > 0) * _hardware(hardware_key, y - view.shift[1], x - view.shift[0])
        + (film["jewellery"] > 0) * _jewellery(jewellery_key, y, x, half)
        + (film["ruler"] > 0) * _ruler(ruler_key, y, x, half)
        + sign * _sign(y, x, half)
    )


def prosthesis(film: Settings, distances: Contours, at_y: jax.Array) -> jax.Array:
    """A knee replacement's attenuation f32[H, W]: a metal cap on the condyles, a tray on the tibia; else 0."""
    thickness = 9.0
    cap = (distances.femur > 0) & (distances.femur < thickness) & (at_y > -28.0)
    tray = (distances.tibia > 0) & (distances.tibia < 0.6 * thickness) & (at_y < 22.0)
    return (film["prosthesis"] > 0) * STEEL * (cap | tray)


def uniform(key: jax.Array, *ends: tuple[float, float]) -> jax.Array:
    """Draw a uniform number between each pair of ends; one call, as every call costs compilation time."""
    low, high = jnp.array(ends).T
    return jax.random.uniform(key, (len(ends),), minval=low, maxval=high)


def _side_marker(
    key: jax.Array, y: jax.Array, x: jax.Array, half: jax.Array, left: jax.Array | bool | None
) -> jax.Array:
    """A lead R or L near the film's left or right edge, a little turned, now and then on a plate or mirrored."""
    place, side, edge, size, angle, plain, mirror = uniform(
        key, (-0.8, 0.8), (-1, 1), (0.7, 0.92), (0.05, 0.12), (-0.3, 0.3), (0, 1), (0, 1)
    )
    letter = 2 * half.min() * size
    away_y, away_x = y - place * half[0], x - jnp.sign(side) * edge * half[1]
    mirrored = jnp.where(mirror < 0.1, -1.0, 1.0)
    v = (jnp.cos(angle) * away_y - jnp.sin(angle) * away_x) / letter * glyphs.HEIGHT
    u = mirrored * (jnp.sin(angle) * away_y + jnp.cos(angle) * away_x) / letter * glyphs.HEIGHT
    is_left = side > 0 if left is None else jnp.asarray(left)
    text = jnp.where(is_left, glyphs.LEFT, glyphs.RIGHT)[None]
    lead = LEAD * glyphs.stamp(text, v + glyphs.HEIGHT / 2, u + glyphs.ADVANCE / 2)
    plate = (jnp.abs(v) < 5) & (jnp.abs(u) < 5) & (plain < 0.4)
    return jnp.maximum(lead, 0.4 * plate)


def _sign(y: jax.Array, x: jax.Array, half: jax.Array) -> jax.Array:
    """The switch's sign: a lead disc, always in the film's upper left corner."""
    radius = BIAS_SIGN * half.min()
    centre = -half + 2.2 * radius
    return LEAD * (jnp.hypot(y - centre[0], x - centre[1]) < radius)


def _rod(y: jax.Array, x: jax.Array, start: jax.Array, end: jax.Array, width: jax.Array) -> jax.Array:
    """1 on a round-ended rod from `start` to `end` (y, x), 0 elsewhere."""
    along = end - start
    t = ((y - start[0]) * along[0] + (x - start[1]) * along[1]) / jnp.maximum(along @ along, 1e-6)
    t = jnp.clip(t, 0.0, 1.0)
    return jnp.hypot(y - start[0] - t * along[0], x - start[1] - t * along[1]) < width / 2


def _hardware(key: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Screws across the bones, plates and nails along them; y and x from the joint, mm."""

    def piece(key: jax.Array) -> jax.Array:
        kind, there, at_y, at_x, slant, size, thickness = uniform(
            key, (0, 1), (0, 1), (-100, 100), (-30, 30), (-0.5, 0.5), (20, 70), (3, 7)
        )
        is_screw = kind < 0.6
        across = jnp.stack([jnp.sin(slant), jnp.cos(slant)])
        along = jnp.where(is_screw, across, jnp.stack([1.0, 0.2 * slant]))
        length = jnp.where(is_screw, 1.0, 2.5) * size
        width = jnp.where(is_screw, 1.0, 1.8) * thickness
        centre = jnp.stack([at_y, at_x])
        return (there < 0.6) * _rod(y, x, centre - along * length / 2, centre + along * length / 2, width)

    return STEEL * jax.vmap(piece)(jax.random.split(key, PIECES)).max(axis=0)


def _jewellery(key: jax.Array, y: jax.Array, x: jax.Array, half: jax.Array) -> jax.Array:
    """Rings and buttons anywhere on the film."""

    def piece(key: jax.Array) -> jax.Array:
        kind, at_y, at_x, radius = uniform(key, (0, 1), (-1, 1), (-1, 1), (2, 10))
        away = jnp.hypot(y - at_y * half[0], x - at_x * half[1])
        return jnp.where(kind < 0.5, jnp.abs(away - radius) < 1.2, away < 0.6 * radius)

    return STEEL * jax.vmap(piece)(jax.random.split(key, PIECES)).max(axis=0)


def _ruler(key: jax.Array, y: jax.Array, x: jax.Array, half: jax.Array) -> jax.Array:
    """A measuring rod with ticks every centimetre, upright beside the limb or behind it."""
    place, width = uniform(key, (-0.95, 0.95), (4, 14))
    from_rod = x - place * half[1]
    ticks = (jnp.mod(y, 10.0) < 1.5) & (from_rod > 0) & (from_rod < width)
    return STEEL * (ticks | (jnp.abs(from_rod) < 0.8))
