import numpy as np
import pytest
from scipy import stats

from kneefair_jax.fairness.reader_agreement import reader_agreement


def test_mean_difference_interval_and_limits_by_hand():
    """Differences -2, -1, 0, 1, 7: mean 1, variance 50 / 4, standard error sqrt(2.5), t of 4 degrees 2.7764."""
    agreement = reader_agreement(np.array([-2.0, -1, 0, 1, 7]))
    assert (agreement.patients, agreement.mean_difference, agreement.margin) == (5, 1.0, 1.0)
    half = 2.776445 * np.sqrt(2.5)
    assert agreement.interval == pytest.approx((1 - half, 1 + half), abs=1e-5)
    assert agreement.limits_of_agreement == pytest.approx((1 - 1.96 * 12.5**0.5, 1 + 1.96 * 12.5**0.5))
    assert agreement.includes_zero


def test_the_interval_is_that_of_scipy_and_the_margin_has_no_sign():
    differences = np.random.default_rng(0).normal(-0.03, 0.02, 40)
    agreement = reader_agreement(differences)
    expected = stats.ttest_1samp(differences, 0).confidence_interval()
    assert agreement.interval == pytest.approx((expected.low, expected.high))
    assert agreement.mean_difference == -agreement.margin < 0 and not agreement.includes_zero


def test_readers_who_differ_in_single_patients_may_agree_in_the_mean():
    """17 patients of +.028, 11 of -.028: the mean absolute difference is .028, the difference of means .006."""
    agreement = reader_agreement(np.repeat([0.028, -0.028], [17, 11]))
    assert agreement.margin == pytest.approx(0.006)
    assert agreement.includes_zero
