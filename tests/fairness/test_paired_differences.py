from dataclasses import asdict
from itertools import product

import numpy as np
import pytest
from scipy import stats

from kneefair_jax.fairness import inference, paired_differences
from kneefair_jax.fairness.inference import Settings
from kneefair_jax.fairness.patient_bootstrap import Sample
from kneefair_jax.fairness.patient_table import Column

NAMES = ("side=L", "side=R", "side=B")


def knees(patients=60, gap=0.005, seed=0, groups=2):
    """f[G, n]: the knees of a patient share a spread that is three times their own."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0.9, 0.03, patients)
    return shared + rng.normal(0, 0.01, (groups, patients)) - gap * np.arange(groups)[:, None]


def sign_flips(scores, flips=4000, seed=0):
    sizes = np.full(len(scores), scores.shape[1])
    return paired_differences.sign_flips(scores.reshape(1, -1), sizes, np.random.default_rng(seed), flips)


def describe(scores, who, index, failed=None, permutations=1999):
    failed = np.zeros(len(scores), bool) if failed is None else failed
    settings = Settings(3, permutations, {})
    values, flags = scores[:, None], failed[:, None]
    grouped = inference.GroupedScores(values, flags, who, index, NAMES)
    (description,) = inference.describe(grouped, [Column("dice", "macro")], [0, 1], settings)
    return asdict(description.summary)


@pytest.mark.parametrize("gap", [0.0, 0.002, 0.004])
def test_p_is_that_of_the_paired_t_test(gap):
    """Of differences without skewness, to which Hall's transformation does nothing."""
    shared, noise = np.random.default_rng(1).normal(0, 0.01, (2, 60))
    scores = np.stack([0.9 + np.r_[shared + noise, shared - noise] + gap, 0.9 + np.r_[shared, shared]])
    tests = sign_flips(scores)
    paired = stats.ttest_rel(*scores)
    assert tests.statistic[0] == pytest.approx(paired.statistic)
    assert tests.skewness[0, 0] == pytest.approx(0, abs=1e-9)
    error = 3 * np.sqrt(paired.pvalue * (1 - paired.pvalue) / 4000)
    assert tests.p[0] == pytest.approx(paired.pvalue, abs=error + 0.005)


@pytest.mark.parametrize("seed", range(4))
def test_p_of_normal_differences_is_that_of_the_paired_t_test(seed):
    """Within Monte Carlo error, and the difference of the sign flips' own distribution from Student's."""
    scores = knees(40, 0.003, seed)
    tests, paired = sign_flips(scores, 20_000), stats.ttest_rel(*scores)
    assert abs(stats.skew(scores[0] - scores[1])) < 2 * np.sqrt(6 / 40) and tests.skewness[0, 0] == 0
    error = 3 * np.sqrt(paired.pvalue * (1 - paired.pvalue) / 20_000)
    assert tests.p[0] == pytest.approx(paired.pvalue, abs=error + 0.005)


def test_p_is_that_of_all_flips():
    """By brute force over all 2^9 signs, with scipy's skewness."""
    scores = knees(9, 0.01)
    scores[1, 0] += 0.2  # two standard errors of skewness are 1.63 for nine patients
    difference = scores[0] - scores[1]
    assert stats.skew(difference) < -1.7

    def transformed(x):
        t, skew = stats.ttest_1samp(x, 0).statistic, stats.skew(x)
        g = skew / 3 if abs(skew) > 2 * np.sqrt(6 / 9) else 0.0
        return abs(t + g * t**2 / 3 + g**2 * t**3 / 27 + g / 6)

    all_values = [transformed(difference * signs) for signs in product([-1, 1], repeat=9)]
    exact = np.mean(np.array(all_values) >= transformed(difference) * (1 - 1e-9))
    assert 0.01 < exact < 0.5
    assert sign_flips(scores, 20_000).p[0] == pytest.approx(exact, abs=0.015)


def test_the_largest_t_judges_each_pair():
    scores = knees(groups=3, gap=0.003)
    tests = sign_flips(scores)
    pairs = ((0, 1), (0, 2), (1, 2))
    t = [stats.ttest_rel(scores[a], scores[b]).statistic for a, b in pairs]
    assert tests.pairs[0] == pytest.approx(t)
    separate = [sign_flips(scores[list(pair)]).p[0] for pair in pairs]
    assert (tests.pairs_p[0] >= np.array(separate) - 0.01).all() and tests.p[0] == tests.pairs_p.min()


