from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kneefair_jax.fairness import gap_change


def cohort(sizes, seed=0, change=0.0, noise=0.01):
    """Two models' scores of patients in groups; the last group lies 0.03 lower, by the second model less so."""
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(len(sizes)), sizes)
    patients = rng.normal(0.9, 0.02, len(index)) - 0.03 * (index == len(sizes) - 1)
    first, second = patients + rng.normal(0, noise, (2, len(index)))
    return first, second + change * (index == len(sizes) - 1), index


def by_swaps(first, second, index, patients=None, swaps=399, seed=0):
    patients = np.arange(len(index)) if patients is None else patients
    return gap_change.by_swaps(first, second, index, patients, swaps, seed)


def statistic(first, second, index, deviates):
    """Change less bias, over its standard error, from the definitions."""
    groups = [(first[index == g], second[index == g]) for g in range(index.max() + 1)]
    change, bias, ends = [], [], []
    for k in (0, 1):
        means = np.array([pair[k].mean() for pair in groups])
        errors = np.array([pair[k].std() / np.sqrt(len(pair[k]) - 1) for pair in groups])
        change.append(np.ptp(means))
        bias.append(np.mean([np.ptp(means + errors * z) for z in deviates]) - np.ptp(means))
        ends.append((means.argmax(), means.argmin()))
    squared = 0.0
    for g, (one, other) in enumerate(groups):
        weights = [(ends[k][0] == g) * 1.0 - (ends[k][1] == g) * 1.0 for k in (0, 1)]
        squared += (weights[1] * other - weights[0] * one).var() / (len(one) - 1)
    return (change[1] - change[0] - bias[1] + bias[0]) / np.sqrt(squared)


def test_p_is_that_of_all_swaps():
    """By brute force over all 2^10 sets of patients whose scores are swapped."""
    first, second, index = cohort((5, 5), seed=4, change=0.02)
    result = by_swaps(first, second, index, swaps=20_000, seed=1)
    # The deviates that estimate the bias are drawn first, for the groups in the order of their average mean.
    half = np.random.default_rng(1).normal(size=(20, 2))
    deviates = np.concatenate([half, -half])[:, ::-1]
    first, second = first - first.mean(), second - second.mean()
    observed = abs(statistic(first, second, index, deviates))
    larger = []
    for swap in product([False, True], repeat=10):
        one, other = np.where(swap, second, first), np.where(swap, first, second)
        larger.append(abs(statistic(one, other, index, deviates)) >= observed * (1 - 1e-9))
    exact = np.mean(larger)
    assert 0.02 < exact < 0.6 and result.p == pytest.approx(exact, abs=0.012)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), groups=st.sampled_from([2, 3, 5]))
def test_test_and_interval_agree_and_the_models_order_turns_the_sign(seed, groups):
    first, second, index = cohort((12,) * groups, seed, change=0.012)
    result, back = by_swaps(first, second, index), by_swaps(second, first, index)
    low, high = result.interval
    assert (low > 0 or high < 0) == (result.p <= 0.05)
    assert back.p == result.p and back.value == pytest.approx(-result.value)
    assert back.interval == pytest.approx((-high, -low))


def test_groups_names_and_a_common_shift_change_nothing():
    first, second, index = cohort((12, 9, 15), change=0.01)
    expected = by_swaps(first, second, index)
    renamed = by_swaps(first, second + 0.07, np.array([2, 0, 1])[index])
    assert renamed.p == expected.p and renamed.interval == pytest.approx(expected.interval)


def test_a_narrower_gap_is_found_and_equal_models_are_not_told_apart():
    first, second, index = cohort((60, 30), change=0.02)
    found = by_swaps(first, second, index)
    assert found.p < 0.01 and found.interval[0] < -0.02 < found.interval[1] < 0
    same = by_swaps(first, first + 0.01, index)
    assert same.p == 1 and same.interval == pytest.approx((0, 0), abs=1e-15)


def test_rows_of_one_patient_are_swapped_together():
    """Copies of every row in both groups: apart, they would pass for twice the patients."""
    first, second, index = cohort((20, 20), seed=3, change=0.006)
    twice = [np.tile(one, 2) for one in (first, second, index)]
    apart = by_swaps(*twice, swaps=2000).p
    together = by_swaps(*twice, patients=np.tile(np.arange(40), 2), swaps=2000).p
    assert apart < together == pytest.approx(by_swaps(first, second, index, swaps=2000).p, abs=0.03)


def test_few_patients_or_swaps_have_no_interval():
    first, second, index = cohort((4, 9))
    few = by_swaps(first, second, index)
    assert few.p is few.interval is None and few.value == pytest.approx(few.second - few.first)
    first, second, index = cohort((9, 9))
    assert by_swaps(first, second, index, swaps=10).interval is None


def test_exchangeable_models_are_called_different_in_5_percent():
    """Narrower and wider alike; the benchmark measures it with more cohorts."""
    signs = []
    for seed in range(300):
        first, second, index = cohort((10, 8, 8, 8), seed)
        result = by_swaps(first, second, index, swaps=99, seed=seed)
        signs.append(np.sign(sum(result.interval)) * (result.p <= 0.05))
    narrower, wider = (np.mean(np.array(signs) == sign) for sign in (-1, 1))
    assert 0.003 < narrower < 0.06 and 0.003 < wider < 0.06
