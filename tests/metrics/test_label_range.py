"""Every function of the host that takes label masks, and the labels that it refuses."""

import numpy as np
import pytest

from kneefair_jax import metrics

TRUTH = np.array([[0, 1, 1, 0]], np.uint8)
FUNCTIONS = {
    "mask_scores": lambda prediction, truth: metrics.mask_scores(prediction, truth, 1, (1.0, 1.0)),
    "surface_distances": lambda prediction, truth: metrics.surface_distances(
        prediction, truth, 1, (1.0, 1.0)
    ),
    "boundary_errors": lambda prediction, truth: (
        metrics.boundary_errors(prediction, 1, (1.0, 1.0), 1.0),
        metrics.boundary_errors(truth, 1, (1.0, 1.0), 1.0),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("place", ["prediction", "truth"])
@pytest.mark.parametrize("label", [2, 255, -1])
def test_a_label_that_is_no_structure_is_refused_by_value(name, place, label):
    masks = {"prediction": TRUTH, "truth": TRUTH} | {place: np.array([[0, 1, label, 0]])}
    with pytest.raises(ValueError, match=rf"label {label} is not from 0 to S = 1"):
        FUNCTIONS[name](**masks)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.complex64, str])
def test_masks_that_are_no_integers_are_refused(name, dtype):
    with pytest.raises(ValueError, match="give integers"):
        FUNCTIONS[name](TRUTH.astype(dtype), TRUTH)


def test_a_label_beyond_the_last_structure_is_no_structure_on_the_device():
    """By hand: structure 1 has 2 true and 1 predicted pixel, one in common, 2/3; the host once scored 1.0."""
    prediction = np.array([[2, 1, 0, 0]])
    counts = metrics.overlap(prediction[None], TRUTH[None].astype(int), 1)
    np.testing.assert_allclose(metrics.dice(counts), [[2 / 3]], rtol=1e-6)
    with pytest.raises(ValueError, match=r"prediction: label 2"):
        metrics.mask_scores(prediction, TRUTH, 1, (1.0, 1.0))
    scores = metrics.mask_scores(np.where(prediction > 1, 0, prediction), TRUTH, 1, (1.0, 1.0))
    np.testing.assert_allclose(scores["dice"], [2 / 3])


@pytest.mark.parametrize("dtype", [bool, np.uint64, np.int8])
def test_every_type_of_integer_scores_the_same(dtype):
    prediction = np.roll(TRUTH, 1, axis=1)
    one = metrics.mask_scores(prediction, TRUTH, 1, (1.0, 1.0))
    other = metrics.mask_scores(prediction.astype(dtype), TRUTH.astype(dtype), 1, (1.0, 1.0))
    np.testing.assert_equal(other, one)
    np.testing.assert_array_equal(one["dice"], [0.5])


def test_masks_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="must both be"):
        metrics.mask_scores(TRUTH[:, :1], TRUTH, 1, (1.0, 1.0))
