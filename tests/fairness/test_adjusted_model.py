import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy import linalg, stats
from statsmodels.stats.multitest import multipletests

from kneefair_jax import groups
from kneefair_jax.fairness import adjusted_model, results
from kneefair_jax.fairness.adjusted_model import AREA


def models(*arguments, **options):
    return results.to_dict(adjusted_model.models(*arguments, **options))


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
    covariates = cohort.assign(score=score, area=np.log(area))
    return cohort, pd.concat(parts), covariates.rename(columns={"area": "log_area"})


def terms(fit):
    return {term["term"]: term for term in fit["terms"]}


@pytest.mark.parametrize("knees", [1, 2])
def test_the_planted_effect_is_estimated_as_by_statsmodels(knees):
    cohort, cases, covariates = study(knees=knees)
    model = models(cases, cohort, ["sex", "race"])["dice"]
    assert model["formula"] == "dice ~ sex * race + age + log(area)"
    fit = model["with_mediators"]
    assert (fit["patients"], fit["cases"]) == (60, 60 * knees)
    assert fit["formula"] == model["formula"] and fit["covariates"] == ["age", AREA]
    result = terms(fit)
    assert list(result) == ["intercept", "sex=male", "race=B", "age", AREA, "sex=male:race=B"]
    names = ["Intercept", "C(sex)[T.male]", "C(race)[T.B]", "age", "log_area", "C(sex)[T.male]:C(race)[T.B]"]
    expected = smf.ols("score ~ C(sex) * C(race) + age + log_area", covariates)
    expected = expected.fit(cov_type="HC2") if knees == 1 else expected.fit()
    for term, name in zip(result.values(), names, strict=True):
        np.testing.assert_allclose(term["estimate"], expected.params[name], rtol=1e-8)
        low, high = term["interval"]
        assert (low + high) / 2 == pytest.approx(term["estimate"])
        error = (high - low) / 2 / stats.t.ppf(0.975, term["df"])
        assert term["p"] == pytest.approx(2 * stats.t.sf(abs(term["estimate"]) / error, term["df"]))
        assert 5 < term["df"] < 60
        if knees == 1:
            np.testing.assert_allclose(error, expected.bse[name], rtol=1e-8)
    assert result["sex=male"]["interval"][0] < -0.03 < result["sex=male"]["interval"][1] < 0
    # Men's larger bones make up for 0.015 of it, and without the area that is in the effect.
    without = model["without_mediators"]
    assert without["formula"] == "dice ~ sex * race + age" and without["covariates"] == ["age"]
    assert terms(without)["sex=male"]["estimate"] > result["sex=male"]["estimate"] + 0.005


def contrast(fit, attribute):
    (term,) = (c for c in fit["contrasts"] if c["attribute"] == attribute)
    return term


def test_without_covariates_it_is_welch_s_test_of_patient_means():
    """Patients of 1 to 3 cases; the model adjusts for nothing and the contrast is the gap of the report."""
    cohort, cases, covariates = study(knees=3)
    keep = covariates.groupby("patient_id").cumcount() <= covariates["patient_id"].str[1:].astype(int) % 3
    cohort, covariates = cohort[keep], covariates[keep]
    cases = cases[cases["case_id"].isin(cohort["case_id"])]
    fit = models(cases, cohort.drop(columns="age"), ["sex"])["dice"]["without_mediators"]
    assert fit["covariates"] == [] and fit["formula"] == "dice ~ sex"
    means = covariates.groupby("patient_id").agg({"score": "mean", "sex": "first"})
    male, female = (means["score"][means["sex"] == sex] for sex in ("male", "female"))
    term = contrast(fit, "sex")
    assert (term["level"], term["reference"], term["n"]) == ("male", "female", 60)
    assert term["estimate"] == pytest.approx(male.mean() - female.mean())
    assert term["df"] == pytest.approx(58)
    error = np.sqrt(male.var() / 30 + female.var() / 30)
    # Hall's transformation moves the ends by little where scores are hardly skewed.
    expected = term["estimate"] + error * stats.t.ppf([0.025, 0.975], 58)
    np.testing.assert_allclose(term["interval"], expected, atol=0.02 * error)


