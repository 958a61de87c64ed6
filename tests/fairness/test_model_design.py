"""Columns of the adjusted model, and standardized differences as combinations of them."""

import numpy as np
import pandas as pd
import pytest

from kneefair_jax import groups
from kneefair_jax.fairness import model_design


def rows(n=60, **columns):
    rng = np.random.default_rng(0)
    result = {
        "patient_id": [f"p{k}" for k in range(n)],
        "sex": groups.categorical(pd.Series(np.where(np.arange(n) % 2, "male", "female"))),
        "race": groups.categorical(pd.Series(np.where(np.arange(n) % 3, "A", "B"))),
        model_design.AREA: rng.normal(8, 0.1, n),
    }
    return pd.DataFrame(result | columns)


def test_attributes_cross_and_covariates_by_name_in_any_case():
    site = groups.categorical(pd.Series(["s", "t", "u"] * 20))
    result = model_design.design(rows(Age=np.arange(60.0), site=site, weight=1.0), ["sex", "race"])
    assert result.formula(list(result.columns)) == "sex * race + Age + site + log(area)"
    assert result.covariates(list(result.columns)) == ["Age", "site", "log(area)"]
    assert result.attributes == ("sex", "race") and result.levels["site"] == ("s", "t", "u")
    assert list(result.columns) == [
        *("intercept", "sex=male", "race=B", "Age", "site=t", "site=u", "log(area)", "sex=male:race=B")
    ]
    assert result.mediators == ["log(area)"]
    assert result.references == ["sex=female", "race=A", "site=s"]
    assert result.excluded == ()
    row = result.columns.loc[3]  # a man of race B, 3 years old
    assert row["sex=male:race=B"] == 1 and row["Age"] == 3 and row["site=t"] == 0


def test_a_covariate_that_is_an_attribute_does_not_cross():
    age = groups.bin_values(pd.Series(np.arange(60.0)), [30])
    kl = groups.categorical(pd.Series(["0", "1", "2"] * 20))
    result = model_design.design(rows(age=age, kl=kl), ["age", "sex", "kl"])
    assert result.formula(list(result.columns)) == "age + sex + kl + log(area)"
    assert result.covariates(list(result.columns)) == ["log(area)"]
    assert result.mediators == ["kl=1", "kl=2", "log(area)"]
    assert "age=>=31" in result.columns


def test_what_is_left_out_is_named():
    few = groups.categorical(pd.Series(["A"] * 30 + ["B"] * 27 + ["C"] * 3))
    area = np.where(np.arange(60) < 2, np.nan, 8 + np.arange(60) / 60)
    age, bmi = np.full(60, np.nan), np.full(60, 25.0)
    result = model_design.design(
        rows(race=few, age=age, bmi=bmi, **{model_design.AREA: area}), ["sex", "race"]
    )
    assert result.excluded == (
        "age: unknown in all cases",
        "bmi: the same in all cases",
        "2 of 60 cases: log(area) is unknown",
        "race=C: 3 patients, 5 are needed",
    )
    assert list(result.columns.index) == list(range(2, 57))
    assert not result.columns.isna().any(axis=None)


def test_missing_is_no_level_and_a_rare_cell_has_no_interaction():
    sex = groups.categorical(pd.Series(["female", "male", "missing"] * 20))
    race = groups.categorical(pd.Series(["A", "A"] * 20 + ["B"] * 5 + ["A"] * 15))
    result = model_design.design(rows(sex=sex, race=race), ["sex", "race"])
    # Of the 40 of known sex, 3 are of race B.
    assert len(result.columns) == 37 and "sex=missing" not in result.columns
    assert result.excluded == (
        "20 of 60 cases: sex is unknown",
        "race=B: 3 patients, 5 are needed",
        "race: the same in all cases that are left",
    )
    assert result.formula(list(result.columns)) == "sex + log(area)"
    race = groups.categorical(pd.Series(["A", "B", "A"] * 4 + ["B", "A", "A"] * 16))
    result = model_design.design(rows(sex=sex, race=race), ["sex", "race"])
    assert result.excluded[1:] == ("sex=male:race=B: 4 patients, 5 are needed",)
    assert result.formula(list(result.columns)) == "sex + race + log(area)"