def test_intervals_and_detectable_gap_are_of_differences_within_patients():
    scores = knees()
    sizes, flat = np.array([60, 60]), scores.reshape(1, -1)
    paired = stats.ttest_rel(*scores)
    ends = paired_differences.student_intervals(flat, sizes)[0, 0]
    assert ends == pytest.approx(list(paired.confidence_interval()))
    error = stats.sem(scores[0] - scores[1])
    expected = (stats.t.ppf(0.975, 59) + stats.t.ppf(0.8, 59)) * error
    assert paired_differences.detectable_gap(flat, sizes) == pytest.approx([expected])


def test_complete_patients_alone_are_paired():
    """Groups that share more than half of their patients, and the others left out."""

    def sample(patients):
        scores = np.arange(len(patients), dtype=float)[None]
        first = len(patients) // 2
        return Sample(
            np.arange(1), scores, np.array([first, len(patients) - first]), (1, 0), np.arange(100, 108)
        )

    shared = paired_differences.complete_patients(sample("abcdcbaz"), np.array(list("abcdcbaz")))
    assert shared.sizes.tolist() == [3, 3] and shared.groups == (1, 0)
    names = np.array(list("abcdcbaz"))[shared.rows - 100].reshape(2, 3)
    assert names[0].tolist() == names[1].tolist() and set(names[0]) == set("abc")
    assert paired_differences.complete_patients(sample("abcdabxy"), np.array(list("abcdabxy"))) is None


def test_a_report_tests_the_side_within_patients():
    """Welch's test, which counts the spread between patients as error, finds nothing."""
    scores = knees()
    who = np.tile(np.arange(60), 2)
    index = np.repeat([0, 1], 60)
    paired, welch = stats.ttest_rel(*scores), stats.ttest_ind(*scores, equal_var=False)
    assert paired.pvalue < 0.01 and welch.pvalue > 0.2
    entry = describe(scores.ravel(), who, index)
    (pair,) = entry["pairs"]
    assert entry["test"]["name"] == "sign-flipped paired t"
    assert entry["test"]["statistic"] == pytest.approx(paired.statistic)
    assert entry["test"]["p"] == pair["p"] == pytest.approx(paired.pvalue, abs=0.005)
    assert pair["difference"] == pytest.approx((scores[0] - scores[1]).mean())
    assert pair["welch"] == pytest.approx(list(paired.confidence_interval()))
    low, high = pair["interval"]
    assert (low, high) == pytest.approx(paired.confidence_interval(), abs=0.0005)
    assert entry["gap_without_failures"]["interval"] == pytest.approx([max(0, low, -high), max(high, -low)])
    # Neither names nor the order of rows change anything.
    shuffled = np.random.default_rng(5).permutation(120)
    again = describe(scores.ravel()[shuffled], 100 - who[shuffled], index[shuffled])
    assert again["test"] == entry["test"]


def test_failures_and_single_knees_leave_the_patient_out():
    scores = knees().ravel()
    who, index = np.tile(np.arange(60), 2), np.repeat([0, 1], 60)
    failed = np.arange(120) == 7
    scores[7] = 0.1
    is_included = np.arange(120) != 62  # patient 2 has a left knee alone
    entry = describe(scores[is_included], who[is_included], index[is_included], failed[is_included])
    settings = [k for k in range(60) if k not in (2, 7)]
    first, second = scores.reshape(2, 60)[:, settings]
    assert entry["test"]["statistic"] == pytest.approx(stats.ttest_rel(first, second).statistic)
    assert entry["gap_without_failures"]["patients"] == {"side=L": 58, "side=R": 58}
    (warning,) = entry["warnings"]
    assert "58" in warning and "; 2 with" in warning


def test_groups_that_share_few_patients_are_independent():
    scores = knees().ravel()
    who = np.tile(np.arange(60), 2)
    who[60:95] += 100
    entry = describe(scores, who, np.repeat([0, 1], 60))
    assert entry["test"]["name"] == "permuted Welch t" and len(entry["warnings"]) == 1


def test_skewed_differences_are_rejected_nearly_as_often_as_stated():
    """Student's t rejects 8 to 9 % of these."""
    rng = np.random.default_rng(0)
    columns = np.exp(0.8 * rng.normal(size=(400, 40))) - np.exp(0.32)
    flat = np.concatenate([columns, np.zeros((400, 40))], axis=1)
    p = paired_differences.sign_flips(flat, np.array([40, 40]), rng, 199).p
    assert (p <= 0.05).mean() < 0.085
