"""Errors along contours: planted shifts at their places, the same on both sides of the body, and what is left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneefair_jax.measurements import contour_errors, trace
from kneefair_jax.measurements.contour_errors import POINTS
from tests.measurements.knees import WIDTH, knee

SPACING = (0.25, 0.25)
SHAPE = {"pixel": 0.25, "turn": 5.0}


def errors_of_bones(reference, prediction, spacing, side=""):
    return contour_errors.errors_of_bones(*(trace(bones, spacing, side) for bones in (reference, prediction)))


def test_equal_masks_have_no_error():
    for bone, result in errors_of_bones(knee(**SHAPE), knee(**SHAPE), SPACING).items():
        assert result.errors.shape == (sum(POINTS[bone]),)
        assert np.abs(result.errors).max() < 1e-9


def test_a_bone_that_is_too_large_at_the_joint():
    """Femur and tibia grow by 0.5 mm at condyles and plateau alone, the patella not at all."""
    result = errors_of_bones(knee(**SHAPE), knee(**SHAPE, grow=0.5), SPACING)
    assert result["patella"].errors == pytest.approx(np.zeros(60), abs=1e-9)
    tibia = result["tibia"]
    on_plateau = (
        (np.abs(tibia.places[:, 0]) < 0.35) & (np.abs(tibia.places[:, 0]) > 0.12) & (tibia.places[:, 1] < 0.1)
    )
    assert on_plateau.sum() > 20
    assert tibia.errors[on_plateau] == pytest.approx(np.full(on_plateau.sum(), 0.5), abs=0.15)
    below = tibia.places[:, 1] > 0.2
    assert tibia.errors[below] == pytest.approx(np.zeros(below.sum()), abs=0.1)
    femur = result["femur"]
    on_condyles = femur.places[:, 1] > -0.05
    assert femur.errors[on_condyles] == pytest.approx(np.full(on_condyles.sum(), 0.5), abs=0.15)
    above = femur.places[:, 1] < -0.3
    assert femur.errors[above] == pytest.approx(np.zeros(above.sum()), abs=0.15)


def test_a_smaller_prediction_has_negative_errors():
    result = errors_of_bones(knee(**SHAPE, grow=0.5), knee(**SHAPE), SPACING)
    assert result["tibia"].errors.min() < -0.35
    assert result["tibia"].errors.max() < 0.1


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_local_shift_is_at_its_place_on_both_sides_of_the_body(side):
    bones, changed = knee(pixel=0.25, side=side), knee(pixel=0.25, side=side)
    y, x = np.indices(bones["tibia"].shape) * 0.25
    lateral = (x - 75) if side == "left" else (75 - x)
    # A notch of 1 mm in the medial plateau, 20 to 28 mm from the middle.
    changed["tibia"] = bones["tibia"] & ~((lateral > -28) & (lateral < -20) & (y < 100 + 5 + 1) & (y > 90))
    tibia = errors_of_bones(bones, changed, SPACING)["tibia"]
    wrong = np.abs(tibia.errors) > 0.5
    places = tibia.places[wrong] * WIDTH
    assert wrong.sum() >= 3  # of points at steps of 2 mm
    assert places[:, 0].min() > -29
    assert places[:, 0].max() < -19
    assert tibia.errors.min() == pytest.approx(-1.0, abs=0.15)
    assert (tibia.errors < 0.1).all()


def test_points_are_the_same_places_of_large_and_small_knees():
    result = errors_of_bones(knee(**SHAPE), knee(**SHAPE), SPACING)
    larger = errors_of_bones(knee(**SHAPE), knee(**SHAPE), (0.3, 0.3))
    for bone in POINTS:
        assert larger[bone].places == pytest.approx(result[bone].places, abs=1e-6)
        assert larger[bone].errors == pytest.approx(result[bone].errors, abs=1e-9)


def test_what_is_left_out():
    bones = knee(**SHAPE)
    without = {name: bone for name, bone in bones.items() if name != "patella"}
    assert list(errors_of_bones(bones, without, SPACING)) == ["femur", "tibia"]
    assert list(errors_of_bones(without, bones, SPACING)) == ["femur", "tibia"]
    no_fibula = {name: bone for name, bone in bones.items() if name != "fibula"}
    assert errors_of_bones(no_fibula, bones, SPACING) == {}
    assert list(errors_of_bones(no_fibula, bones, SPACING, "left")) == list(POINTS)
    cut = {name: bone[:, 150:] for name, bone in bones.items()}
    assert "femur" not in errors_of_bones(cut, cut, SPACING)


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=20))
def test_points_inside_of_a_square_with_a_notch(points):
    polygon = np.array([[-2, -2], [2, -2], [2, 2], [0, 0], [-2, 2]], float)
    points = np.array(points)
    x, y = points.T
    expected = (np.abs(x) < 2) & (np.abs(y) < 2) & (y < np.abs(x))
    near = np.minimum(np.abs(np.abs(x) - 2), np.abs(np.abs(y) - 2)) < 1e-6
    near |= np.abs(y - np.abs(x)) < 1e-6
    result = contour_errors.inside(points, polygon)
    assert (result == expected)[~near].all()