def test_a_contrast_is_the_mean_over_the_other_attribute_and_not_the_effect_at_its_reference():
    """Men lose 0.06 in race B (a third of the patients) and nothing in A: 0.02 in the mean over all."""
    cohort, cases, covariates = study(patients=300, effect=0)
    lower = 0.06 * ((covariates["sex"] == "male") & (covariates["race"] == "B"))
    cases["dice"] = cases["dice"] - np.tile(lower, 2)
    fit = models(cases, cohort, ["sex", "race"])["dice"]["with_mediators"]
    assert abs(terms(fit)["sex=male"]["estimate"]) < 0.004
    term = contrast(fit, "sex")
    assert term["estimate"] == pytest.approx(-0.02, abs=0.004)
    assert term["interval"][0] < -0.02 < term["interval"][1] < 0
    assert term["p"] < term["p_adjusted"] or term["p_adjusted"] < 1e-6
    # A covariate's distribution cancels, as it does not interact.
    shifted = models(cases, cohort.assign(age=cohort["age"] + 100), ["sex", "race"])["dice"]
    assert contrast(shifted["with_mediators"], "sex")["estimate"] == pytest.approx(term["estimate"])


def test_all_pairs_of_levels_are_contrasts_with_holm_s_correction():
    cohort, cases, _ = study()
    cohort["ward"] = groups.categorical(pd.Series(np.repeat(["x", "y", "z"], 40)))
    fit = models(cases, cohort, ["sex", "ward"])["dice"]["without_mediators"]
    pairs = [(c["attribute"], c["level"], c["reference"]) for c in fit["contrasts"]]
    assert pairs == [("sex", "male", "female"), *(("ward", *pair) for pair in ("yx", "zx", "zy"))]
    ends = [c["estimate"] for c in fit["contrasts"]]
    assert ends[1] + ends[3] == pytest.approx(ends[2])
    p = [c["p"] for c in fit["contrasts"]]
    np.testing.assert_allclose(
        [c["p_adjusted"] for c in fit["contrasts"]], multipletests(p, method="holm")[1]
    )


def test_the_covariates_are_those_of_the_model_and_no_others():
    cohort, cases, _ = study()
    cohort["site"] = groups.categorical(cohort["sex"].map({"male": "x", "female": "y"}).astype(str))
    cohort["bmi"] = np.nan
    model = models(cases, cohort, ["sex", "race"])["dice"]
    assert model["without_mediators"]["covariates"] == ["age"]
    assert model["with_mediators"]["covariates"] == ["age", AREA]
    assert model["excluded"] == ["bmi: unknown in all cases", "site=y: follows from the other columns"]
    assert model["formula"] == "dice ~ sex * race + age + log(area)"


def test_a_contrast_of_two_groups_is_welch_s_t_after_hall_s_transformation():
    """One case a patient and no covariate: the skewness of the difference by hand."""
    rng = np.random.default_rng(5)
    first, second = 0.9 - 0.03 * rng.exponential(size=40), 0.9 - 0.06 * rng.exponential(size=12)
    score = np.concatenate([first, second])
    cohort = pd.DataFrame(
        {"case_id": [f"c{i}" for i in range(52)], "patient_id": [f"p{i}" for i in range(52)]}
    )
    cases = cohort.assign(structure="a", dice=score, true_area_mm2=np.nan)
    cohort["ward"] = groups.categorical(pd.Series(["x"] * 40 + ["y"] * 12))
    term = contrast(models(cases, cohort, ["ward"])["dice"]["without_mediators"], "ward")
    t = stats.ttest_ind(second, first, equal_var=False).statistic
    shape = (40 * stats.skew(first) + 12 * stats.skew(second)) / 52
    error = np.hypot(stats.sem(first), stats.sem(second))
    third = second.std(ddof=1) ** 3 / 12**2 - first.std(ddof=1) ** 3 / 40**2
    g = shape * third / error**3
    transformed = t + g * t**2 / 3 + g**2 * t**3 / 27 + g / 6
    assert term["p"] == pytest.approx(2 * stats.t.sf(abs(transformed), term["df"]))
    low, high = term["interval"]
    for end, sign in ((low, 1), (high, -1)):
        at = (term["estimate"] - end) / error  # the studentized mean whose transform is the critical value
        critical = at + g * at**2 / 3 + g**2 * at**3 / 27 + g / 6
        assert critical == pytest.approx(sign * stats.t.ppf(0.975, term["df"]))


