import numpy as np
import pytest

from kneefair_jax.predict import prediction
from kneefair_jax.predict.prediction import Prediction

KNEE = ("femur", "tibia", "fibula", "patella")


def knee():
    """u8[40, 40]: 360 of femur, which the patella cuts in two, 80 of patella, 400 of tibia, 60 of fibula."""
    label = np.zeros((40, 40), np.uint8)
    label[0:16, 10:40], label[18:38, 15:35], label[20:40, 10:13] = 1, 2, 3
    label[6:10, 10:40] = 4
    label[6:10, 30:40] = 0
    return label


def warnings_of(label, structures=KNEE):
    return prediction.quality_warnings(label, structures)


def test_a_knee_is_one_though_the_patella_cuts_its_femur():
    assert warnings_of(knee()) == ()
    union = np.array([0, 1, 2, 3, 1], np.uint8)[knee()]
    assert warnings_of(union, ("whole femur", "tibia", "fibula")) == ()
    assert warnings_of(np.zeros((9, 9), np.uint8)) == ()  # the prediction has the warning "nothing found"


def test_a_femur_in_two_is_whole_with_its_patella_alone():
    label = knee()
    label[label == 4] = 0
    assert warnings_of(label) == (
        "no patella found: upside down or cut off?",
        "femur in several pieces: two knees? see --knees",
    )


def test_what_is_absent_or_too_little():
    label = knee()
    label[label == 3] = 0
    assert warnings_of(label) == ("no fibula found: upside down or cut off?",)
    label[39, 0:5] = 3  # of 360 + 80 + 400 pixels, and these
    assert warnings_of(label) == ("too little fibula (0.6 % of the bone): upside down or cut off?",)


def test_two_knees_are_several_pieces():
    two = np.hstack([knee(), np.zeros((40, 2), np.uint8), knee()])
    assert warnings_of(two) == ("femur, tibia, fibula, patella in several pieces: two knees? see --knees",)
    names = tuple(f"{side} {name}" for name in KNEE for side in prediction.SIDES)
    sided = np.zeros_like(two)
    for value in range(1, 5):
        sided[:, :42][two[:, :42] == value] = 2 * value - 1
        sided[:, 42:][two[:, 42:] == value] = 2 * value
    assert warnings_of(sided, names) == ()
    assert warnings_of(np.where(sided == 6, 0, sided), names) == (
        "left knee: no fibula found: upside down or cut off?",
    )
    assert warnings_of(np.where(sided % 2, sided, 0), names) == ("left knee: nothing found",)


@pytest.mark.parametrize(("attached", "warned"), [(36, False), (35, True)])
def test_a_tenth_may_be_detached(attached, warned):
    label = np.zeros((40, 10), np.uint8)
    label[0], label[2 : 2 + attached // 4, :4] = 1, 2
    label[2 + attached // 4, : attached % 4] = 2
    label[20, :4] = 2
    assert bool(warnings_of(label, ("femur", "tibia"))) == warned


def test_the_tibia_is_below_the_femur():
    assert warnings_of(knee()[::-1]) == ("the tibia is not below the femur: upside down or on its side?",)


def test_other_structures_are_only_absent():
    label = np.zeros((9, 9), np.uint8)
    label[0, 0] = label[5, 5] = 1
    assert warnings_of(label, ("left lung", "right lung")) == (
        "no right lung found: upside down or cut off?",
    )


def test_the_halves_say_which_knee_is_meant():
    halves = (
        Prediction(np.zeros((4, 5), np.uint8), {"tibia": 0.99}, 0.99, warnings)
        for warnings in ((), ("no tibia found",))
    )
    both = prediction.join_halves(*halves)
    assert both.warning == "left knee: no tibia found"
    assert both._replace(mean_confidence=0.5).warning.endswith("is below 0.94; left knee: no tibia found")


def test_the_halves_of_a_film_are_named_by_side():
    image = np.full((4, 11, 1), 90, np.uint8)
    image[:, 5] = 0
    right, left = prediction.halves_of(image)
    assert right.shape == (4, 5, 1) and left.shape == (4, 6, 1)
    halves = [
        Prediction(np.full((4, w), 2, np.uint8), {"femur": v, "tibia": v}, v) for w, v in ((5, 0.9), (6, 0.8))
    ]
    both = prediction.join_halves(*halves)
    assert tuple(both.confidence) == ("right femur", "left femur", "right tibia", "left tibia")
    assert (both.mask == np.repeat([3, 4], [5, 6])).all() and both.mean_confidence == 0.8
    assert both.confidence["right tibia"] == 0.9
    assert prediction.structures_of_both_knees(("femur", "tibia", "fibula", "patella"))[:2] == (
        "right patella",
        "left patella",
    )


@pytest.mark.parametrize(
    ("confidence", "warning"), [(0.99, ""), (0.93, "unlike the training"), (float("nan"), "nothing found")]
)
def test_warnings(confidence, warning):
    assert Prediction(np.zeros((1, 1), np.uint8), {}, confidence).warning.startswith(warning)
