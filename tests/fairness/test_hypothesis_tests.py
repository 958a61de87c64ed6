from dataclasses import asdict
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kneefair_jax.fairness import hypothesis_tests, inference
from kneefair_jax.fairness.hypothesis_tests import holm
from kneefair_jax.fairness.inference import Settings
from kneefair_jax.fairness.patient_bootstrap import Sample
from kneefair_jax.fairness.patient_table import Column, GroupedScores

ranks_scores = st.lists(st.integers(0, 20).map(lambda i: i / 20), min_size=2, max_size=8).map(np.array)


@settings(max_examples=50)
@given(ranks_scores, ranks_scores)
def test_cliffs_delta_by_counting(a, b):
    counted = np.sign(a[:, None] - b).mean()
    for groups, expected in (([a, b], counted), ([b, a], -counted)):
        assert hypothesis_tests.rank_tests(groups).cliffs_delta == [pytest.approx(expected, abs=1e-12)]


def test_two_groups_are_scipy_s():
    a, b = np.random.default_rng(0).normal(size=(2, 12))
    result = hypothesis_tests.rank_tests([a, b[:7]])
    assert result.name == "Brunner-Munzel"
    assert result.p == result.brunner_munzel[0] == pytest.approx(stats.brunnermunzel(a, b[:7]).pvalue)
    assert result.mann_whitney == [pytest.approx(stats.mannwhitneyu(a, b[:7]).pvalue)]


def test_dunn_by_hand():
    """Ranks 1 2 3 | 4 5 6 | 7.5 7.5 9: means 2, 5, 8; one tie of two."""
    groups = [np.array([1.0, 2, 3]), np.array([4.0, 5, 6]), np.array([7.0, 7, 9])]
    error = np.sqrt((9 * 10 / 12 - 6 / (12 * 8)) * (1 / 3 + 1 / 3))
    p = 2 * stats.norm.sf(np.array([3, 6, 3]) / error)
    assert hypothesis_tests.dunn(groups) == pytest.approx(p.tolist())
    result = hypothesis_tests.rank_tests(groups)
    assert result.name == "Kruskal-Wallis" and result.p == pytest.approx(stats.kruskal(*groups).pvalue)
    assert result.mann_whitney == pytest.approx(list(holm(dict(enumerate(p.tolist()))).values()))
    assert result.cliffs_delta == [-1, -1, -1] and result.brunner_munzel == [None] * 3


def test_kruskal_wallis_of_two_is_the_square_of_dunn():
    """H of two groups is z^2, ties and all, so that both have one p value."""
    rng = np.random.default_rng(0)
    groups = [rng.integers(0, 6, n).astype(float) for n in (9, 14)]
    assert hypothesis_tests.dunn(groups) == [pytest.approx(stats.kruskal(*groups).pvalue)]


def test_equal_scores_and_small_groups():
    same = np.full(5, 0.9)
    assert hypothesis_tests.rank_tests([same, same])[1:] == (1.0, [1.0], [1.0], [0.0])
    assert hypothesis_tests.rank_tests([same, same, same]).mann_whitney == [1.0] * 3
    assert (
        hypothesis_tests.rank_tests([same, same[:1]]) is None and hypothesis_tests.rank_tests([same]) is None
    )


SIZES = np.array([20, 9, 14])
SCORES = np.random.default_rng(0).normal(0.9, np.repeat([0.02, 0.06, 0.04], SIZES), (2, 43))


def test_intervals_have_welch_s_standard_error_and_degrees_of_freedom():
    groups = np.split(SCORES, [20, 29], axis=1)
    intervals = hypothesis_tests.welch_intervals(SCORES, SIZES, 0.9)
    for j, (a, b) in enumerate([(0, 1), (0, 2), (1, 2)]):
        squared = np.stack([groups[g].var(1, ddof=1) / SIZES[g] for g in (a, b)])
        freedom = squared.sum(0) ** 2 / (squared[0] ** 2 / (SIZES[a] - 1) + squared[1] ** 2 / (SIZES[b] - 1))
        half = stats.t.ppf(0.95, freedom) * np.sqrt(squared.sum(0))
        difference = groups[a].mean(1) - groups[b].mean(1)
        np.testing.assert_allclose(
            intervals[:, j], np.stack([difference - half, difference + half], axis=1), rtol=1e-9
        )


def test_equal_scores_have_no_width():
    np.testing.assert_allclose(
        hypothesis_tests.welch_intervals(np.full((1, 8), 0.9), np.array([4, 4])), [[[0, 0]]]
    )


def test_brunner_munzel_with_ties_is_scipy_s():
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = (rng.integers(0, 8, n) / 8 for n in rng.integers(4, 12, 2))
        result = hypothesis_tests.rank_tests([a, b]).p
        if a.min() > b.max() or b.min() > a.max():
            assert result is None
        else:
            assert result == pytest.approx(stats.brunnermunzel(a, b).pvalue, rel=1e-9)


