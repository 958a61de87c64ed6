import numpy as np
import pytest

from kneefair_jax import metrics
from kneefair_jax.audit import mismatch
from kneefair_jax.audit.mask_pair import thumbnail
from kneefair_jax.data.readers import ORIENTATIONS
from tests.audit.summaries import bone, of

TRUTH = {f"c{i}": of(bone(2 + 9 * i, 40 - 9 * i)) for i in range(5)}
EMPTY = of(np.zeros((64, 64), np.uint8))
NOTHING = np.zeros((64, 64), bool)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_orientation_that_fits(name):
    true = bone(3, 40, 20, 12)
    fit = mismatch.fit(true, ORIENTATIONS[name].inverse().apply(true), NOTHING)
    assert (fit.orientation, fit.best) == (name, 1.0)
    assert (fit.dice == 1) == (name == "none")


def test_poor_is_the_mean_over_structures_that_are_there():
    assert mismatch.is_poor(np.array([0.9, 0.7]))
    assert not mismatch.is_poor(np.array([0.9, np.nan]))
    assert mismatch.is_poor(np.array([np.nan, np.nan]))


def test_exchanged_labels_are_detected_by_their_pixels():
    true = bone(3, 40)
    renamed = np.array([0, 2, 1], np.uint8)[true]
    pixels = {"a": metrics.confusion_matrix(true, renamed, 2)}
    arguments = ({"a": None}, pixels, ("femur", "tibia"))
    note = mismatch.label_note(*arguments, 0.0, " by m")
    assert "femur is called tibia, tibia is called femur" in note and "1.00 instead of 0.00" in note
    assert not mismatch.label_note(*arguments, 0.9, "")
    assert not mismatch.label_note({}, {}, ("femur", "tibia"), 0.0, "")


def test_the_mask_that_lies_unlike_most_is_the_turned_one():
    frequencies = mismatch.frequencies([thumbnail(bone(3 + i, 30 + i)) for i in range(6)])
    right, turned = thumbnail(bone(5, 31)), thumbnail(bone(5, 31)[::-1])
    assert mismatch.is_reference_misoriented(right, turned, frequencies)
    assert not mismatch.is_reference_misoriented(turned, right, frequencies)
    assert not mismatch.is_reference_misoriented(right, right, frequencies)


def test_a_mirrored_prediction_among_right_and_left_knees_is_the_turned_one():
    right = [thumbnail(bone(3 + i, 8 + i)) for i in range(6)]
    frequencies = mismatch.frequencies([*right, *(one[:, ::-1] for one in right)])
    assert not any(mismatch.is_reference_misoriented(one, one[:, ::-1], frequencies) for one in right)
    assert not any(mismatch.is_reference_misoriented(one[:, ::-1], one, frequencies) for one in right)


def test_a_prediction_is_turned_before_ignored_pixels_are_left_out():
    true, ignored = bone(10, 30, 30, 20), np.zeros((64, 64), bool)
    ignored[:32] = True
    scored = np.where(ignored, 0, true)
    fit = mismatch.fit(scored, true[::-1], ignored)
    assert (fit.orientation, fit.best) == ("flip-ud", 1.0) and fit.dice < 0.5


def test_an_orientation_is_accepted_where_dice_comes_near_the_median():
    others = {f"c{i}": 0.94 + 0.001 * i for i in range(9)}
    turns = {
        "moved": mismatch.Fit(0.12, "flip-ud", 0.52),
        "turned": mismatch.Fit(0.12, "flip-ud", 0.9),
        "poor": mismatch.Fit(0.12, "none", 0.12),
    }
    overlap = others | {case: one.dice for case, one in turns.items()}
    assert mismatch.misoriented(dict.fromkeys(others) | turns, overlap).keys() == {"turned"}
    all_turned = {case: mismatch.Fit(0.1, "flip-ud", dice) for case, dice in others.items()}
    assert mismatch.misoriented(all_turned, dict.fromkeys(others, 0.1)).keys() == others.keys()
    assert not mismatch.misoriented({}, {})