def test_an_interval_of_shares_ends_at_1():
    """Five patients, of whom two fail altogether, against others who are nearly perfect."""
    cohort, cases, _ = study(patients=30)
    of = cohort["patient_id"].str[1:].astype(int)
    cohort["ward"] = groups.categorical(pd.Series(np.where(of < 5, "x", "y")))
    score = np.where(of < 5, np.where(of % 2 == 0, 0.0, 1.0), 0.99 + of / 1e4)
    fit = models(
        cases.assign(dice=np.tile(score, 2), assd_mm=np.tile(9 * score, 2)),
        cohort,
        ["ward"],
        failure_dice=0.0,
    )
    term, far = (contrast(fit[score]["without_mediators"], "ward") for score in ("dice", "assd_mm"))
    assert term["interval"][0] > -1 and term["interval"][1] == 1 < far["interval"][1] / 9


def test_patients_with_a_failed_segmentation_are_left_out_and_counted():
    cohort, cases, _ = study()
    failed = ["p003", "p010"]
    model = models(
        cases.assign(
            dice=cases["dice"].where(~(cases["patient_id"].isin(failed) & (cases["structure"] == "a")), 0.1)
        ),
        cohort,
        ["sex", "race"],
    )["dice"]
    included, rest = (frame[~frame["patient_id"].isin(failed)] for frame in (cases, cohort))
    expected = models(included, rest, ["sex", "race"])["dice"]
    assert model["without_mediators"] == expected["without_mediators"]
    assert model["without_mediators"]["patients"] == 58
    assert model["excluded"] == ["patients with a failed segmentation (Dice below 0.5): 2"]


def test_failed_segmentations_of_all_patients_are_a_reason():
    cohort, cases, _ = study()
    model = models(cases.assign(dice=0.2), cohort, ["sex"])["dice"]
    assert model["with_mediators"] is model["without_mediators"] is None
    assert len(model["reasons"]) == 1 and model["excluded"][-1].endswith(": 60")


def test_a_score_nowhere_known_is_absent():
    cohort, cases, _ = study()
    assert list(models(cases, cohort, ["sex", "race"])) == ["dice"]
    result = models(cases.assign(ece=cases["dice"]), cohort, ["sex"], ("ece", "nsd"))
    assert list(result) == ["ece"]


def test_too_few_patients_is_a_reason():
    cohort, cases, _ = study(patients=14)
    model = models(cases, cohort, ["sex", "race"])["dice"]
    # Two women of race B are no interaction; 5 coefficients are left, and 4 without the area.
    assert model["excluded"] == ["sex=male:race=B: 2 patients, 5 are needed"]
    assert model["with_mediators"] is None and model["without_mediators"]["patients"] == 14
    assert model["reasons"] == [
        "with mediators: 14 patients with everything known are too few for 5 coefficients; 15 are needed"
    ]


