"""Label maps on the host: refused labels, the confusion matrix, and structures that share pixels."""

import numpy as np
import pytest

from kneefair_jax import anatomy, metrics

OVERLAPS = anatomy.SCHEMES["knee_overlaps"]
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
@pytest.mark.parametrize("argument", ["prediction", "truth"])
@pytest.mark.parametrize("label", [2, 255, -1])
def test_an_invalid_label_is_refused_by_value(name, argument, label):
    masks = {"prediction": TRUTH, "truth": TRUTH} | {argument: np.array([[0, 1, label, 0]])}
    with pytest.raises(ValueError, match=rf"label {label} is not from 0 to S = 1"):
        FUNCTIONS[name](**masks)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.complex64, str])
def test_masks_of_other_types_are_refused(name, dtype):
    with pytest.raises(ValueError, match="give integers"):
        FUNCTIONS[name](TRUTH.astype(dtype), TRUTH)


def test_on_the_device_an_invalid_label_is_no_structure():
    """By hand: structure 1 has 2 true and 1 predicted pixel, one in common, 2/3."""
    prediction = np.array([[2, 1, 0, 0]])
    counts = metrics.overlap(prediction[None], TRUTH[None].astype(int), 1)
    np.testing.assert_allclose(metrics.dice(counts), [[2 / 3]], rtol=1e-6)
    with pytest.raises(ValueError, match=r"prediction: label 2"):
        metrics.mask_scores(prediction, TRUTH, 1, (1.0, 1.0))
    scores = metrics.mask_scores(np.where(prediction > 1, 0, prediction), TRUTH, 1, (1.0, 1.0))
    np.testing.assert_allclose(scores["dice"], [2 / 3])


@pytest.mark.parametrize("dtype", [bool, np.uint64, np.int8])
def test_scores_do_not_depend_on_the_integer_type(dtype):
    prediction = np.roll(TRUTH, 1, axis=1)
    expected = metrics.mask_scores(prediction, TRUTH, 1, (1.0, 1.0))
    scores = metrics.mask_scores(prediction.astype(dtype), TRUTH.astype(dtype), 1, (1.0, 1.0))
    np.testing.assert_equal(scores, expected)
    np.testing.assert_array_equal(scores["dice"], [0.5])


def test_masks_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="must both be"):
        metrics.mask_scores(TRUTH[:, :1], TRUTH, 1, (1.0, 1.0))


def test_the_confusion_matrix_counts_true_and_predicted_labels():
    truth, prediction = np.array([[0, 1, 1, 2]], np.uint8), np.array([[0, 1, 2, 0]], np.uint8)
    counts = metrics.confusion_matrix(truth, prediction, 2)
    np.testing.assert_array_equal(counts, [[1, 0, 0], [0, 1, 1], [1, 0, 0]])
    assert counts.dtype == np.int64


def test_each_structure_scores_as_its_own_mask():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 7, (2, 12, 14))
    prediction = np.where(rng.uniform(size=truth.shape) < 0.6, truth, prediction)
    bones = anatomy.whole_bones(OVERLAPS)
    spacing = (0.5, 0.25)

    scores = metrics.score_by_layer(
        metrics.mask_scores, anatomy.layers(OVERLAPS, bones), prediction, truth, spacing=spacing
    )
    members = anatomy.membership(OVERLAPS, bones)
    for s in range(len(bones)):
        expected = metrics.mask_scores(
            members[s][prediction].astype(int), members[s][truth].astype(int), 1, spacing
        )
        for name, values in scores.items():
            np.testing.assert_allclose(values[s], expected[name][0], err_msg=name)


def test_a_structure_that_is_absent_has_no_score():
    empty = np.zeros((4, 4), int)
    layers = anatomy.layers(OVERLAPS, anatomy.whole_bones(OVERLAPS))
    scores = metrics.score_by_layer(metrics.mask_scores, layers, empty, empty, spacing=(1, 1))
    assert np.isnan(scores["dice"]).all()
    label = np.where(np.eye(4, dtype=bool), 6, 0)  # tibia and fibula
    scores = metrics.score_by_layer(metrics.mask_scores, layers, label, label, spacing=(1, 1))
    np.testing.assert_array_equal(scores["dice"], [np.nan, 1, 1, np.nan])
