import numpy as np
import pytest
from scipy import stats

from kneefair_jax.fairness import simultaneous_intervals
from kneefair_jax.fairness.simultaneous_intervals import Means


def normal(point, error, draws=40_000, seed=0):
    """Means with known standard errors, their resamples normal."""
    point, error = np.atleast_2d(point), np.broadcast_to(error, np.atleast_2d(point).shape)
    resamples = point + error * np.random.default_rng(seed).normal(size=(draws, *point.shape))
    return Means(point, error**2, resamples, np.broadcast_to(error**2, resamples.shape))


def test_one_contrast_is_the_plain_interval():
    low, high = simultaneous_intervals.contrasts(normal([0.9, 0.8], [0.03, 0.04]), np.array([[1.0, -1.0]]))
    half = stats.norm.ppf(0.975) * 0.05
    assert (low.item(), high.item()) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-3)


def test_independent_contrasts_are_sidak_s():
    """Three means at two seeds, all independent: the quantile of the largest of 6 |t|."""
    low, high = simultaneous_intervals.contrasts(normal(np.full((2, 3), 0.9), 0.01), np.eye(3))
    quantile = stats.norm.ppf((1 + 0.95 ** (1 / 6)) / 2)
    np.testing.assert_allclose(high - low, 0.02 * quantile, rtol=0.01)


def test_ends_by_hand(monkeypatch):
    """Every statistic at the ends of its contrasts, seed by seed, then averaged."""
    point = np.array([[0.9, 0.8, 0.85], [0.8, 0.9, 0.85]])
    monkeypatch.setattr(
        simultaneous_intervals,
        "contrasts",
        lambda m, c, _: (m.estimate @ c.T - 0.02, m.estimate @ c.T + 0.02),
    )
    means = Means(point, point, point[None], point[None])
    assert simultaneous_intervals.worst(means) == pytest.approx([0.78, 0.82])
    assert simultaneous_intervals.gap(means) == pytest.approx([0.08, 0.12])
    assert simultaneous_intervals.ser(means) == pytest.approx([2 * np.exp(-0.02), 2 * np.exp(0.02)])
    # Deviations from S = 0.85: 0.05, 0.05, 0.
    expected = [0.83 / (1 + 0.07 + 0.07 + 0.02), 0.87 / (1 + 0.03 + 0.03)]
    assert simultaneous_intervals.es(means, np.full(3, 1 / 3), 3) == pytest.approx(expected)
    equal = Means(*(np.full_like(part, 0.8) for part in means))
    assert (
        simultaneous_intervals.gap(equal) == pytest.approx([0, 0.02])
        and simultaneous_intervals.ser(equal)[0] == 1
    )


def test_the_change_of_the_worst_is_paired_where_the_worst_group_stays():
    a, b = normal([0.95, 0.85], 0.02), normal([0.95, 0.80], 0.02, seed=1)
    change = normal([0.0, 0.05], 0.001, seed=2)
    low, high = simultaneous_intervals.change_of_worst(a, b, change)
    assert (low + high) / 2 == pytest.approx(0.05) and high - low < 2 * 3 * 0.001
    reversed_result = normal([0.80, 0.95], 0.02)  # now the other group is the worst: different patients
    low, high = simultaneous_intervals.change_of_worst(
        reversed_result, b, normal([-0.15, 0.15], 0.001, seed=2)
    )
    assert (low + high) / 2 == pytest.approx(0.0) and high - low > 2 * 1.96 * 0.028


def test_the_change_of_the_gap_by_hand(monkeypatch):
    """Paired where the extreme groups stay; by the ends of both gaps where the order turns round."""
    monkeypatch.setattr(
        simultaneous_intervals,
        "contrasts",
        lambda m, c, _: (m.estimate @ c.T - 0.02, m.estimate @ c.T + 0.02),
    )

    def change(method, baseline):
        a, b = (Means(*[np.array([entry])] * 4) for entry in (method, baseline))
        return simultaneous_intervals.change_of_gap(a, b, Means(*[a.estimate - b.estimate] * 4))

    baseline = [0.9, 0.85, 0.7]
    assert change([0.9, 0.85, 0.8], baseline) == pytest.approx([-0.12, -0.08])
    # The gap falls from 0.2 to 0.1 by other groups: each within 0.02, so their difference within 0.04.
    assert change([0.75, 0.8, 0.85], baseline) == pytest.approx([-0.14, -0.06])
    # Two pairs can have either gap, and change by -0.1 and -0.09.
    assert change([0.8, 0.79, 0.7], [0.9, 0.88, 0.7]) == pytest.approx([-0.12, -0.07])


def test_resamples_without_spread_leave_no_interval():
    means = normal([0.9, 0.8], 0.01, draws=100)
    variance = means.bootstrap_variance.copy()
    variance[:10] = 0
    assert simultaneous_intervals.worst(means._replace(bootstrap_variance=variance)) is None
    assert simultaneous_intervals.worst(means) is not None
    constant = Means(
        means.estimate, 0 * means.variance, means.estimate + 0 * means.bootstrap, 0 * means.bootstrap_variance
    )
    assert simultaneous_intervals.worst(constant) == pytest.approx([0.8, 0.8])


def test_an_error_of_zero_has_no_ratio():
    assert simultaneous_intervals.ser(normal([0.9, 0.8], 0.01, draws=200)) is not None
    assert simultaneous_intervals.ser(normal([0.9, 1.0], 0.01, draws=200)) is None


def test_pairs_are_the_first_minus_the_later():
    np.testing.assert_array_equal(simultaneous_intervals.pairs(3) @ [5.0, 3.0, 1.0], [2, 4, 2])
