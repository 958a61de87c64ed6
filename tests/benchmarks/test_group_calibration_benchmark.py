import numpy as np
import pytest
from scipy import stats

from benchmarks import group_calibration


def test_small_blurred_discs_have_a_slope_of_1_where_calibrated_and_a_lower_one_where_overconfident():
    """A box around the truth gives 0.87."""
    results = group_calibration.calibrations(8, 5, 12)
    calibrated = group_calibration.summary(*results[1.0])
    assert calibrated["slope"] == pytest.approx(1, abs=0.09)  # three standard errors
    assert calibrated["slope_covered"] >= 0.8 and abs(calibrated["bias"]) < 0.015
    assert group_calibration.summary(*results[1.5])["slope"] < 0.8


def entry(bias, slope, half):
    return {
        "bias": bias,
        "bias_interval": (bias - half, bias + half),
        "slope": slope,
        "slope_interval": None if slope is None else (slope - half, slope + half),
    }


def test_pairs_by_hand():
    half = 0.1
    first = [entry(0.0, 1.0, half), entry(0.0, 1.0, half), entry(0.0, None, half)]
    second = [entry(0.21, 1.19, half), entry(0.19, 1.05, half), entry(0.0, 1.0, half)]
    shares = group_calibration.pairs(first, second)
    assert shares["bias_intervals_apart"] == pytest.approx(1 / 3)
    assert shares["slope_intervals_apart"] == 0
    # Two equal standard errors: Welch's t with 38 degrees of freedom.
    error = np.sqrt(2) * half / stats.t.ppf(0.975, 19)
    limit = stats.t.ppf(0.975, 38) * error
    assert 0.05 < limit < 0.19
    assert shares["bias_different"] == pytest.approx(2 / 3) and shares["slope_different"] == 0.5
