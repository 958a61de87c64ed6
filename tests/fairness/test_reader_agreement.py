import numpy as np
import pytest
from scipy import stats

from kneefair_jax.fairness.reader_agreement import reader_agreement


def test_mean_difference_interval_and_limits_by_hand():
    """Differences -2, -1, 0, 1, 7: mean 1, variance 50 / 4, standard error sqrt(2.5), t of 4 degrees 2.7764."""
    agreement = reader_agreement(np.array([-2.0, -1, 0, 1, 7]))
    assert (agreement.patients, agreement.mean_difference, agreement.margin) == (5, 1.0, 0.0)
    half = 2.776445 * np.sqrt(2.5)
    assert agreement.interval == pytest.approx((1 - half, 1 + half), abs=1e-5)
    assert agreement.limits_of_agreement == pytest.approx((1 - 1.96 * 12.5**0.5, 1 + 1.96 * 12.5**0.5))


def test_the_interval_is_that_of_scipy_and_the_margin_has_no_sign():
    differences = np.random.default_rng(0).normal(-0.03, 0.02, 40)
    agreement = reader_agreement(differences)
    expected = stats.ttest_1samp(differences, 0).confidence_interval()
    assert agreement.interval == pytest.approx((expected.low, expected.high))
    # The end of the interval that is nearest to zero, without its sign.
    assert agreement.margin == pytest.approx(-expected.high) and 0.02 < agreement.margin < 0.03


def test_readers_who_differ_in_single_patients_may_agree_in_the_mean():
    """17 patients of +.028, 11 of -.028: the mean absolute difference is .028, the difference of means .006."""
    agreement = reader_agreement(np.repeat([0.028, -0.028], [17, 11]))
    assert agreement.mean_difference == pytest.approx(0.006) and agreement.margin == 0
    many = reader_agreement(np.repeat([0.028, -0.028], [1700, 1100]))
    assert 0.0045 < many.margin < 0.006


def test_noise_gives_no_margin():
    """Readers who agree in the mean, six patients: the absolute mean is 0.019 on average, the margin nearly never."""
    rng = np.random.default_rng(0)
    margins = [reader_agreement(rng.normal(0, 0.06, 6)).margin for _ in range(400)]
    assert np.mean(np.array(margins) > 0) < 0.08
