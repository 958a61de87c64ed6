"""Rank the masks of a synthetic cohort: two discs and a bar on each film, with planted label errors."""

import numpy as np
import pytest

from kneefair_jax import label_errors, metrics
from kneefair_jax.label_errors import agreement as agreements
from kneefair_jax.label_errors import diagnosis
from kneefair_jax.runtime import progress

STRUCTURES = ("right disc", "left disc", "bar")
SIDE = 96


def mask(rng, wobble=0.0):
    y, x = np.mgrid[:SIDE, :SIDE]
    up, down, height = rng.uniform(24, 44), rng.uniform(56, 72), rng.uniform(76, 88)
    size = 9 + wobble
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[np.hypot(y - up, x - rng.uniform(18, 30)) < size] = 1
    labels[np.hypot(y - down, x - rng.uniform(60, 74)) < size] = 2
    labels[(abs(y - height) < 4) & (abs(x - 40) < 20 + wobble)] = 3
    return labels


@pytest.fixture(scope="module")
def cohort():
    """40 masks, and predictions that differ by less than a pixel of radius."""
    masks = [mask(np.random.default_rng(k)) for k in range(40)]
    predictions = [
        mask(np.random.default_rng(k), np.random.default_rng(-k % 97).uniform(0.1, 0.4)) for k in range(40)
    ]
    return masks, predictions


def ranked(masks, predictions, structures=STRUCTURES):
    def read(rows):
        return (label_errors.Pair(masks[row], predictions[row]) for row in rows)

    return label_errors.rank(read, [f"c{row}" for row in range(len(masks))], structures)


