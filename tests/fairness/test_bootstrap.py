import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kneefair_jax import groups
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import (
    attribute_auc,
    bootstrap,
    method_comparison,
    model_comparison,
    patient_bootstrap,
    scores,
)
from kneefair_jax.fairness.bootstrap import Means


def test_levels_by_hand():
    low, high = bootstrap.expanded_levels(10)
    expected = stats.norm.cdf(np.sqrt(10 / 9) * stats.t.ppf(0.025, 9))
    np.testing.assert_allclose([low, high], [expected, 1 - expected])
    np.testing.assert_allclose(bootstrap.expanded_levels(100_000), [0.025, 0.975], atol=1e-5)


def mean_intervals(scores, seed=0, draws=10_000):
    """f64[P, K] -> f64[K, 2]: of the means over all patients."""
    strata = patient_bootstrap.stratify(scores.T[:, None], np.full(len(scores), -1), 1)
    intervals = patient_bootstrap.intervals(strata, np.random.default_rng(seed), draws)
    return intervals and np.array([method.mean for method in intervals.methods])


def test_close_to_student_for_normal_scores():
    scores = np.random.default_rng(1).normal(0.9, 0.03, (40, 1))
    expected = stats.t.interval(0.95, 39, scores.mean(), stats.sem(scores[:, 0]))
    np.testing.assert_allclose(mean_intervals(scores)[0], expected, atol=1.5e-3)


def test_covers_as_often_as_it_says():
    """Fifteen patients, 600 cohorts: the plain percentile interval covers about 91 %."""
    low, high = mean_intervals(np.random.default_rng(0).normal(0.9, 0.03, (15, 600)), draws=2000).T
    assert 0.925 < ((low <= 0.9) & (high >= 0.9)).mean() < 0.975


def test_too_few_patients_have_no_interval_rather_than_a_wrong_one():
    scores = np.random.default_rng(0).normal(size=(bootstrap.MIN_PATIENTS, 1))
    assert np.isfinite(mean_intervals(scores, draws=200)).all()
    assert mean_intervals(scores[1:], draws=200) is None


def test_the_seed_decides():
    scores = np.random.default_rng(0).normal(size=(12, 1))
    a, b, c = (mean_intervals(scores, seed, draws=1000) for seed in (3, 3, 4))
    assert (a == b).all() and (a != c).any()


def test_counts_are_those_of_drawing_with_replacement():
    counts = bootstrap.counts(7, 20_000, np.random.default_rng(0))
    assert counts.shape == (20_000, 7) and (counts.sum(1) == 7).all()
    # Binomial of 7 draws with the chance 1/7.
    share = np.bincount(counts.ravel(), minlength=8) / counts.size
    np.testing.assert_allclose(share, stats.binom.pmf(np.arange(8), 7, 1 / 7), atol=0.005)


@pytest.mark.parametrize("draws", [39, 0])
def test_too_few_draws_give_no_interval(draws):
    values = np.linspace(0, 1, 10)[:, None]
    with pytest.raises(InputError, match=f"draws={draws}.* {bootstrap.MIN_DRAWS} "):
        mean_intervals(values, draws=draws)
    low, high = mean_intervals(values, draws=bootstrap.MIN_DRAWS)[0]
    assert low < 0.5 < high


def test_every_interval_needs_the_least_number_of_draws():
    frame = pd.DataFrame(
        {
            "case_id": [f"c{i}" for i in range(24)],
            "patient_id": [f"p{i}" for i in range(24)],
            "structure": "femur",
            "sex": groups.categorical(pd.Series(["f", "m"] * 12)),
            "dice": np.linspace(0.8, 0.9, 24),
        }
    )
    index, few = np.arange(24) % 2, bootstrap.MIN_DRAWS - 1
    runs = {"erm": np.linspace(0.8, 0.9, 24)[None], "other": np.linspace(0.7, 0.9, 24)[None]}
    calls = (
        lambda draws: scores.scores(frame, ["femur"], ["sex"], min_group_patients=2, draws=draws, seed=0),
        lambda draws: method_comparison.compare_methods(
            runs, index, ("f", "m"), min_group_patients=2, draws=draws
        ),
        lambda draws: model_comparison.compare_models(
            {"a": frame, "b": frame.assign(dice=0.5 + index / 9)}, ["sex"], min_group_patients=2, draws=draws
        ),
        lambda draws: attribute_auc.attribute_auc(
            np.linspace(-1, 1, 24)[:, None], index, np.arange(24), seed=0, draws=draws
        ),
    )
    for call in calls:
        assert call(few + 1)
        with pytest.raises(InputError, match=f"draws={few}"):
            call(few)


@pytest.mark.parametrize(
    ("draws", "patients", "used"),
    [
        (10_000, 20_000, 10_000),
        (50_000, 20_000, 50_000),
        (10_000, 40_000, 5_000),
        (10_000, 200_000, 2_500),
        (1_000, 200_000, 1_000),
    ],
)
def test_draws_fall_as_patients_grow(draws, patients, used):
    assert bootstrap.affordable_draws(draws, patients, bootstrap.FEWEST_PERMUTATIONS) == used


