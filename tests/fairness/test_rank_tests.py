import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kneefair_jax.fairness import rank_tests
from kneefair_jax.fairness.multiplicity import holm

scores = st.lists(st.integers(0, 20).map(lambda i: i / 20), min_size=2, max_size=8).map(np.array)


@settings(max_examples=50, deadline=None)
@given(scores, scores)
def test_cliffs_delta_by_counting(a, b):
    counted = np.sign(a[:, None] - b).mean()
    assert rank_tests.cliffs_delta(a, b) == pytest.approx(counted, abs=1e-12)
    assert rank_tests.cliffs_delta(b, a) == pytest.approx(-counted, abs=1e-12)


def test_two_groups_are_scipy_s():
    a, b = np.random.default_rng(0).normal(size=(2, 12))
    found = rank_tests.tests([a, b[:7]])
    assert found.name == "Brunner-Munzel"
    assert found.p == found.brunner_munzel[0] == pytest.approx(stats.brunnermunzel(a, b[:7]).pvalue)
    assert found.mann_whitney == [pytest.approx(stats.mannwhitneyu(a, b[:7]).pvalue)]


def test_dunn_by_hand():
    """Ranks 1 2 3 | 4 5 6 | 7.5 7.5 9: means 2, 5, 8; one tie of two."""
    groups = [np.array([1.0, 2, 3]), np.array([4.0, 5, 6]), np.array([7.0, 7, 9])]
    error = np.sqrt((9 * 10 / 12 - 6 / (12 * 8)) * (1 / 3 + 1 / 3))
    p = 2 * stats.norm.sf(np.array([3, 6, 3]) / error)
    assert rank_tests.dunn(groups) == pytest.approx(p.tolist())
    found = rank_tests.tests(groups)
    assert found.name == "Kruskal-Wallis" and found.p == pytest.approx(stats.kruskal(*groups).pvalue)
    assert found.mann_whitney == pytest.approx(list(holm(dict(enumerate(p.tolist()))).values()))
    assert found.cliffs_delta == [-1, -1, -1] and found.brunner_munzel == [None] * 3


def test_kruskal_wallis_of_two_is_the_square_of_dunn():
    """H of two groups is z^2, ties and all, so that both have one p value."""
    rng = np.random.default_rng(0)
    groups = [rng.integers(0, 6, n).astype(float) for n in (9, 14)]
    assert rank_tests.dunn(groups) == [pytest.approx(stats.kruskal(*groups).pvalue)]


def test_equal_scores_and_small_groups():
    same = np.full(5, 0.9)
    assert rank_tests.tests([same, same])[1:] == (1.0, [1.0], [1.0], [0.0])
    assert rank_tests.tests([same, same, same]).mann_whitney == [1.0] * 3
    assert rank_tests.tests([same, same[:1]]) is None and rank_tests.tests([same]) is None
