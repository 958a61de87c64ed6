import numpy as np
import pytest

from kneefair_jax.audit import spacing_faults
from kneefair_jax.audit.mask_faults import PAIR_SPACING, TABLE_SPACING, UNITS
from tests.audit.summaries import bone, of

NAN = (np.nan, np.nan)


def masks(*spacings, kind="header"):
    return {f"c{i}": of(bone(2 + i, 3), one, kind) for i, one in enumerate(spacings)}


def kinds(faults):
    return [(one.case_id, one.fault.kind) for one in faults]


def test_other_units_change_pixels_and_bones():
    truth = masks(*[(0.2, 0.2)] * 4)
    spacing = np.array([(0.2, 0.2), (0.2, 0.2), (2.0, 2.0), (0.02, 0.02)], np.float32)
    faults = spacing_faults.units(truth, spacing)
    assert kinds(faults) == [("c2", UNITS), ("c3", UNITS)]
    assert "10 times" in faults[0].fault.detail and "areas 100 times" in faults[0].fault.detail


@pytest.mark.parametrize("height", [12, 16, 20])
@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_factor_of_two_is_found_whatever_the_size_of_the_knee(height, factor):
    truth = masks(*[(0.2, 0.2)] * 5) | {"c2": of(bone(2, 3, height))}
    spacing = np.full((5, 2), 0.2, np.float32)
    spacing[2] *= factor
    assert kinds(spacing_faults.units(truth, spacing)) == [("c2", UNITS)]
    spacing[2] = 0.2 * 1.5
    assert not spacing_faults.units(truth, spacing)


def test_a_resized_film_and_a_cropped_one_are_no_faults():
    truth = masks(*[(0.2, 0.2)] * 3) | {
        "resized": of(bone(2, 3, 4, 4)),
        "cropped": of(bone(2, 3, 4, 4)),
        "empty": of(np.zeros((64, 64), np.uint8)),
    }
    spacing = np.array([*[(0.2, 0.2)] * 3, (0.8, 0.8), (0.2, 0.2), (5, 5)], np.float32)
    assert not spacing_faults.units(truth, spacing)
    assert not spacing_faults.units(truth, np.full((6, 2), np.nan, np.float32))


def test_headers_against_table_and_reference():
    truth = masks((0.2, 0.2), (0.2, 0.4), NAN)
    table = np.array([(0.2, 0.2), (0.2, 0.2), (0.2, 0.2)])
    assert kinds(spacing_faults.against_table(truth, table)) == [("c1", TABLE_SPACING)]
    predictions = masks((0.5, 0.5), (0.2, 0.4), (0.3, 0.3)) | {"c2": None}
    (fault,) = spacing_faults.against_reference(truth, predictions, "m")
    assert (fault.case_id, fault.mask, fault.fault.kind) == ("c0", "m", PAIR_SPACING)


def test_kinds_that_differ_are_a_note():
    truth = masks((0.2, 0.2), (0.2, 0.2)) | {
        "c2": of(bone(9, 9), (0.2, 0.2), "calibrated"),
        "c3": of(bone(8, 8)),
    }
    (note,) = spacing_faults.kinds(truth, "reference masks")
    assert "header in 2 (such as c0), calibrated in 1 (such as c2)" in note
    assert not spacing_faults.kinds(masks((0.2, 0.2), NAN), "reference masks")
    (note,) = spacing_faults.pair_kinds(truth, {**masks(*[(0.2, 0.2)] * 3), "c3": None}, " by m")
    assert "1 of 4 cases (such as c2: calibrated and header)" in note
    assert not spacing_faults.pair_kinds(truth, truth, "")
