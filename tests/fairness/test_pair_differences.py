import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kneefair_jax.fairness import hypothesis_tests, pair_differences


def differences(parts, order=None, permutations=999, span=1.0):
    order = list(range(len(parts))) if order is None else order
    stacked = np.concatenate([parts[g] for g in order])[None]
    sizes = np.array([len(parts[g]) for g in order])
    tests = hypothesis_tests.permuted_welch(stacked, sizes, np.random.default_rng(0), permutations)
    return pair_differences.group_differences(parts, np.argsort(order), tests, 0, span)


def cohort(sizes=(40, 30), seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return [0.9 - shift * g + 0.02 * rng.normal(size=n) for g, n in enumerate(sizes)]


def test_large_groups_have_welch_s_interval():
    parts = cohort((400, 300), shift=0.005)
    welch = stats.ttest_ind(*parts, equal_var=False)
    result = differences(parts, permutations=9999)
    assert result.estimates[0] == pytest.approx(parts[0].mean() - parts[1].mean())
    assert result.errors[0] == pytest.approx(result.estimates[0] / welch.statistic)
    for level in (0.05, 0.01):
        low, high = result.limits(level)
        expected = welch.confidence_interval(1 - level)
        assert (low[0], high[0]) == pytest.approx(tuple(expected), abs=2e-4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 12), min_size=2, max_size=4), st.integers(0, 10**6), st.floats(0.001, 0.9))
def test_an_interval_excludes_zero_where_the_test_rejects(sizes, seed, level):
    rng = np.random.default_rng(seed)
    result = differences([rng.beta(9, 1, n) - 0.1 * rng.random() for n in sizes], permutations=199)
    limits = result.limits(level)
    if level * 200 < 1:
        assert limits is None
        return
    low, high = limits
    np.testing.assert_array_equal((low > 0) | (high < 0), result.p <= level + 1e-12)
    assert (low <= result.estimates).all() and (result.estimates <= high).all()


def test_another_order_in_the_tests_changes_nothing():
    parts = cohort((9, 7, 8), shift=0.01)
    parts[1] = parts[1] ** 3  # skewed
    straight = differences(parts)
    shifted = differences(parts, [2, 0, 1])
    np.testing.assert_allclose(shifted.estimates, straight.estimates)
    np.testing.assert_allclose(shifted.skewness, straight.skewness)
    np.testing.assert_allclose(shifted.p, straight.p, atol=0.05)


def test_limits_stay_in_the_range_of_a_difference():
    parts = [np.array([0.0, 1.0]), np.array([1.0, 0.0])]
    low, high = differences(parts).limits()
    assert low[0] >= -1 and high[0] <= 1


def test_as_many_differences_are_covered_as_the_level_says():
    """Groups of 20 and 10, skewed, the smaller one twice as variable: 95 % of 300 cohorts."""
    coverage = 0
    for seed in range(300):
        rng = np.random.default_rng([7, seed])
        parts = [0.9 - 0.03 * (rng.exponential(size=n) - 1) * wide for n, wide in ((20, 1), (10, 2))]
        low, high = differences(parts, permutations=199).limits()
        coverage += low[0] <= 0 <= high[0]
    assert 0.91 <= coverage / 300 <= 0.98
