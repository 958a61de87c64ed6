import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path

from kneefair_jax.data.phantom import shapes
from kneefair_jax.data.phantom.render import blur
from kneefair_jax.data.phantom.shapes import signed_distance, spline_matrix

KEY = jax.random.key(2)
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


@settings(max_examples=15)
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


def outlines(**changes):
    anatomy = shapes.TEMPLATE._replace(femoral_valgus=0, **changes)
    return shapes.contours(anatomy, KEY, 0.0, 0.0)


def test_control_points_are_on_the_contours():
    points = shapes.control_points(shapes.TEMPLATE)
    contours = shapes.contours(shapes.TEMPLATE, KEY, 0.0, 0.0)
    for controls, vertices, step in zip(points, contours, (4, 4, 3, 4), strict=True):
        np.testing.assert_allclose(vertices[::step], controls, atol=2e-3)


def test_lengths_are_those_of_the_contours():
    bones = outlines(joint_space=6, plateau_width=70, epicondylar_width=80, patella_width=40)
    near = bones.femur[np.abs(bones.femur[:, 1]) < 60]
    assert np.ptp(near[:, 0]) == pytest.approx(80, abs=1)
    assert np.ptp(bones.patella[:, 0]) == pytest.approx(0.97 * 40, abs=1)
    # The condyles' lowest level is 0, the plateau below them at the joint space; the spines rise above it.
    assert near[:, 1].max() == pytest.approx(0, abs=0.8)
    plateau = bones.tibia[(np.abs(bones.tibia[:, 0]) > 15) & (np.abs(bones.tibia[:, 0]) < 30)]
    assert plateau[:, 1].min() == pytest.approx(6.4, abs=0.8)


def test_varus_turns_the_lower_leg_about_the_joint():
    straight, bent = outlines(), outlines(varus=5.0)
    np.testing.assert_array_equal(straight.femur, bent.femur)
    middle = np.array([0, shapes.TEMPLATE.joint_space])
    for a, b in zip(straight[1:3], bent[1:3], strict=True):
        np.testing.assert_allclose(
            np.linalg.norm(a - middle, axis=1), np.linalg.norm(b - middle, axis=1), atol=1e-2
        )
    far = np.argmax(straight.tibia[:, 1])
    assert bent.tibia[far, 0] < straight.tibia[far, 0] - 30  # inwards, as x grows to the outside


def test_a_spur_sticks_out_by_its_length():
    plain, spurred = outlines(), outlines(spur_tibia_medial=4.0)
    near = np.abs(plain.tibia[:, 1]) < 15
    assert plain.tibia[near, 0].min() - spurred.tibia[near, 0].min() == pytest.approx(3, abs=1)
    np.testing.assert_allclose(plain.tibia[near, 0].max(), spurred.tibia[near, 0].max(), atol=0.2)


def test_area_is_that_of_the_contour():
    at = jnp.arange(-70, 70, 0.5) + 0.25
    bone = outlines().patella
    x, y = np.asarray(bone, float).T
    shoelace = abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
    area = 0.25 * np.sum(np.asarray(signed_distance(bone, at, at)) > 0)
    assert area == pytest.approx(shoelace, rel=0.01)


def test_warp_moves_neighbours_together_and_by_its_amplitude():
    points = jnp.array([[0.0, 0.0], [0.5, 0.0]])
    keys = jax.random.split(jax.random.key(1), 4000)
    shifts = jax.vmap(lambda k: shapes.warp(points, k, 2.0) - points)(keys)
    assert np.std(shifts) == pytest.approx(2.0, rel=0.05)
    assert np.abs(shifts[:, 0] - shifts[:, 1]).max() < 0.5