def test_the_flag_is_named_where_all_predictions_fit_in_one_orientation():
    turns = {case: mismatch.Fit(0.1, "flip-ud", 0.9) for case in "ab"}
    assert "give --orientation flip-ud" in mismatch.orientation_note(turns, 2, " by m", "none")
    assert not mismatch.orientation_note(turns, 3, "", "none")
    assert not mismatch.orientation_note(turns, 2, "", "flip-lr")
    stated = turns | {"a": mismatch.Fit(0.1, "flip-ud", 0.9, stated=True)}
    assert not mismatch.orientation_note(stated, 2, "", "none")


def named(faults):
    return {one.case_id: one.fault.detail for one in faults}


def fits(masks):
    return {
        case: mismatch.Fit(0.1, "none", 0.1) if masks[case].digest != TRUTH[case].digest else None
        for case in TRUTH
    }


def test_copies_are_named_on_both_sides():
    masks = TRUTH | {"c1": TRUTH["c4"], "c2": EMPTY, "c3": EMPTY}
    assert named(mismatch.copies(masks, "reference")) == {
        "c1": "the same mask as c4",
        "c4": "the same mask as c1",
    }
    assert not mismatch.copies(TRUTH, "reference")
    shape = {"a": of(np.ones((8, 4), np.uint8)), "b": of(np.ones((4, 8), np.uint8))}
    assert not mismatch.copies(shape, "reference")


def test_predictions_that_are_the_reference_of_another_case():
    assert not mismatch.copies_of_references(TRUTH, TRUTH, "m")
    masks = TRUTH | {"c0": TRUTH["c3"], "c1": None}
    details = named(mismatch.copies_of_references(TRUTH, masks, "m"))
    assert details == {"c0": "the same mask as the reference mask of c3"}


def test_exchanged_files_are_named_and_poor_ones_are_not():
    exchanged = TRUTH | {"c0": TRUTH["c4"], "c4": TRUTH["c0"]}
    details = named(mismatch.exchanged(TRUTH, exchanged, fits(exchanged), "m"))
    assert details.keys() == {"c0", "c4"} and details["c0"].startswith("c4, Dice about 1.00")
    ids = list(TRUTH)
    shifted = {case: TRUTH[ids[(n + 1) % 5]] for n, case in enumerate(ids)}
    details = named(mismatch.exchanged(TRUTH, shifted, fits(shifted), "m"))
    assert [detail[:2] for detail in details.values()] == ["c1", "c2", "c3", "c4", "c0"]
    # Each of them fits better in another orientation; then none of them is named.
    turns = {case: one and mismatch.Fit(0.1, "flip-lr", 1.0) for case, one in fits(exchanged).items()}
    assert not mismatch.exchanged(TRUTH, exchanged, turns, "m")
    turns = {case: one and mismatch.Fit(0.1, "flip-lr", 0.6) for case, one in fits(exchanged).items()}
    assert mismatch.exchanged(TRUTH, exchanged, turns, "m")
    # One prediction fits another case, which is served well: no exchange.
    poor = TRUTH | {"c0": TRUTH["c4"]}
    assert not mismatch.exchanged(TRUTH, poor, fits(poor), "m")


def test_exchanged_files_are_named_where_half_of_a_reference_is_ignored():
    ignored = np.zeros((64, 64), bool)
    ignored[:, 32:] = True
    truth = {"a": bone(2, 20, 20, 20), "b": bone(30, 24, 20, 20)}
    references = {case: of(np.where(ignored, 0, one), ignored=ignored) for case, one in truth.items()}
    predictions = {"a": of(truth["b"], ignored=ignored), "b": of(truth["a"], ignored=ignored)}
    poor = dict.fromkeys(truth, mismatch.Fit(0.1, "none", 0.1))
    details = named(mismatch.exchanged(references, predictions, poor, "m"))
    assert details.keys() == {"a", "b"} and details["a"].startswith("b, Dice about 1.00")


def test_outliers_are_far_below_a_median_that_is_high():
    rng = np.random.default_rng(0)
    dice = {f"c{i}": 0.95 + 0.01 * value for i, value in enumerate(rng.normal(size=50))}
    assert not mismatch.outliers(dice, set(), "m")
    dice |= {"c7": 0.6, "c8": 0.5}
    assert named(mismatch.outliers(dice, {"c8"}, "m")) == {"c7": "Dice 0.60, median 0.95"}
    assert not mismatch.outliers({case: one - 0.2 for case, one in dice.items()}, set(), "m")
    assert not mismatch.outliers({}, set(), "m")
