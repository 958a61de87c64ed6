"""Closed smooth curves, the distance to them, and blur: the geometry of all bones."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline


def spline_matrix(template: np.ndarray, per_segment: int) -> np.ndarray:
    """Return the matrix that maps K control points to the vertices of a closed cubic spline through them.

    The knots are the chord lengths of `template`, not of the points to interpolate. The curve is thus linear in its
    control points, and free of loops while these are near the template.

    Args:
        template: f64[K, 2], typical control points, in order around the curve.
        per_segment: vertices from one control point to the next.

    Returns:
        f32[K * per_segment, K]; row `k * per_segment` returns control point k.
    """
    count = len(template)
    chords = np.linalg.norm(np.roll(template, -1, axis=0) - template, axis=1)
    knots = np.concatenate([[0.0], np.cumsum(chords)])
    identity = np.eye(count)
    spline = CubicSpline(knots, np.vstack([identity, identity[:1]]), bc_type="periodic")
    positions = knots[:-1, None] + chords[:, None] * np.arange(per_segment) / per_segment
    return np.asarray(spline(positions.ravel()), np.float32)


def signed_distance(polygon: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Return the exact distance from the points of a grid to a closed polygon, positive inside.

    The even-odd rule decides what is inside. The grid is separable, so the work per edge and point is a projection, a
    clip and two comparisons. A loop over the edges keeps memory at one image.

    Args:
        polygon: f32[V, 2], vertices (x, y) in order.
        y: f32[H], the rows' coordinates.
        x: f32[W], the columns' coordinates.

    Returns:
        f32[H, W], in the unit of the coordinates.
    """
    ends = jnp.roll(polygon, -1, axis=0)

    def add_edge(
        carry: tuple[jax.Array, jax.Array], edge: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        squared, is_inside = carry
        (ax, ay), (bx, by) = edge
        ex, ey = bx - ax, by - ay
        scale = 1.0 / jnp.maximum(ex * ex + ey * ey, 1e-12)
        along = (y - ay)[:, None] * (ey * scale) + (x - ax)[None, :] * (ex * scale)
        along = jnp.clip(along, 0.0, 1.0)
        dx = (x - ax)[None, :] - along * ex
        dy = (y - ay)[:, None] - along * ey
        # The edge flips the points left of its crossing in each row that it spans.
        spans = (ay > y) != (by > y)
        crossing = ax + (y - ay) * ex / jnp.where(ey == 0.0, 1.0, ey)
        flips = x[None, :] < jnp.where(spans, crossing, -jnp.inf)[:, None]
        return (jnp.minimum(squared, dx * dx + dy * dy), is_inside ^ flips), None

    shape = (y.shape[0], x.shape[0])
    start = (jnp.full(shape, jnp.inf), jnp.zeros(shape, bool))
    # On a GPU a kernel launch takes longer than an edge; on a CPU unrolling would only add compilation time.
    unroll = 1 if jax.default_backend() == "cpu" else 8
    (squared, is_inside), _ = jax.lax.scan(add_edge, start, (polygon, ends), unroll=unroll)
    return jnp.where(is_inside, 1.0, -1.0) * jnp.sqrt(squared)


def blur(image: jax.Array, sigma_y: jax.Array | float, sigma_x: jax.Array | float) -> jax.Array:
    """Blur f32[H, W] by a Gaussian, as two matrix products; sigmas in pixels may be traced.

    The weights within the image add up to one, so that its borders do not darken.
    """

    def weights(count: int, sigma: jax.Array | float) -> jax.Array:
        at = jnp.arange(count, dtype=jnp.float32)
        kernel = jnp.exp(-0.5 * ((at[:, None] - at[None, :]) / jnp.maximum(sigma, 1e-3)) ** 2)
        return kernel / kernel.sum(axis=1, keepdims=True)

    height, width = image.shape
    return weights(height, sigma_y) @ image @ weights(width, sigma_x).T
