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
    # 100 pixels; with one more all round, corners left out, 140; with one less 64.
    np.testing.assert_allclose(errors["dice"], [1 - (200 / 240 + 128 / 164) / 2])
    np.testing.assert_allclose(errors["iou"], [1 - (100 / 140 + 64 / 100) / 2])
    # The disc of radius 1.5 pixels has the corners: 144.
    errors = metrics.boundary_errors(square(10), 1, (2, 2), 3.0)
    np.testing.assert_allclose(errors["iou"], [1 - (100 / 144 + 64 / 100) / 2])


@pytest.mark.parametrize("distance", [np.nan, 0.0, 0.3])
def test_at_least_one_pixel(distance):
    expected = metrics.boundary_errors(square(9), 1, (0.5, 0.5), 0.5)
    np.testing.assert_equal(metrics.boundary_errors(square(9), 1, (0.5, 0.5), distance), expected)
    np.testing.assert_equal(metrics.boundary_errors(square(9), 1, (np.nan, 0.5), 9.0), expected)


def test_absent_is_nan_and_what_erodes_to_nothing_scores_nothing():
    errors = metrics.boundary_errors(square(2), 2, (1, 1), 1.0)
    np.testing.assert_allclose(errors["iou"], [1 - (4 / 12 + 0) / 2, np.nan])


def test_the_image_s_border_is_no_surface():
    full = np.ones((6, 8), np.uint8)
    assert metrics.boundary_errors(full, 1, (1, 1), 2.0)["dice"] == 0
    half = full.copy()
    half[:, 4:] = 0
    # Only the inner side moves: 24 pixels become 36 and 12.
    np.testing.assert_allclose(metrics.boundary_errors(half, 1, (1, 1), 2.0)["iou"], 1 - (24 / 36 + 0.5) / 2)


def test_bad_arguments():
    for truth, spacing in [(square(3)[None], (1, 1)), (square(3), (1, 0)), (square(3), (1, 1, 1))]:
        with pytest.raises(ValueError, match="two positive numbers"):
            metrics.boundary_errors(truth, 1, spacing, 1.0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), down=st.sampled_from([0.5, 1.0, 1.7]), distance=st.floats(0.1, 4))
def test_against_brute_force(seed, down, distance):
    """Every pixel against every other, on blobs that touch each other and the border."""
    rng = np.random.default_rng(seed)
    truth = ndimage.zoom(rng.integers(0, 3, (4, 4)), 3, order=0)[:, :10]
    errors = metrics.boundary_errors(truth, 2, (down, 1.0), distance)
    radius = max(distance, down, 1.0)
    points = np.stack(np.mgrid[: truth.shape[0], : truth.shape[1]], -1).reshape(-1, 2) * (down, 1.0)
    apart = np.linalg.norm(points[:, None] - points, axis=-1) <= radius + 1e-5
    for s in (1, 2):
        t = (truth == s).ravel()
        if not t.any():
            assert np.isnan(errors["dice"][s - 1])
            continue
        dilated = (apart & t).any(1)
        eroded = ~(apart & ~t).any(1)
        dice = [2 * (t & p).sum() / (t.sum() + p.sum()) for p in (dilated, eroded)]
        iou = [(t & p).sum() / (t | p).sum() for p in (dilated, eroded)]
        np.testing.assert_allclose(errors["dice"][s - 1], 1 - np.mean(dice), atol=1e-12)
        np.testing.assert_allclose(errors["iou"][s - 1], 1 - np.mean(iou), atol=1e-12)
