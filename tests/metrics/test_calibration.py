import jax
import numpy as np
import pytest

from kneefair_jax.metrics import calibration


def by_brute_force(probability, label, bins):
    """One case and structure, pixel by pixel: sums f[3, bins]."""
    sums = np.zeros((3, bins))
    rows, columns = np.nonzero(label)
    if not len(rows):
        return sums
    down, across = (np.ceil(0.1 * (np.ptp(side) + 1)) for side in (rows, columns))
    for y in range(label.shape[0]):
        for x in range(label.shape[1]):
            if rows.min() - down <= y <= rows.max() + down and (
                columns.min() - across <= x <= columns.max() + across
            ):
                p = np.float32(probability[y, x])
                k = min(int(p * np.float32(bins)), bins - 1)
                sums[:, k] += 1, p, label[y, x]
    return sums


@pytest.fixture(scope="module")
def made():
    """Two cases of three structures, 16 x 21: a big one at the border, a small one, one that is absent."""
    rng = np.random.default_rng(0)
    label = np.zeros((2, 16, 21), np.uint8)
    label[0, :12, 4:16] = rng.integers(0, 2, (12, 12))
    label[:, 14, 17] = 2
    label[1, 3:9, 5:17] = 1
    probability = rng.uniform(size=(2, 16, 21, 3)).astype(np.float32)
    probability[0, :4] = rng.integers(0, 2, (4, 21, 3))  # 0 and 1 themselves
    return probability, label, jax.jit(calibration.reliability)(probability, label)


def test_against_brute_force(made):
    probability, label, sums = made
    for b in range(2):
        for s in range(3):
            expected = by_brute_force(probability[b, ..., s], label[b] == s + 1, calibration.BINS)
            ours = [np.asarray(part)[b, s] for part in sums]
            np.testing.assert_allclose(ours, expected, rtol=1e-5)
    # 12 x 12 with two pixels more on three sides, cut off above; one pixel with one more all round.
    assert np.asarray(sums.pixels).sum(-1)[0].tolist() == [14 * 16, 9, 0]


def test_error_by_hand(made):
    sums = calibration.Reliability(
        *(np.array(part, np.float32).reshape(1, 1, 2) for part in ([4, 6], [1.0, 4.8], [2, 3]))
    )
    # 4 pixels at .25 of which half are true, 6 at .8 of which half are.
    np.testing.assert_allclose(calibration.ece(sums), [[(4 * 0.25 + 6 * 0.3) / 10]], rtol=1e-6)
    assert np.isnan(np.asarray(calibration.ece(made[2]))[:, 2]).all()


def test_a_truthful_network_is_calibrated_and_a_sure_one_is_not(made):
    """Labels drawn with the probabilities themselves; and those of a network that claims 0 or 1."""
    rng = np.random.default_rng(1)
    probability = rng.uniform(size=made[0].shape).astype(np.float32)
    label = (rng.uniform(size=probability.shape[:3]) < probability[..., 0]).astype(np.uint8)
    scored = jax.jit(lambda p: calibration.ece(calibration.reliability(p, label)))
    np.testing.assert_array_less(np.asarray(scored(probability))[:, 0], 0.12)
    sure = np.asarray(scored(np.round(probability)))[:, 0]
    np.testing.assert_allclose(sure, 0.25, atol=0.05)  # off by p or 1 - p


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\[B,H,W,S\]"):
        calibration.reliability(np.zeros((2, 4, 4, 1)), np.zeros((2, 4, 5), int))


def test_void_pixels_are_in_no_bin(made):
    probability, label, sums = made
    void = np.zeros(label.shape, bool)
    void[0, 5:8] = True  # inside the box of structure 1: 3 rows of 16
    marked = np.where(void, 255, label)
    count = jax.jit(calibration.reliability)
    ours = count(probability, marked, valid=~void)
    pixels = np.asarray(ours.pixels).sum(-1)
    assert pixels[0].tolist() == [14 * 16 - 3 * 16, 9, 0]
    changed = np.where(void[..., None], 1 - probability, probability)
    for one, two in zip(ours, count(changed, marked, valid=~void), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(np.asarray(ours.accuracy)[1], np.asarray(sums.accuracy)[1])
