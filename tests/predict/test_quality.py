"""Predicted Dice against brute force, and the rules of anatomy on masks drawn by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from kneefair_jax.predict import quality
from kneefair_jax.predict.quality import Calibration, Line, Total

KNEE = ("femur", "tibia", "fibula", "patella")
# Dice = soft Dice, with an interval of half a unit of log odds; a soft Dice below 0.8 gets a warning.
LINE = Line(0.0, 1.0, -0.5, 0.5, float(special.logit(0.8)))


def knee():
    """u8[40, 40]: 360 of femur, which the patella cuts in two, 80 of patella, 400 of tibia, 60 of fibula."""
    label = np.zeros((40, 40), np.uint8)
    label[0:16, 10:39], label[18:38, 13:39], label[20:40, 10:13] = 1, 2, 3
    label[6:10, 10:39] = 4
    label[6:10, 30:39] = 0
    return label


def warnings_of(label, structures=KNEE):
    return quality.anatomy_warnings({name: label == value for value, name in enumerate(structures, start=1)})


def test_soft_dice_is_near_the_mean_dice_of_masks_drawn_from_the_probabilities():
    rng = np.random.default_rng(0)
    probability = np.clip(special.expit(4 - np.hypot(*np.mgrid[-15:16, -15:16])), 1e-4, 1).astype(np.float32)
    mask = probability > 0.5
    drawn = rng.random((4000, *mask.shape)) < probability
    dice = 2 * (drawn & mask).sum((1, 2)) / (mask.sum() + drawn.sum((1, 2)))
    assert quality.soft_dice(mask, probability) == pytest.approx(dice.mean(), abs=0.005)
    assert quality.soft_dice(mask, mask.astype(np.float32)) == 1
    assert np.isnan(quality.soft_dice(np.zeros_like(mask), probability))


def test_predicted_dice_by_hand():
    line = Line(0.5, 2.0, -1.0, 0.25, 0.0)
    odds = 0.5 + 2 * np.log(0.8 / 0.2)
    expected = [1 / (1 + np.exp(-odds - shift)) for shift in (0, -1, 0.25)]
    np.testing.assert_allclose(quality.predicted_dice(0.8, line), expected)
    assert np.isnan(quality.predicted_dice(float("nan"), line)).all()


def test_a_calibration_finds_the_line_and_its_interval_covers():
    rng = np.random.default_rng(1)
    x = rng.normal(3, 1, 8000)
    soft, dice = special.expit(x), special.expit(0.3 + 0.8 * x + rng.normal(0, 0.4, 8000))
    soft[:3], dice[3:6] = np.nan, np.nan  # not counted
    fields = quality.calibrate({"a": soft}, {"a": dice}, {"a": soft}, ["a"], 0.02)
    line = quality.read_calibration(fields).lines["a"]
    assert line.intercept == pytest.approx(0.3, abs=0.05) and line.slope == pytest.approx(0.8, abs=0.02)
    # 1 and 99 % of a normal distribution.
    assert line.low == pytest.approx(-2.326 * 0.4, abs=0.05) and line.high == pytest.approx(
        2.326 * 0.4, abs=0.05
    )
    with pytest.raises(ValueError, match="49 cases"):
        quality.calibrate({"a": soft[6:55]}, {"a": dice[6:55]}, {"a": soft}, ["a"], 0.02)


def test_limits_give_the_asked_share_of_false_alarms():
    rng = np.random.default_rng(2)
    odds = {name: rng.normal(3, 1, 20_000) for name in ("a", "b", "fibula")}
    soft = {name: special.expit(values) for name, values in odds.items()}
    calibration = quality.read_calibration(quality.calibrate(soft, soft, soft, ["a", "b"], 0.05))
    # Quantiles of normal distributions: of the sum, with standard deviation 1.414, and of each structure.
    assert calibration.total.limit == pytest.approx(6 - 1.645 * np.sqrt(2), abs=0.05)
    lower = quality.read_calibration(quality.calibrate(soft, soft, soft, ["a", "b"], 0.05, 1.5))
    assert lower.total.limit == pytest.approx(calibration.total.limit - 1.5)
    assert lower.total.suspect == calibration.total.suspect and lower.lines == calibration.lines
    assert calibration.total.suspect == pytest.approx(6, abs=0.05)
    assert calibration.lines["a"].limit == pytest.approx(3 - 1.645 - quality.MARGIN, abs=0.05)
    assert calibration.lines["fibula"].limit == quality.NO_LIMIT
    films = [{name: values[film] for name, values in soft.items()} for film in range(2000)]
    warned = np.mean([bool(quality.dice_warnings(film, calibration)) for film in films])
    assert warned == pytest.approx(0.05, abs=0.015)


@given(st.lists(st.floats(0, 1), min_size=50, max_size=80), st.integers(0, 2**31))
def test_a_line_never_falls(soft, seed):
    dice = np.random.default_rng(seed).random(len(soft))
    fields = quality.calibrate({"a": np.array(soft)}, {"a": dice}, {"a": np.array(soft)}, ["a"], 0.05)
    line = quality.read_calibration(fields).lines["a"]
    assert line.slope >= 0 and line.low <= line.high


def test_low_structures_are_named():
    calibration = Calibration(dict.fromkeys(KNEE, LINE), Total(("femur", "tibia", "patella"), 6.0, 9.0))

    def names(**soft):
        warnings = quality.dice_warnings({"fibula": 0.1} | soft, calibration)
        return [warning.partition(":")[0] for warning in warnings]

    assert names(femur=0.99, tibia=0.99, patella=0.95) == []
    assert names(femur=0.99, tibia=0.7, patella=0.6) == ["tibia", "patella"]
    # Log odds 1.73 each: none is below its limit of 1.39, but the sum is below 6.
    assert names(femur=0.85, tibia=0.85, patella=0.84) == ["patella"]
    # What was not predicted has a warning of its own, and blames no other structure.
    assert names(femur=0.99, tibia=0.99, patella=float("nan")) == []


def test_a_total_counts_what_was_not_predicted_as_zero():
    soft = {"femur": 0.5, "tibia": float("nan")}
    assert quality.total(soft, ["femur"]) == 0
    assert quality.total(soft, ["femur", "tibia"]) == pytest.approx(np.log(1e-4 / (1 - 1e-4)))


@pytest.mark.parametrize(("turns", "words"), [(0, ""), (1, "270"), (2, "180"), (3, "90")])
def test_a_turned_image_is_recognized(turns, words):
    """A network that likes images whose upper row is bright."""

    def score(images):
        return [float(image[0].mean()) for image in images]

    image = np.zeros((20, 20, 1), np.uint8)
    image[0] = 255
    image = np.rot90(image, turns)
    warning = quality.turn_warning(image, *score([image]), score)
    assert words in warning and bool(warning) == bool(words)


def test_a_small_or_missing_fibula_is_recognized():
    masks = {name: knee() == value for value, name in enumerate(KNEE, start=1)}
    assert not quality.lacks_optional_bone(masks)  # 60 of 900 pixels
    masks["fibula"] = masks["fibula"] & (np.arange(40) < 24)[:, None]  # 12
    assert quality.lacks_optional_bone(masks)
    assert not quality.lacks_optional_bone({"femur": masks["femur"]})


def test_mirrored_halves():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 1)).astype(np.uint8)
    mirrored = np.concatenate([image, image[:, ::-1]], axis=1)
    assert quality.is_own_mirror_image(mirrored) and not quality.is_own_mirror_image(image)
    assert not quality.is_own_mirror_image(np.zeros((9, 9, 1), np.uint8))


def test_a_knee_is_one_though_the_patella_cuts_its_femur():
    assert warnings_of(knee()) == ()
    union = np.array([0, 1, 2, 3, 1], np.uint8)[knee()]
    assert warnings_of(union, ("whole femur", "tibia", "fibula")) == ()
    assert warnings_of(np.zeros((9, 9), np.uint8)) == ()  # the prediction has the warning "nothing found"


@pytest.mark.parametrize(("lost", "count"), [("femur", 1), ("tibia", 1), ("fibula", 0), ("patella", 2)])
def test_a_lost_bone_is_named(lost, count):
    """Without its patella, the femur of the drawing is in two pieces."""
    label = knee()
    label[label == 1 + KNEE.index(lost)] = 0
    warnings = warnings_of(label)
    assert len(warnings) == count and all(lost in warning for warning in warnings[:1])


def test_a_small_bone_is_named_unless_the_edge_cuts_it():
    label = knee()
    label[label == 4] = 1
    label[7:9, 20:25] = 4  # 10 of 910
    assert [warning.partition(" (")[0] for warning in warnings_of(label)] == ["little patella"]
    label[label == 4] = 1
    label[0:2, 20:25] = 4
    assert warnings_of(label) == ()


@pytest.mark.parametrize(("rows", "columns", "count"), [((36, 40), (20, 30), 1), ((30, 34), (36, 40), 0)])
def test_a_shaft_that_ends_in_the_film_s_edge_is_not_cut(rows, columns, count):
    """A tibia of 40 or 16 pixels beside 360 of femur, 80 of patella and 60 of fibula."""
    label = knee()
    label[label == 2] = 0
    label[slice(*rows), slice(*columns)] = 2
    assert len([warning for warning in warnings_of(label) if warning.startswith("little tibia")]) == count


def test_two_knees_are_several_pieces():
    two = np.hstack([knee(), np.zeros((40, 2), np.uint8), knee()])
    warnings = warnings_of(two)
    assert len(warnings) == 1 and warnings[0].startswith("femur, tibia, patella in several pieces")
    names = tuple(f"{side} {name}" for name in KNEE for side in quality.SIDES)
    sided = np.zeros_like(two)
    for value in range(1, 5):
        sided[:, :42][two[:, :42] == value] = 2 * value - 1
        sided[:, 42:][two[:, 42:] == value] = 2 * value
    assert warnings_of(sided, names) == ()
    (warning,) = warnings_of(np.where(sided == 4, 0, sided), names)
    assert warning.startswith("left knee: no tibia found")
    assert warnings_of(np.where(sided % 2, sided, 0), names) == ("left knee: nothing found",)


@pytest.mark.parametrize(("attached", "warned"), [(12, False), (11, True)])
def test_a_quarter_may_be_detached(attached, warned):
    label = np.zeros((40, 10), np.uint8)
    label[0], label[2 : 2 + attached // 4, :4] = 1, 2
    label[2 + attached // 4, : attached % 4] = 2
    label[20, :4] = 2
    assert bool(warnings_of(label, ("femur", "tibia"))) == warned


def test_the_tibia_is_below_the_femur():
    assert warnings_of(knee()[::-1]) == ("the tibia is not below the femur: upside down or on its side?",)


@pytest.mark.parametrize(("tibia_columns", "edge", "count"), [(17, 2, 1), (18, 2, 0), (9, 0, 0)])
def test_a_tibia_that_is_narrow_beside_the_femur_is_of_another_view(tibia_columns, edge, count):
    """Of 20 columns of femur; at 0.86 of its width or more, or where the edge cuts it, there is no warning."""
    label = np.zeros((40, 40), np.uint8)
    label[0:16, edge : edge + 20], label[18:40, 5 : 5 + tibia_columns] = 1, 2
    label[6:10, 8:16] = 4
    assert len([warning for warning in warnings_of(label) if "of the femur's width" in warning]) == count


def test_other_structures_are_only_absent():
    label = np.zeros((9, 9), np.uint8)
    label[0, 0] = label[5, 5] = 1
    (warning,) = warnings_of(label, ("left lung", "right lung"))
    assert warning.startswith("no right lung found")