def test_the_fewest_draws_leave_the_stated_precision():
    rng = np.random.default_rng(0)
    fewest = bootstrap.FEWEST_PERMUTATIONS
    critical = np.quantile(np.abs(rng.normal(size=(400, fewest))), 0.95, axis=1)
    assert critical.std() / (2 * 1.96) == pytest.approx(0.0095, abs=0.0012)
    ends = np.quantile(rng.normal(size=(400, bootstrap.FEWEST_RESAMPLES)), 0.025, axis=1)
    assert ends.std() / (2 * 1.96) == pytest.approx(0.0096, abs=0.0012)


def normal(point, error, draws=40_000, seed=0):
    """Means with known standard errors, their resamples normal."""
    point, error = np.atleast_2d(point), np.broadcast_to(error, np.atleast_2d(point).shape)
    resamples = point + error * np.random.default_rng(seed).normal(size=(draws, *point.shape))
    return Means(point, error**2, resamples, np.broadcast_to(error**2, resamples.shape))


def test_one_contrast_is_the_plain_interval():
    low, high = bootstrap.contrasts(normal([0.9, 0.8], [0.03, 0.04]), np.array([[1.0, -1.0]]))
    half = stats.norm.ppf(0.975) * 0.05
    assert (low.item(), high.item()) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-3)


def test_independent_contrasts_are_sidak_s():
    """Three means at two seeds, all independent: the quantile of the largest of 6 |t|."""
    low, high = bootstrap.contrasts(normal(np.full((2, 3), 0.9), 0.01), np.eye(3))
    quantile = stats.norm.ppf((1 + 0.95 ** (1 / 6)) / 2)
    np.testing.assert_allclose(high - low, 0.02 * quantile, rtol=0.01)


def test_ends_by_hand(monkeypatch):
    """Every statistic at the ends of its contrasts, seed by seed, then averaged."""
    point = np.array([[0.9, 0.8, 0.85], [0.8, 0.9, 0.85]])
    monkeypatch.setattr(
        bootstrap,
        "contrasts",
        lambda m, c: (m.estimate @ c.T - 0.02, m.estimate @ c.T + 0.02),
    )
    means = Means(point, point, point[None], point[None])
    assert bootstrap.worst(means) == pytest.approx([0.78, 0.82])
    assert bootstrap.gap(means) == pytest.approx([0.08, 0.12])
    assert bootstrap.ser(means) == pytest.approx([2 * np.exp(-0.02), 2 * np.exp(0.02)])
    # Deviations from S = 0.85: 0.05, 0.05, 0.
    expected = [0.83 / (1 + 0.07 + 0.07 + 0.02), 0.87 / (1 + 0.03 + 0.03)]
    assert bootstrap.es(means, np.full(3, 1 / 3), 3) == pytest.approx(expected)
    equal = Means(*(np.full_like(part, 0.8) for part in means))
    assert bootstrap.gap(equal) == pytest.approx([0, 0.02]) and bootstrap.ser(equal)[0] == 1


def test_the_change_of_the_worst_is_paired_where_the_worst_group_stays():
    a, b = normal([0.95, 0.85], 0.02), normal([0.95, 0.80], 0.02, seed=1)
    change = normal([0.0, 0.05], 0.001, seed=2)
    low, high = bootstrap.change_of_worst(a, b, change)
    assert (low + high) / 2 == pytest.approx(0.05) and high - low < 2 * 3 * 0.001
    reversed_result = normal([0.80, 0.95], 0.02)  # now the other group is the worst: different patients
    low, high = bootstrap.change_of_worst(reversed_result, b, normal([-0.15, 0.15], 0.001, seed=2))
    assert (low + high) / 2 == pytest.approx(0.0) and high - low > 2 * 1.96 * 0.028


def test_the_change_of_the_gap_by_hand(monkeypatch):
    """Paired where the extreme groups stay; by the ends of both gaps where the order turns round."""
    monkeypatch.setattr(
        bootstrap,
        "contrasts",
        lambda m, c: (m.estimate @ c.T - 0.02, m.estimate @ c.T + 0.02),
    )

    def change(method, baseline):
        a, b = (Means(*[np.array([entry])] * 4) for entry in (method, baseline))
        return bootstrap.change_of_gap(a, b, Means(*[a.estimate - b.estimate] * 4))

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
    assert bootstrap.worst(means._replace(bootstrap_variance=variance)) is None
    assert bootstrap.worst(means) is not None
    constant = Means(
        means.estimate, 0 * means.variance, means.estimate + 0 * means.bootstrap, 0 * means.bootstrap_variance
    )
    assert bootstrap.worst(constant) == pytest.approx([0.8, 0.8])


def test_an_error_of_zero_has_no_ratio():
    assert bootstrap.ser(normal([0.9, 0.8], 0.01, draws=200)) is not None
    assert bootstrap.ser(normal([0.9, 1.0], 0.01, draws=200)) is None


def test_pairs_are_the_first_minus_the_later():
    np.testing.assert_array_equal(bootstrap.pairs(3) @ [5.0, 3.0, 1.0], [2, 4, 2])
