"""Models whose masks have different values for the same structures."""

import numpy as np
import pandas as pd
import pytest

from kneefair_jax import audit
from kneefair_jax.audit import options as audit_options
from kneefair_jax.errors import InputError

LABELS = {"femur": 1, "tibia": 2}
SETTINGS = audit.Settings(min_group_patients=2, draws=99)


@pytest.fixture
def masks():
    """12 cases: reference masks, and predictions of two models that differ in the values alone."""
    truth = {}
    for i in range(12):
        mask = np.zeros((16, 16), np.uint8)
        mask[2:8, 2 + i % 3 : 12], mask[8:13, 2:12] = 1, 2
        truth[f"c{i}"] = mask
    first = {case: np.where(np.arange(16)[:, None] < 3, 0, mask) for case, mask in truth.items()}
    second = {case: mask * 10 for case, mask in first.items()}
    return truth, {"a": first, "b": second}


@pytest.fixture
def table():
    return pd.DataFrame(
        {"case_id": [f"c{i}" for i in range(12)], "sex": ["f", "m"] * 6, "spacing_mm": [0.5] * 12}
    )


def test_each_model_is_read_by_its_own_label_map(masks, table):
    truth, predictions = masks
    options = audit.MaskOptions(labels=LABELS, model_labels={"b": {"femur": 10, "tibia": 20}})
    cases = audit.masks(truth, predictions, table, ["sex"], options, SETTINGS).cases
    dice = {model: rows["dice"].to_numpy() for model, rows in cases.groupby("model")}
    np.testing.assert_array_equal(dice["a"], dice["b"])
    assert 0.5 < dice["a"].min() < 1


def test_a_label_map_of_an_unknown_model_is_refused(masks, table):
    truth, predictions = masks
    options = audit.MaskOptions(labels=LABELS, model_labels={"c": LABELS})
    with pytest.raises(InputError, match="--pred-labels c.*a, b"):
        audit.masks(truth, predictions, table, ["sex"], options, SETTINGS)


def test_a_model_without_the_label_map_that_it_needs_is_one_line(masks, table):
    truth, predictions = masks
    with pytest.raises(
        InputError, match=r"--pred b: 12 of 12 predictions .*10, 20.*--pred-labels b: femur="
    ) as error:
        audit.masks(truth, predictions, table, ["sex"], audit.MaskOptions(labels=LABELS), SETTINGS)
    assert "\n" not in str(error.value)
    # Every such model is named, and so is every other problem.
    extended = predictions | {"c": predictions["b"]}
    extended["a"] = predictions["a"] | {"c3": np.full((16, 16), 77, np.uint8)}
    with pytest.raises(
        InputError, match=r"3 problems:(?s:.*)--pred b: 12 of 12(?s:.*)--pred c: 12 of 12(?s:.*)row 3.*77"
    ):
        audit.masks(truth, extended, table, ["sex"], audit.MaskOptions(labels=LABELS), SETTINGS)
    # A single mask with another value is named with its row.
    predictions["b"] = predictions["a"] | {"c3": predictions["b"]["c3"]}
    with pytest.raises(InputError, match=r"row 3.*c3.*10, 20"):
        audit.masks(truth, predictions, table, ["sex"], audit.MaskOptions(labels=LABELS), SETTINGS)


def test_label_maps_after_the_name_of_a_model():
    shared, by_model = audit_options.parse_pred_labels(
        ["femur=1", "tibia=2", "b:", "femur=10", "tibia=20,21"]
    )
    assert shared is not None and (shared["femur"], shared["tibia"]) == ((1,), (2,))
    assert (by_model["b"]["femur"], by_model["b"]["tibia"]) == ((10,), (20, 21))
    assert audit_options.parse_pred_labels([]) == (None, {})


@pytest.mark.parametrize("words", [["b:"], ["b:", "femur=1", "b:", "femur=2"], ["b:", "femur"]])
def test_a_label_map_of_a_model_that_cannot_be_read_is_refused(words):
    with pytest.raises(InputError, match="--pred-labels"):
        audit_options.parse_pred_labels(words)