def test_the_reason_names_groups_that_are_too_small_where_no_case_is_left():
    cohort, cases, _ = study(patients=8)
    few = models(cases, cohort, ["sex", "race"])["dice"]
    assert few["reasons"] == ["no attribute has two groups of 5 tested patients"]
    assert "sex=male: 4 patients, 5 are needed" in few["excluded"] and few["without_mediators"] is None
    cohort, cases, _ = study(patients=60)
    sites = groups.categorical(cohort["patient_id"])
    (reason,) = models(cases, cohort.assign(site=sites), ["sex"])["dice"]["reasons"]
    assert "covariate" in reason and "5 tested patients" in reason


def test_a_redundant_column_is_left_out_and_named():
    cohort, cases, _ = study()
    cohort["site"] = groups.categorical(cohort["sex"].map({"male": "x", "female": "y"}).astype(str))
    model = models(cases, cohort, ["sex", "race"])["dice"]
    assert model["excluded"] == ["site=y: follows from the other columns"]
    assert "site=y" not in terms(model["with_mediators"])


def test_no_variance_within_or_between_or_at_all():
    cohort, cases, _ = study()
    model = models(cases.assign(dice=0.9), cohort, ["sex"])["dice"]
    assert model["reasons"] == [
        "without mediators: all cases score the same",
        "with mediators: all cases score the same",
    ]
    # Where knees alone differ, nothing is between patients.
    noise = np.tile(np.random.default_rng(1).normal(0, 0.01, 120), 2)
    model = models(cases.assign(dice=0.9 + noise), cohort, ["sex"])["dice"]
    assert abs(terms(model["without_mediators"])["sex=male"]["estimate"]) < 0.005
    # A score that is the attribute leaves nothing to judge it by.
    exact = np.tile(0.9 + 0.05 * (cohort["sex"] == "male"), 2)
    model = models(cases.assign(dice=exact), cohort, ["sex"])["dice"]
    assert model["with_mediators"] is None and len(model["reasons"]) == 2


def test_one_patient_who_determines_a_coefficient_is_a_reason():
    cohort, cases, _ = study()
    cohort["age"] = np.where(cohort["patient_id"] == "p007", 70.0, 60.0)
    model = models(cases, cohort, ["sex"])["dice"]
    assert model["without_mediators"] is None and "one patient" in model["reasons"][0]
    assert "coefficient of age;" in model["reasons"][0]


def test_an_interaction_of_one_patient_does_not_remove_the_adjusted_gaps():
    """The one woman of race C would be the main effect of C, which men of race C share."""
    cohort, cases, _ = study()
    patient = cohort["patient_id"].str[1:].astype(int)
    is_c = (patient % 6 == 1) | (patient == 4)  # ten men and a woman
    cohort["race"] = groups.categorical(cohort["race"].astype(str).where(~is_c, "C"))
    model = models(cases, cohort, ["sex", "race"])["dice"]
    assert model["reasons"] == []
    assert model["excluded"] == [
        "sex=male:race=C: 1 patients with sex=female, race=C, 5 are needed",
    ]
    fit = model["without_mediators"]
    assert {"race=C", "sex=male:race=B"} < set(terms(fit)) and "sex=male:race=C" not in terms(fit)
    assert len(fit["contrasts"]) == 4


def by_definition(x, y, clusters, weights, combination):
    """Bell and McCaffrey's formulas, every matrix written out: estimate, error, degrees of freedom."""
    w = np.diag(weights)
    working = np.diag(1 / weights)
    bread = np.linalg.inv(x.T @ w @ x)
    annihilator = np.eye(len(y)) - x @ bread @ x.T @ w
    meat = np.zeros((x.shape[1], x.shape[1]))
    vectors = []
    for cluster in np.unique(clusters):
        i = np.flatnonzero(clusters == cluster)
        rows = annihilator[i]
        d = linalg.cholesky(working[np.ix_(i, i)])
        inner = d @ rows @ working @ rows.T @ d.T
        adjustment = d.T @ np.linalg.inv(linalg.sqrtm(inner).real) @ d
        score = x[i].T @ w[np.ix_(i, i)] @ adjustment @ rows
        meat += score @ np.outer(y, y) @ score.T
        vectors.append(combination @ bread @ score)
    covariance = np.array(vectors) @ working @ np.array(vectors).T
    eigenvalues = np.linalg.eigvalsh(covariance)
    return (
        combination @ bread @ x.T @ w @ y,
        np.sqrt(combination @ bread @ meat @ bread @ combination),
        eigenvalues.sum() ** 2 / (eigenvalues**2).sum(),
    )


