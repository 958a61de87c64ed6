"""The place of a knee on the film: the map between millimeters in the knee's frame and pixels."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kneefair_jax.data.phantom.ranges import Settings

EDGE_MM = (60.0, 18.0)  # distance of a tight crop's edge from the knee's middle
STRIP_MM = (120.0, 45.0)  # half width of a limb's strip
MAX_SHIFT = 0.25  # largest shift of the knee by a tight crop, as a share of the film's width


class View(NamedTuple):
    """A film's pixels and a knee's place among them.

    Attributes:
        spacing: f32[2], mm per pixel down and across.
        y: f32[H], the rows' places on the film, mm from its center.
        x: f32[W], the columns' places, mm from its center.
        turn: f32[2, 2]; `points @ turn + shift` maps the knee's frame to the film's.
        shift: f32[2], (x, y) mm.
    """

    spacing: jax.Array
    y: jax.Array
    x: jax.Array
    turn: jax.Array
    shift: jax.Array

    def to_film(self, points: jax.Array) -> jax.Array:
        """Map places f32[V, 2] from the knee's frame to the film, mm."""
        return points @ self.turn + self.shift

    def in_knee(self) -> tuple[jax.Array, jax.Array]:
        """Return the pixels' places in the knee's frame: y and x, f32[H, W] each, mm."""
        from_x, from_y = self.x[None, :] - self.shift[0], self.y[:, None] - self.shift[1]
        at_x = self.turn[0, 0] * from_x + self.turn[0, 1] * from_y
        at_y = self.turn[1, 0] * from_x + self.turn[1, 1] * from_y
        return at_y, at_x


def strip(view: View, strength: jax.Array | float) -> jax.Array:
    """Return the columns bool[W] of a strip around the knee, narrower with strength; all columns for strengths <= 0."""
    return (strength <= 0) | (jnp.abs(view.x - view.shift[0]) < _between(STRIP_MM, strength))


def _between(ends: tuple[float, float], place: jax.Array | float) -> jax.Array | float:
    return ends[0] + place * (ends[1] - ends[0])


def make(
    settings: Settings,
    left: jax.Array | bool,
    *,
    size: tuple[int, int],
    fov_mm: jax.Array | float,
    offset_mm: jax.Array | float = 0.0,
    crop: jax.Array | float | None = None,
) -> View:
    """Place a knee on a film.

    Args:
        settings: a draw of `ranges.VIEW`.
        left: whether it is the left knee, with the fibula on the film's right.
        size: (H, W) of the film.
        fov_mm: height of the film; its width follows from the size and the aspect.
        offset_mm: shift of the knee to the film's right, for bilateral films.
        crop: above 0, the film's lateral edge lies `EDGE_MM[0]` (at 0) to `EDGE_MM[1]` (at 1) from the knee's middle.
    """
    aspect = jnp.exp2(settings["aspect"])
    spacing = fov_mm / size[0] * jnp.stack([1 / jnp.sqrt(aspect), jnp.sqrt(aspect)])
    extent = spacing * jnp.array(size, jnp.float32)
    y = (jnp.arange(size[0]) + 0.5) * spacing[0] - extent[0] / 2
    x = (jnp.arange(size[1]) + 0.5) * spacing[1] - extent[1] / 2
    angle = jnp.deg2rad(settings["turn"])
    mirror = jnp.where(left, 1.0, -1.0)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.stack([jnp.stack([mirror * cos, mirror * sin]), jnp.stack([-sin, cos])])
    across = settings["across"] * extent[1]
    if crop is not None:
        crop_shift = jnp.minimum(extent[1] / 2 - _between(EDGE_MM, crop), MAX_SHIFT * extent[1])
        across = jnp.where(crop > 0, mirror * crop_shift, across)
    shift = jnp.stack([across + offset_mm, settings["down"] * extent[0]])
    return View(spacing, y, x, turn, shift)
