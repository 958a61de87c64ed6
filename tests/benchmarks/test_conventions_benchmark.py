"""Dice against masks of both drawing conventions, and the phantoms that they are of."""

import numpy as np
import pytest

from benchmarks import conventions, phantom_scores

TIBIA, FIBULA, BOTH = 2, 3, 6


def test_the_convention_of_the_masks_decides_which_bone_the_overlap_belongs_to():
    """The overlap has 2 of 4 pixels of each bone; the prediction misses one other pixel of each bone."""
    truth = np.array([[[TIBIA, TIBIA, BOTH, BOTH, FIBULA, FIBULA]]], np.uint8)
    predicted = np.array([[[0, TIBIA, BOTH, BOTH, FIBULA, 0]]], np.uint8)
    merged = [
        {name: conventions.merge(labels, front) for name, front in conventions.CONVENTIONS.items()}
        for labels in (predicted, truth)
    ]
    result = conventions.measure(*merged)
    over_fibula, over_tibia = result["same convention"].values()
    assert (over_fibula["tibia"], over_fibula["fibula"]) == (pytest.approx(6 / 7), pytest.approx(2 / 3))
    assert (over_tibia["tibia"], over_tibia["fibula"]) == (pytest.approx(2 / 3), pytest.approx(6 / 7))
    # Masks with the tibia over the fibula; the prediction has the fibula in front.
    assert result["other convention"]["tibia over fibula"]["tibia"] == pytest.approx(2 / 5)
    assert result["difference"]["tibia"] == pytest.approx(2 / 3 - 6 / 7)
    assert result["macro"]["tibia over fibula"] == pytest.approx((6 / 7 + 2 / 3) / 2)


@pytest.mark.slow
def test_phantoms_have_labels_of_both_overlaps():
    images, labels = phantom_scores.films("clinical", 3, 32)
    assert images.shape == labels.shape == (3, 32, 32) and images.dtype == np.uint8
    assert {TIBIA, FIBULA, BOTH} <= set(np.unique(labels))