def ragged(seed=0, patients=14, most=4):
    """Two covariates (one of the patient, one of the case), rows in no order, clusters of 1 to `most` cases."""
    rng = np.random.default_rng(seed)
    clusters = rng.permutation(np.repeat(np.arange(patients), rng.integers(1, most + 1, patients)))
    n = len(clusters)
    x = np.column_stack([np.ones(n), clusters % 3 == 0, rng.normal(size=n)])
    y = rng.normal(size=n) + rng.normal(size=patients)[clusters]
    return x, y, clusters


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_as_the_definition_with_explicit_matrices(seed, weighted):
    x, y, clusters = ragged(seed)
    weights = 1 / np.bincount(clusters)[clusters] if weighted else np.ones(len(y))
    combinations = np.vstack([np.eye(3), [0.5, -1, 2]])
    result = adjusted_model.robust_estimates(x, y, clusters, weights, combinations)
    for m, combination in enumerate(combinations):
        expected = by_definition(x, y, clusters, weights, combination)
        np.testing.assert_allclose([v[m] for v in result[:3]], expected, rtol=1e-9)
        # The loads are what errors of 1, a cluster after another, change.
        for place, cluster in enumerate(np.unique(clusters)):
            shifted = adjusted_model.robust_estimates(
                x, y + (clusters == cluster), clusters, weights, combinations
            )
            assert shifted.estimate[m] - result.estimate[m] == pytest.approx(result.loads[place, m])


def test_two_groups_of_single_observations_are_welch():
    """By hand: means 3 and 7, variances 1 and 18, so t = 4 / sqrt(1/3 + 18/5), and the df of equal variances."""
    y = np.array([2.0, 3, 4, 1, 5, 7, 11, 11])
    level = np.array([0.0] * 3 + [1] * 5)
    x = np.column_stack([np.ones(8), level])
    error, freedom = (
        adjusted_model.robust_estimates(x, y, np.arange(8), np.ones(8), np.array([[0.0, 1.0]]))
        ._asdict()[name]
        .item()
        for name in ("error", "freedom")
    )
    variances = y[:3].var(ddof=1), y[3:].var(ddof=1)
    assert variances == (1, 18)
    assert error == pytest.approx(np.sqrt(1 / 3 + 18 / 5), rel=1e-12)
    # Welch-Satterthwaite's formula at the working model's equal variances.
    assert freedom == pytest.approx((1 / 3 + 1 / 5) ** 2 / (1 / 9 / 2 + 1 / 25 / 4), rel=1e-12)
    test = stats.ttest_ind(y[3:], y[:3], equal_var=False)
    assert (y[3:].mean() - y[:3].mean()) / error == pytest.approx(test.statistic, rel=1e-12)


def test_groups_of_equal_variance_and_size_have_welch_s_degrees_of_freedom():
    y = np.array([1.0, 2, 3, 4, 11, 12, 13, 14])
    x = np.column_stack([np.ones(8), np.arange(8) > 3])
    result = adjusted_model.robust_estimates(x, y, np.arange(8), np.ones(8), np.array([[0.0, 1.0]]))
    test = stats.ttest_ind(y[4:], y[:4], equal_var=False)
    assert result.freedom[0] == pytest.approx(test.df) and test.df == pytest.approx(6)
    assert 10 / result.error[0] == pytest.approx(test.statistic)


