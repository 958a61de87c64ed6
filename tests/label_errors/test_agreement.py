import numpy as np
import pytest

from kneefair_jax import metrics
from kneefair_jax.label_errors import agreement


def test_confusion_and_log_odds_by_hand():
    label = np.array([[1, 1, 0], [0, 2, 2]], np.uint8)
    prediction = np.array([[1, 0, 0], [0, 2, 2]], np.uint8)
    counts = metrics.confusion_matrix(label, prediction, 3)
    np.testing.assert_array_equal(counts, [[2, 0, 0, 0], [1, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]])
    odds = agreement.log_odds(counts)
    # Structure 1: I 1 of areas 2 + 1; 2: all agree; 3 in neither; together I 3 of 4 + 3.
    np.testing.assert_allclose(odds, [np.log(2.5 / 1.5), np.log(4.5 / 0.5), np.nan, np.log(6.5 / 1.5)])
    assert agreement.dice(odds[0]) == pytest.approx(2.5 / 4)


def test_robust_z_by_hand():
    # Median 5; below it lie 4, 3 and 0, at 1, 2 and 5: half of them within 2.
    odds = np.array([[9.0], [7.0], [6.0], [5.0], [4.0], [3.0], [0.0]])
    scale = 1.4826 * 2
    np.testing.assert_allclose(agreement.robust_z(odds)[:, 0] * scale, [-4, -2, -1, 0, 1, 2, 5])


def test_the_scale_has_a_floor_and_nan_stays():
    odds = np.array([[3.0, np.nan], [3.0, np.nan], [3.0, 1.0], [2.0, np.nan]])
    odds = np.concatenate([odds, np.full((8, 2), 3.0)])
    z = agreement.robust_z(odds)
    assert z[3, 0] == pytest.approx(1 / 0.1) and np.isnan(z[0, 1]) and not z[0, 0]
    alike = np.full((6, 1), 3.0)
    alike[4] = 2.95
    assert agreement.robust_z(alike)[4, 0] == pytest.approx(0.05 / 0.1)


def test_a_fifth_of_wrong_masks_does_not_hide_them():
    rng = np.random.default_rng(0)
    odds = rng.normal(4, 0.2, (400, 3))
    clean = agreement.max_z(agreement.robust_z(odds))
    odds[:80] -= 3
    scores = agreement.max_z(agreement.robust_z(odds))
    assert (clean > agreement.Z_THRESHOLD).mean() < 0.01
    assert (scores[:80] > agreement.Z_THRESHOLD).mean() > 0.95


def test_a_structure_in_too_few_cases_is_never_flagged():
    """One wrong mask of five would be half of its own scale; one of six stands out."""
    odds = np.linspace(4, 4.05, 6)[:, None]
    odds[0] = -3
    assert agreement.robust_z(odds)[0, 0] > agreement.Z_THRESHOLD
    assert np.isnan(agreement.robust_z(odds[:5])).all()


def test_the_worst_structure_decides_and_a_case_without_agreement_scores_zero():
    odds = np.tile([[4.0, 4.0, 4.0]], (9, 1)) + np.linspace(-0.2, 0.2, 9)[:, None]
    odds[0] = [4.0, 1.0, 3.9]
    odds[1] = np.nan
    scores = agreement.max_z(agreement.robust_z(odds))
    assert scores.argmax() == 0 and scores[0] == agreement.robust_z(odds)[0, 1] > agreement.Z_THRESHOLD
    assert scores[1] == 0


def test_good_dice_is_never_flagged():
    dice = np.array([*[0.996, 0.997, 0.998] * 6, 0.96, 0.94])
    distance = agreement.robust_z(np.log(dice / (1 - dice))[:, None])[:, 0]
    assert distance[-2] == agreement.Z_THRESHOLD and distance[-1] > agreement.Z_THRESHOLD
