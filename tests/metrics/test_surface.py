"""HD95, ASSD and NSD by hand, against all pairs of surface pixels, and of structures without a surface."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from kneefair_jax import metrics

NAMES = ("hd95_mm", "assd_mm", "nsd")
SPACINGS = st.tuples(*[st.sampled_from([0.2, 0.5, 0.7, 1.0, 3.0])] * 2)


def measure(prediction, truth, spacing=(1.0, 1.0), structures=1, **options):
    scores = metrics.surface_distances(prediction, truth, structures, spacing, **options)
    assert tuple(scores) == NAMES
    return np.stack(list(scores.values()), axis=-1)


def square(top=4, left=4, side=5, size=20):
    label = np.zeros((size, size), np.uint8)
    label[top : top + side, left : left + side] = 1
    return label


def by_brute_force(p, t, spacing, tolerance):
    """Loop over pixels and over all pairs; None if a surface is missing."""

    def surface(mask):
        height, width = mask.shape
        points = []
        for y, x in np.argwhere(mask):
            neighbors = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            inside = [(i, j) for i, j in neighbors if 0 <= i < height and 0 <= j < width]
            if any(not mask[place] for place in inside):
                points.append((y * spacing[0], x * spacing[1]))
        return points

    a, b = surface(p), surface(t)
    if not a or not b:
        return None
    to_truth = [min(math.dist(i, j) for j in b) for i in a]
    to_prediction = [min(math.dist(i, j) for i in a) for j in b]
    pooled = to_truth + to_prediction
    return (
        max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)),
        sum(pooled) / len(pooled),
        sum(d <= tolerance + 1e-6 for d in pooled) / len(pooled),
    )


def test_a_square_that_is_shifted():
    """The rim of a 5 x 5 square has 16 pixels; shifted by one, 8 lie on the other rim.

    The outer column (5 pixels) is 1 beyond the other rim, the inner pixels of the opposite column (3) 1 within it.
    """
    np.testing.assert_allclose(measure(square(left=5), square())[0], [1, 8 / 16, 1])
    np.testing.assert_allclose(measure(square(left=5), square(), (3.0, 0.5))[0], [0.5, 0.25, 1])
    # Shifted down by 3 mm, the 3 inner pixels are nearer to the other's sides: 0.5, 1 and 0.5 mm.
    np.testing.assert_allclose(measure(square(top=5), square(), (3.0, 0.5))[0], [3, 17 / 16, 11 / 16])


def test_anisotropic_spacing():
    """Single pixels, 3 down and 4 across: 3 x 1 and 4 x 0.5 mm make sqrt(13)."""
    scores = measure(square(5, 8, 1), square(2, 4, 1), (1.0, 0.5))
    np.testing.assert_allclose(scores[0], [math.sqrt(13), math.sqrt(13), 0.0])
    # The nearest pixel in mm is not the nearest pixel on the grid.
    truth = square(4, 4, 1) + square(8, 2, 1)
    expected = (0.6 + 0.6 + math.hypot(0.2, 2)) / 3
    np.testing.assert_allclose(measure(square(5, 2, 1), truth, (0.2, 1.0))[0, 1], expected)


def test_the_larger_direction_and_the_pool():
    """HD95 takes both directions, and ASSD is not a mean of two means.

    A rim of 16 pixels against the same rim and a pixel at distance 10: of 16 zeros and a 10, the rank is 15.2.
    """
    truth = square()
    prediction = truth + square(4, 18, 1)
    expected = [2, 10 / 33, 32 / 33]
    np.testing.assert_allclose(measure(prediction, truth)[0], expected)
    np.testing.assert_allclose(measure(truth, prediction)[0], expected)


@pytest.mark.parametrize("spacing", [0.1, 0.2, 1 / 3])
def test_a_distance_equal_to_the_tolerance_is_within_it(spacing):
    """5 x 0.2 mm in f32 is more than 1 mm."""
    spacing = np.full(2, spacing, np.float32)
    pixels = round(1 / spacing[0])
    assert measure(square(4, 4 + pixels, 1), square(4, 4, 1), spacing)[0, 2] == 1
    assert measure(square(4, 5 + pixels, 1), square(4, 4, 1), spacing)[0, 2] == 0
    assert measure(square(4, 5 + pixels, 1), square(4, 4, 1), spacing, tolerance_mm=1.5)[0, 2] == 1
    assert measure(square(), square(), spacing, tolerance_mm=0.0)[0, 2] == 1


def test_the_border_of_the_image_is_no_surface():
    """Otherwise shafts that the image crops would agree where no contour was drawn."""
    truth = np.zeros((10, 12), np.uint8)
    truth[:, 3:8] = 1
    prediction = np.zeros((10, 12), np.uint8)
    prediction[:, 3:10] = 1
    # Two columns of 10: the left at 0, the right at 2; a border row would add pixels that are 0 or 1 away.
    np.testing.assert_allclose(measure(prediction, truth)[0], [2.0, 1.0, 0.5])
    # In a corner of the image two sides remain: 5 pixels of the small square are 3 away, and of the large one's 11
    # pixels 6 are 3 away and the rest, at its own corner, further.
    large = [3] * 6 + [10**0.5] * 2 + [13**0.5] * 2 + [18**0.5]
    expected = [(13**0.5 + 18**0.5) / 2, (5 * 3 + sum(large)) / 16, 0]
    np.testing.assert_allclose(measure(square(0, 0, 3), square(0, 0, 6))[0], expected)


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    spacing=SPACINGS,
    share=st.sampled_from([0.3, 0.6, 0.9]),
    tolerance=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)
def test_against_all_pairs_of_surface_pixels(seed, shape, spacing, share, tolerance):
    rng = np.random.default_rng(seed)
    prediction, truth = np.where(rng.random((2, *shape)) < share, rng.integers(1, 3, (2, *shape)), 0)
    scores = measure(prediction, truth, spacing, 2, tolerance_mm=tolerance)
    diagonal = math.hypot(shape[0] * spacing[0], shape[1] * spacing[1])
    for s in range(2):
        p, t = prediction == s + 1, truth == s + 1
        if not p.any() and not t.any():
            assert np.isnan(scores[s]).all()
            continue
        expected = by_brute_force(p, t, spacing, tolerance)
        if expected is None:
            expected = (0, 0, 1) if (p == t).all() else (diagonal, diagonal, 0)
        np.testing.assert_allclose(scores[s], expected, atol=1e-12)
    # The scores are symmetric.
    np.testing.assert_allclose(measure(truth, prediction, spacing, 2, tolerance_mm=tolerance), scores)
    # Transposing masks and spacing changes nothing.
    transposed = measure(prediction.T, truth.T, spacing[::-1], 2, tolerance_mm=tolerance)
    np.testing.assert_allclose(transposed, scores, atol=1e-12)


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000), down=st.integers(1, 8), across=st.integers(1, 8), spacing=SPACINGS)
def test_a_shift_of_both_masks_changes_no_score(seed, down, across, spacing):
    masks = np.zeros((2, 16, 16), np.uint8)
    masks[:, 1:7, 1:7] = np.random.default_rng(seed).integers(0, 3, (2, 6, 6))
    shifted = np.roll(masks, (down, across), (1, 2))
    np.testing.assert_allclose(measure(*shifted, spacing, 2), measure(*masks, spacing, 2), atol=1e-12)


def test_absent_from_both_is_nan_and_from_one_of_the_two_the_diagonal():
    empty, square_of_two = np.zeros((6, 8), np.uint8), np.pad(np.ones((2, 2), np.uint8), ((2, 2), (3, 3)))
    assert np.isnan(measure(empty, empty)).all()
    for pair in ((empty, square_of_two), (square_of_two, empty)):
        np.testing.assert_allclose(measure(*pair, (1.0, 1.0))[0], [10, 10, 0])
        np.testing.assert_allclose(measure(*pair, (2.0, 0.5))[0], [math.hypot(12, 4)] * 2 + [0])
    scores = measure(square_of_two, square_of_two * 2, (1.0, 1.0), 3)
    np.testing.assert_allclose(scores, [[10, 10, 0], [10, 10, 0], [np.nan] * 3])


def test_a_structure_that_fills_the_image_has_no_surface():
    full, part, empty = np.ones((6, 8), np.uint8), np.eye(6, 8, dtype=np.uint8), np.zeros((6, 8), np.uint8)
    np.testing.assert_array_equal(measure(full, full)[0], [0, 0, 1])
    for mask in (part, empty):
        np.testing.assert_array_equal(measure(full, mask)[0], [10, 10, 0])
        np.testing.assert_array_equal(measure(mask, full)[0], [10, 10, 0])


@pytest.mark.parametrize("spacing", [(np.nan, np.nan), (0.5, np.nan)])
def test_without_spacing_all_scores_are_nan(spacing):
    for prediction in (square(), square(5), square() * 0):
        assert np.isnan(measure(prediction, square(), spacing)).all()


def test_a_batch_equals_its_cases_one_by_one():
    """More cases than share a tree, with different spacings, one unknown, and some masks empty or full."""
    rng = np.random.default_rng(0)
    prediction, truth = np.where(rng.random((2, 2, 11, 9, 7)) < 0.6, rng.integers(1, 4, (2, 2, 11, 9, 7)), 0)
    prediction[0, :4], truth[0, 2:6], truth[1, :3], prediction[1, 1:5] = 0, 0, 2, 2
    spacing = rng.choice([0.2, 0.5, 3.0], (2, 11, 2))
    spacing[1, 6] = np.nan
    batch = measure(prediction, truth, spacing, 3)
    assert batch.shape == (2, 11, 3, 3)
    for case in np.ndindex(2, 11):
        single = measure(prediction[case], truth[case], spacing[case], 3)
        np.testing.assert_allclose(batch[case], single, rtol=0, atol=1e-12)
    same = measure(prediction, truth, (0.5, 0.2), 3)
    np.testing.assert_allclose(same[1, 7], measure(prediction[1, 7], truth[1, 7], (0.5, 0.2), 3), atol=1e-12)
    assert measure(prediction[0, :0], truth[0, :0], structures=3).shape == (0, 3, 3)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint64])
def test_labels_of_any_integer_type(dtype):
    np.testing.assert_array_equal(
        measure(square(5).astype(dtype), square().astype(dtype)), measure(square(5), square())
    )


def test_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match="must both be"):
        measure(np.zeros((3, 3), int), np.zeros((3, 1), int))
    with pytest.raises(ValueError, match="must both be"):
        measure(np.zeros(3, int), np.zeros(3, int))
    with pytest.raises(ValueError):
        measure(square(), square(), np.ones((3, 2)))
    for spacing in ((0.5,), (0.0, 1.0), 0.5):
        with pytest.raises(ValueError, match="two positive numbers"):
            measure(square(), square(), spacing)


def corner_square(side, at=3, size=24):
    truth = np.zeros((size, size), np.uint8)
    truth[at : at + side, at : at + side] = 1
    return truth


def test_boundary_errors_of_a_square_by_hand():
    errors = metrics.boundary_errors(corner_square(10), 1, (1, 1), 1.0)
    # 100 pixels; dilation adds 40, and 1 / sqrt(2) of each corner, a diagonal away; erosion leaves 64.
    dilated = 140 + 4 / np.sqrt(2)
    np.testing.assert_allclose(errors["dice"], [1 - (200 / (100 + dilated) + 128 / 164) / 2])
    np.testing.assert_allclose(errors["iou"], [1 - (100 / dilated + 64 / 100) / 2])
    # Half a pixel: half of the 40, and 1 - (sqrt(2) - 1 / 2) / sqrt(2) of the corners; half of the 36.
    dilated, eroded = 120 + 4 * (0.5 / np.sqrt(2)), 64 + 18
    errors = metrics.boundary_errors(corner_square(10), 1, (2, 2), 1.0)
    np.testing.assert_allclose(errors["iou"], [1 - (100 / dilated + eroded / 100) / 2])


def test_an_unknown_boundary_distance_is_one_pixel():
    expected = metrics.boundary_errors(corner_square(9), 1, (0.5, 0.5), 0.5)
    np.testing.assert_allclose(
        metrics.boundary_errors(corner_square(9), 1, (0.5, 0.5), np.nan)["dice"], expected["dice"]
    )
    np.testing.assert_allclose(
        metrics.boundary_errors(corner_square(9), 1, (np.nan, 0.5), 9.0)["dice"], expected["dice"]
    )


@pytest.mark.parametrize("distance", [0.1, 0.3, 0.5, 0.9])
def test_the_boundary_error_of_a_disc_does_not_depend_on_the_spacing(distance):
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


def test_boundary_error_of_an_absent_structure_is_nan_and_one_eroded_away_scores_zero():
    errors = metrics.boundary_errors(corner_square(2), 2, (1, 1), 1.0)
    np.testing.assert_allclose(errors["iou"], [1 - 4 / (12 + 4 / np.sqrt(2)) / 2, np.nan])


def test_the_border_of_the_image_does_not_move():
    full = np.ones((6, 8), np.uint8)
    assert metrics.boundary_errors(full, 1, (1, 1), 2.0)["dice"] == 0
    half = full.copy()
    half[:, 4:] = 0
    # Only the inner edge moves: 24 pixels become 36 and 12.
    np.testing.assert_allclose(metrics.boundary_errors(half, 1, (1, 1), 2.0)["iou"], 1 - (24 / 36 + 0.5) / 2)


def test_boundary_errors_refuse_invalid_arguments():
    for truth, spacing in [
        (corner_square(3)[None], (1, 1)),
        (corner_square(3), (1, 0)),
        (corner_square(3), (1, 1, 1)),
    ]:
        with pytest.raises(ValueError, match="two positive numbers"):
            metrics.boundary_errors(truth, 1, spacing, 1.0)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), down=st.sampled_from([0.5, 1.0, 1.7]))
def test_a_larger_boundary_distance_costs_more(seed, down):
    """The blobs touch each other and the border."""
    rng = np.random.default_rng(seed)
    truth = ndimage.zoom(rng.integers(0, 3, (4, 4)), 3, order=0)[:, :10]
    errors = [metrics.boundary_errors(truth, 2, (down, 1.0), distance) for distance in (0.0, 0.4, 1.0, 3.0)]
    for score in ("dice", "iou"):
        values = np.stack([error[score] for error in errors])
        present = [(truth == s).any() for s in (1, 2)]
        assert (np.isfinite(values) == present).all()
        assert (np.diff(values[:, present], axis=0) >= 0).all() and np.allclose(values[0, present], 0)


# Cases that MONAI 1.6 or surface-distance 0.1 score differently: the value here by hand, and their values.
def block(rows, columns, shape=(20, 20)):
    mask = np.zeros(shape, np.uint8)
    mask[rows, columns] = 1
    return mask


EMPTY, SMALL, FULL = (
    block(0, slice(0), (6, 8)),
    block(slice(2, 4), slice(3, 5), (6, 8)),
    block(slice(None), slice(None), (6, 8)),
)
SQUARE = block(slice(4, 9), slice(4, 9))
PIXEL = block(4, 4)
F32 = float(np.float32(0.2))
NAN = np.nan

# name: prediction, truth, spacing, and HD95, ASSD and NSD here, in MONAI and in surface-distance; None if one raises
# an error. The diagonal of 6 x 8 is 10.
CASES = {
    "absent from both": (EMPTY, EMPTY, 1.0, [NAN] * 3, [NAN] * 3, [np.inf, NAN, NAN]),
    "absent from the prediction": (EMPTY, SMALL, 1.0, [10, 10, 0], [NAN, np.inf, 0], [np.inf, np.inf, 0]),
    "absent from the truth": (SMALL, EMPTY, 1.0, [10, 10, 0], [NAN, np.inf, 0], [np.inf, np.inf, 0]),
    "fills the image": (FULL, SMALL, 1.0, [10, 10, 0], [13**0.5, 2.690, 0], [13**0.5, 2.637, 0]),
    # Two columns of 10, the left at 0, the right at 2; with the border, rows above and below agree.
    "runs through the image": (
        *(block(slice(None), slice(3, end), (10, 12)) for end in (10, 8)),
        *(1.0, [2, 1, 0.5], [2, 0.643, 0.714], [2, 0.630, 0.718]),
    ),
    # 3 down and 4 across make 5; between their nearest corners it is less.
    "two pixels": (block(7, 8), PIXEL, 1.0, [5, 5, 0], [5, 5, 0], [5, 4.330, 0]),
    # 5 x 0.2 mm in f32 is 1.00000001 mm, which is the tolerance; corners in between are 0.8 mm away.
    "as far as the tolerance": (block(4, 9), PIXEL, F32, [1, 1, 1], [1, 1, 1], [1, 0.9, 0.5]),
    # Of 16 zeros and a 10, the percentile at rank 15.2 is interpolated: 2.
    "a pixel far off": (
        *(SQUARE + block(4, 18), SQUARE, 1.0),
        *([2, 10 / 33, 32 / 33], [2, 0.303, 0.970], [10, 0.664, 0.930]),
    ),
    "of unknown spacing": (SQUARE, SQUARE, NAN, [NAN] * 3, None, [NAN] * 3),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_scores_by_hand(name):
    prediction, truth, spacing, expected, *_ = CASES[name]
    scores = metrics.surface_distances(prediction, truth, 1, (spacing, spacing))
    np.testing.assert_allclose(np.concatenate(list(scores.values())), expected, rtol=1e-7)
