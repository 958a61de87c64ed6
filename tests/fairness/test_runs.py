import numpy as np
import pandas as pd
import pytest

from kneefair_jax import groups
from kneefair_jax.errors import InputError
from kneefair_jax.fairness.runs import stacked


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