def test_patients_count_and_not_cases():
    race = groups.categorical(pd.Series(["A"] * 52 + ["B"] * 8))
    patients = [f"p{k // 2}" for k in range(60)]
    result = model_design.design(rows(race=race, patient_id=patients), ["sex", "race"])
    assert result.excluded[0] == "race=B: 4 patients, 5 are needed"


def test_a_level_that_becomes_rare_when_another_is_left_out():
    """The 3 patients of race C take two of the 6 of site t with them."""
    race = groups.categorical(pd.Series(["C"] * 3 + ["A", "B"] * 28 + ["A"]))
    site = groups.categorical(pd.Series(["t", "t", *["s"] * 50, *["t"] * 4, *["s"] * 4]))
    result = model_design.design(rows(site=site, race=race), ["sex", "race"])
    assert result.excluded[:2] == ("race=C: 3 patients, 5 are needed", "site=t: 4 patients, 5 are needed")
    assert len(result.columns) == 53 and "site" not in result.levels


def three():
    """Two crossed attributes of 2 and 3 levels and a third, patients of 1 or 2 cases, an age."""
    rng = np.random.default_rng(7)
    patients = np.repeat(np.arange(80), 1 + np.arange(80) % 2)
    levels = {"sex": ["f", "m"], "race": ["A", "B", "C"], "side": ["l", "r"]}
    frame = {
        name: groups.categorical(pd.Series(rng.choice(of, 80, p=rng.dirichlet([9] * len(of)))[patients]))
        for name, of in levels.items()
    }
    frame |= {"age": rng.uniform(45, 79, 80)[patients], "patient_id": patients}
    return pd.DataFrame(frame), levels


def test_standardized_means_are_over_all_patients_at_each_level():
    frame, levels = three()
    result = model_design.design(frame, list(levels))
    weights = 1 / np.bincount(frame["patient_id"])[frame["patient_id"]]
    differences = model_design.marginal_differences(result, list(result.columns), weights)
    assert list(differences)[:2] == [("sex", "m", "f"), ("race", "B", "A")] and len(differences) == 1 + 3 + 1

    def columns(people):
        """The design of the same people, all of one level."""
        ones = pd.Series(1, index=people.index)
        s, r, d = people["sex"] == "m", people["race"], people["side"] == "r"
        parts = [ones, s, r == "B", r == "C", d, people["age"], s & (r == "B"), s & (r == "C")]
        return np.column_stack([np.asarray(part, float) for part in parts])

    assert np.array_equal(columns(frame), result.columns)
    for (attribute, level, reference), combination in differences.items():
        means = [
            np.average(columns(frame.assign(**{attribute: entry})), axis=0, weights=weights)
            for entry in (level, reference)
        ]
        np.testing.assert_allclose(combination, means[0] - means[1], atol=1e-12)


def test_a_level_whose_column_is_left_out_has_no_contrast():
    frame, _ = three()
    frame["race"] = frame["sex"].map({"f": "A", "m": "B"}).astype("category").cat.as_ordered()
    result = model_design.design(frame, ["sex", "race"])
    is_included, _ = model_design.independent_columns(result.columns)
    assert list(model_design.marginal_differences(result, list(is_included), np.ones(len(frame)))) == [
        ("sex", "m", "f")
    ]
    assert result.formula(list(is_included)) == "sex + age"


@pytest.mark.parametrize("copies", [1.0, -3.0, 1e6])
def test_columns_that_follow_from_others(copies):
    rng = np.random.default_rng(1)
    columns = pd.DataFrame(rng.normal(size=(20, 3)), columns=list("abc"))
    columns["d"] = copies * (columns["a"] - 2 * columns["b"])
    columns["e"] = rng.normal(size=20)
    columns["f"] = 0.0
    is_included, rest = model_design.independent_columns(columns)
    assert list(is_included) == ["a", "b", "c", "e"] and rest == ["d", "f"]
    assert np.linalg.matrix_rank(is_included) == 4
