"""Bands over a contour: a planted local shift is found at its place and nowhere else; the level over all points."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats

from kneefair_jax.fairness.contour_bands import contour_bands

POINTS = 40


def cohort(count, shift=0.0, seed=0, span=slice(10, 15)):
    """Return errors that vary smoothly along the contour, of two groups, the second with a shift at some points."""
    rng = np.random.default_rng(seed)
    errors = ndimage.gaussian_filter1d(rng.normal(0, 0.5, (2 * count, POINTS)), 2, axis=1, mode="wrap")
    errors[count:, span] += shift
    cases = pd.DataFrame(
        {
            "patient_id": [f"p{i}" for i in range(2 * count)],
            "sex": pd.Categorical(["f"] * count + ["m"] * count, ["f", "m"]),
        }
    )
    return errors, np.zeros((2 * count, POINTS, 2)), cases


def excludes_zero(band):
    return (np.array(band.low) > 0) | (np.array(band.high) < 0)


def test_a_local_shift_is_found_at_its_place_and_nowhere_else():
    result = contour_bands(*cohort(60, shift=0.6, seed=1), ["sex"])
    (pair,) = result.pairs["sex"]
    assert (pair.first, pair.second, pair.difference.patients) == ("sex=f", "sex=m", 120)
    assert np.flatnonzero(excludes_zero(pair.difference)).tolist() == [*range(10, 15)]
    assert np.array(pair.difference.mean)[10:15] == pytest.approx([-0.6] * 5, abs=0.2)
    assert result.groups["sex=f"].patients == 60
    assert not excludes_zero(result.groups["sex=f"]).any()


def test_the_means_are_those_over_patients():
    errors, places, cases = cohort(12)
    cases["patient_id"] = [f"p{i // 2}" for i in range(24)]
    cases.loc[[0, 1], "patient_id"] = "p0"
    result = contour_bands(errors, places + 0.5, cases, ["sex"], minimum=5)
    patients = errors.reshape(12, 2, POINTS).mean(axis=1)
    assert result.overall.mean == pytest.approx(patients.mean(axis=0))
    assert (result.overall.patients, result.groups["sex=f"].patients) == (12, 6)
    assert np.array(result.places) == pytest.approx(np.full((POINTS, 2), 0.5))


def test_random_groups_rarely_differ_anywhere():
    """The band holds at all points at once: 5 % of cohorts have a point that excludes zero."""
    rejected = 0
    for seed in range(150):
        (pair,) = contour_bands(*cohort(40, seed=seed), ["sex"], draws=400, seed=seed).pairs["sex"]
        rejected += excludes_zero(pair.difference).any()
    assert stats.binomtest(rejected, 150, 0.05, "greater").pvalue > 0.001


def test_small_groups_have_no_band():
    errors, places, cases = cohort(30)
    keep = np.arange(34)
    result = contour_bands(errors[keep], places[keep], cases.iloc[keep], ["sex"])
    assert result.groups["sex=m"].low is None
    assert result.groups["sex=m"].patients == 4
    assert result.pairs["sex"] == []
    assert result.groups["sex=f"].low is not None


def test_equal_errors_have_a_band_without_width():
    errors, places, cases = cohort(20)
    result = contour_bands(np.zeros_like(errors), places, cases, ["sex"])
    band = result.pairs["sex"][0].difference
    assert band.mean == [0.0] * POINTS
    assert band.low is None or not excludes_zero(band).any()
