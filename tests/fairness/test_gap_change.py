from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

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
    return gap_change.compare_gaps(first, second, index, patients, swaps, seed)


def moments(first, second, index):
    """Means of both models by group, and the covariance matrix of each group's two means."""
    groups = [np.stack([first[index == g], second[index == g]]) for g in range(index.max() + 1)]
    return np.array([first_result.mean(1) for first_result in groups]), [
        np.cov(first_result) / first_result.shape[1] for first_result in groups
    ]


def deviates(first, second, index, seed):
    """Those that estimate bias and error, [40, G, 2]: drawn first, for the groups in the order of their mean."""
    average = [(first + second)[index == g].mean() for g in range(index.max() + 1)]
    draws = np.random.default_rng(seed).normal(size=(10, 2, len(average)))
    draws = draws[:, :, np.argsort(np.argsort(average))].transpose(0, 2, 1)
    return np.concatenate([draws, -draws, draws[:, :, ::-1], -draws[:, :, ::-1]])


def shrink(means, noise, factor=1.0):
    """Toward the common mean, so that the spread left is that of the means less that of their noise."""
    is_included = max(0, 1 - factor * np.mean(noise) / means.var(ddof=1))
    return means.mean() + is_included * (means - means.mean())


def excess(means, matrices, z, factor=1.0):
    """How far both gaps of resampled means exceed those of the shrunken means, [40, 2]."""
    center = [shrink(means[:, k], [first_result[k, k] for first_result in matrices], factor) for k in (0, 1)]
    center = np.stack(center, axis=1)
    roots = np.array([linalg.sqrtm(first_result) for first_result in matrices])
    return np.ptp(center + np.einsum("gkj,ngj->ngk", roots, z), axis=1) - np.ptp(center, axis=0)


def statistic(means, matrices, z):
    """Change less bias, and its standard error, from the definitions: means [G, 2], G matrices [2, 2]."""
    resampled = excess(means, matrices, z)
    gaps = np.ptp(means, axis=0) - resampled.mean(0)
    return gaps[1] - gaps[0], (resampled[:, 1] - resampled[:, 0]).std()


def test_p_is_that_of_all_swaps_and_of_equal_means():
    """By brute force over all 2^10 sets of swapped patients, and 2,000 draws around common group means."""
    first, second, index = cohort((5, 5), seed=4, change=0.02)
    result = by_swaps(first, second, index, swaps=20_000, seed=1)
    first, second = first - first.mean(), second - second.mean()
    z = deviates(first, second, index, seed=1)
    means, matrices = moments(first, second, index)
    t = abs(np.divide(*statistic(means, matrices, z))) * (1 - 1e-9)
    swapped = []
    for swap in product([False, True], repeat=10):
        first_result, second_result = np.where(swap, second, first), np.where(swap, first, second)
        swapped.append(abs(np.divide(*statistic(*moments(first_result, second_result, index), z))) >= t)
    center = shrink(means.mean(1), [first_result.sum() / 4 for first_result in matrices])
    rng, null = np.random.default_rng(2), []
    for _ in range(2000):
        noise = np.stack([rng.multivariate_normal([0, 0], first_result) for first_result in matrices])
        null.append(abs(np.divide(*statistic(center[:, None] + noise, matrices, z))) >= t)
    exact = (np.mean(swapped) + np.mean(null)) / 2
    assert 0.02 < exact < 0.6 and result.p == pytest.approx(exact, abs=0.025)


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
    result = by_swaps(first, second, index)
    assert result.p < 0.02 and result.interval[0] < -0.02 < result.interval[1] < 0
    same = by_swaps(first, first + 0.01, index)
    assert same.p == 1 and same.interval == pytest.approx((0, 0), abs=1e-15)


def test_the_farther_end_allows_for_the_bias_that_could_be_missing():
    """The nearer end is where the test puts it, so both ends add up to twice the change but for that bias."""
    first, second, index = cohort((20, 20, 20, 20), seed=2, change=0.017)
    result = by_swaps(first, second, index)
    z = deviates(first, second, index, seed=0)
    means, matrices = moments(first, second, index)
    change, _ = statistic(means, matrices, z)
    least = excess(means, matrices, z, factor=stats.chi2.ppf(0.95, 3) / 3).mean(0)
    missing = (least - excess(means, matrices, z).mean(0))[1]
    assert result.interval[1] < 0 and missing > 5e-4
    assert sum(result.interval) == pytest.approx(2 * change - missing)


def test_rows_of_one_patient_are_swapped_together():
    """Copies of every row in both groups: apart, they would pass for twice the patients."""
    first, second, index = cohort((20, 20), seed=3, change=0.006)
    twice = [np.tile(first_result, 2) for first_result in (first, second, index)]
    separate = by_swaps(*twice, swaps=2000).p
    together = by_swaps(*twice, patients=np.tile(np.arange(40), 2), swaps=2000).p
    assert separate < together == pytest.approx(by_swaps(first, second, index, swaps=2000).p, abs=0.03)


def test_few_patients_or_swaps_have_no_interval():
    first, second, index = cohort((4, 9))
    few = by_swaps(first, second, index)
    assert few.p is few.interval is None and few.value == pytest.approx(few.second - few.first)
    first, second, index = cohort((9, 9))
    assert by_swaps(first, second, index, swaps=8).interval is None


def test_exchangeable_models_are_called_different_in_5_percent():
    """Narrower and wider alike; the benchmark measures it with more cohorts."""
    signs = []
    for seed in range(300):
        first, second, index = cohort((10, 8, 8, 8), seed)
        result = by_swaps(first, second, index, swaps=99, seed=seed)
        signs.append(np.sign(sum(result.interval)) * (result.p <= 0.05))
    narrower, wider = (np.mean(np.array(signs) == sign) for sign in (-1, 1))
    assert 0.003 < narrower < 0.06 and 0.003 < wider < 0.06
