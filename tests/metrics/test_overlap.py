import chex
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kneefair_jax import anatomy, metrics


def test_by_hand():
    prediction = np.array([[[1, 1, 0], [2, 0, 0]]])
    label = np.array([[[1, 0, 0], [2, 2, 2]]])
    counts = metrics.overlap(prediction, label, 3)
    np.testing.assert_array_equal(counts.intersection, [[1, 1, 0]])
    np.testing.assert_array_equal(counts.predicted, [[2, 1, 0]])
    np.testing.assert_array_equal(counts.true, [[1, 3, 0]])
    np.testing.assert_allclose(metrics.dice(counts), [[2 / 3, 2 / 4, np.nan]], rtol=1e-6)
    np.testing.assert_allclose(metrics.iou(counts), [[1 / 2, 1 / 3, np.nan]], rtol=1e-6)


def test_absent_from_both_is_nan_and_from_one_of_the_two_zero():
    empty, full = np.zeros((1, 2, 2), int), np.ones((1, 2, 2), int)
    for score in (metrics.dice, metrics.iou):
        assert np.isnan(score(metrics.overlap(empty, empty, 1))).all()
        assert score(metrics.overlap(full, empty, 1)) == 0
        assert score(metrics.overlap(empty, full, 1)) == 0
        assert score(metrics.overlap(full, full, 1)) == 1


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), structures=st.integers(1, 4))
def test_against_brute_force(seed, structures):
    rng = np.random.default_rng(seed)
    prediction, label = rng.integers(0, structures + 1, (2, 3, 4, 5))
    counts = metrics.overlap(prediction, label, structures)
    dice, iou = np.asarray(metrics.dice(counts)), np.asarray(metrics.iou(counts))
    for b in range(3):
        for s in range(structures):
            p = set(np.flatnonzero(prediction[b] == s + 1))
            t = set(np.flatnonzero(label[b] == s + 1))
            if not p | t:
                assert np.isnan(dice[b, s]) and np.isnan(iou[b, s])
                continue
            np.testing.assert_allclose(dice[b, s], 2 * len(p & t) / (len(p) + len(t)), rtol=1e-6)
            np.testing.assert_allclose(iou[b, s], len(p & t) / len(p | t), rtol=1e-6)
            # Dice and IoU are functions of each other.
            np.testing.assert_allclose(dice[b, s], 2 * iou[b, s] / (1 + iou[b, s]), rtol=1e-6)


def test_jit_and_u8():
    label = np.array([[[0, 1], [1, 2]]], np.uint8)
    counts = jax.jit(metrics.overlap, static_argnums=2)(label, label, 2)
    chex.assert_type(counts.true, np.int32)
    np.testing.assert_array_equal(metrics.dice(counts), [[1, 1]])


def test_broadcasting_is_refused():
    """(B,) against (B, 1) would score every pair."""
    with pytest.raises(ValueError, match="must both be"):
        metrics.overlap(np.zeros((2, 3, 3), int), np.zeros((2, 1, 3), int), 1)
    with pytest.raises(ValueError, match="must both be"):
        metrics.overlap(np.zeros((2, 3, 3, 1), int), np.zeros((2, 3, 3, 1), int), 1)


def test_void_pixels_are_in_no_count():
    label = np.array([[[1, 1, 255, 255, 0, 255]]])
    prediction = np.array([[[1, 0, 1, 2, 1, 2]]])
    counts = metrics.overlap(prediction, label, 2, label != 255)
    assert np.asarray(counts.intersection).tolist() == [[1, 0]]
    assert np.asarray(counts.predicted).tolist() == [[2, 0]]
    assert np.asarray(counts.true).tolist() == [[2, 0]]
    # Structure 2 is predicted in void pixels only, so it has no score.
    np.testing.assert_array_equal(metrics.dice(counts), [[0.5, np.nan]])


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_predictions_in_void_change_nothing(seed):
    rng = np.random.default_rng(seed)
    label, prediction, noise = rng.integers(0, 4, (3, 2, 5, 6))
    valid = rng.uniform(size=label.shape) > 0.3
    expected = metrics.overlap(prediction, label, 3, valid)
    counts = metrics.overlap(np.where(valid, prediction, noise), np.where(valid, label, 255), 3, valid)
    for first, second in zip(expected, counts, strict=True):
        np.testing.assert_array_equal(first, second)


def test_structures_may_share_labels():
    """Two structures of the labels 1 to 3, both with label 3; void pixels and other labels belong to none."""
    members = np.array([[0, 1, 0, 1], [0, 0, 1, 1]], bool)
    prediction = np.array([[[1, 3, 2, 0, 3, 3]]])
    label = np.array([[[3, 3, 2, 2, 255, 7]]])
    counts = metrics.overlap(prediction, label, jax.numpy.asarray(members), label != 255)
    assert np.asarray(counts.intersection).tolist() == [[2, 2]]
    assert np.asarray(counts.predicted).tolist() == [[3, 3]]
    assert np.asarray(counts.true).tolist() == [[2, 4]]


def test_structures_of_one_label_each_are_the_labels():
    prediction, label = np.random.default_rng(0).integers(0, 4, (2, 3, 6, 7))
    by_number = metrics.overlap(prediction, label, 3)
    by_table = metrics.overlap(prediction, label, jax.numpy.eye(4, dtype=bool)[1:])
    for first, second in zip(by_number, by_table, strict=True):
        np.testing.assert_array_equal(first, second)


# On the host: refused labels, the confusion matrix, and structures that share pixels.
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
