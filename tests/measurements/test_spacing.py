"""Which spacings are millimeters of the bones."""

import numpy as np
import pytest

from kneefair_jax.measurements import spacing

PAIR = np.float32([0.22, 0.11])


@pytest.mark.parametrize("kind", spacing.IN_BONES)
def test_spacings_in_the_plane_of_the_bones(kind):
    result = spacing.bone_spacing(PAIR, kind)
    assert result.mm == pytest.approx((0.22, 0.11), rel=1e-6)
    assert (result.kind, result.refusal) == (kind, "")
    # A stated magnification is of the detector, and does not correct a spacing that is right.
    assert spacing.bone_spacing(PAIR, kind, 1.1) == result


@pytest.mark.parametrize("kind", spacing.AT_DETECTOR)
def test_spacings_at_the_detector(kind):
    refused = spacing.bone_spacing(PAIR, kind)
    assert refused.mm == pytest.approx((0.22, 0.11), rel=1e-6)
    assert "magnifi" in refused.refusal
    corrected = spacing.bone_spacing(PAIR, kind, 1.1)
    assert corrected.mm == pytest.approx((0.2, 0.1), rel=1e-6)
    assert corrected.refusal == ""
    assert corrected.kind == f"{kind}, magnification stated"


def test_an_unknown_spacing():
    result = spacing.bone_spacing(np.float32([np.nan, np.nan]), "unknown", 1.1)
    assert (result.mm, result.kind) == (None, "unknown")
    assert "unknown" in result.refusal


@pytest.mark.parametrize("magnification", [0.9, 2.5])
def test_an_impossible_magnification(magnification):
    with pytest.raises(ValueError, match="magnification"):
        spacing.bone_spacing(PAIR, "detector", magnification)
