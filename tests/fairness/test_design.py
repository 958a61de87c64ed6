import numpy as np
import pandas as pd
import pytest

from kneefair_jax import groups
from kneefair_jax.fairness import design


def rows(n=60, **columns):
    rng = np.random.default_rng(0)
    made = {
        "patient_id": [f"p{k}" for k in range(n)],
        "sex": groups.categorical(pd.Series(np.where(np.arange(n) % 2, "male", "female"))),
        "race": groups.categorical(pd.Series(np.where(np.arange(n) % 3, "A", "B"))),
        design.AREA: rng.normal(8, 0.1, n),
    }
    return pd.DataFrame(made | columns)


def test_attributes_cross_and_covariates_by_name_in_any_case():
    site = groups.categorical(pd.Series(["s", "t", "u"] * 20))
    made = design.design(rows(Age=np.arange(60.0), site=site, weight=1.0), ["sex", "race"])
    assert made.formula == "sex * race + Age + site + log(area)"
    assert list(made.columns) == [
        *("intercept", "sex=male", "race=B", "Age", "site=t", "site=u", "log(area)", "sex=male:race=B")
    ]
    assert made.mediators == ("log(area)",)
    assert made.references == ("sex=female", "race=A", "site=s")
    assert made.left_out == ()
    row = made.columns.loc[3]  # a man of race B, 3 years old
    assert row["sex=male:race=B"] == 1 and row["Age"] == 3 and row["site=t"] == 0


def test_a_covariate_that_is_an_attribute_does_not_cross():
    age = groups.binned(pd.Series(np.arange(60.0)), [30])
    kl = groups.categorical(pd.Series(["0", "1", "2"] * 20))
    made = design.design(rows(age=age, kl=kl), ["age", "sex", "kl"])
    assert made.formula == "sex + age + kl + log(area)"
    assert made.mediators == ("kl=1", "kl=2", "log(area)")
    assert "age=>=31" in made.columns


def test_what_is_left_out_is_named():
    few = groups.categorical(pd.Series(["A"] * 30 + ["B"] * 27 + ["C"] * 3))
    area = np.where(np.arange(60) < 2, np.nan, 8 + np.arange(60) / 60)
    age, bmi = np.full(60, np.nan), np.full(60, 25.0)
    made = design.design(rows(race=few, age=age, bmi=bmi, **{design.AREA: area}), ["sex", "race"])
    assert made.left_out == (
        "age: unknown in most cases",
        "bmi: the same in all cases",
        "race=C: 3 patients, 5 are needed",
    )
    assert list(made.columns.index) == list(range(2, 57))
    assert not made.columns.isna().any(axis=None)


def test_missing_is_no_level_and_a_rare_cell_has_no_interaction():
    sex = groups.categorical(pd.Series(["female", "male", "missing"] * 20))
    race = groups.categorical(pd.Series(["A", "A"] * 20 + ["B"] * 5 + ["A"] * 15))
    made = design.design(rows(sex=sex, race=race), ["sex", "race"])
    # Of the 40 of known sex, 3 are of race B.
    assert len(made.columns) == 37 and "sex=missing" not in made.columns
    assert made.left_out == ("race=B: 3 patients, 5 are needed", "race: the same in all cases that are left")
    assert made.formula == "sex + log(area)"
    race = groups.categorical(pd.Series(["A", "B", "A"] * 4 + ["B", "A", "A"] * 16))
    made = design.design(rows(sex=sex, race=race), ["sex", "race"])
    assert made.left_out == ("sex=male:race=B: 4 patients, 5 are needed",)


def test_patients_count_and_not_cases():
    race = groups.categorical(pd.Series(["A"] * 52 + ["B"] * 8))
    patients = [f"p{k // 2}" for k in range(60)]
    made = design.design(rows(race=race, patient_id=patients), ["sex", "race"])
    assert made.left_out[0] == "race=B: 4 patients, 5 are needed"


@pytest.mark.parametrize("copies", [1.0, -3.0, 1e6])
def test_columns_that_follow_from_others(copies):
    rng = np.random.default_rng(1)
    columns = pd.DataFrame(rng.normal(size=(20, 3)), columns=list("abc"))
    columns["d"] = copies * (columns["a"] - 2 * columns["b"])
    columns["e"] = rng.normal(size=20)
    columns["f"] = 0.0
    kept, others = design.independent(columns)
    assert list(kept) == ["a", "b", "c", "e"] and others == ["d", "f"]
    assert np.linalg.matrix_rank(kept) == 4
