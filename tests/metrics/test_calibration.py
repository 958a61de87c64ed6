import jax
import numpy as np
import pytest

from kneefair_jax.metrics import calibration


def by_brute_force(probability, label, bins):
    """One case and structure, pixel by pixel: sums f[3, bins]."""
    sums = np.zeros((3, bins))
    if not label.any():
        return sums
    rows, columns = np.nonzero(label)
    core = np.nonzero(probability >= 0.5) if (probability >= 0.5).any() else (rows, columns)
    down, across = (int(np.ceil(0.25 * (np.ptp(side) + 1))) for side in core)
    top, bottom = min(core[0].min() - down, rows.min()), max(core[0].max() + down, rows.max())
    left, right = min(core[1].min() - across, columns.min()), max(core[1].max() + across, columns.max())
    for y in range(label.shape[0]):
        for x in range(label.shape[1]):
            if top <= y <= bottom and left <= x <= right:
                p = np.float32(probability[y, x])
                k = min(int(p * np.float32(bins)), bins - 1)
                sums[:, k] += 1, p, label[y, x]
    return sums


@pytest.fixture(scope="module")
def example():
    """Two cases of three structures, 16 x 21: shifted, partial and missing predictions; one structure is absent."""
    rng = np.random.default_rng(0)
    label = np.zeros((2, 16, 21), np.uint8)
    label[0, :12, 4:16] = rng.integers(0, 2, (12, 12))
    label[0, 0, 4] = label[0, 11, 15] = 1
    label[:, 14, 17] = 2
    label[1, 3:9, 5:17] = 1
    probability = rng.uniform(0, 0.499, size=(2, 16, 21, 3)).astype(np.float32)
    probability[0, :4, 6:14, 0] = rng.uniform(0.5, 1, (4, 8))
    probability[1, 4:12, 6:10, 0] = rng.integers(0, 2, (8, 4))  # 0 and 1 themselves
    probability[1, 4, 6, 0] = probability[1, 11, 9, 0] = 0.5
    probability[1, 13:15, 13:15, 1] = 0.9
    probability[..., 2] *= 2
    return probability, label, jax.jit(calibration.reliability)(probability, label)


def test_against_brute_force(example):
    probability, label, sums = example
    for b in range(2):
        for s in range(3):
            expected = by_brute_force(probability[b, ..., s], label[b] == s + 1, calibration.BINS)
            counted = [np.asarray(array)[b, s] for array in sums]
            np.testing.assert_allclose(counted, expected, rtol=1e-5)
    # Case 0: predicted 4 x 8, margins 1 and 2, cropped above, true down to row 11; one pixel with margin 1. Case 1:
    # predicted 8 x 4, margins 2 and 1, true from row 3 and in columns 5 to 16; 2 x 2 with margin 1, true in column 17.
    assert np.asarray(sums.pixels).sum(-1).tolist() == [[12 * 12, 9, 0], [12 * 12, 4 * 6, 0]]


def test_error_by_hand(example):
    sums = calibration.Reliability(
        *(np.array(values, np.float32).reshape(1, 1, 2) for values in ([4, 6], [1.0, 4.8], [2, 3]))
    )
    # 4 pixels at 0.25 and 6 at 0.8; half of each are true.
    np.testing.assert_allclose(calibration.ece(sums), [[(4 * 0.25 + 6 * 0.3) / 10]], rtol=1e-6)
    assert np.isnan(np.asarray(calibration.ece(example[2]))[:, 2]).all()


def test_calibrated_and_overconfident_networks(example):
    """Labels drawn with the probabilities; then the probabilities rounded to 0 or 1."""
    rng = np.random.default_rng(1)
    probability = rng.uniform(size=example[0].shape).astype(np.float32)
    label = (rng.uniform(size=probability.shape[:3]) < probability[..., 0]).astype(np.uint8)
    error = jax.jit(lambda p: calibration.ece(calibration.reliability(p, label)))
    np.testing.assert_array_less(np.asarray(error(probability))[:, 0], 0.12)
    overconfident = np.asarray(error(np.round(probability)))[:, 0]
    np.testing.assert_allclose(overconfident, 0.25, atol=0.05)  # off by p or 1 - p


def test_the_region_does_not_depend_on_the_truth_inside_the_grown_prediction():
    """A region around the truth would make calibrated probabilities look overconfident."""
    probability, label = np.zeros((3, 20, 20, 1), np.float32), np.zeros((3, 20, 20), np.uint8)
    probability[:, 6:14, 6:14] = 0.7
    label[0, 8:10, 8:10] = label[1, 4:16, 4:16] = label[2, 6, :15] = 1
    sums = jax.jit(calibration.reliability)(probability, label)
    assert np.asarray(sums.pixels).sum((1, 2)).tolist() == [144, 144, 12 * 16]


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\[B,H,W,S\]"):
        calibration.reliability(np.zeros((2, 4, 4, 1)), np.zeros((2, 4, 5), int))


def test_void_pixels_are_in_no_bin(example):
    probability, label, sums = example
    void = np.zeros(label.shape, bool)
    void[0, 5:8] = True  # inside the box of structure 1: 3 rows of 12
    marked = np.where(void, 255, label)
    count = jax.jit(calibration.reliability)
    unchanged = count(probability, marked, valid=~void)
    pixels = np.asarray(unchanged.pixels).sum(-1)
    assert pixels[0].tolist() == [9 * 12, 9, 0]
    changed = np.where(void[..., None], 1 - probability, probability)
    for first, second in zip(unchanged, count(changed, marked, valid=~void), strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.asarray(unchanged.accuracy)[1], np.asarray(sums.accuracy)[1])


def test_structures_may_share_labels():
    """The sums of each structure equal those of its own mask."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, (2, 6, 7))
    probability = rng.uniform(size=(2, 6, 7, 2)).astype(np.float32)
    members = np.array([[0, 1, 0, 1], [0, 0, 1, 1]], bool)
    shared = calibration.reliability(probability, label, structures=members)
    for s in range(2):
        single = calibration.reliability(probability[..., s : s + 1], members[s][label].astype(int))
        for expected, sums in zip(single, shared, strict=True):
            np.testing.assert_allclose(sums[:, s], expected[:, 0], rtol=1e-5)
