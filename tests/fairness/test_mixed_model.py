import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from kneefair_jax import groups
from kneefair_jax.fairness import mixed_model
from kneefair_jax.fairness.design import AREA


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
