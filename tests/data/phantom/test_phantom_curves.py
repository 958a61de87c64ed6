import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path

from kneefair_jax.data.phantom.curves import blur, signed_distance, spline_matrix

SQUARE = np.array([(0, 0), (4, 0), (4, 4), (0, 4)], np.float32)


def brute_force(polygon, y, x):
    """f64[H, W] by looping over segments in numpy; the sign is matplotlib's."""
    points = np.stack(np.meshgrid(x, y), axis=-1).astype(float).reshape(-1, 2)
    best = np.full(len(points), np.inf)
    for a, b in zip(polygon.astype(float), np.roll(polygon, -1, axis=0).astype(float), strict=True):
        t = np.clip((points - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0, 1)
        best = np.minimum(best, np.linalg.norm(points - a - t[:, None] * (b - a), axis=1))
    is_inside = Path(polygon).contains_points(points)
    return np.where(is_inside, best, -best).reshape(len(y), len(x))


def test_distance_to_a_square_by_hand():
    distance = signed_distance(SQUARE, jnp.array([2.0, 1.0, -3.0]), jnp.array([2.0, 3.5, 8.0]))
    # Centre; beside the right side; outside to the right. Then the corner at (4, 0): 3-4-5.
    np.testing.assert_allclose(distance[0], [2.0, 0.5, -4.0], atol=1e-6)
    np.testing.assert_allclose(distance[1], [1.0, 0.5, -4.0], atol=1e-6)
    np.testing.assert_allclose(distance[2], [-3.0, -3.0, -5.0], atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31))
def test_distance_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 12))
    radius = rng.uniform(1, 5, 12)
    polygon = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)
    y, x = np.linspace(-6, 6, 17, dtype=np.float32), np.linspace(-5, 7, 13, dtype=np.float32)
    expected = brute_force(polygon, y, x)
    distance = np.asarray(signed_distance(jnp.array(polygon), jnp.array(y), jnp.array(x)))
    np.testing.assert_allclose(np.abs(distance), np.abs(expected), atol=1e-4)
    clear = np.abs(expected) > 1e-3
    np.testing.assert_array_equal(np.sign(distance)[clear], np.sign(expected)[clear])


def test_spline_passes_through_its_control_points():
    template = np.array([(0, 0), (3, -1), (6, 1), (5, 4), (1, 5)], float)
    points = template + np.random.default_rng(0).normal(0, 0.2, template.shape)
    matrix = spline_matrix(template, 4)
    assert matrix.shape == (20, 5)
    np.testing.assert_allclose((matrix @ points)[::4], points, atol=1e-6)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)  # a shift of the points shifts the curve


def test_spline_rounds_a_circle():
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    np.testing.assert_allclose(np.linalg.norm(spline_matrix(circle, 5) @ circle, axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("sigma", [0.0, 0.7, 3.0])
def test_blur_keeps_a_flat_picture_and_spreads_a_point(sigma):
    np.testing.assert_allclose(blur(jnp.ones((8, 11)), sigma, sigma), 1, atol=1e-5)
    point = jnp.zeros((31, 31)).at[15, 15].set(1.0)
    spread = np.asarray(blur(point, sigma, sigma))
    rows = np.arange(31) - 15
    assert (spread.sum(axis=1) * rows**2).sum() == pytest.approx(sigma**2, rel=0.05, abs=0.01)
