import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower

from kneefair_jax.errors import InputError
from kneefair_jax.fairness import equivalence, power, two_part


def test_the_difference_of_means_is_statsmodels_s():
    solve = TTestIndPower()
    effect = solve.solve_power(nobs1=60, ratio=1, alpha=0.05, power=0.8)
    assert power.mean_difference((60, 60), (0.03, 0.03)) == pytest.approx(0.03 * effect, rel=0.01)
    assert power.mean_difference((5, 5), (0.0, 0.0)) == 0


def test_patients_and_difference_are_inverse():
    n = power.mean_difference_patients(0.02, 0.05)
    assert power.mean_difference((n, n), (0.05, 0.05)) <= 0.02
    assert power.mean_difference((n - 1, n - 1), (0.05, 0.05)) > 0.02
    # 2 (1.96 + 0.84)^2 (0.05 / 0.02)^2 = 98 patients by the normal distribution
    assert 98 <= n <= 100
    assert power.mean_difference_patients(0.02, 0.05, ratio=3) < n


@pytest.mark.parametrize(
    ("patients", "rates"),
    [((12, 9), (0.4, 0.05)), ((7, 20), (0.3, 0.3)), ((14, 14), (0.9, 0.4)), ((2, 30), (1, 0))],
)
def test_the_power_of_fisher_s_test_by_all_tables(patients, rates):
    expected = 0.0
    for a, b in itertools.product(*(range(n + 1) for n in patients)):
        p = stats.fisher_exact([[a, patients[0] - a], [b, patients[1] - b]]).pvalue
        chance = stats.binom.pmf(a, patients[0], rates[0]) * stats.binom.pmf(b, patients[1], rates[1])
        expected += chance * (p <= 0.05)
    assert power.failure_power(patients, rates) == pytest.approx(expected, abs=1e-5)


def test_failure_rates_and_patients_are_inverse():
    rate = power.failure_difference((60, 200), 0.01)
    assert power.failure_power((60, 200), (rate, 0.01)) >= 0.8
    assert power.failure_power((60, 200), (rate - 0.002, 0.01)) < 0.8
    n = power.failure_patients((0.10, 0.01))
    assert (
        power.failure_power((n, n), (0.10, 0.01)) >= 0.8 > power.failure_power((n // 2, n // 2), (0.10, 0.01))
    )
    assert power.failure_difference((3, 200), 0.5) is None


def test_a_gap_by_failures_needs_far_more_patients():
    """A gap of 0.02: shared by all patients with an SD of 0.03, or made by 2.1 % failures of one group's patients."""
    shared, failing = power.mean_difference_patients(0.02, 0.03), power.failure_patients((0.021, 0.0))
    assert shared < 40 and failing > 8 * shared


def test_the_power_of_means_is_reached_in_simulation():
    rng = np.random.default_rng(0)
    gap = power.mean_difference((30, 60), (0.03, 0.02))
    first, second = rng.normal(0.9 - gap, 0.03, (2000, 30)), rng.normal(0.9, 0.02, (2000, 60))
    p = stats.ttest_ind(first, second, axis=1, equal_var=False).pvalue
    assert np.mean(p <= 0.05) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("effect", "ratio"), [(0.5, 1), (0.3, 2), (0.2, 4)])
def test_patients_for_a_difference_of_means_are_statsmodels_s(effect, ratio):
    solve = TTestIndPower()
    expected = solve.solve_power(effect, alpha=0.05, power=0.8, ratio=ratio)
    assert power.patients_needed(effect, 1.0, 0.0, ratio=ratio).mean == pytest.approx(expected, abs=1.5)


def test_patients_with_a_failure_take_no_part_in_the_means():
    """As many patients without a failure, of whom there are 3 of 4."""
    needed, without = (power.patients_needed(0.02, 0.05, rate).mean for rate in (0.25, 0.0))
    assert needed is not None and needed * 0.75 >= without > (needed - 1) * 0.75


def test_patients_for_equivalence_by_hand():
    """Without spread the bound of unobserved failures decides: in each group 1 - 0.05^(1/n) < 0.02."""
    n = power.patients_needed(0.02, 0.0, 0.0, span=0.95).equivalence
    assert n is not None and 1 - 0.05 ** (1 / n) < 0.02 <= 1 - 0.05 ** (1 / (n - 1))
    wider = power.patients_needed(0.02, 0.03, 0.0, span=0.95).equivalence
    assert wider is not None and n < wider


@pytest.mark.parametrize(
    ("margin", "spread", "rate", "ratio"), [(0.05, 0.08, 0, 1), (0.1, 0.15, 0, 3), (0.1, 0.05, 0.05, 2)]
)
def test_equivalence_is_shown_as_often_as_stated(margin, spread, rate, ratio):
    n = power.patients_needed(margin, spread, rate, ratio=ratio, span=0.8).equivalence
    assert n is not None
    rng = np.random.default_rng(0)

    def group(patients):
        failed = rng.random(patients) < rate
        return two_part.summarize(np.where(failed, 0, rng.normal(0.8, spread, patients)), failed, 0.0, 1.0)

    shown_share = [
        equivalence.tost([group(n), group(ratio * n)], "ab", margin).equivalent for _ in range(400)
    ]
    assert np.mean(shown_share) == pytest.approx(0.8, abs=0.05)  # 2.5 standard errors


def test_more_patients_than_any_cohort_has_are_no_number():
    needed = power.patients_needed(0.0001, 0.03, 0.1)
    assert needed.mean is needed.failures is needed.equivalence is None
    assert power.patients_needed(0.02, 0.03, 0.99).failures is None  # no failure rate is 1.01


@pytest.mark.parametrize(
    "wrong",
    [
        {"margin": 0.0},
        {"margin": float("nan")},
        {"spread": -0.1},
        {"failure_rate": 1.0},
        {"ratio": 0.5},
        {"span": 0.0},
        {"power": 1.0},
        {"level": 0.0},
    ],
)
def test_numbers_out_of_range_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=f"^{name}="):
        power.patients_needed(**({"margin": 0.02, "spread": 0.03, "failure_rate": 0.0} | wrong))


@pytest.mark.parametrize(("patients", "rates"), [((1500, 4000), (0.32, 0.29)), ((900, 9000), (0.12, 0.09))])
def test_large_groups_have_the_exact_power_nearly(monkeypatch, patients, rates):
    quick = power.failure_power(patients, rates)
    monkeypatch.setattr(power, "_MOST_TABLES", 10**9)
    assert quick == pytest.approx(power.failure_power(patients, rates), abs=0.01)


def test_few_counts_give_the_power_of_all(monkeypatch):
    quick = power.equivalence_power((2000, 3000), 0.04, 0.03, 0.3, 0.9)
    monkeypatch.setattr(power, "_MOST_COUNTS", 10**6)
    assert quick == pytest.approx(power.equivalence_power((2000, 3000), 0.04, 0.03, 0.3, 0.9), abs=0.005)
    assert 0.2 < quick < 0.98