FAULTS = {
    "another film": (lambda masks: masks[31], "fits another film: c31"),
    "exchanged labels": (
        lambda masks: np.array([0, 2, 1, 3], np.uint8)[masks[7]],
        "left and right look exchanged",
    ),
    "exchanged structures": (
        lambda masks: np.array([0, 1, 3, 2], np.uint8)[masks[7]],
        "the labels of left disc and bar look exchanged",
    ),
    "mirrored": (lambda masks: masks[7][:, ::-1], "fits better mirrored left to right"),
    "missing": (lambda masks: np.where(masks[7] == 3, 0, masks[7]).astype(np.uint8), "bar missing"),
    "shifted": (
        lambda masks: np.pad(masks[7], ((8, 0), (0, 3)))[:SIDE, 3:],
        "fits better when moved 8 pixels up and 3 pixels right",
    ),
    "upside down": (lambda masks: masks[7][::-1], "fits better upside down"),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_planted_fault_stands_out_and_is_named(cohort, fault):
    masks, predictions = cohort
    plant, reason = FAULTS[fault]
    ranking = ranked([*masks[:7], plant(masks), *masks[8:]], predictions)
    assert [(one.case_id, one.row, one.reason) for one in ranking.label_errors] == [("c7", 7, reason)]
    assert ranking.scores.argmax() == 7 and ranking.label_errors[0].score == ranking.scores[7]
    assert ranking.median_dice > 0.95


def test_correct_masks_are_not_flagged_and_a_failed_prediction_has_no_correction(cohort):
    masks, predictions = cohort
    assert not ranked(masks, predictions).label_errors
    film = np.zeros((SIDE, SIDE), np.uint8)
    film[10:14, 10:80] = 1
    (one,) = ranked(masks, [*predictions[:3], film, *predictions[4:]]).label_errors
    assert one.case_id == "c3"
    assert one.reason == (
        "left disc where the network sees none; bar where the network sees none; right disc differs, Dice 0.00"
    )


def test_a_structure_that_differs_is_named(cohort):
    masks, predictions = cohort
    wide = masks[5].copy()
    wide[60:90, :][wide[60:90, :] == 0] = 3
    (one,) = ranked([*masks[:5], wide, *masks[6:]], predictions).label_errors
    assert one.reason.startswith("bar differs, Dice 0.")


@pytest.mark.parametrize(("z_of_bar", "more"), [(4.9, ""), (5.1, "; bar differs, Dice 0.")])
def test_a_correction_does_not_hide_a_structure_that_it_leaves_wrong(cohort, z_of_bar, more):
    masks, predictions = cohort
    wrong = masks[7][:, ::-1].copy()
    wrong[:, :52][wrong[:, :52] == 3] = 0  # more than a third of the bar, which is a small part of all
    median, z = np.array([3.0, 3.0, 6.0, 3.0]), np.array([9.0, 9.0, z_of_bar, 9.0])
    reason = diagnosis.describe_mismatch(
        wrong, predictions[7], STRUCTURES, median, z, diagnosis.OtherFilm("c1", np.full(4, -1.0), False)
    ).reason
    assert reason.startswith("fits better mirrored left to right" + more) and bool(more) == ("bar" in reason)


def disc(center, radius, offset=0, side=240):
    y, x = np.mgrid[:side, :side]
    return (np.hypot(y - center - offset, x - center + offset) < radius).astype(np.uint8)


@pytest.fixture(scope="module")
def discs():
    """20 masks of one disc, and predictions whose radius differs by less than half a pixel: Dice 0.99."""
    centers = 110 + np.arange(20)
    radii = 60 + np.random.default_rng(0).uniform(0.1, 0.3, 20)
    return [disc(center, 60) for center in centers], list(map(disc, centers, radii))


@pytest.mark.parametrize(
    ("mask", "prediction_radius", "reason"),
    [
        (disc(115, 60, 3), 60.3, "fits better when moved 3 pixels up and 3 pixels right"),  # Dice 0.955
        (disc(115, 57.5), 60.3, None),  # Dice 0.95, as where the network is wrong
        (disc(115, 40), 60.3, "disc differs, Dice 0."),  # Dice 0.61
        (disc(115, 60, 8), 55.0, "fits better when moved"),  # at most 0.91 when moved
    ],
    ids=["slightly moved", "slightly smaller", "much smaller", "moved on a film with a wrong prediction"],
)
def test_a_correction_is_evidence_and_a_difference_may_be_the_networks(
    discs, mask, prediction_radius, reason
):
    masks, predictions = list(discs[0]), list(discs[1])
    masks[5], predictions[5] = mask, disc(115, prediction_radius)
    ranking = ranked(masks, predictions, ("disc",))
    assert [error.case_id for error in ranking.label_errors] == ([] if reason is None else ["c5"])
    assert ranking.scores.max() <= label_errors.Z_THRESHOLD or reason
    for error in ranking.label_errors:
        assert error.reason.startswith(reason)


def test_another_film_of_the_same_knee_accuses_no_mask(discs):
    """The network's mask of film 5 is too small; another visit of the same knee lies one pixel further."""
    masks, predictions = list(discs[0]), list(discs[1])
    predictions[5] = disc(115, 57.2)  # Dice 0.954
    assert ranked(masks, predictions, ("disc",)).label_errors == ()
    masks.append(np.roll(masks[5], 1, axis=0))
    predictions.append(np.roll(disc(115, 60.3), 1, axis=0))
    assert ranked(masks, predictions, ("disc",)).label_errors == ()
    masks[5] = masks[12].copy()  # the mask of another film
    (error,) = ranked(masks, predictions, ("disc",)).label_errors
    assert (error.case_id, error.reason) == ("c5", "fits another film: c12")


@pytest.mark.parametrize(
    ("z", "dices", "flagged"),
    [
        ([6.0, np.nan, 4.0], [0.9, np.nan, 0.93], False),
        ([6.0, np.nan, 4.0], [0.84, np.nan, 0.93], True),
        ([10.1, np.nan, 4.0], [0.9, np.nan, 0.93], True),
        ([4.9, np.nan, 4.0], [0.3, np.nan, 0.93], False),
    ],
)
def test_limits_of_a_networks_errors(z, dices, flagged):
    odds = np.log(np.array(dices) / (1 - np.array(dices)))
    assert agreements.is_beyond_network_errors(np.array(z), odds) is flagged


def test_few_films_are_not_scored(cohort):
    masks, predictions = cohort
    few = ranked([masks[9], *masks[1:5]], predictions[:5])
    assert not few.label_errors and few.unscored_structures == STRUCTURES
    assert not few.scores.any()
    six = ranked([masks[9], *masks[1:6]], predictions[:6])
    assert [one.case_id for one in six.label_errors] == ["c0"] and not six.unscored_structures
    # No pair has an overlap class: it counts as the bone in front.
    absent = ranked(
        masks[:6], predictions[:6], (*STRUCTURES, "plate", "femur and patella")
    ).unscored_structures
    assert absent == ("plate",)


def test_thumbnails_sample_the_centers_of_their_cells():
    image = np.arange(128)[:, None] * np.ones((1, 64), int)
    thumbnail = diagnosis.thumbnail(image).reshape(diagnosis.THUMBNAIL_SIDE, diagnosis.THUMBNAIL_SIDE)
    np.testing.assert_array_equal(thumbnail[:, 0], np.arange(64) * 2 + 1)


def test_the_comparison_shows_the_time_left(cohort, monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    masks, predictions = cohort
    ranked(masks, predictions)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 40 and sum(line.endswith("left") for line in lines) >= 39


def test_confusion_and_log_odds_by_hand():
    label = np.array([[1, 1, 0], [0, 2, 2]], np.uint8)
    prediction = np.array([[1, 0, 0], [0, 2, 2]], np.uint8)
    counts = metrics.confusion_matrix(label, prediction, 3)
    np.testing.assert_array_equal(counts, [[2, 0, 0, 0], [1, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]])
    odds = agreements.log_odds(counts)
    # Structure 1: I 1 of areas 2 + 1; 2: all agree; 3 in neither; together I 3 of 4 + 3.
    np.testing.assert_allclose(odds, [np.log(2.5 / 1.5), np.log(4.5 / 0.5), np.nan, np.log(6.5 / 1.5)])
    assert agreements.dice(odds[0]) == pytest.approx(2.5 / 4)


def agreement(center, scale):
    return agreements.Agreement(np.array([center]), np.array([scale]))


def z_of(odds):
    return agreements.robust_z(odds, agreements.correct_agreement(odds))


def test_center_and_scale_by_hand():
    # Of 9 values, 5 lie within 4 to 4.8: middle 4.4, half-length 0.4 and scale 1.4826 * (1 + 5 / 8) * 0.4 = 0.96. All
    # from 4.4 - 2.5 * 0.96 = 1.99 on stay: 8 values with the median 4.3. The distances of the lower four are 1.3, 0.6,
    # 0.3 and 0.1, their median 0.45: scale 0.667, cut 2.63, and the same 8 values stay.
    odds = np.array([[4.0, 4.2, 4.4, 4.6, 4.8, 6.0, 0.0, 3.7, 3.0]]).T
    center, scale = agreements.correct_agreement(odds)
    np.testing.assert_allclose([center[0], scale[0]], [4.3, 1.4826 * 0.45])
    distance = agreements.robust_z(odds, agreement(4.3, 0.5))[:, 0]
    np.testing.assert_allclose(distance[[0, 6]], [0.6, 8.6])


def test_center_and_scale_of_normal_agreement():
    # The cut leaves 0.6 % of correct values out, so the scale is slightly smaller.
    odds = np.random.default_rng(0).normal(4, 0.5, (100_000, 1))
    center, scale = agreements.correct_agreement(odds)
    assert center[0] == pytest.approx(4, abs=0.02) and scale[0] == pytest.approx(0.5, abs=0.02)


def test_the_scale_has_a_floor_and_nan_stays():
    odds = np.array([[3.0, np.nan], [3.0, np.nan], [3.0, 1.0], [2.0, np.nan]])
    odds = np.concatenate([odds, np.full((8, 2), 3.0)])
    z = z_of(odds)
    assert z[3, 0] == pytest.approx(1 / 0.1) and np.isnan(z[0, 1]) and not z[0, 0]
    alike = np.full((6, 1), 3.0)
    alike[4] = 2.95
    assert z_of(alike)[4, 0] == pytest.approx(0.05 / 0.1)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_wrong_masks_do_not_hide_each_other(share, spread):
    rng = np.random.default_rng(0)
    odds, wrong = rng.normal(4, 0.2, (400, 3)), round(400 * share)
    odds[:wrong] -= 3 + spread * rng.uniform(-1, 1, (wrong, 1))
    scores = agreements.max_z(z_of(odds))
    assert (scores[wrong:] > agreements.Z_THRESHOLD).mean() < 0.01
    assert (scores[:wrong] > agreements.Z_THRESHOLD).mean() > 0.99


def test_a_structure_in_too_few_cases_is_never_flagged():
    """One wrong mask of five would be half of its own scale; one of six stands out."""
    odds = np.linspace(4, 4.05, 6)[:, None]
    odds[0] = -3
    assert z_of(odds)[0, 0] > agreements.Z_THRESHOLD
    assert np.isnan(z_of(odds[:5])).all()


def test_the_worst_structure_decides_and_a_case_without_agreement_scores_zero():
    odds = np.tile([[4.0, 4.0, 4.0]], (9, 1)) + np.linspace(-0.2, 0.2, 9)[:, None]
    odds[0] = [4.0, 1.0, 3.9]
    odds[1] = np.nan
    scores = agreements.max_z(z_of(odds))
    assert scores.argmax() == 0 and scores[0] == z_of(odds)[0, 1] > agreements.Z_THRESHOLD
    assert scores[1] == 0


def test_good_dice_is_never_flagged():
    dice = np.array([*[0.996, 0.997, 0.998] * 6, 0.96, 0.94])
    distance = z_of(np.log(dice / (1 - dice))[:, None])[:, 0]
    assert distance[-2] == agreements.Z_THRESHOLD and distance[-1] > agreements.Z_THRESHOLD


def test_a_dice_that_the_network_expects_is_not_flagged():
    odds = np.log(np.array([[0.90, 0.70, 0.80], [0.90, 0.90, 0.90], [0.90, 0.20, 0.60], [0.99, 0.99, 0.99]]))
    odds -= np.log(1 - np.exp(odds))
    z = np.array([[9.0, 8.0, 7.0], [9.0, 8.0, 7.0], [9.0, 8.0, 7.0], [1.0, 1.0, 1.0]])
    expected = np.array([[0.85, 0.75], [0.85, 0.85], [0.85, 0.1], [0.95, np.nan]])
    result = agreements.without_expected(z, odds, expected)
    limit = agreements.Z_THRESHOLD
    np.testing.assert_array_equal(
        result,
        [
            [limit, 8, 7],  # the second structure is below what the network expects
            [limit, limit, limit],
            [limit, 8, 7],  # an interval from 0.1 says nothing
            [1, 1, 1],
        ],
    )
    np.testing.assert_array_equal(agreements.without_expected(z, odds, np.full((4, 2), np.nan)), z)


def test_networks_expectations_reach_the_ranking():
    rng = np.random.default_rng(0)
    true = np.zeros((40, 40), np.uint8)
    true[8:32, 8:32] = 1
    masks = [np.roll(true, rng.integers(0, 2), axis=1) for _ in range(12)]
    masks[3] = np.where(np.arange(40) < 18, 0, true).astype(np.uint8)

    def rank(low):
        def read(rows):
            return (label_errors.Pair(masks[row], true, np.array([low])) for row in rows)

        return [
            error.row
            for error in label_errors.rank(read, [str(n) for n in range(12)], ("femur",)).label_errors
        ]

    assert rank(np.nan) == rank(0.9) == rank(0.3) == [3]
    assert rank(0.7) == []  # its Dice is 0.74
