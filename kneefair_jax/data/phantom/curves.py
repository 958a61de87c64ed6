"""Closed smooth curves and the distance to them: the geometry that every bone is made of."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline


def spline_matrix(template: np.ndarray, per_segment: int) -> np.ndarray:
    """The matrix that turns K control points into the vertices of a closed cubic spline through them.

    The knots are the chord lengths of `template`, not of the points that are interpolated later. The curve is
    thus linear in its control points, and stays free of loops while these are near the template.

    Args:
        template: f64[K, 2], typical control points, in order around the curve.
        per_segment: vertices from one control point to the next.

    Returns:
        f32[K * per_segment, K]; row `k * per_segment` gives back control point k.
    """
    count = len(template)
    chords = np.linalg.norm(np.roll(template, -1, axis=0) - template, axis=1)
    knots = np.concatenate([[0.0], np.cumsum(chords)])
    identity = np.eye(count)
    spline = CubicSpline(knots, np.vstack([identity, identity[:1]]), bc_type="periodic")
    where = knots[:-1, None] + chords[:, None] * np.arange(per_segment) / per_segment
    return spline(where.ravel()).astype(np.float32)


def signed_distance(polygon: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Exact distance from the points of a grid to a closed polygon, positive inside.

    Inside is decided by the even-odd rule. The grid is separable, so that of the work per edge and point only
    a projection, a clip and two comparisons remain; edges are a loop, which keeps memory at one image.

    Args:
        polygon: f32[V, 2], vertices (x, y) in order.
        y: f32[H], the rows' coordinates.
        x: f32[W], the columns' coordinates.

    Returns:
        f32[H, W], in the unit of the coordinates.
    """
    ends = jnp.roll(polygon, -1, axis=0)

    def add_edge(carry: tuple[jax.Array, jax.Array], edge: tuple[jax.Array, jax.Array]):
        nearest, inside = carry
        (ax, ay), (bx, by) = edge
        ex, ey = bx - ax, by - ay
        scale = 1.0 / jnp.maximum(ex * ex + ey * ey, 1e-12)
        along = (y - ay)[:, None] * (ey * scale) + (x - ax)[None, :] * (ex * scale)
        along = jnp.clip(along, 0.0, 1.0)
        dx = (x - ax)[None, :] - along * ex
        dy = (y - ay)[:, None] - along * ey
        # The edge flips every point of the rows that it spans, left of where it crosses them.
        spans = (ay > y) != (by > y)
        crossing = ax + (y - ay) * ex / jnp.where(ey == 0.0, 1.0, ey)
        flips = x[None, :] < jnp.where(spans, crossing, -jnp.inf)[:, None]
        return (jnp.minimum(nearest, dx * dx + dy * dy), inside ^ flips), None

    shape = (y.shape[0], x.shape[0])
    start = (jnp.full(shape, jnp.inf), jnp.zeros(shape, bool))
    # On a GPU each turn of the loop is a kernel, whose start takes longer than an edge; CPU code only compiles longer.
    unroll = 1 if jax.default_backend() == "cpu" else 8
    (nearest, inside), _ = jax.lax.scan(add_edge, start, (polygon, ends), unroll=unroll)
    return jnp.where(inside, 1.0, -1.0) * jnp.sqrt(nearest)


def blur(image: jax.Array, sigma_y: jax.Array | float, sigma_x: jax.Array | float) -> jax.Array:
    """Gaussian blur of f32[H, W] by two matrix products; sigmas in pixels may be traced.

    The weights inside the picture add up to one, so its borders do not darken.
    """

    def weights(count: int, sigma: jax.Array | float) -> jax.Array:
        at = jnp.arange(count, dtype=jnp.float32)
        kernel = jnp.exp(-0.5 * ((at[:, None] - at[None, :]) / jnp.maximum(sigma, 1e-3)) ** 2)
        return kernel / kernel.sum(axis=1, keepdims=True)

    height, width = image.shape
    return weights(height, sigma_y) @ image @ weights(width, sigma_x).T
