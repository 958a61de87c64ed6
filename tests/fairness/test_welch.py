import numpy as np
import pytest
from scipy import stats

from kneefair_jax.fairness import welch

SIZES = np.array([20, 9, 14])
SCORES = np.random.default_rng(0).normal(0.9, np.repeat([0.02, 0.06, 0.04], SIZES), (2, 43))


def test_intervals_are_scipy_s():
    parts = np.split(SCORES, [20, 29], axis=1)
    found = welch.intervals(SCORES, SIZES, 0.9)
    for j, (a, b) in enumerate([(0, 1), (0, 2), (1, 2)]):
        result = stats.ttest_ind(parts[a], parts[b], axis=1, equal_var=False)
        expected = result.confidence_interval(0.9)
        np.testing.assert_allclose(found[:, j], np.stack([expected.low, expected.high], axis=1))


def test_the_detectable_gap_by_hand():
    """Two groups of 10 with SD 0.03: standard error 0.03 sqrt(0.2), 18 degrees of freedom."""
    one = np.arange(10.0)
    group = 0.9 + 0.03 * (one - one.mean()) / one.std(ddof=1)
    expected = (2.100922 + 0.862049) * 0.03 * np.sqrt(0.2)
    found = welch.detectable(np.tile(group, 2)[None], np.array([10, 10]))
    assert found == pytest.approx([expected], rel=1e-5)


def test_the_detectable_gap_is_found_as_often_as_it_says():
    rng, sizes = np.random.default_rng(1), np.array([40, 20])
    scores = rng.normal(0.9, np.repeat([0.03, 0.05], sizes), (4000, 60))
    gap = welch.detectable(scores, sizes).mean()
    a, b = np.split(scores, [40], axis=1)
    p = stats.ttest_ind(a + gap, b, axis=1, equal_var=False).pvalue
    assert 0.77 < (p <= 0.05).mean() < 0.83


def test_the_largest_pair_counts():
    pairs = [(0, 1), (0, 2), (1, 2)]
    parts = np.split(SCORES, [20, 29], axis=1)
    each = [welch.detectable(np.concatenate([parts[a], parts[b]], axis=1), SIZES[[a, b]]) for a, b in pairs]
    np.testing.assert_allclose(welch.detectable(SCORES, SIZES), np.max(each, axis=0))


def test_equal_scores_have_no_width():
    np.testing.assert_allclose(welch.intervals(np.full((1, 8), 0.9), np.array([4, 4])), [[[0, 0]]])
