import numpy as np
import pytest
from scipy import stats

from kneefair_jax.fairness import seed_intervals


def test_against_scipy():
    a, b = np.random.default_rng(0).normal(0.9, 0.01, (2, 5))
    paired = stats.ttest_rel(a, b)
    np.testing.assert_allclose(seed_intervals.p_value(a - b), paired.pvalue)
    np.testing.assert_allclose(seed_intervals.interval(a - b), paired.confidence_interval())
    one_sided = stats.ttest_rel(a, b, alternative="greater").pvalue
    np.testing.assert_allclose(seed_intervals.p_value(a - b, greater=True), one_sided)


def test_by_hand():
    # mean 2, standard error 1 / sqrt(3); Student's quantile of 2 degrees of freedom is 4.302653.
    half = 4.302653 / np.sqrt(3)
    np.testing.assert_allclose(
        seed_intervals.interval(np.array([1.0, 2.0, 3.0])), [2 - half, 2 + half], rtol=1e-6
    )


def test_one_seed_says_nothing():
    single_seed = np.array([0.03])
    assert seed_intervals.interval(single_seed) is None and seed_intervals.p_value(single_seed) is None
    assert seed_intervals.fieller(single_seed, single_seed) is None


def test_no_variance():
    same, none = np.full(4, 0.1 + 0.2) - 0.3, np.zeros(3)
    for differences in (same, none):  # 0.1 + 0.2 - 0.3 is rounding
        assert (
            seed_intervals.p_value(differences) == 1
            and seed_intervals.p_value(differences, greater=True) == 1
        )
    assert seed_intervals.p_value(np.full(3, 0.02)) == 0
    assert seed_intervals.p_value(np.full(3, 0.02), greater=True) == 0
    assert seed_intervals.p_value(np.full(3, -0.02), greater=True) == 1
    assert seed_intervals.interval(np.full(3, 0.02)) == [0.02, 0.02]


def test_three_seeds_are_covered_by_student_s_t():
    """The trap: a percentile bootstrap of three seeds covers three in four."""
    draws = np.random.default_rng(0).normal(0.05, 0.01, (2000, 3))
    ends = np.array([seed_intervals.interval(values) for values in draws])
    coverage = ((ends[:, 0] <= 0.05) & (ends[:, 1] >= 0.05)).mean()
    assert 0.94 < coverage < 0.96
    picks = draws[:, np.random.default_rng(1).integers(0, 3, (500, 3))].mean(-1)
    low, high = np.quantile(picks, [0.025, 0.975], axis=1)
    assert ((low <= 0.05) & (high >= 0.05)).mean() < 0.8


@pytest.mark.parametrize("seed", range(4))
def test_fieller_is_the_set_that_the_t_test_does_not_reject(seed):
    rng = np.random.default_rng(seed)
    denominator = rng.normal(0.05, 0.01, 4)
    part = 0.6 * denominator + rng.normal(0, 0.01, 4)
    low, high = seed_intervals.fieller(part, denominator)
    grid = np.linspace(low - 1, high + 1, 1501)
    is_included = np.array([seed_intervals.p_value(part - c * denominator) >= 0.05 for c in grid])
    np.testing.assert_array_equal(is_included, (grid >= low) & (grid <= high))


def test_fieller_has_no_ends_where_the_denominator_may_be_zero():
    denominator = np.array([0.03, -0.02, 0.04, -0.03])
    assert seed_intervals.fieller(np.array([0.02, 0.01, 0.03, 0.02]), denominator) is None
    assert seed_intervals.p_value(denominator) > 0.05


def test_fieller_without_variance_is_the_ratio():
    np.testing.assert_allclose(seed_intervals.fieller(np.full(3, 0.02), np.full(3, 0.04)), [0.5, 0.5])


