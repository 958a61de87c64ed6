from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from kneefair_jax.fairness import permutation


def scores(sizes, seed=0, columns=3, wider=1.0):
    """Columns of patients' scores, those of the last group more variable."""
    rng = np.random.default_rng(seed)
    spread = np.repeat([*[0.03] * (len(sizes) - 1), 0.03 * wider], sizes)
    return rng.normal(0.9, spread, (columns, sum(sizes)))


def test_the_statistics_are_scipy_s():
    values, sizes = scores((12, 7)), np.array([12, 7])
    found = permutation.welch(values, sizes, np.random.default_rng(0), 9)
    expected = stats.ttest_ind(values[:, :12], values[:, 12:], axis=1, equal_var=False).statistic
    np.testing.assert_allclose(found.statistic, expected)
    np.testing.assert_allclose(found.pairs[:, 0], expected)
    assert found.name == "permuted Welch t"
    values, sizes = scores((12, 7, 5)), np.array([12, 7, 5])
    parts = np.split(values, [12, 19], axis=1)
    found = permutation.welch(values, sizes, np.random.default_rng(0), 9)
    np.testing.assert_allclose(found.statistic, stats.f_oneway(*parts, axis=1, equal_var=False).statistic)
    for j, (a, b) in enumerate([(0, 1), (0, 2), (1, 2)]):
        expected = stats.ttest_ind(parts[a], parts[b], axis=1, equal_var=False).statistic
        np.testing.assert_allclose(found.pairs[:, j], expected)
    assert found.name == "permuted Welch ANOVA"


@pytest.mark.parametrize("sizes", [(2, 2, 2), (3, 4)])
def test_against_all_permutations(sizes):
    values, sizes = scores(sizes, seed=1, columns=1), np.array(sizes)
    labels = np.repeat(np.arange(len(sizes)), sizes)

    def statistics(labels):
        parts = [values[0, labels == g] for g in range(len(sizes))]
        t = [
            abs(stats.ttest_ind(parts[a], parts[b], equal_var=False).statistic)
            for a, b in zip(*np.triu_indices(len(sizes), 1), strict=True)
        ]
        return (t[0] if len(sizes) == 2 else stats.f_oneway(*parts, equal_var=False).statistic), np.array(t)

    observed, t = statistics(labels)
    every = [statistics(np.array(split)) for split in set(permutations(labels.tolist()))]
    found = permutation.welch(values, sizes, np.random.default_rng(0), 4000)
    exact = np.mean([one >= observed * (1 - 1e-9) for one, _ in every])
    assert found.p[0] == pytest.approx(exact, abs=4 * np.sqrt(0.25 / 4000))
    exact = np.mean([ts.max() >= t * (1 - 1e-9) for _, ts in every], axis=0)
    np.testing.assert_allclose(found.pairs_p[0], exact, atol=4 * np.sqrt(0.25 / 4000))


def test_a_small_group_of_doubled_spread_keeps_the_level():
    """Where permuted means reject a true null in 19 % of cohorts (the table in METHODS)."""
    sizes = np.array([60, 15])
    values = scores((60, 15), columns=1500, wider=2.0)
    found = permutation.welch(values, sizes, np.random.default_rng(0), 299)
    assert 0.035 < (found.p <= 0.05).mean() < 0.075
    rng = np.random.default_rng(1)
    weights = rng.permuted(np.tile(np.repeat([1 / 60, -1 / 15], sizes), (299, 1)), axis=1)
    means = np.abs(values @ np.repeat([1 / 60, -1 / 15], sizes))
    naive = (1 + (np.abs(weights @ values.T) >= means).sum(0)) / 300
    assert (naive <= 0.05).mean() > 0.14


def test_chunks_change_nothing_but_the_draws(monkeypatch):
    values, sizes = scores((12, 7, 5)), np.array([12, 7, 5])
    whole = permutation.welch(values, sizes, np.random.default_rng(0), 200)
    monkeypatch.setattr(permutation, "CHUNK", 24 * 3 * 7)
    chunked = permutation.welch(values, sizes, np.random.default_rng(0), 200)
    np.testing.assert_array_equal(whole.p, chunked.p)
    np.testing.assert_array_equal(whole.pairs_p, chunked.pairs_p)


def test_scores_that_are_all_equal_are_no_gap_and_a_whole_one_is_found():
    sizes = np.array([6, 6])
    equal = permutation.welch(np.full((1, 12), 0.9), sizes, np.random.default_rng(0), 99)
    assert equal.p[0] == 1 and equal.statistic[0] == 0
    apart = np.repeat([0.9, 0.8], sizes)[None]
    found = permutation.welch(apart, sizes, np.random.default_rng(0), 999)
    # Two of the 924 splits are as far apart.
    assert found.p[0] < 0.01 and np.isfinite(found.statistic[0])


def test_a_group_of_one_has_no_test():
    assert permutation.welch(scores((5, 1)), np.array([5, 1]), np.random.default_rng(0), 9) is None
    assert permutation.welch(scores((5,)), np.array([5]), np.random.default_rng(0), 9) is None


def test_people_in_both_groups_make_it_cautious():
    """Everybody is a row in both, with scores that correlate by 0.8, and no gap: rejected in far fewer than 5 %."""
    rng = np.random.default_rng(0)
    person = rng.normal(size=(300, 15))
    visits = 0.9 + 0.03 * np.concatenate(
        [person + 0.5 * rng.normal(size=person.shape) for _ in range(2)], axis=1
    )
    found = permutation.welch(visits, np.array([15, 15]), np.random.default_rng(0), 299)
    assert (found.p <= 0.05).mean() < 0.02
