import numpy as np
import pytest
from scipy import stats

from kneefair_jax.fairness import simultaneous
from kneefair_jax.fairness.simultaneous import Means


def normal(point, error, draws=40_000, seed=0):
    """Means with known standard errors, their resamples normal."""
    point, error = np.atleast_2d(point), np.broadcast_to(error, np.atleast_2d(point).shape)
    drawn = point + error * np.random.default_rng(seed).normal(size=(draws, *point.shape))
    return Means(point, error**2, drawn, np.broadcast_to(error**2, drawn.shape))


def test_one_contrast_is_the_plain_interval():
    low, high = simultaneous.contrasts(normal([0.9, 0.8], [0.03, 0.04]), np.array([[1.0, -1.0]]))
    half = stats.norm.ppf(0.975) * 0.05
    assert (low.item(), high.item()) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-3)


def test_independent_contrasts_are_sidak_s():
    """Three means at two seeds, all independent: the quantile of the largest of 6 |t|."""
    low, high = simultaneous.contrasts(normal(np.full((2, 3), 0.9), 0.01), np.eye(3))
    quantile = stats.norm.ppf((1 + 0.95 ** (1 / 6)) / 2)
    np.testing.assert_allclose(high - low, 0.02 * quantile, rtol=0.01)


def test_ends_by_hand(monkeypatch):
    """Every statistic at the ends of its contrasts, seed by seed, then averaged."""
    point = np.array([[0.9, 0.8, 0.85], [0.8, 0.9, 0.85]])
    monkeypatch.setattr(
        simultaneous, "contrasts", lambda m, c, _: (m.point @ c.T - 0.02, m.point @ c.T + 0.02)
    )
    means = Means(point, point, point[None], point[None])
    assert simultaneous.worst(means) == pytest.approx([0.78, 0.82])
    assert simultaneous.gap(means) == pytest.approx([0.08, 0.12])
    assert simultaneous.ser(means) == pytest.approx([2 * np.exp(-0.02), 2 * np.exp(0.02)])
    # Deviations from S = 0.85: 0.05, 0.05, 0.
    expected = [0.83 / (1 + 0.07 + 0.07 + 0.02), 0.87 / (1 + 0.03 + 0.03)]
    assert simultaneous.es(means, np.full(3, 1 / 3), 3) == pytest.approx(expected)
    equal = Means(*(np.full_like(part, 0.8) for part in means))
    assert simultaneous.gap(equal) == pytest.approx([0, 0.02]) and simultaneous.ser(equal)[0] == 1


def test_the_change_of_the_worst_is_paired_where_the_worst_group_stays():
    a, b = normal([0.95, 0.85], 0.02), normal([0.95, 0.80], 0.02, seed=1)
    change = normal([0.0, 0.05], 0.001, seed=2)
    low, high = simultaneous.change_of_worst(a, b, change)
    assert (low + high) / 2 == pytest.approx(0.05) and high - low < 2 * 3 * 0.001
    turned = normal([0.80, 0.95], 0.02)  # now the other group is the worst: different patients
    low, high = simultaneous.change_of_worst(turned, b, normal([-0.15, 0.15], 0.001, seed=2))
    assert (low + high) / 2 == pytest.approx(0.0) and high - low > 2 * 1.96 * 0.028


def test_resamples_without_spread_leave_no_interval():
    means = normal([0.9, 0.8], 0.01, draws=100)
    squared = means.squared.copy()
    squared[:10] = 0
    assert simultaneous.worst(means._replace(squared=squared)) is None
    assert simultaneous.worst(means) is not None
    still = Means(means.point, 0 * means.spread, means.point + 0 * means.drawn, 0 * means.squared)
    assert simultaneous.worst(still) == pytest.approx([0.8, 0.8])
