import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kneefair_jax.fairness import two_part


def group(values, failed=None, worst=0.0, best=1.0):
    values = np.asarray(values, float)
    return two_part.summarize(values, values < 0.5 if failed is None else np.asarray(failed), worst, best)


def test_symmetric_scores_without_failures_have_student_s_limit_toward_the_best():
    values = 0.9 + 0.01 * np.array([-2.0, -1, 0, 1, 2, -1, 1])
    scores = group(values)
    assert (scores.n, scores.failed, scores.loss, scores.skewness) == (7, 0, 0, pytest.approx(0))
    student = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    low, high = two_part.limits(scores, 0.025)
    assert high == pytest.approx(student[1])
    # Failures of up to 41 % of the patients remain possible: Clopper-Pearson's limit for 0 of 7.
    hidden = stats.binomtest(0, 7).proportion_ci(0.95).high
    assert low == pytest.approx(0.9 - np.hypot(0.9 - student[0], 0.9 * hidden))


def test_one_complete_failure_by_hand():
    values = np.array([0.9, 0.92, 0.88, 0.9, 0.91, 0.89, 0.9, 0.9, 0.9, 0.0])
    scores = group(values)
    assert (scores.n, scores.failed, scores.freedom) == (10, 1, 8)
    assert (
        scores.mean == pytest.approx(0.81)
        and scores.center == pytest.approx(0.9)
        and scores.loss == pytest.approx(0.1)
    )
    rate = stats.binomtest(1, 10).proportion_ci(0.95)
    center = stats.t.interval(0.95, 8, 0.9, stats.sem(values[:-1]))
    low, high = two_part.limits(scores, 0.025)
    assert low == pytest.approx(0.81 - np.hypot(0.9 * (0.9 - center[0]), 0.9 * (rate.high - 0.1)))
    assert high == pytest.approx(0.81 + np.hypot(0.9 * (center[1] - 0.9), 0.9 * (0.1 - rate.low)))


def test_a_failure_counts_by_its_size():
    """Stringer's bound: the rate without failures in full, the rest by the failure's size."""
    rest = [0.9, 0.92, 0.88, 0.9, 0.91, 0.89, 0.9, 0.9, 0.9]
    half = group([*rest, 0.45])
    assert half.losses == pytest.approx([0.5])
    rate = [stats.binomtest(k, 10).proportion_ci(0.95) for k in (0, 1)]
    upper = rate[0].high + 0.5 * (rate[1].high - rate[0].high)
    center = stats.t.interval(0.95, 8, 0.9, stats.sem(rest))
    low, high = two_part.limits(half, 0.025)
    assert low == pytest.approx(0.855 - np.hypot(0.95 * (0.9 - center[0]), 0.9 * (upper - 0.05)))
    assert high == pytest.approx(0.855 + np.hypot(0.95 * (center[1] - 0.9), 0.9 * (0.05 - 0.5 * rate[1].low)))


def test_an_error_is_the_mirror_image():
    values = np.array([0.9, 0.93, 0.88, 0.9, 0.91, 0.1, 0.86])
    low, high = two_part.limits(group(values), 0.025)
    mirrored = two_part.summarize(1 - values, values < 0.5, 1.0, 0.0)
    assert two_part.limits(mirrored, 0.025) == pytest.approx((1 - high, 1 - low))


def test_distances_have_no_worst_value():
    values = np.array([1.0, 1.5, 1.2, 0.8, 1.1, 1.3])
    free = two_part.summarize(values, np.zeros(6, bool), None, 0.0)
    spread = stats.skew(values) / np.sqrt(6)
    low, high = two_part.limits(free, 0.025)
    ends = [two_part.inverse_hall(stats.t.ppf(q, 5), spread) for q in (0.975, 0.025)]
    assert (low, high) == pytest.approx([values.mean() - end * stats.sem(values) for end in ends])
    # No failure is taken apart, so that no value observed bounds the interval.
    values = np.array([*values, 30.0])
    failed = two_part.summarize(values, np.arange(7) == 6, None, 0.0)
    low, high = two_part.limits(failed, 0.025)
    student = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    assert failed.failed == 0 and 0 <= low < values.mean() < student[1] < high


def test_a_single_patient_may_have_any_score():
    assert two_part.limits(group([0.9]), 0.025) == (0, 1)
    single = two_part.summarize(np.array([3.0]), np.array([False]), None, 0.0)
    assert two_part.limits(single, 0.025) == (-np.inf, np.inf)


