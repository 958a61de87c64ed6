import numpy as np
import pandas as pd
import pytest

from kneefair_jax import groups
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import patient_table
from kneefair_jax.fairness.patient_table import stacked


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


def table(seed, patients=6):
    """Two knees a patient, two structures; the last patient's race is missing."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        [
            {
                "case_id": f"p{p}{side}",
                "patient_id": f"p{p}",
                "structure": structure,
                "race": "" if p == patients - 1 else "AB"[p % 2],
                "sex": "fm"[p % 3 == 0],
                "dice": rng.uniform(),
            }
            for p in range(patients)
            for side in "LR"
            for structure in ("femur", "tibia")
        ]
    )
    return frame.assign(race=groups.categorical(frame["race"]), sex=groups.categorical(frame["sex"]))


def test_patients_means_by_hand():
    frame = table(0)
    frame.loc[(frame["case_id"] == "p0L") & (frame["structure"] == "tibia"), "dice"] = np.nan
    frame.loc[frame["patient_id"] == "p1", "dice"] = np.nan
    runs = stacked({"erm": [frame, table(1)], "other": [table(2), table(3)]}, ["race"])
    assert runs.scores["erm"].shape == (2, 6) and runs.names == ("race=A", "race=B")
    assert runs.index.tolist() == [0, 1, 0, 1, 0, -1]
    values = frame.set_index(["case_id", "structure"])["dice"]
    right = (values["p0R", "femur"] + values["p0R", "tibia"]) / 2
    assert runs.scores["erm"][0, 0] == pytest.approx((values["p0L", "femur"] + right) / 2)
    assert np.isnan(runs.scores["erm"][0, 1])


def test_the_order_of_rows_changes_nothing():
    straight = stacked({"erm": [table(0)], "b": [table(1)]}, ["sex", "race"])
    shuffled = stacked(
        {"erm": [table(0).sample(frac=1, random_state=1)], "b": [table(1).sample(frac=1, random_state=2)]},
        ["sex", "race"],
    )
    assert straight.names == shuffled.names and (straight.index == shuffled.index).all()
    for name, values in straight.scores.items():
        np.testing.assert_allclose(values, shuffled.scores[name], rtol=1e-15)


def test_other_patients_or_seeds_are_refused():
    with pytest.raises(InputError, match="run 2 of b was not tested on the cases of run 1 of erm"):
        stacked({"erm": [table(0)] * 2, "b": [table(1), table(2, patients=5)]}, ["race"])
    with pytest.raises(InputError, match="b has 1 seeds and erm 2"):
        stacked({"erm": [table(0)] * 2, "b": [table(1)]}, ["race"])
