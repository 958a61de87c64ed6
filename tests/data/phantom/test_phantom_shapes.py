import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax.data.phantom import shapes
from kneefair_jax.data.phantom.curves import signed_distance

KEY = jax.random.key(2)


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
