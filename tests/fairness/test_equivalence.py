import numpy as np
import pytest
from scipy import stats

from kneefair_jax.fairness import equivalence, two_part
from kneefair_jax.fairness.equivalence import reader_agreement

NAMES = ("a", "b", "c")


def group(mean, patients, spread=0.02, failures=0):
    """A symmetric sample with exactly this mean and standard deviation, besides the failures."""
    quantiles = stats.norm.ppf((np.arange(patients) + 0.5) / patients)
    values = mean + spread * quantiles / quantiles.std(ddof=1)
    values[:failures] = 0
    return two_part.summarize(values, values < 0.5, 0.0, 1.0)


def tost(groups, delta, unranked=0, level=0.05):
    return equivalence.tost(groups, NAMES[: len(groups)], delta, unranked, level)


@pytest.mark.parametrize("level", [0.05, 0.05 / 3])
def test_intervals_are_those_of_two_one_sided_tests_and_of_unobserved_failures(level):
    result = tost([group(0.9, 300), group(0.89, 400)], 0.05, level=level)
    errors = [0.02 / np.sqrt(n) * stats.t.isf(level, n - 1) for n in (300, 400)]
    # Clopper-Pearson's upper limits of 0 of 300 and 0 of 400, one-sided.
    rates = [1 - level ** (1 / n) for n in (300, 400)]
    low = 0.01 - np.sqrt(errors[0] ** 2 + (0.9 * rates[0]) ** 2 + errors[1] ** 2)
    high = 0.01 + np.sqrt(errors[0] ** 2 + errors[1] ** 2 + (0.89 * rates[1]) ** 2)
    assert result.intervals[0] == pytest.approx((low, high), abs=1e-6)
    assert result.failure_intervals[0] == pytest.approx((-rates[1], rates[0]))
    assert result.confidence == pytest.approx(1 - 2 * level)
    assert result.delta == 0.05 and result.equivalent is True and result.reason is None


def test_failure_intervals_by_hand():
    """10 of 200 against 0 of 200: 0.05 -+ the distances to exact 90 % limits, 0.0274 to 0.0833 and 0 to 0.0149."""
    result = tost([group(0.9, 200, failures=10), group(0.9, 200)], 0.02)
    exact = stats.binomtest(10, 200).proportion_ci(0.9)
    none = stats.binomtest(0, 200).proportion_ci(0.9).high
    assert (exact.low, exact.high, none) == pytest.approx((0.0274, 0.0833, 0.0149), abs=1e-4)
    expected = (0.05 - np.hypot(0.05 - exact.low, none), exact.high)
    assert result.failure_intervals[0] == pytest.approx(expected)
    assert result.equivalent is False and result.reason.count("a minus b") == 2


@pytest.mark.parametrize(
    ("groups", "unranked", "reason"),
    [
        ([group(0.9, 60), group(0.9, 60)], 0, "means"),  # 5 % of either could fail unseen
        ([group(0.9, 400), group(0.9, 400), group(0.86, 400)], 0, "means: the interval of a minus c"),
        ([group(0.9, 400), group(0.9, 400, failures=8)], 0, "means: the interval of a minus b"),
        ([group(0.9, 400)], 0, "two groups"),
        ([group(0.9, 400), group(0.9, 400)], 1, "too small"),
        ([group(0.9, 400, 0.0), group(0.9, 400, 0.0)], 0, "vary"),
    ],
)
def test_what_is_not_shown_to_be_equal(groups, unranked, reason):
    result = tost(groups, 0.02, unranked)
    assert result.equivalent is False and reason in result.reason


def test_equal_means_are_not_equivalent_where_more_patients_of_a_group_fail():
    """0 and 10 of 200 failed, and the others of the second group score as much higher as failures take away."""
    failures = 0.8 / 0.95
    result = tost([group(0.8, 200), group(failures, 200, failures=10)], 0.05)
    second = tost([group(0.8, 200), group(0.8, 200)], 0.05)
    assert max(map(abs, result.intervals[0])) < 0.05 < max(map(abs, result.failure_intervals[0]))
    assert result.equivalent is False and result.reason.startswith("difference of failure rates")
    assert "means" not in result.reason and second.equivalent is True


