import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from kneefair_jax import metrics


def square(side, at=3, size=24):
    truth = np.zeros((size, size), np.uint8)
    truth[at : at + side, at : at + side] = 1
    return truth


def test_by_hand():
    errors = metrics.boundary_errors(square(10), 1, (1, 1), 1.0)
    # 100 pixels; dilation adds 40, and 1 / sqrt(2) of each corner, a diagonal away; erosion leaves 64.
    dilated = 140 + 4 / np.sqrt(2)
    np.testing.assert_allclose(errors["dice"], [1 - (200 / (100 + dilated) + 128 / 164) / 2])
    np.testing.assert_allclose(errors["iou"], [1 - (100 / dilated + 64 / 100) / 2])
    # Half a pixel: half of the 40, and 1 - (sqrt(2) - 1 / 2) / sqrt(2) of the corners; half of the 36.
    dilated, eroded = 120 + 4 * (0.5 / np.sqrt(2)), 64 + 18
    errors = metrics.boundary_errors(square(10), 1, (2, 2), 1.0)
    np.testing.assert_allclose(errors["iou"], [1 - (100 / dilated + eroded / 100) / 2])


def test_an_unknown_distance_is_one_pixel():
    expected = metrics.boundary_errors(square(9), 1, (0.5, 0.5), 0.5)
    np.testing.assert_allclose(
        metrics.boundary_errors(square(9), 1, (0.5, 0.5), np.nan)["dice"], expected["dice"]
    )
    np.testing.assert_allclose(
        metrics.boundary_errors(square(9), 1, (np.nan, 0.5), 9.0)["dice"], expected["dice"]
    )


@pytest.mark.parametrize("distance", [0.1, 0.3, 0.5, 0.9])
def test_the_score_of_a_disc_does_not_depend_on_the_spacing(distance):
    """A radius in whole pixels would confuse another scanner's spacing with another size."""
    values, radius = [], 15.0
    for spacing in ((0.2, 0.2), (0.25, 0.4), (0.4, 0.4)):
        y, x = np.mgrid[: int(36 / spacing[0]), : int(36 / spacing[1])]
        y, x = (y + 0.5) * spacing[0] - 18, (x + 0.5) * spacing[1] - 18
        disc = (y**2 + x**2 < radius**2).astype(np.uint8)
        values.append(metrics.boundary_errors(disc, 1, spacing, distance)["dice"][0])
        assert metrics.boundary_errors(disc, 1, spacing, 0.0)["dice"][0] == pytest.approx(0, abs=1e-12)
    eroded, true, dilated = np.pi * (radius + np.array([-distance, 0, distance])) ** 2
    # The pixelated contour is longer than the circle.
    smooth = 1 - (2 * eroded / (eroded + true) + 2 * true / (true + dilated)) / 2
    assert smooth < min(values) and max(values) < 1.28 * smooth
    assert max(values) / min(values) < 1.08


def test_an_absent_structure_is_nan_and_one_eroded_away_scores_zero():
    errors = metrics.boundary_errors(square(2), 2, (1, 1), 1.0)
    np.testing.assert_allclose(errors["iou"], [1 - 4 / (12 + 4 / np.sqrt(2)) / 2, np.nan])


def test_the_image_s_border_is_no_surface():
    full = np.ones((6, 8), np.uint8)
    assert metrics.boundary_errors(full, 1, (1, 1), 2.0)["dice"] == 0
    half = full.copy()
    half[:, 4:] = 0
    # Only the inner edge moves: 24 pixels become 36 and 12.
    np.testing.assert_allclose(metrics.boundary_errors(half, 1, (1, 1), 2.0)["iou"], 1 - (24 / 36 + 0.5) / 2)


def test_bad_arguments():
    for truth, spacing in [(square(3)[None], (1, 1)), (square(3), (1, 0)), (square(3), (1, 1, 1))]:
        with pytest.raises(ValueError, match="two positive numbers"):
            metrics.boundary_errors(truth, 1, spacing, 1.0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), down=st.sampled_from([0.5, 1.0, 1.7]))
def test_a_larger_distance_costs_more(seed, down):
    """The blobs touch each other and the border."""
    rng = np.random.default_rng(seed)
    truth = ndimage.zoom(rng.integers(0, 3, (4, 4)), 3, order=0)[:, :10]
    errors = [metrics.boundary_errors(truth, 2, (down, 1.0), distance) for distance in (0.0, 0.4, 1.0, 3.0)]
    for score in ("dice", "iou"):
        values = np.stack([error[score] for error in errors])
        present = [(truth == s).any() for s in (1, 2)]
        assert (np.isfinite(values) == present).all()
        assert (np.diff(values[:, present], axis=0) >= 0).all() and np.allclose(values[0, present], 0)
