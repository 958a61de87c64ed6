"""CR2 errors and their degrees of freedom, against the definition with explicit matrices and against known tests."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import linalg, stats

from kneefair_jax.fairness import cluster_robust


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
    result = cluster_robust.contrasts(x, y, clusters, weights, combinations)
    for m, combination in enumerate(combinations):
        expected = by_definition(x, y, clusters, weights, combination)
        np.testing.assert_allclose([v[m] for v in result[:3]], expected, rtol=1e-9)
        # The loads are what errors of 1, a cluster after another, change.
        for place, cluster in enumerate(np.unique(clusters)):
            shifted = cluster_robust.contrasts(x, y + (clusters == cluster), clusters, weights, combinations)
            assert shifted.estimate[m] - result.estimate[m] == pytest.approx(result.loads[place, m])


def test_two_groups_of_single_observations_are_welch():
    """By hand: means 3 and 7, variances 1 and 18, so t = 4 / sqrt(1/3 + 18/5), and the df of equal variances."""
    y = np.array([2.0, 3, 4, 1, 5, 7, 11, 11])
    level = np.array([0.0] * 3 + [1] * 5)
    x = np.column_stack([np.ones(8), level])
    error, freedom = (
        cluster_robust.contrasts(x, y, np.arange(8), np.ones(8), np.array([[0.0, 1.0]]))
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
    result = cluster_robust.contrasts(x, y, np.arange(8), np.ones(8), np.array([[0.0, 1.0]]))
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
    result = cluster_robust.contrasts(x, y, clusters, 1 / sizes[clusters], np.array([[0.0, 1.0]]))
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
    result = cluster_robust.contrasts(x, y, clusters, np.ones(18), np.array([[0.0, 1.0], [1.0, 0.5]]))
    difference = stats.ttest_1samp(knees[:, 1] - knees[:, 0], 0)
    mean = stats.ttest_1samp(knees.mean(1), 0)
    np.testing.assert_allclose(result.estimate / result.error, [difference.statistic, mean.statistic])
    np.testing.assert_allclose(result.freedom, [8, 8])


def test_single_cases_have_statsmodels_hc2_errors():
    rng = np.random.default_rng(4)
    x = sm.add_constant(rng.normal(size=(30, 3)))
    y = rng.normal(size=30) * (1 + np.abs(x[:, 1]))
    result = cluster_robust.contrasts(x, y, np.arange(30), np.ones(30), np.eye(4))
    expected = sm.OLS(y, x).fit(cov_type="HC2")
    np.testing.assert_allclose(result.estimate, expected.params)
    np.testing.assert_allclose(result.error, expected.bse)


def test_many_clusters_have_statsmodels_cluster_errors():
    """Both tend to the same; of 400 clusters the corrections differ by less than 2 %."""
    x, y, clusters = ragged(5, patients=400)
    result = cluster_robust.contrasts(x, y, clusters, np.ones(len(y)), np.eye(3))
    expected = sm.OLS(y, x).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    np.testing.assert_allclose(result.error, expected.bse, rtol=0.02)


def test_units_order_and_names_change_nothing_else():
    x, y, clusters = ragged()
    weights = np.ones(len(y))
    first_fit = cluster_robust.contrasts(x, y, clusters, weights, np.eye(3))
    order = np.random.default_rng(6).permutation(len(y))
    names = np.array([f"p{20 - c}" for c in clusters])
    second_fit = cluster_robust.contrasts(x[order], y[order], names[order], 7 * weights, np.eye(3))
    for a, b in zip(first_fit[:3], second_fit[:3], strict=True):
        np.testing.assert_allclose(a, b)
    place = [np.unique(names).tolist().index(f"p{20 - c}") for c in np.unique(clusters)]
    np.testing.assert_allclose(first_fit.loads, second_fit.loads[place])
    scaled = cluster_robust.contrasts(x * [1, 1, 1e4], 100 * y, clusters, weights, np.eye(3))
    np.testing.assert_allclose(scaled.error, first_fit.error * [100, 100, 0.01])
    np.testing.assert_allclose(scaled.freedom, first_fit.freedom)


def test_a_cluster_that_alone_determines_a_coefficient_has_no_error():
    x, y, clusters = ragged()
    x[:, 1] = clusters == 3
    assert cluster_robust.contrasts(x, y, clusters, np.ones(len(y)), np.eye(3)) is None