def test_where_failures_are_no_exception_every_score_is_a_loss():
    assert group([0.1, 0.3, 0.9, 0.95]).failed == 2
    values = [0.1, 0.2, 0.3, 0.9, 0.95]
    scores = group(values)
    assert (scores.center, scores.error, scores.failed) == (1, 0, 5)
    assert scores.losses == pytest.approx([0.9, 0.8, 0.7, 0.1, 0.05])
    assert group([0.1, 0.9]).failed == 2  # one good score has no spread
    rates = [stats.binomtest(k, 5).proportion_ci(0.95) for k in range(6)]
    steps = np.diff([0, *(rate.high for rate in rates)])
    low, high = two_part.limits(scores, 0.025)
    assert low == pytest.approx(1 - steps @ [1, 0.9, 0.8, 0.7, 0.1, 0.05])
    assert high == pytest.approx(1 - np.diff([rate.low for rate in rates]) @ [0.9, 0.8, 0.7, 0.1, 0.05])


def test_a_group_of_failures_alone_has_an_interval():
    """Of twelve patients who all fail, up to 26 % of all such patients may not: Clopper-Pearson's limit."""
    most = stats.binomtest(12, 12).proportion_ci(0.95).low
    assert two_part.limits(group([0.0] * 12), 0.025) == pytest.approx((0, 1 - most))


def test_hall_s_transformation_and_its_inverse():
    t, skewness = np.linspace(-5, 5, 11), 0.4
    values = two_part.hall(t, np.float64(skewness))
    assert (np.diff(values) >= 0).all()
    assert [two_part.inverse_hall(value, skewness) for value in values] == pytest.approx(t)
    assert two_part.inverse_hall(1.3, 0.0) == 1.3


def test_a_few_outliers_do_not_give_limits_of_dozens_of_standard_errors():
    """Two patients of fifty at 0.6: without a bound of the skewness the lower limit would be 12 errors away."""
    values = np.append(0.94 + 0.01 * np.linspace(-1, 1, 48), [0.6, 0.62])
    scores = two_part.summarize(values, np.zeros(50, bool), None, 0.0)
    assert abs(scores.skewness) > two_part.MOST_SKEWNESS
    low, high = two_part.limits(scores, 0.025)
    assert values.mean() - 5 * scores.error < low and high < values.mean() + 3 * scores.error


def test_contrasts_of_symmetric_limits_add_variances():
    point, half = np.array([0.9, 0.8, 0.7]), np.array([0.03, 0.04, 0.12])
    matrix = np.array([[1.0, -1, 0], [0.5, 0.5, -1]])
    low, high = two_part.contrasts(point, list(zip(point - half, point + half, strict=True)), matrix)
    expected = [0.05, np.sqrt(0.015**2 + 0.02**2 + 0.12**2)]
    np.testing.assert_allclose(low, matrix @ point - expected)
    np.testing.assert_allclose(high, matrix @ point + expected)


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.floats(0, 1, width=32) | st.sampled_from([0.0, 1.0]), st.booleans()),
        min_size=2,
        max_size=30,
    ),
    st.sampled_from([0.025, 0.05, 0.001]),
)
def test_limits_stay_in_range_and_around_the_mean(patients, tail):
    """Whatever counts as failed: of a score of all structures, one may have failed though its mean is high."""
    scores = group([value for value, _ in patients], [failed for _, failed in patients])
    low, high = two_part.limits(scores, tail)
    assert -1e-12 <= low <= scores.mean + 1e-12 and scores.mean - 1e-12 <= high <= 1 + 1e-12
    wider = two_part.limits(scores, tail / 2)
    assert wider[0] <= low + 1e-12 and high <= wider[1] + 1e-12


@pytest.mark.parametrize(("patients", "failures"), [(12, 0.05), (30, 0.02), (150, 0.01)])
def test_means_are_covered_where_student_s_t_misses_them(patients, failures):
    """2,000 cohorts of beta scores with failures: at least 93 % where Student's t covers 46 to 80 %."""
    rng = np.random.default_rng(0)
    values = rng.beta(38, 2, (2000, patients))
    values[rng.random(values.shape) < failures] = 0
    truth = 0.95 * (1 - failures)
    limits = np.array([two_part.limits(group(row), 0.025) for row in values])
    coverage = (limits[:, 0] <= truth) & (truth <= limits[:, 1])
    half = stats.t.ppf(0.975, patients - 1) * stats.sem(values, axis=1)
    naive = abs(values.mean(1) - truth) <= half
    assert coverage.mean() >= 0.93 and naive.mean() <= 0.82