def test_fieller_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    coverage = []
    for _ in range(1500):
        denominator = rng.normal(0.05, 0.01, 5)
        ends = seed_intervals.fieller(0.7 * 0.05 + rng.normal(0, 0.01, 5), denominator)
        coverage.append(ends is None or ends[0] <= 0.7 <= ends[1])
    assert 0.935 < np.mean(coverage) < 0.965


def test_pooled_errors_are_the_sum_of_two_components():
    """By hand: changes of 1, -1, 0 and 3, 1, -4 (S = 3) have means 0; their mean over methods is 2, 0, -2."""
    values = np.array([[0.0, 0.0, 0.0], [1.0, -1.0, 0.0], [3.0, 1.0, -4.0]])
    errors, freedom, sd = seed_intervals.pooled_errors(values)
    shared = (2**2 + 0 + 2**2) / 2  # with 2 degrees of freedom
    noise = (
        (2 * (1 + 1 + 4)) / 2 / 2
    )  # residuals -1, -1, 2 and 1, 1, -2, by 2 degrees of freedom, times 1 - 1 / 2
    assert sd**2 == pytest.approx(shared + noise) and shared + noise == 7
    assert freedom == pytest.approx(7**2 / (shared**2 / 2 + noise**2 / 2))
    assert errors**2 * 3 == pytest.approx([7, (9 + 1 + 16) / 2])


def rejections(baseline, last, seeds=3, methods=6, studies=600):
    rng = np.random.default_rng(4)
    scale = np.array([baseline, *[1.0] * (methods - 1), last])
    rejected = 0
    for _ in range(studies):
        values = rng.normal(0, scale[:, None], (methods + 1, seeds))
        errors, freedom, _ = seed_intervals.pooled_errors(values)
        p = [
            seed_intervals.p_value(change, shared=(error, freedom))
            for change, error in zip(values[1:] - values[0], errors, strict=True)
        ]
        rejected += min(p) * methods <= 0.05
    return rejected / studies


@pytest.mark.parametrize(("baseline", "last"), [(1, 1), (3, 1), (1, 3)])
def test_unsteady_baselines_and_methods_make_no_claims(baseline, last):
    """At most 5 %; a standard error with the pooled degrees of freedom alone gives 12 % for the second."""
    assert rejections(baseline, last) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)


def test_one_method_has_the_paired_t_test():
    first, second = np.random.default_rng(1).normal(0.9, 0.01, (2, 5))
    (error,), freedom, _ = seed_intervals.pooled_errors(np.stack([first, second]))
    paired = stats.ttest_rel(second, first)
    assert seed_intervals.p_value(second - first, shared=(error, freedom)) == pytest.approx(paired.pvalue)
    ends = seed_intervals.interval(second - first, shared=(error, freedom))
    assert ends == pytest.approx(list(paired.confidence_interval()))


def test_a_method_that_equals_the_baseline_lends_no_steadiness():
    values = np.random.default_rng(1).normal(0.9, 0.01, (3, 4))
    twin = np.concatenate([values, values[:1]])
    errors, freedom, sd = seed_intervals.pooled_errors(twin)
    expected = seed_intervals.pooled_errors(values)
    assert (freedom, sd) == expected[1:] and errors[:2].tolist() == expected[0].tolist()
    none, freedom, sd = seed_intervals.pooled_errors(values[[0, 0]])
    assert none.tolist() == [0.0] and freedom == 3 and sd == 0


def test_power_of_one_method_is_that_of_the_paired_t_test():
    """By the noncentral t; shared by six methods, the standard error finds what their own would miss."""
    noncentral, critical = 0.017 / (0.004 / np.sqrt(3)), stats.t.ppf(0.975, 2)
    expected = stats.nct.sf(critical, 2, noncentral) + stats.nct.cdf(-critical, 2, noncentral)
    assert seed_intervals.power(0.017, 0.004, 1, 3) == pytest.approx(expected, abs=0.02)
    assert seed_intervals.power(0.017, 0.004, 6, 3) == pytest.approx(0.836, abs=0.02)
    assert seed_intervals.power(0.0, 0.004, 6, 3) < 0.01