def test_holm_s_worked_examples():
    corrected = hypothesis_tests.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "e": None})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02, "e": None})
    # R: p.adjust(c(.011, .02, .5, .6, .7), "holm")
    many = hypothesis_tests.holm(dict(zip("vwxyz", (0.011, 0.02, 0.5, 0.6, 0.7), strict=True)))
    assert many == pytest.approx({"v": 0.055, "w": 0.08, "x": 1, "y": 1, "z": 1})
    assert hypothesis_tests.holm({}) == {} and hypothesis_tests.holm({"a": None}) == {"a": None}


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_holm_is_between_no_correction_and_bonferroni_and_blind_to_order(values, random):
    p = {str(i): value for i, value in enumerate(values)}
    corrected = hypothesis_tests.holm(p)
    for name, value in p.items():
        assert value <= corrected[name] <= min(1, value * len(p)) + 1e-15
    shuffled = list(p.items())
    random.shuffle(shuffled)
    assert hypothesis_tests.holm(dict(shuffled)) == corrected


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6, unique=True))
def test_families_of_one_are_holm_s(values):
    p = {str(i): value for i, value in enumerate(values)}
    corrected = hypothesis_tests.holm_of_families({name: [value] for name, value in p.items()})
    assert {name: entry for name, (entry,) in corrected.items()} == pytest.approx(hypothesis_tests.holm(p))


def test_families_by_hand():
    """Age keeps half of the level until all of sex is rejected, and all of it after."""
    corrected = hypothesis_tests.holm_of_families({"sex": [0.01], "age": [0.02, 0.04, 0.6], "race": []})
    assert corrected["sex"] == pytest.approx([0.02]) and corrected["race"] == []
    assert corrected["age"] == pytest.approx([0.02, 0.04, 0.6])
    corrected = hypothesis_tests.holm_of_families({"sex": [0.7], "age": [0.02, 0.04, 0.6]})
    assert corrected["age"] == pytest.approx([0.04, 0.08, 1.0]) and corrected["sex"] == [1.0]


def test_families_keep_the_error_of_all_together():
    """True nulls beside a family that is half false: some true null is rejected in 5 % of tables, not more."""
    rng = np.random.default_rng(0)
    wrong = 0
    for null, reference in rng.uniform(size=(4000, 2)):
        # Bonferroni within the family: its false hypothesis is always found, its true one has p = 2 u.
        corrected = hypothesis_tests.holm_of_families(
            {"half": [0.0, min(1.0, 2 * null)], "null": [reference]}
        )
        wrong += corrected["half"][1] <= 0.05 or corrected["null"][0] <= 0.05
    assert wrong / 4000 < 0.055


def test_benjamini_hochberg_is_scipy_s_over_the_tests_with_a_p_value():
    corrected = hypothesis_tests.benjamini_hochberg({"a": 0.01, "b": None, "c": 0.04, "d": 0.03})
    assert corrected == pytest.approx({"a": 0.03, "b": None, "c": 0.04, "d": 0.04})
    assert hypothesis_tests.benjamini_hochberg({"a": None}) == {"a": None}


NAMES = ("side=L", "side=R", "side=B")


def knees(patients=60, gap=0.005, seed=0, groups=2):
    """f[G, n]: the knees of a patient share a spread that is three times their own."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0.9, 0.03, patients)
    return shared + rng.normal(0, 0.01, (groups, patients)) - gap * np.arange(groups)[:, None]


def sign_flips(scores, flips=4000, seed=0):
    sizes = np.full(len(scores), scores.shape[1])
    return hypothesis_tests.sign_flips(scores.reshape(1, -1), sizes, np.random.default_rng(seed), flips)


def describe(scores, who, index, failed=None, permutations=1999):
    failed = np.zeros(len(scores), bool) if failed is None else failed
    settings = Settings(3, permutations, {})
    values, flags = scores[:, None], failed[:, None]
    grouped = GroupedScores(values, flags, who, index, NAMES)
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
    ends = hypothesis_tests.student_intervals(flat, sizes)[0, 0]
    assert ends == pytest.approx(list(paired.confidence_interval()))
    error = stats.sem(scores[0] - scores[1])
    expected = (stats.t.ppf(0.975, 59) + stats.t.ppf(0.8, 59)) * error
    assert hypothesis_tests.detectable_gap(flat, sizes) == pytest.approx([expected])


def test_complete_patients_alone_are_paired():
    """Groups that share more than half of their patients, and the others left out."""

    def sample(patients):
        scores = np.arange(len(patients), dtype=float)[None]
        first = len(patients) // 2
        return Sample(
            np.arange(1), scores, np.array([first, len(patients) - first]), (1, 0), np.arange(100, 108)
        )

    shared = hypothesis_tests.complete_patients(sample("abcdcbaz"), np.array(list("abcdcbaz")))
    assert shared.sizes.tolist() == [3, 3] and shared.groups == (1, 0)
    names = np.array(list("abcdcbaz"))[shared.rows - 100].reshape(2, 3)
    assert names[0].tolist() == names[1].tolist() and set(names[0]) == set("abc")
    assert hypothesis_tests.complete_patients(sample("abcdabxy"), np.array(list("abcdabxy"))) is None


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
    p = hypothesis_tests.sign_flips(flat, np.array([40, 40]), rng, 199).p
    assert (p <= 0.05).mean() < 0.085