def test_most_patients_of_a_group_failed():
    """Every score of theirs is a loss, and those who failed count as failures."""
    poor = group(0.9, 300, failures=200)
    result = tost([group(0.8, 300), poor], 0.6)
    assert poor.failed == 300 and poor.failures == 200
    assert result.failure_intervals[0][0] < -2 / 3 and "failure rates" in result.reason


def test_each_pair_is_tested_at_the_full_level():
    """Intersection-union: a third group does not widen the first pair's interval."""
    groups = [group(0.9, 300), group(0.89, 300), group(0.9, 300)]
    two, three = (tost(groups[:count], 0.05) for count in (2, 3))
    assert two.intervals[0] == three.intervals[0] and len(three.intervals) == 3
    assert two.failure_intervals[0] == three.failure_intervals[0] and len(three.failure_intervals) == 3


def test_failures_at_the_edge_of_the_margin_are_rarely_called_equivalent():
    """100 patients a group, one with 2.1 % failures, a true difference of 0.02: TOST of means accepted 13 to 16 %."""
    rng, accepted = np.random.default_rng(0), 0
    for _ in range(400):
        values = rng.beta(38, 2, (2, 100))
        values[1, rng.random(100) < 0.02 / 0.95] = 0
        accepted += tost([two_part.summarize(row, row < 0.5, 0.0, 1.0) for row in values], 0.02).equivalent
    assert accepted / 400 <= 0.065


def test_distances_cannot_be_shown_to_be_equal():
    distance = two_part.summarize(np.linspace(1, 2, 300), np.zeros(300, bool), None, 0.0)
    result = tost([distance, distance], 5.0)
    assert result.equivalent is False and "distance" in result.reason


def test_mean_difference_interval_and_limits_by_hand():
    """Differences -2, -1, 0, 1, 7: mean 1, variance 50 / 4, standard error sqrt(2.5), t of 4 degrees 2.7764."""
    agreement = reader_agreement(np.array([-2.0, -1, 0, 1, 7]))
    assert (agreement.patients, agreement.mean_difference, agreement.margin) == (5, 1.0, 0.0)
    half = 2.776445 * np.sqrt(2.5)
    assert agreement.interval == pytest.approx((1 - half, 1 + half), abs=1e-5)
    assert agreement.limits_of_agreement == pytest.approx((1 - 1.96 * 12.5**0.5, 1 + 1.96 * 12.5**0.5))


def test_the_interval_is_that_of_scipy_and_the_margin_has_no_sign():
    differences = np.random.default_rng(0).normal(-0.03, 0.02, 40)
    agreement = reader_agreement(differences)
    expected = stats.ttest_1samp(differences, 0).confidence_interval()
    assert agreement.interval == pytest.approx((expected.low, expected.high))
    # The end of the interval that is nearest to zero, without its sign.
    assert agreement.margin == pytest.approx(-expected.high) and 0.02 < agreement.margin < 0.03


def test_readers_who_differ_in_single_patients_may_agree_in_the_mean():
    """17 patients of +.028, 11 of -.028: the mean absolute difference is .028, the difference of means .006."""
    agreement = reader_agreement(np.repeat([0.028, -0.028], [17, 11]))
    assert agreement.mean_difference == pytest.approx(0.006) and agreement.margin == 0
    many = reader_agreement(np.repeat([0.028, -0.028], [1700, 1100]))
    assert 0.0045 < many.margin < 0.006


def test_noise_gives_no_margin():
    """Readers who agree in the mean, six patients: the absolute mean is 0.019 on average, the margin nearly never."""
    rng = np.random.default_rng(0)
    margins = [reader_agreement(rng.normal(0, 0.06, 6)).margin for _ in range(400)]
    assert np.mean(np.array(margins) > 0) < 0.08
