import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from kneefair_jax import groups
from kneefair_jax.fairness import mixed_model
from kneefair_jax.fairness.mixed_model import AREA


def study(patients=60, knees=2, seed=0, effect=-0.03):
    """Cohort and long table of two structures: men score `effect` lower, and 0.05 per unit of log(area) higher."""
    rng = np.random.default_rng(seed)
    n = patients * knees
    of = np.repeat(np.arange(patients), knees)
    cohort = pd.DataFrame(
        {
            "case_id": [f"c{k:03d}" for k in range(n)],
            "patient_id": [f"p{k:03d}" for k in of],
            "sex": groups.categorical(pd.Series(np.where(of % 2, "male", "female"))),
            "race": groups.categorical(pd.Series(np.where(of % 3, "A", "B"))),
            "age": rng.uniform(45, 79, patients)[of],
        }
    )
    male = (cohort["sex"] == "male").to_numpy()
    area = np.exp(rng.normal(8, 0.2, n) + 0.3 * male)
    score = 0.9 + effect * male + 0.05 * (np.log(area) - 8)
    score = score + rng.normal(0, 0.01, patients)[of] + rng.normal(0, 0.01, n)
    half = cohort[["case_id", "patient_id"]].assign(assd_mm=np.nan)
    parts = [
        half.assign(structure="a", dice=score + 0.02, true_area_mm2=0.75 * area),
        half.assign(structure="b", dice=score - 0.02, true_area_mm2=0.25 * area),
    ]
    known = cohort.assign(score=score, area=np.log(area))
    return cohort, pd.concat(parts), known.rename(columns={"area": "log_area"})


def terms(fit):
    return {term["term"]: term for term in fit["terms"]}


@pytest.mark.parametrize("knees", [1, 2])
def test_as_statsmodels_by_formula_and_the_planted_effect_is_found(knees):
    cohort, cases, known = study(knees=knees)
    model = mixed_model.models(cases, cohort, ["sex", "race"])["dice"]
    formula = "score ~ C(sex) * C(race) + age + log_area"
    if knees == 2:
        assert model["kind"] == "mixed model"
        assert model["formula"] == "dice ~ sex * race + age + log(area) + (1 | patient)"
        # In hundredths: in its own units statsmodels takes the variance for one on the boundary.
        theirs = smf.mixedlm(
            formula, known.assign(score=100 * known["score"]), groups=known["patient_id"]
        ).fit()
    else:
        assert model["kind"] == "least squares, robust errors"
        assert model["formula"] == "dice ~ sex * race + age + log(area)"
        theirs = smf.ols(formula, known.assign(score=100 * known["score"])).fit(cov_type="HC3", use_t=True)
    fit = model["with_mediators"]
    assert (fit["patients"], fit["cases"]) == (60, 60 * knees)
    ours = terms(fit)
    assert list(ours) == ["intercept", "sex=male", "race=B", "age", AREA, "sex=male:race=B"]
    names = ["Intercept", "C(sex)[T.male]", "C(race)[T.B]", "age", "log_area", "C(sex)[T.male]:C(race)[T.B]"]
    for term, name in zip(ours.values(), names, strict=True):
        np.testing.assert_allclose(100 * term["estimate"], theirs.params[name], rtol=1e-3, atol=1e-4)
        half = (term["interval"][1] - term["interval"][0]) / 2
        # Student's t with 60 - 6 degrees of freedom.
        np.testing.assert_allclose(100 * half / 2.004879, theirs.bse[name], rtol=1e-2)
    if knees == 1:
        np.testing.assert_allclose(ours["sex=male"]["p"], theirs.pvalues["C(sex)[T.male]"], rtol=1e-6)
    assert ours["sex=male"]["interval"][0] < -0.03 < ours["sex=male"]["interval"][1] < 0
    # Men's larger bones make up for 0.015 of it, and without the area that is in the effect.
    without = terms(model["without_mediators"])
    assert AREA not in without
    assert without["sex=male"]["estimate"] > ours["sex=male"]["estimate"] + 0.005


def test_a_score_nowhere_known_is_absent():
    cohort, cases, _ = study()
    assert list(mixed_model.models(cases, cohort, ["sex", "race"])) == ["dice"]
    made = mixed_model.models(cases.assign(ece=cases["dice"]), cohort, ["sex"], ("ece", "nsd"))
    assert list(made) == ["ece"]


def test_too_few_patients_is_a_reason():
    cohort, cases, _ = study(patients=14)
    model = mixed_model.models(cases, cohort, ["sex", "race"])["dice"]
    # Two women of race B are no interaction; 5 coefficients are left, and 4 without the area.
    assert model["left_out"] == ["sex=male:race=B: 2 patients, 5 are needed"]
    assert model["with_mediators"] is None and model["without_mediators"]["patients"] == 14
    assert model["reasons"] == [
        "with mediators: 14 patients with everything known are too few for 5 coefficients; 15 are needed"
    ]


