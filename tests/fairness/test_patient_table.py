import numpy as np
import pandas as pd

from kneefair_jax.fairness import patient_table


def cases():
    return pd.DataFrame(
        {
            "case_id": ["b", "a", "b", "a"],
            "patient_id": ["q", "p", "q", "p"],
            "structure": ["femur", "femur", "tibia", "tibia"],
            "dice": [0.9, 0.8, 0.7, np.nan],
            "hd95_mm": [1.0, 2.0, 3.0, 4.0],
            "nsd": [np.nan] * 4,
        }
    )


def test_a_column_for_each_score_that_is_there():
    table = patient_table.table(cases(), ("femur", "tibia"))
    assert table.columns == tuple(
        patient_table.Column(score, part)
        for score in ("dice", "hd95_mm")
        for part in ("macro", "femur", "tibia")
    )
    np.testing.assert_allclose(table.values, [[0.8, 0.8, np.nan, 3, 2, 4], [0.8, 0.9, 0.7, 2, 1, 3]])
    assert table.rows.index.tolist() == ["a", "b"] and table.patients.tolist() == ["p", "q"]
    assert [column.lower_is_better for column in table.columns] == [False] * 3 + [True] * 3


def test_dice_is_there_even_if_undefined():
    table = patient_table.table(cases().assign(dice=np.nan), ("femur",))
    assert {column.score for column in table.columns} == {"dice", "hd95_mm"}
    assert np.isnan(table.values[:, :2]).all()


def test_means_by_patient_leave_nan_out():
    values = np.array([[0.9, np.nan], [0.7, 0.5], [0.6, 0.4]])
    found = patient_table.by_patient(values, np.array(["p", "p", "q"]))
    np.testing.assert_allclose(found, [[0.8, 0.5], [0.6, 0.4]])


def test_a_patient_in_two_groups_is_a_row_in_each():
    values = np.array([[0.9], [0.7], [0.6], [0.2]])
    patients, index = np.array(["q", "p", "p", "p"]), np.array([1, 0, 0, 1])
    means, who, where = patient_table.by_patient_and_group(values, patients, index)
    np.testing.assert_allclose(means[:, 0], [0.65, 0.2, 0.9])
    assert who.tolist() == ["p", "p", "q"] and where.tolist() == [0, 1, 1]
