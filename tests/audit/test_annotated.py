"""Audits of reference masks that show only some structures."""

import numpy as np
import pandas as pd
import pytest

from kneefair_jax import audit
from kneefair_jax.audit import run
from kneefair_jax.errors import InputError

LABELS = {"femur": 1, "tibia": 2, "patella": 3, "femur and patella": 4}
CASES = [f"c{k:02d}" for k in range(24)]


def masks(labels):
    """A femur on top, whose lower half the patella covers, and a tibia below; the same in each case."""
    label = np.zeros((12, 8), np.uint8)
    label[1:3], label[3:5], label[5:6], label[8:11] = 1, 4, 3, 2
    return {case: np.where(np.isin(label, labels), label, 0).astype(np.uint8) for case in CASES}


def table(annotated):
    return pd.DataFrame({"case_id": CASES, "sex": ["f", "m"] * 12, "spacing_mm": "1", "drawn": annotated})


def audited(truth, annotated, labels=LABELS, **options):
    """The audit of predictions of all structures."""
    options = audit.MaskOptions(labels=labels, annotated="drawn", **options)
    settings = audit.Settings(min_group_patients=2, draws=200)
    return run.masks(truth, masks([1, 2, 3, 4]), table(annotated), ["sex"], options, settings)


def dice(result):
    """Mean Dice and number of scored cases, by structure."""
    by_structure = result.cases.groupby("structure")["dice"]
    return {name: (values.mean(), values.count()) for name, values in by_structure}


def test_the_structures_that_a_mask_does_not_show_are_not_scored():
    femur_alone = masks([1, 4])
    truth = {case: (femur_alone if k % 2 else masks([1, 2, 3, 4]))[case] for k, case in enumerate(CASES)}
    result = audited(truth, ["whole femur" if k % 2 else "" for k in range(24)])
    assert dice(result) == {"whole femur": (1, 24), "whole patella": (1, 12), "tibia": (1, 12)}
    assert any("12 show only whole femur" in note for note in result.notes)
    # Every second case is of a man, and every second mask shows the femur alone.
    assert any("by sex" in note and "tibia (f 100%, m 0%)" in note for note in result.notes)
    assert not any("--annotated" in note and "WARNING" in note for note in result.notes)


def test_a_whole_femur_of_one_label_is_compared_with_both_classes():
    """The annotator gave all pixels of the femur one value; the prediction tells the overlap from the rest."""
    truth = {case: np.isin(label, [1, 4]).astype(np.uint8) for case, label in masks([1, 4]).items()}
    result = audited(truth, ["whole femur"] * 24)
    assert dice(result)["whole femur"] == (1, 24)


def test_without_the_column_the_others_count_as_background():
    result = audited(masks([1, 4]), [""] * 24)
    assert dice(result)["tibia"] == (0, 24)
    (warning,) = [note for note in result.notes if "--annotated" in note]
    # The whole patella is in both masks, since it lies on the femur.
    assert "tibia in 24 of 24 cases" in warning and "patella" not in warning
    assert any("lack structures" in text for text in result.reports[""]["cohort"]["warnings"])


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_whole_femur_that_is_called_femur_is_named(is_whole):
    """The reference femur is drawn through the patella, or stops at it; the patella is in no reference mask."""
    labels = {"femur": 1, "tibia": 2, "patella": 4}
    predictions = masks([1, 2, 4])
    truth = {
        case: np.where(label == 4, int(is_whole), label).astype(np.uint8)
        for case, label in predictions.items()
    }
    options = audit.MaskOptions(labels=labels)
    settings = audit.Settings(min_group_patients=2, draws=200)
    result = run.masks(truth, predictions, table([""] * 24), ["sex"], options, settings)
    (warning,) = [note for note in result.notes if "patella in 24 of 24 cases" in note]
    assert ("'whole femur' has the values" in warning) == is_whole
    assert ("--annotated" in warning) != is_whole


def test_a_whole_femur_and_a_missing_structure_have_a_remedy_each():
    labels = {"femur": 1, "tibia": 2, "fibula": 3, "patella": 4}
    predictions = {
        case: np.where(label == 4, 4, np.where(label == 2, [[2] * 6 + [3] * 2], label)).astype(np.uint8)
        for case, label in masks([1, 2, 4]).items()
    }
    truth = {case: np.array([0, 1, 2, 0, 1], np.uint8)[label] for case, label in predictions.items()}
    settings = audit.Settings(min_group_patients=2, draws=200)
    options = audit.MaskOptions(labels=labels)
    result = run.masks(truth, predictions, table([""] * 24), ["sex"], options, settings)
    (warning,) = [note for note in result.notes if "patella in 24 of 24 cases" in note]
    assert "'whole femur' has the values" in warning and "--annotated" in warning


def test_masks_with_all_structures_get_no_warning():
    """The patella lies in front of the femur, and the prediction has some of it beside: no class is missing."""
    truth = {
        case: np.where(label == 3, 0, label).astype(np.uint8) for case, label in masks([1, 2, 3, 4]).items()
    }
    result = audited(truth, [""] * 24)
    assert dice(result)["whole patella"][0] == pytest.approx(0.8)
    assert not any("--annotated" in note for note in result.notes)


def test_structures_of_which_nothing_is_scored_are_refused():
    """Without an overlap class, a mask that shows the whole femur tells neither femur nor patella."""
    labels = {"femur": 1, "tibia": 2, "patella": 3}
    truth = {
        case: np.where(label == 2, 0, label > 0).astype(np.uint8) for case, label in masks([1, 3]).items()
    }
    predictions = {case: label for case, label in masks([1, 2, 3]).items()}
    options = audit.MaskOptions(labels=labels, annotated="drawn")
    with pytest.raises(InputError, match=r"24 masks show only whole femur.*'whole femur'"):
        run.masks(
            truth, predictions, table(["whole femur"] * 24), ["sex"], options, audit.Settings(draws=200)
        )


def test_contradictions_are_refused_by_row():
    with pytest.raises(InputError, match=r"row 0.*has pixels of tibia, .* column 'drawn'"):
        audited(masks([1, 2, 4]), ["whole femur", *[""] * 23])
    with pytest.raises(InputError, match=r"row 1.*'hip'"):
        audited(masks([1]), ["", "hip", *[""] * 22])
    options = audit.MaskOptions(labels=LABELS, annotated="shown")
    with pytest.raises(InputError, match=r"--annotated names 'shown'"):
        run.masks(masks([1]), masks([1]), table([""] * 24), ["sex"], options)