def test_a_redundant_column_is_left_out_and_named():
    cohort, cases, _ = study()
    cohort["site"] = groups.categorical(cohort["sex"].map({"male": "x", "female": "y"}).astype(str))
    model = mixed_model.models(cases, cohort, ["sex", "race"])["dice"]
    assert model["left_out"] == ["site=y: follows from the other columns"]
    assert "site=y" not in terms(model["with_mediators"])


def test_no_variance_within_or_between_or_at_all():
    cohort, cases, _ = study()
    model = mixed_model.models(cases.assign(dice=0.9), cohort, ["sex"])["dice"]
    assert model["reasons"] == [
        "with mediators: all cases score the same",
        "without mediators: all cases score the same",
    ]
    # Where knees alone differ, the variance between patients is on its boundary; nothing is raised for it.
    noise = np.tile(np.random.default_rng(1).normal(0, 0.01, 120), 2)
    model = mixed_model.models(cases.assign(dice=0.9 + noise), cohort, ["sex"])["dice"]
    assert abs(terms(model["without_mediators"])["sex=male"]["estimate"]) < 0.005


def test_a_fit_that_fails_is_a_reason(monkeypatch):
    class Unfinished:
        converged = False

    class Model:
        def __init__(self, *args, **kwargs):
            pass

        def fit(self, reml):
            if self.breaks:
                raise np.linalg.LinAlgError("Singular matrix")
            return Unfinished()

    monkeypatch.setattr(mixed_model.sm, "MixedLM", Model)
    cohort, cases, _ = study(patients=30)
    for Model.breaks, reason in (
        (True, "could not be fitted (Singular matrix)"),
        (False, "did not converge"),
    ):
        model = mixed_model.models(cases, cohort, ["sex"])["dice"]
        assert model["with_mediators"] is None and model["without_mediators"] is None
        assert all(reason in why for why in model["reasons"])


def rows(n=60, **columns):
    rng = np.random.default_rng(0)
    made = {
        "patient_id": [f"p{k}" for k in range(n)],
        "sex": groups.categorical(pd.Series(np.where(np.arange(n) % 2, "male", "female"))),
        "race": groups.categorical(pd.Series(np.where(np.arange(n) % 3, "A", "B"))),
        mixed_model.AREA: rng.normal(8, 0.1, n),
    }
    return pd.DataFrame(made | columns)


def test_attributes_cross_and_covariates_by_name_in_any_case():
    site = groups.categorical(pd.Series(["s", "t", "u"] * 20))
    made = mixed_model.design(rows(Age=np.arange(60.0), site=site, weight=1.0), ["sex", "race"])
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
    made = mixed_model.design(rows(age=age, kl=kl), ["age", "sex", "kl"])
    assert made.formula == "sex + age + kl + log(area)"
    assert made.mediators == ("kl=1", "kl=2", "log(area)")
    assert "age=>=31" in made.columns


def test_what_is_left_out_is_named():
    few = groups.categorical(pd.Series(["A"] * 30 + ["B"] * 27 + ["C"] * 3))
    area = np.where(np.arange(60) < 2, np.nan, 8 + np.arange(60) / 60)
    age, bmi = np.full(60, np.nan), np.full(60, 25.0)
    made = mixed_model.design(rows(race=few, age=age, bmi=bmi, **{mixed_model.AREA: area}), ["sex", "race"])
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
    made = mixed_model.design(rows(sex=sex, race=race), ["sex", "race"])
    # Of the 40 of known sex, 3 are of race B.
    assert len(made.columns) == 37 and "sex=missing" not in made.columns
    assert made.left_out == ("race=B: 3 patients, 5 are needed", "race: the same in all cases that are left")
    assert made.formula == "sex + log(area)"
    race = groups.categorical(pd.Series(["A", "B", "A"] * 4 + ["B", "A", "A"] * 16))
    made = mixed_model.design(rows(sex=sex, race=race), ["sex", "race"])
    assert made.left_out == ("sex=male:race=B: 4 patients, 5 are needed",)


def test_patients_count_and_not_cases():
    race = groups.categorical(pd.Series(["A"] * 52 + ["B"] * 8))
    patients = [f"p{k // 2}" for k in range(60)]
    made = mixed_model.design(rows(race=race, patient_id=patients), ["sex", "race"])
    assert made.left_out[0] == "race=B: 4 patients, 5 are needed"


@pytest.mark.parametrize("copies", [1.0, -3.0, 1e6])
def test_columns_that_follow_from_others(copies):
    rng = np.random.default_rng(1)
    columns = pd.DataFrame(rng.normal(size=(20, 3)), columns=list("abc"))
    columns["d"] = copies * (columns["a"] - 2 * columns["b"])
    columns["e"] = rng.normal(size=20)
    columns["f"] = 0.0
    kept, others = mixed_model.independent(columns)
    assert list(kept) == ["a", "b", "c", "e"] and others == ["d", "f"]
    assert np.linalg.matrix_rank(kept) == 4
