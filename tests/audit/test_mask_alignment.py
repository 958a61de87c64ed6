import numpy as np
import pytest

from kneefair_jax import metrics
from kneefair_jax.audit import mask_alignment
from kneefair_jax.audit.mask_pair import thumbnail
from kneefair_jax.data.readers import ORIENTATIONS
from tests.audit.summaries import bone

NOTHING = np.zeros((64, 64), bool)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_orientation_that_fits(name):
    true = bone(3, 40, 20, 12)
    fit = mask_alignment.fit(true, ORIENTATIONS[name].inverse().apply(true), NOTHING)
    assert (fit.orientation, fit.best) == (name, 1.0)
    assert (fit.dice == 1) == (name == "none")


def test_poor_is_the_mean_over_structures_that_are_there():
    assert mask_alignment.is_poor(np.array([0.9, 0.7]))
    assert not mask_alignment.is_poor(np.array([0.9, np.nan]))
    assert mask_alignment.is_poor(np.array([np.nan, np.nan]))


def test_exchanged_labels_are_found_by_their_pixels():
    true = bone(3, 40)
    renamed = np.array([0, 2, 1], np.uint8)[true]
    pixels = {"a": metrics.confusion_matrix(true, renamed, 2)}
    arguments = ({"a": None}, pixels, ("femur", "tibia"))
    note = mask_alignment.label_note(*arguments, 0.0, " by m")
    assert "femur is called tibia, tibia is called femur" in note and "1.00 instead of 0.00" in note
    assert not mask_alignment.label_note(*arguments, 0.9, "")
    assert not mask_alignment.label_note({}, {}, ("femur", "tibia"), 0.0, "")


def test_the_mask_that_lies_unlike_most_is_the_turned_one():
    frequencies = mask_alignment.frequencies([thumbnail(bone(3 + i, 30 + i)) for i in range(6)])
    right, turned = thumbnail(bone(5, 31)), thumbnail(bone(5, 31)[::-1])
    assert mask_alignment.is_reference_misoriented(right, turned, frequencies)
    assert not mask_alignment.is_reference_misoriented(turned, right, frequencies)
    assert not mask_alignment.is_reference_misoriented(right, right, frequencies)


def test_a_mirrored_prediction_among_right_and_left_knees_is_the_turned_one():
    right = [thumbnail(bone(3 + i, 8 + i)) for i in range(6)]
    frequencies = mask_alignment.frequencies([*right, *(one[:, ::-1] for one in right)])
    assert not any(mask_alignment.is_reference_misoriented(one, one[:, ::-1], frequencies) for one in right)
    assert not any(mask_alignment.is_reference_misoriented(one[:, ::-1], one, frequencies) for one in right)


def test_a_prediction_is_turned_before_ignored_pixels_are_left_out():
    true, ignored = bone(10, 30, 30, 20), np.zeros((64, 64), bool)
    ignored[:32] = True
    scored = np.where(ignored, 0, true)
    fit = mask_alignment.fit(scored, true[::-1], ignored)
    assert (fit.orientation, fit.best) == ("flip-ud", 1.0) and fit.dice < 0.5


def test_an_orientation_is_accepted_where_dice_comes_near_the_median():
    others = {f"c{i}": 0.94 + 0.001 * i for i in range(9)}
    turns = {
        "moved": mask_alignment.Fit(0.12, "flip-ud", 0.52),
        "turned": mask_alignment.Fit(0.12, "flip-ud", 0.9),
        "poor": mask_alignment.Fit(0.12, "none", 0.12),
    }
    overlap = others | {case: one.dice for case, one in turns.items()}
    assert mask_alignment.misoriented(dict.fromkeys(others) | turns, overlap).keys() == {"turned"}
    all_turned = {case: mask_alignment.Fit(0.1, "flip-ud", dice) for case, dice in others.items()}
    assert mask_alignment.misoriented(all_turned, dict.fromkeys(others, 0.1)).keys() == others.keys()
    assert not mask_alignment.misoriented({}, {})


def test_the_flag_is_named_where_all_predictions_fit_in_one_orientation():
    turns = {case: mask_alignment.Fit(0.1, "flip-ud", 0.9) for case in "ab"}
    assert "give --orientation flip-ud" in mask_alignment.orientation_note(turns, 2, " by m", "none")
    assert not mask_alignment.orientation_note(turns, 3, "", "none")
    assert not mask_alignment.orientation_note(turns, 2, "", "flip-lr")
    stated = turns | {"a": mask_alignment.Fit(0.1, "flip-ud", 0.9, stated=True)}
    assert not mask_alignment.orientation_note(stated, 2, "", "none")
