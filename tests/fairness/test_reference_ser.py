import numpy as np
import pandas as pd

from kneefair_jax import groups, metrics
from kneefair_jax.fairness import reference_ser, scores

SIZE = 160


def bone(length):
    """An ellipse, 24 x 12 mm at length 1, on a grid of 0.4 mm."""
    y, x = (np.mgrid[:SIZE, :SIZE] - SIZE / 2) * 0.4
    return ((y / (24 * length)) ** 2 + (x / (12 * length)) ** 2 < 1).astype(np.uint8)


def test_bones_a_tenth_smaller():
    """METHODS: about 1.10-1.11."""
    lengths = np.random.default_rng(0).normal(1, 0.03, 24)
    small = np.arange(24) % 3 == 0
    lengths = np.where(small, 0.9 * lengths, lengths)
    errors = [metrics.boundary_errors(bone(length), 1, (0.4, 0.4), 0.8) for length in lengths]
    for score, least, most in [("dice", 1.08, 1.13), ("iou", 1.07, 1.13)]:
        stacked = np.stack([error[score] for error in errors])
        ser = reference_ser.expected_ser(stacked, np.arange(24), small.astype(np.int32), 0, 1)
        assert least < ser < most


def table(errors, patients, sexes):
    """The long table of cases of one structure."""
    return pd.DataFrame(
        {
            "case_id": [f"c{k}" for k in range(len(errors))],
            "patient_id": patients,
            "structure": "femur",
            "sex": groups.categorical(pd.Series(sexes)),
            "dice": 1 - np.array(errors),
            "iou": 0.5,
        }
    )


def test_by_hand_over_patients_and_only_ranked_groups():
    cases = table(
        [0.1, 0.1, 0.1, 0.2, 0.2, 0.1, 0.1],
        ["p", "p", "q", "r", "s", "t", "t"],
        ["f", "f", "f", "m", "m", "x", "x"],
    )
    report = scores.scores(cases, ["femur"], ["sex"], min_group_patients=2, draws=40, seed=0)
    errors = np.array([[0.1, 0.3], [0.4, np.nan], [0.2, 0.2], [0.5, 0.7], [0.3, 0.5], [0.9, 0.9], [0.9, 0.9]])
    reference_ser.add(report, {"dice": errors}, cases, ("sex",))
    # f: p (.2 + .4) / 2, q .2; m: .6 and .4; x, one patient, is not ranked.
    np.testing.assert_allclose(report["dice"]["summaries"]["sex"]["ser"]["size"], 0.5 / 0.25)
    assert report["iou"]["summaries"]["sex"]["ser"]["size"] is None
    # Where size would put the other group last, the ratio says so.
    reference_ser.add(report, {"dice": errors[[3, 3, 4, 0, 2, 5, 6]]}, cases, ("sex",))
    np.testing.assert_allclose(report["dice"]["summaries"]["sex"]["ser"]["size"], 0.2 / 0.5)


def test_undefined():
    patients, index = np.arange(4), np.array([0, 0, 1, 1], np.int32)
    some = np.array([[0.1], [0.2], [np.nan], [np.nan]])
    assert reference_ser.expected_ser(some, patients, index, 0, 1) is None
    zero = np.array([[0.0], [0.0], [0.1], [0.1]])
    assert reference_ser.expected_ser(zero, patients, index, 0, 1) is None
