import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneefair_jax.data.oai import knees
from tests import oai_tree

KNEE = {"femur": 1, "tibia": 2, "fibula": 3, "patella": 4}


def column(mask):
    return np.nonzero(mask)[1].mean()


@pytest.mark.parametrize("k", range(3))
def test_the_patient_s_right_knee_is_at_image_left(k):
    picture, label = oai_tree.film(k)
    image = (picture // 16).astype(np.uint8)[..., None]
    _, drawn = oai_tree.knees()
    margin, (_, width) = oai_tree.MARGIN, oai_tree.KNEE
    right = knees.cut(image, label, "right", mirror=False)
    left = knees.cut(image, label, "left", mirror=False)
    # The phantoms' own masks, which know neither films nor sides.
    np.testing.assert_array_equal(right.label[:, margin : margin + width], drawn[k, 0])
    np.testing.assert_array_equal(left.label[:, -margin - width : -margin], drawn[k, 1])
    assert (right.label > 0).sum() == (drawn[k, 0] > 0).sum()
    np.testing.assert_array_equal(np.hstack([right.image, left.image]), image)
    # The fibula is lateral: at image left in a right knee, at image right in a left one.
    assert column(right.label == KNEE["fibula"]) < column(right.label == KNEE["tibia"])
    assert column(left.label == KNEE["fibula"]) > column(left.label == KNEE["tibia"])
    mirrored = knees.cut(image, label, "left", mirror=True)
    np.testing.assert_array_equal(mirrored.image[:, ::-1], left.image)
    np.testing.assert_array_equal(mirrored.label[:, ::-1], left.label)
    again = knees.cut(image, label, "right", mirror=True)
    np.testing.assert_array_equal(again.label, right.label)


def test_nothing_of_the_other_knee_stays():
    label = np.zeros((4, 20), np.uint8)
    label[0, 2:12], label[2, 9:18] = 3, 4  # the knees overlap in columns 9 to 11
    image = np.zeros((4, 20, 1), np.uint8)
    assert knees.midline(image, label) == 11  # halfway between 12 and 9, rounded up
    right, left = (knees.cut(image, label, side, mirror=False).label for side in knees.SIDES)
    assert right.shape == (4, 11) and left.shape == (4, 9)
    assert right[0].sum() == 9 and not right[2].any() and left[2].sum() == 7 and not left[0].any()


def test_every_structure_has_its_label():
    label = np.array([[1, 3, 5, 7, 2, 4, 6, 8]], np.uint8)
    image = np.zeros((1, 8, 1), np.uint8)
    for side in knees.SIDES:
        np.testing.assert_array_equal(knees.cut(image, label, side, mirror=False).label, [[4, 1, 2, 3]])


@given(st.integers(40, 200), st.sampled_from(["right", "left"]), st.data())
def test_with_one_knee_drawn_the_cut_is_in_the_dark_between_the_limbs(width, side, data):
    dark = data.draw(st.integers(2 * width // 5 + 2, 3 * width // 5 - 3))
    image = np.full((5, width, 1), 200, np.uint8)
    image[:, dark - 2 : dark + 3] = 0
    label = np.zeros((5, width), np.uint8)
    if side == "right":
        label[:, : width // 5] = 3
    else:
        label[:, 4 * width // 5 :] = 4
    assert abs(knees.midline(image, label) - dark) <= 2


@pytest.mark.parametrize(("value", "expected"), [(3, 18), (4, 2)])
def test_a_knee_across_the_middle_is_never_cut(value, expected):
    label = np.zeros((2, 20), np.uint8)
    label[:, 2:18] = value
    assert knees.midline(np.zeros((2, 20, 1), np.uint8), label) == expected