def test_patients_with_weight_1_are_welch_of_their_means():
    """However many cases each has, and whatever they correlate."""
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(12), rng.integers(1, 6, 12))
    y = rng.normal(size=len(clusters)) + 3 * rng.normal(size=12)[clusters]
    sizes = np.bincount(clusters)
    x = np.column_stack([np.ones(len(y)), clusters < 5])
    result = adjusted_model.robust_estimates(x, y, clusters, 1 / sizes[clusters], np.array([[0.0, 1.0]]))
    means = np.bincount(clusters, y) / sizes
    test = stats.ttest_ind(means[:5], means[5:], equal_var=False)
    assert result.estimate[0] == pytest.approx(means[:5].mean() - means[5:].mean())
    assert result.estimate[0] / result.error[0] == pytest.approx(test.statistic)
    assert result.freedom[0] == pytest.approx((1 / 5 + 1 / 7) ** 2 / (1 / 25 / 4 + 1 / 49 / 6))


def test_a_mean_and_a_difference_within_patients_are_student_s():
    rng = np.random.default_rng(3)
    knees = rng.normal(size=(9, 2)) + rng.normal(size=(9, 1)) + [0, 0.5]
    clusters, y = np.repeat(np.arange(9), 2), knees.ravel()
    x = np.column_stack([np.ones(18), np.tile([0, 1], 9)])
    result = adjusted_model.robust_estimates(x, y, clusters, np.ones(18), np.array([[0.0, 1.0], [1.0, 0.5]]))
    difference = stats.ttest_1samp(knees[:, 1] - knees[:, 0], 0)
    mean = stats.ttest_1samp(knees.mean(1), 0)
    np.testing.assert_allclose(result.estimate / result.error, [difference.statistic, mean.statistic])
    np.testing.assert_allclose(result.freedom, [8, 8])


def test_single_cases_have_statsmodels_hc2_errors():
    rng = np.random.default_rng(4)
    x = sm.add_constant(rng.normal(size=(30, 3)))
    y = rng.normal(size=30) * (1 + np.abs(x[:, 1]))
    result = adjusted_model.robust_estimates(x, y, np.arange(30), np.ones(30), np.eye(4))
    expected = sm.OLS(y, x).fit(cov_type="HC2")
    np.testing.assert_allclose(result.estimate, expected.params)
    np.testing.assert_allclose(result.error, expected.bse)


def test_many_clusters_have_statsmodels_cluster_errors():
    """Both tend to the same; of 400 clusters the corrections differ by less than 2 %."""
    x, y, clusters = ragged(5, patients=400)
    result = adjusted_model.robust_estimates(x, y, clusters, np.ones(len(y)), np.eye(3))
    expected = sm.OLS(y, x).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    np.testing.assert_allclose(result.error, expected.bse, rtol=0.02)


def test_units_order_and_names_change_nothing_else():
    x, y, clusters = ragged()
    weights = np.ones(len(y))
    first_fit = adjusted_model.robust_estimates(x, y, clusters, weights, np.eye(3))
    order = np.random.default_rng(6).permutation(len(y))
    names = np.array([f"p{20 - c}" for c in clusters])
    second_fit = adjusted_model.robust_estimates(x[order], y[order], names[order], 7 * weights, np.eye(3))
    for a, b in zip(first_fit[:3], second_fit[:3], strict=True):
        np.testing.assert_allclose(a, b)
    place = [np.unique(names).tolist().index(f"p{20 - c}") for c in np.unique(clusters)]
    np.testing.assert_allclose(first_fit.loads, second_fit.loads[place])
    scaled = adjusted_model.robust_estimates(x * [1, 1, 1e4], 100 * y, clusters, weights, np.eye(3))
    np.testing.assert_allclose(scaled.error, first_fit.error * [100, 100, 0.01])
    np.testing.assert_allclose(scaled.freedom, first_fit.freedom)


def test_a_cluster_that_alone_determines_a_coefficient_has_no_error():
    x, y, clusters = ragged()
    x[:, 1] = clusters == 3
    assert adjusted_model.robust_estimates(x, y, clusters, np.ones(len(y)), np.eye(3)) is None
