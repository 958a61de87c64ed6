"""Faults of single masks in audits of small cohorts: each is named once, with what is wrong."""

import re

import numpy as np
import pandas as pd
import pytest

from kneefair_jax import audit
from kneefair_jax.audit import mask_notes, mask_pair
from kneefair_jax.audit.mask_faults import TABLE_SPACING, UNITS
from kneefair_jax.data import label_map
from kneefair_jax.data.readers import Mask
from tests.audit import folder
from tests.audit.summaries import bone
from tests.audit.summaries import of as summary_of

CASES = 24
FIELDS = ["case_id", "mask", "fault"]


def truth_of(i):
    """No two alike, none its own mirror image; bones of a cohort lie nearly on each other."""
    label = bone(14 + i % 4, 20 + i // 4, 22, 20)
    label[14 + i % 4 : 20 + i % 4, 20 + i // 4 : 26 + i // 4] = 0
    return label


def thinner(label):
    """Without its uppermost row, so that it is the mask of no other case."""
    label = label.copy()
    label[np.flatnonzero(label.any(1))[0]] = 0
    return label


def prediction_of(i):
    return thinner(truth_of(i))


def knee(i):
    """A right knee, or a left one."""
    return truth_of(i)[:, ::-1] if i % 2 else truth_of(i)


def audited(root, truth=truth_of, preds=(prediction_of,), **labels):
    for i in range(CASES):
        folder.save(np.ascontiguousarray(truth(i)), root / "truth" / f"c{i:02d}.png")
        for n, prediction in enumerate(preds):
            folder.save(np.ascontiguousarray(prediction(i)), root / f"m{n}" / f"c{i:02d}.png")
    folder.write_table(
        root / "metadata.csv",
        [{"case_id": f"c{i:02d}", "patient_id": f"P{i}", "sex": "fm"[i % 2]} for i in range(CASES)],
    )
    models = {f"m{n}": root / f"m{n}" for n in range(len(preds))}
    settings = audit.Settings(draws=40, min_group_patients=2)
    return audit.masks(
        root / "truth",
        models,
        root / "metadata.csv",
        ["sex"],
        audit.MaskOptions(labels={"femur": 1, "tibia": 2} | labels),
        settings,
    )


def named(result):
    return [tuple(row) for row in result.mask_faults[FIELDS].itertuples(index=False)]


def notes_on(result, *words):
    return [note for note in result.notes if all(word in note for word in words)]


def instead(others, of=prediction_of):
    """The masks of other cases, or other masks, for some of the cases."""
    return lambda i: others[i] if i in others else of(i)


def test_a_moved_mask_is_not_called_turned(tmp_path):
    moved = np.roll(prediction_of(3), 20, 0)
    result = audited(tmp_path, preds=[instead({3: moved})])
    assert named(result) == [("c03", "m0", "overlaps far less than in most cases")]


def test_exchanged_predictions_of_right_and_left_knees_are_not_called_turned(tmp_path):
    predictions = {i: thinner(knee(other)) for i, other in {0: 21, 21: 0}.items()}
    result = audited(tmp_path, knee, [instead(predictions, lambda i: thinner(knee(i)))])
    assert named(result) == [("c00", "m0", "fits another case"), ("c21", "m0", "fits another case")]


@pytest.mark.parametrize("rows", [slice(0, 32), slice(32, 64)])
def test_a_turned_prediction_is_named_where_half_of_the_references_is_void(tmp_path, rows):
    def truth(i):
        label = truth_of(i)
        label[rows] = 255
        return label

    result = audited(tmp_path, truth, [instead({5: prediction_of(5)[::-1]})], ignore=255)
    assert named(result) == [("c05", "m0", "orientation")]
    (detail,) = result.mask_faults["detail"]
    assert re.match(r"fits after flip-ud \(Dice (0\.9\d|1\.00),", detail)
    (note,) = notes_on(result, "another orientation")
    assert note.startswith("WARNING: predictions by m0 fit") and "c05" in note


def test_a_turned_reference_is_named_once_in_table_and_notes(tmp_path):
    others = {5: truth_of(5)[::-1]}
    result = audited(
        tmp_path, instead(others, truth_of), [prediction_of, lambda i: thinner(prediction_of(i))]
    )
    assert named(result) == [("c05", "reference", "orientation")]
    (note,) = notes_on(result, "orientation")
    assert (
        note.startswith("WARNING: reference masks fit") and "1 of 24 cases (c05: fits after flip-ud" in note
    )
    assert "predictions" not in note


def test_predictions_that_are_all_turned_are_named_and_so_is_the_flag(tmp_path):
    result = audited(tmp_path, preds=[lambda i: prediction_of(i)[::-1]])
    assert named(result) == [(f"c{i:02d}", "m0", "orientation") for i in range(CASES)]
    assert notes_on(result, "all 24 predictions by m0", "--orientation flip-ud")


def test_a_copied_reference_explains_the_low_overlap_of_its_prediction(tmp_path):
    result = audited(tmp_path, instead({0: truth_of(23)}, truth_of))
    assert named(result) == [("c00", "reference", "identical mask"), ("c23", "reference", "identical mask")]


def test_an_edge_of_ignored_pixels_is_no_rim():
    """Structure 2 reaches from 4 into the ignored rows by three pixels, and goes on below them."""
    label = np.zeros((64, 64), np.uint8)
    label[4:28, 8:56], label[28:58, 8:56] = 4, 2
    ignored = np.zeros(label.shape, bool)
    ignored[31:36] = True
    labels = label_map.check({"a": 1, "b": 2, "c": 3, "d": 4})
    for values in (label, np.where(ignored, 255, label)):
        assert not mask_pair.summarize(
            Mask(values, np.ones(2)), np.where(ignored, 0, label), ignored, labels
        ).faults
    everything = np.ones(label.shape, bool)
    assert not mask_pair.summarize(Mask(label, np.ones(2)), 0 * label, everything, labels).faults


def test_a_prediction_may_hold_anything_in_ignored_pixels(tmp_path):
    def truth(i):
        return np.where(np.arange(64) < 18, 255, truth_of(i))

    def ramps(i):
        """Rims as interpolation leaves them, in the void part alone."""
        label = prediction_of(i)
        label[:, 2:8], label[:, 8:10] = 3, 1
        return label

    clean = audited(tmp_path / "clean", truth, ignore=255, patella=3)
    result = audited(tmp_path / "ramps", truth, [ramps], ignore=255, patella=3)
    assert result.mask_faults.empty and clean.mask_faults.empty
    assert not audited(tmp_path / "scored", truth, [ramps], background=255, patella=3).mask_faults.empty
    pd.testing.assert_frame_equal(result.cases, clean.cases)


NAN = (np.nan, np.nan)


def masks(*spacings, kind="header"):
    return {f"c{i}": summary_of(bone(2 + i, 3), spacing, kind) for i, spacing in enumerate(spacings)}


def kinds(faults):
    return [(faulty.case_id, faulty.fault.kind) for faulty in faults]


def test_other_units_change_pixels_and_bones():
    truth = masks(*[(0.2, 0.2)] * 4)
    spacing = np.array([(0.2, 0.2), (0.2, 0.2), (2.0, 2.0), (0.02, 0.02)], np.float32)
    faults = mask_notes._unit_faults(truth, spacing)
    assert kinds(faults) == [("c2", UNITS), ("c3", UNITS)]
    assert "10 times" in faults[0].fault.detail and "areas 100 times" in faults[0].fault.detail


@pytest.mark.parametrize("height", [12, 16, 20])
@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_spacing_off_by_a_factor_of_two_is_detected_at_any_size(height, factor):
    truth = masks(*[(0.2, 0.2)] * 5) | {"c2": summary_of(bone(2, 3, height))}
    spacing = np.full((5, 2), 0.2, np.float32)
    spacing[2] *= factor
    assert kinds(mask_notes._unit_faults(truth, spacing)) == [("c2", UNITS)]
    spacing[2] = 0.2 * 1.5
    assert not mask_notes._unit_faults(truth, spacing)


def test_a_resized_film_and_a_cropped_one_are_no_faults():
    truth = masks(*[(0.2, 0.2)] * 3) | {
        "resized": summary_of(bone(2, 3, 4, 4)),
        "cropped": summary_of(bone(2, 3, 4, 4)),
        "empty": summary_of(np.zeros((64, 64), np.uint8)),
    }
    spacing = np.array([*[(0.2, 0.2)] * 3, (0.8, 0.8), (0.2, 0.2), (5, 5)], np.float32)
    assert not mask_notes._unit_faults(truth, spacing)
    assert not mask_notes._unit_faults(truth, np.full((6, 2), np.nan, np.float32))


def test_headers_against_table_and_reference():
    spacings = [("c0", (0.2, 0.2), (0.2, 0.2)), ("c1", (0.2, 0.4), (0.2, 0.2)), ("c2", NAN, (0.2, 0.2))]
    (fault,) = mask_notes._spacing_faults(spacings, "m", TABLE_SPACING)
    assert (fault.case_id, fault.mask, fault.fault.kind) == ("c1", "m", TABLE_SPACING)
    assert fault.fault.detail == "0.2 x 0.4 mm and 0.2 x 0.2 mm"


def test_kinds_that_differ_are_a_note():
    truth = masks((0.2, 0.2), (0.2, 0.2)) | {
        "c2": summary_of(bone(9, 9), (0.2, 0.2), "calibrated"),
        "c3": summary_of(bone(8, 8)),
    }
    (note,) = mask_notes._spacing_kind_notes(truth, "reference masks")
    assert "header in 2 (such as c0), calibrated in 1 (c2)" in note
    assert not mask_notes._spacing_kind_notes(masks((0.2, 0.2), NAN), "reference masks")
    (note,) = mask_notes._pair_spacing_kind_notes(truth, {**masks(*[(0.2, 0.2)] * 3), "c3": None}, " by m")
    assert "1 of 4 cases (c2: calibrated and header)" in note
    assert not mask_notes._pair_spacing_kind_notes(truth, truth, "")


COPIES = {
    "two predictions in one file": (truth_of, {3: prediction_of(3)[::-1], 9: prediction_of(3)[::-1]}),
    "a copied reference": (
        instead({9: truth_of(3)}, truth_of),
        {3: prediction_of(3)[::-1], 9: prediction_of(3)},
    ),
    "the reference of another case": (
        instead({9: truth_of(3)[::-1]}, truth_of),
        {3: truth_of(3)[::-1], 9: prediction_of(3)[::-1]},
    ),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_turned_mask_that_is_identical_to_another_has_both_faults(kind, tmp_path):
    truth, predictions = COPIES[kind]
    faults = named(audited(tmp_path, truth, [instead(predictions)]))
    assert ("c03", "m0", "orientation") in faults
    assert any(case == "c03" and fault == "identical mask" for case, _, fault in faults)
    assert [fault for _, _, fault in faults].count("orientation") == 1


def test_a_copy_of_a_mask_of_the_other_side_is_not_called_turned(tmp_path):
    result = audited(tmp_path, knee, [instead({0: thinner(knee(21))}, lambda i: thinner(knee(i)))])
    assert named(result) == [("c00", "m0", "identical mask"), ("c21", "m0", "identical mask")]
