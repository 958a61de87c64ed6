import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, special, stats

from kneefair_jax import groups
from kneefair_jax.fairness.group_calibration import Sums, calibration

BINS = 15


def cohort(patients, sexes):
    return pd.DataFrame({"patient_id": patients, "sex": groups.categorical(pd.Series(list(sexes)))})


def test_by_hand():
    """Three cases of two patients, two structures, two bins; the second structure is absent from the third case."""
    cases = cohort(["p", "p", "q"], "ffm")
    pixels = np.array([[[4, 0], [2, 2]], [[4, 4], [2, 6]], [[5, 0], [0, 0]]], np.float32)
    confidence = np.array([[[1, 0], [0.5, 1.5]], [[1, 3], [0.5, 5]], [[2, 0], [0, 0]]], np.float32)
    accuracy = np.array([[[2, 0], [0.5, 2]], [[1, 3], [0.5, 3]], [[1, 0], [0, 0]]], np.float32)
    result = calibration(Sums(pixels, confidence, accuracy), cases, ("sex",))
    # Case 1: -1 / 4 and -.5 / 4; case 2: 0 and 2 / 8; case 3: 1 / 5.
    women = ((-0.25 - 0.125) / 2 + (0 + 0.25) / 2) / 2
    biases = {name: group["bias"] for name, group in result["groups"].items()}
    assert biases == pytest.approx({"sex=f": women, "sex=m": 0.2, "all": (women + 0.2) / 2})
    assert result["groups"]["all"]["patients"] == 2 and result["groups"]["all"]["bias_interval"] is None
    assert result["curves"]["sex=f"] == {
        "confidence": [3 / 12, 9.5 / 12],
        "accuracy": [4 / 12, 8 / 12],
        "pixels": [12, 12],
    }
    assert result["curves"]["sex=m"] == {"confidence": [0.4, None], "accuracy": [0.2, None], "pixels": [5, 0]}
    assert result["curves"]["all"]["pixels"] == [17, 12]


def test_the_slope_of_two_bins_joins_their_logits_and_its_error_is_clustered():
    """Six patients of 100 pixels at probability .2 and 100 at .8, of which these are true."""
    true = np.array([[30, 60], [40, 70], [30, 70], [50, 60], [20, 80], [30, 70]], float)
    pixels = np.full((6, 1, 2), 100.0)
    sums = Sums(pixels, pixels * [0.2, 0.8], true[:, None])
    (result,) = [
        calibration(sums, cohort(list("abcdef"), "f" * 6), ("sex",))["groups"][name] for name in ("sex=f",)
    ]
    low, high = true.mean(0) / 100
    span = special.logit(0.8) - special.logit(0.2)
    slope = (special.logit(high) - special.logit(low)) / span
    assert result["slope"] == pytest.approx(slope)
    # The model is saturated: the delta method on both shares, of the patients' differences.
    influence = (true[:, 1] / 100 - high) / (high * (1 - high)) - (true[:, 0] / 100 - low) / (low * (1 - low))
    half = stats.t.ppf(0.975, 5) * influence.std(ddof=1) / np.sqrt(6) / span
    assert result["slope_interval"] == pytest.approx((slope - half, slope + half))
    biases = (100 - true.sum(1)) / 200
    half = stats.t.ppf(0.975, 5) * biases.std(ddof=1) / np.sqrt(6)
    assert result["bias_interval"] == pytest.approx((biases.mean() - half, biases.mean() + half))


def test_a_group_without_a_structure_is_undefined():
    zeros = np.zeros((2, 1, 3))
    result = calibration(Sums(zeros, zeros, zeros), cohort(["p", "q"], "fm"), ("sex",))
    for group in result["groups"].values():
        assert group["patients"] == 0 and {value for key, value in group.items() if key != "patients"} == {
            None
        }
    assert result["curves"]["all"]["accuracy"] == [None] * 3


@pytest.mark.parametrize("accuracy", [[0.0, 100.0], [0.0, 0.0], [100.0, 100.0]])
def test_no_slope_where_probabilities_separate_or_all_pixels_are_alike(accuracy):
    pixels = np.full((6, 1, 2), 100.0)
    sums = Sums(pixels, pixels * [0.2, 0.8], np.tile(accuracy, (6, 1, 1)))
    result = calibration(sums, cohort(list("abcdef"), "f" * 6), ("sex",))["groups"]["all"]
    assert result["slope"] is None and result["slope_interval"] is None
    one_bin = Sums(*(part[..., :1] for part in sums))
    assert calibration(one_bin, cohort(list("abcdef"), "f" * 6), ("sex",))["groups"]["all"]["slope"] is None


def disc(rng, radius, sharpness=1.0):
    """Sums of a disc whose truth follows its probabilities, with pixels correlated over two pixels: f64[3, BINS].

    The prediction's logit is multiplied by the sharpness: above 1, the network is too sure.
    """
    reach = int(1.1 * radius) + 1
    side = 2 * reach + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    truth, shift = (
        ndimage.gaussian_filter(rng.normal(size=(side + 16, side + 16)), 2)[8:-8, 8:-8] * 4 * np.sqrt(np.pi)
        for _ in range(2)
    )
    distance = (radius - np.hypot(y, x) + shift) / 2
    probability = special.ndtr(distance).ravel()
    true = (distance + truth > 0).ravel()
    predicted = special.expit(sharpness * special.logit(np.clip(probability, 1e-9, 1 - 1e-9)))
    place = np.minimum((predicted * BINS).astype(int), BINS - 1)
    return np.stack([np.bincount(place, weights, BINS) for weights in (np.ones(len(place)), predicted, true)])


@pytest.mark.parametrize(("sharpness", "least", "most"), [(1.0, 0.95, 1.05), (1.5, 0.65, 0.82)])
def test_size_makes_no_difference_to_the_calibration_of_the_same_probabilities(sharpness, least, most):
    """The mean ECE of the cases differs sixfold between radius 8 and 32."""
    rng = np.random.default_rng(0)
    radii = {8: 150, 16: 40, 32: 15}
    sums = [disc(rng, radius, sharpness) for radius, number in radii.items() for _ in range(number)]
    sums = Sums(*np.stack(sums)[:, :, None].swapaxes(0, 1))
    size = np.repeat([f"{radius:02d}" for radius in radii], list(radii.values()))
    cases = pd.DataFrame({"patient_id": np.arange(len(size)), "size": groups.categorical(pd.Series(size))})
    errors = np.abs(sums.confidence - sums.accuracy).sum((1, 2)) / sums.pixels.sum((1, 2))
    assert errors[size == "08"].mean() > 3 * errors[size == "32"].mean()
    results = calibration(sums, cases, ("size",))["groups"]
    for radius in radii:
        result = results[f"size={radius:02d}"]
        assert least < result["slope"] < most
        assert abs(result["bias"]) < 0.012
        low, high = result["slope_interval"]
        assert (low < 1 < high) == (sharpness == 1)
