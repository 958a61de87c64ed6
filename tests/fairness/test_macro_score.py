import numpy as np
import pytest
from scipy import stats

from kneefair_jax.fairness import macro_score
from kneefair_jax.fairness.macro_score import CORRELATION, standardized_means

MEANS = np.array([0.96, 0.95, 0.94, 0.88])  # femur, tibia, patella, fibula


def cohort(rng, sizes=(100, 60), missing=(0.0, 0.5), gap=(0.0, 0.0, 0.0, 0.0)):
    """Scores of cases of two groups; the fibula is missing in these shares of them."""
    group = np.repeat([0, 1], sizes)
    case = rng.normal(0, 0.01, len(group))
    values = MEANS + case[:, None] + rng.normal(0, 0.01, (len(group), 4)) - group[:, None] * np.array(gap)
    values[rng.random(len(group)) < np.array(missing)[group], 3] = np.nan
    return values, group


def test_cases_with_every_structure_keep_their_mean_bit_by_bit():
    values, _ = cohort(np.random.default_rng(0))
    complete = ~np.isnan(values).any(1)
    means = standardized_means(values)
    assert (means[complete] == np.nanmean(values, axis=1)[complete]).all()
    assert (standardized_means(values[complete]) == values[complete].mean(1)).all()


def test_by_hand_of_structures_without_spread():
    """All cases score .9 in the femur and .7 in the tibia, so every macro score is .8, whatever is missing."""
    values = np.array([[0.9, 0.7], [0.9, np.nan], [np.nan, 0.7], [0.9, 0.7]])
    np.testing.assert_allclose(standardized_means(values), 0.8, rtol=1e-12)
    # The case of one structure is .06 better than its expected score there.
    better = np.array([[0.9, 0.7], [0.9, 0.7], [0.9, 0.7], [np.nan, 0.76]])
    expected = brute_force(better)
    np.testing.assert_allclose(standardized_means(better)[3], 0.76 - expected[1] + expected.mean())


def brute_force(values):
    """Structure effects by the dense covariance matrix of all scores."""
    cases, structures = np.nonzero(~np.isnan(values))
    design = np.eye(values.shape[1])[structures]
    covariance = CORRELATION * (cases[:, None] == cases) + (1 - CORRELATION) * np.eye(len(cases))
    inverse = np.linalg.inv(covariance)
    return np.linalg.solve(design.T @ inverse @ design, design.T @ inverse @ values[cases, structures])


def test_expected_scores_are_those_of_generalized_least_squares():
    rng = np.random.default_rng(1)
    values = np.where(rng.random((30, 4)) < 0.4, np.nan, rng.uniform(size=(30, 4)))
    values[0] = np.nan
    expected, has_value = brute_force(values), ~np.isnan(values)
    deviation = np.nansum(values - expected, axis=1)[1:] / has_value.sum(1)[1:]
    means = standardized_means(values)
    np.testing.assert_allclose(means[1:], deviation + expected.mean(), rtol=1e-10)
    assert np.isnan(means[0])


def test_failed_segmentations_count_but_set_no_expectation():
    values = np.array([[0.9, 0.7], [0.9, 0.7], [0.9, 0.0], [0.9, np.nan]])
    means = standardized_means(values, values >= 0.5)
    np.testing.assert_allclose(means, [0.8, 0.8, 0.45, 0.8])
    # A structure of which every segmentation failed is expected to fail.
    values = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, np.nan]])
    np.testing.assert_allclose(standardized_means(values, values >= 0.5), 0.5)


def test_structures_that_no_case_has_together_are_compared_by_their_means():
    values = np.array([[0.9, np.nan], [0.8, np.nan], [np.nan, 0.6], [np.nan, 0.5], [np.nan, 0.4]])
    np.testing.assert_allclose(standardized_means(values), [0.725, 0.625, 0.775, 0.675, 0.575])


def test_a_structure_that_no_case_has_counts_nowhere():
    values = np.array([[0.9, 0.7, np.nan], [0.8, 0.6, np.nan]])
    assert standardized_means(values).tolist() == [(0.9 + 0.7) / 2, (0.8 + 0.6) / 2]


@pytest.mark.parametrize("missing", [(0.0, 0.5), (0.5, 0.5), (0.0, 0.9)])
def test_no_gap_where_no_structure_has_one(missing):
    gaps, rejected = [], 0
    for seed in range(80):
        values, group = cohort(np.random.default_rng(seed), missing=missing)
        means = standardized_means(values)
        gaps.append(means[group == 0].mean() - means[group == 1].mean())
        rejected += stats.ttest_ind(means[group == 0], means[group == 1], equal_var=False).pvalue < 0.05
    assert abs(np.mean(gaps)) < 4 * np.std(gaps) / np.sqrt(len(gaps)) < 0.0015
    assert rejected <= 10  # 4 are expected


@pytest.mark.parametrize(
    ("gap", "expected"),
    [((0.02,) * 4, 0.02), ((0.0, 0.04, 0.0, 0.0), 0.0113), ((0.0, 0.0, 0.0, 0.04), 0.0061)],
)
def test_a_gap_in_all_structures_and_in_one(gap, expected):
    """The fibula counts in the half that has it, and the others count for it in the other half."""
    gaps = []
    for seed in range(100):
        values, group = cohort(np.random.default_rng(seed), gap=gap)
        means = standardized_means(values)
        gaps.append(means[group == 0].mean() - means[group == 1].mean())
    assert np.mean(gaps) == pytest.approx(expected, abs=0.0006)


def test_what_is_missing_is_counted_by_group():
    scored = {"femur": {"f": 10, "m": 12}, "fibula": {"f": 4, "m": 12}, "patella": {"f": 9, "m": 11}}
    (warning,) = macro_score.incomplete_case_warnings(scored, {"f": 10, "m": 12})
    assert "(fibula in 6 of 10 of f, patella in 1 of 10 of f, patella in 1 of 12 of m)" in warning
    assert macro_score.incomplete_case_warnings({"femur": {"f": 10}}, {"f": 10}) == []


def test_what_is_added_is_zero_without_missing_structures():
    assert macro_score.adjustments(np.random.default_rng(0).uniform(size=(5, 3))).tolist() == [0.0] * 5
