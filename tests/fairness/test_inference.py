import json
from dataclasses import asdict
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kneefair_jax.fairness import inference, two_part
from kneefair_jax.fairness.inference import Settings
from kneefair_jax.fairness.patient_table import Column, GroupedScores

DICE, HD95 = Column("dice", "macro"), Column("hd95_mm", "macro")
NAMES = ("sex=f", "sex=m", "sex=x")


def patients(sizes, seed=0):
    """f64[P, 2], Dice and a distance that is 30 times its error, and each patient's group."""
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(len(sizes)), sizes)
    errors = 0.08 * np.exp(rng.normal(0, 0.3, len(index)) + 0.2 * index)
    return np.stack([1 - errors, 30 * errors], axis=1), index


def describe(values, index, names=NAMES, delta=None, who=None, minimum=3, draws=200):
    who = np.arange(len(values)) if who is None else who
    options = Settings(minimum, draws - 1, delta or {})
    failed = np.repeat(values[:, :1] < 0.5, values.shape[1], axis=1)
    columns = [DICE, HD95][: values.shape[1]]
    grouped = GroupedScores(values, failed, who, index, names)
    return [
        asdict(description.summary) for description in inference.describe(grouped, columns, [0, 1], options)
    ]


def without_failures(values, worst=0.0, best=1.0):
    """Scores of a group without failures."""
    return two_part.summarize(values, np.zeros(len(values), bool), worst, best)


def test_two_groups_by_other_means():
    values, index = patients((12, 9))
    dice, distance = describe(values, index, delta={"dice": 0.5})
    a, b = values[:12, 0], values[12:, 0]
    (pair,) = dice["pairs"]
    assert (pair["first"], pair["second"]) == ("sex=f", "sex=m")
    assert pair["difference"] == pytest.approx(a.mean() - b.mean())
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert dice["test"]["name"] == "permuted Welch t"
    assert dice["test"]["statistic"] == pytest.approx(welch.statistic)
    assert dice["test"]["p"] == pair["p"] == pytest.approx(welch.pvalue, abs=0.12)
    assert pair["welch"] == pytest.approx(list(welch.confidence_interval()))
    assert pair["p_mann_whitney"] == pytest.approx(stats.mannwhitneyu(a, b).pvalue)
    assert dice["rank"] == {"name": "Brunner-Munzel", "p": pair["p_brunner_munzel"]}
    low, high = pair["interval"]
    assert low < pair["difference"] < high and (low > 0 or high < 0) == (pair["p"] <= 0.05)
    comparison = dice["gap_without_failures"]
    assert comparison["interval"] == pytest.approx([max(0, low, -high), max(high, -low)])
    assert comparison["value"] == pytest.approx(abs(pair["difference"]))
    assert comparison["patients"] == {"sex=f": 12, "sex=m": 9}
    low, high = (end.item() for end in two_part.differences([without_failures(a), without_failures(b)]))
    assert pair["all_patients"]["difference"] == pytest.approx(pair["difference"])
    assert pair["all_patients"]["interval"] == pytest.approx([low, high])
    assert dice["gap"]["interval"] == pytest.approx([max(0, low, -high), max(high, -low)])
    assert dice["sd"]["interval"] == pytest.approx([end / 2 for end in dice["gap"]["interval"]])
    assert dice["worst"]["group"] == distance["worst"]["group"] == "sex=m"
    assert dice["equivalence"]["equivalent"]  # even if nearly half of either group could fail unseen
    assert distance["equivalence"] is None


def test_a_distance_is_an_error():
    """The distance is 30 times the Dice error: its ratio is the same, its order turned, and it has no ES.

    Its intervals over all patients are narrower: a distance has no worst value for an unobserved failure to take.
    """
    values, index = patients((12, 9, 7))
    dice, distance = describe(values, index)
    assert distance["es"] == {"value": None, "interval": None} and dice["es"]["interval"]
    for key in ("worst", "gap", "sd", "ser"):
        scale = 1 if key == "ser" else 30
        assert distance[key]["value"] == pytest.approx(scale * dice[key]["value"])
        low, high = distance[key]["interval"]
        assert scale * dice[key]["interval"][0] <= low + 1e-9 and high <= scale * dice[key]["interval"][1]
    assert distance["detectable"] == pytest.approx(30 * dice["detectable"])
    assert distance["test"]["p"] == dice["test"]["p"]
    for first_summary, second_summary in zip(dice["pairs"], distance["pairs"], strict=True):
        assert second_summary["difference"] == pytest.approx(-30 * first_summary["difference"])
        assert second_summary["cliffs_delta"] == pytest.approx(-first_summary["cliffs_delta"])
        assert second_summary["p"] == first_summary["p"]


def test_three_groups_hold_at_once():
    values, index = patients((12, 9, 7))
    dice, _ = describe(values, index)
    assert [(pair["first"], pair["second"]) for pair in dice["pairs"]] == [
        ("sex=f", "sex=m"),
        ("sex=f", "sex=x"),
        ("sex=m", "sex=x"),
    ]
    groups = [without_failures(part) for part in np.split(values[:, 0], [12, 21])]
    low, high = two_part.differences(groups)
    # The first pair's test does not reject; the others' do.
    ends = np.array([pair["interval"] for pair in dice["pairs"]])
    assert [pair["p"] <= 0.05 for pair in dice["pairs"]] == list((ends[:, 0] > 0) | (ends[:, 1] < 0))
    assert 0 < sum(pair["p"] <= 0.05 for pair in dice["pairs"]) < 3
    assert dice["gap_without_failures"]["interval"] == pytest.approx(
        [max(0, ends[:, 0].max()), ends[:, 1].max()]
    )
    all_patients = np.array([pair["all_patients"]["interval"] for pair in dice["pairs"]])
    np.testing.assert_allclose(all_patients, np.stack([low, high], axis=1))
    assert dice["gap"]["interval"] == pytest.approx([max(0, low.max()), high.max()])
    assert dice["test"]["name"] == "permuted largest Welch t"
    assert dice["test"]["p"] == min(pair["p"] for pair in dice["pairs"])
    parts = np.split(values[:, 0], [12, 21])
    assert dice["test"]["statistic"] == pytest.approx(
        max(abs(stats.ttest_ind(a, b, equal_var=False).statistic) for a, b in combinations(parts, 2))
    )
    assert dice["rank"] == {"name": "Kruskal-Wallis", "p": pytest.approx(stats.kruskal(*parts).pvalue)}


@settings(max_examples=8)
@given(st.permutations(range(3)), st.integers(0, 99))
def test_other_names_and_another_order_of_patients_change_nothing(names, seed):
    values, index = patients((8, 7, 6))
    shuffled = np.random.default_rng(seed).permutation(len(values))
    renamed = np.array(names)[index]
    labels = tuple(NAMES[names.index(g)] for g in range(3))
    for before, after in zip(
        describe(values, index, draws=60),
        describe(values[shuffled], renamed[shuffled], labels, draws=60),
        strict=True,
    ):
        for key in ("worst", "gap", "sd", "ser", "es", "test", "rank", "detectable", "warnings"):
            assert json.dumps(plain(before[key])) == json.dumps(plain(after[key]))
        named = {(pair["first"], pair["second"]): pair for pair in after["pairs"]}
        for pair in before["pairs"]:
            same, sign = named.get((pair["first"], pair["second"])), 1
            if same is None:
                same, sign = named[pair["second"], pair["first"]], -1
            for key in ("difference", "cliffs_delta"):
                assert same[key] * sign == pytest.approx(pair[key], abs=1e-12)
            for key in ("p", "p_brunner_munzel", "p_mann_whitney"):
                assert same[key] == pytest.approx(pair[key])
            assert sorted(sign * end for end in same["interval"]) == pytest.approx(pair["interval"])


def plain(value):
    """Rounded, since sums in another order differ in the last digit."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def test_a_patient_in_two_groups_counts_once_in_the_overall_mean_of_es():
    values, index = patients((6, 7, 2))
    index[13:] = -1
    who = np.arange(15)
    who[6], who[13] = 0, 14  # one either side of an age, one with two rows that no group has
    dice, _ = describe(values, index, who=who)
    scores = values[:, 0]
    single = [scores[[0, 6]].mean(), *scores[1:6], *scores[7:13], scores[13:].mean()]
    overall, means = np.mean(single), [scores[:6].mean(), scores[6:13].mean()]
    expected = overall / (1 + sum(abs(overall - mean) for mean in means))
    assert dice["es"]["value"] == pytest.approx(expected)
    assert dice["es"]["interval"][0] < expected < dice["es"]["interval"][1]


def test_two_groups_keep_the_sign_of_t_whatever_the_names():
    values, index = patients((9, 12))
    t = stats.ttest_ind(values[:9, 0], values[9:, 0], equal_var=False).statistic
    assert describe(values, index)[0]["test"]["statistic"] == pytest.approx(t)
    assert describe(values, 1 - index)[0]["test"]["statistic"] == pytest.approx(-t)


def test_the_unknown_count_in_the_overall_mean_alone():
    """The trap: an unknown attribute that falls into group 0."""
    values, index = patients((12, 9))
    more = np.vstack([values, values[:4] * 0.5])
    has_value, unknown = describe(values, index)[0], describe(more, np.append(index, [-1] * 4))[0]
    for key in ("worst", "gap", "sd", "ser"):
        assert unknown[key]["value"] == pytest.approx(has_value[key]["value"])
    point = [values[:12, 0].mean(), values[12:, 0].mean()]
    overall = more[:, 0].mean()
    assert unknown["es"]["value"] == pytest.approx(overall / (1 + np.abs(overall - point).sum()))


def test_ser_does_not_divide_by_0():
    values, index = patients((12, 9))
    values[:12, 0] = 1
    dice = describe(values, index)[0]
    assert dice["ser"] == {"value": None, "interval": None, "size": None, "beyond_size": None}
    assert dice["gap"]["value"] and dice["test"]["p"] < 0.05


def test_patients_without_the_score_are_left_out_of_it_alone():
    values, index = patients((12, 9))
    holes = values.copy()
    holes[[0, 13], 1] = np.nan
    dice, distance = describe(holes, index)
    means = [holes[1:12, 1].mean(), holes[[12, *range(14, 21)], 1].mean()]
    assert distance["gap"]["value"] == pytest.approx(abs(means[0] - means[1]))
    separate = describe(np.delete(values, [0, 13], 0), np.delete(index, [0, 13]))[1]
    assert distance["gap"]["value"] == pytest.approx(separate["gap"]["value"])
    assert dice["gap"]["value"] == pytest.approx(describe(values, index)[0]["gap"]["value"])


def test_groups_too_small_for_an_interval_are_not_tested():
    values, index = patients((9, 4))
    dice = describe(values, index, delta={"dice": 0.1})[0]
    assert dice["gap"]["value"] and dice["gap"]["interval"] is None
    assert dice["pairs"][0]["interval"] is dice["pairs"][0]["p"] is dice["test"] is None
    assert dice["rank"]["p"] and not dice["equivalence"]["equivalent"]
    first_summary = describe(values, np.array([0] * 12 + [1]), minimum=1)[0]
    assert first_summary["gap"]["value"] and first_summary["test"] is None and first_summary["pairs"] == []


def test_groups_are_ranked_with_failures_and_tested_without():
    values, index = patients((12, 10, 9))
    values[12:14] = [0.1, 40.0]
    values[22:30, 0] = 0.2
    dice, distance = describe(values, index, minimum=10)
    assert dice["gap_without_failures"]["patients"] == {"sex=f": 12, "sex=m": 8}
    (pair,) = dice["pairs"]
    good = values[14:22, 0]
    assert pair["difference"] == pytest.approx(values[:12, 0].mean() - good.mean())
    assert pair["all_patients"]["difference"] == pytest.approx(
        values[:12, 0].mean() - (good.sum() + 0.2) / 10
    )
    assert dice["gap"]["value"] == pytest.approx(pair["all_patients"]["difference"])
    welch = stats.ttest_ind(values[:12, 0], good, equal_var=False)
    assert dice["test"]["statistic"] == pytest.approx(welch.statistic)
    # A patient whose segmentation failed is left out of distances too.
    assert distance["pairs"][0]["difference"] == pytest.approx(
        values[:12, 1].mean() - values[14:22, 1].mean()
    )


def test_a_group_of_few_survivors_hides_no_gap_of_others():
    """Twelve patients of whom nine fail: with the largest t of three patients, the others' gap would be open."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(m, 0.02, n) for m, n in ((0.95, 60), (0.93, 60), (0.94, 12))])[
        :, None
    ]
    index = np.repeat([0, 1, 2], [60, 60, 12])
    before = describe(values, index, minimum=10)[0]
    values[120:129] = 0.1
    (dice,) = describe(values, index, minimum=10)
    assert dice["gap_without_failures"]["patients"] == {"sex=f": 60, "sex=m": 60}
    separate = describe(values[:120], index[:120], minimum=10)[0]
    first, *rest = dice["pairs"]
    assert (
        first["p"] == pytest.approx(separate["pairs"][0]["p"], abs=0.01)
        and first["p"] <= before["pairs"][0]["p"]
    )
    assert first["interval"][0] > 0 and all(pair["p"] is pair["difference"] is None for pair in rest)
    assert all(pair["all_patients"]["difference"] for pair in rest)


def test_a_group_of_failures_alone_is_not_tested():
    values, index = patients((12, 9))
    values[12:, 0] = 0.1
    dice = describe(values, index)[0]
    assert dice["test"] is None and dice["gap_without_failures"]["value"] is None
    (pair,) = dice["pairs"]
    assert pair["difference"] is pair["p"] is None
    assert pair["all_patients"]["difference"] == pytest.approx(values[:12, 0].mean() - 0.1)
    assert pair["all_patients"]["interval"][0] > 0.3


def test_a_patient_in_two_groups_causes_a_warning():
    values, index = patients((12, 9))
    who = np.array([*range(12), *range(9, 18)])
    assert describe(values, index, who=who)[0]["warnings"][-1].startswith(
        "3 patients have cases in more than one"
    )
    assert describe(values, index)[0]["warnings"] == []


def test_patients_in_two_groups_are_counted():
    assert inference.shared_patient_warnings(np.array(["p", "q", "r"])) == []
    (sentence,) = inference.shared_patient_warnings(np.array(["p", "q", "p"]))
    assert sentence.startswith("1 patient has cases in more than one")
    assert inference.shared_patient_warnings(np.array(["p", "q", "q", "p"]))[0].startswith("2 patients have")


def test_a_group_without_a_structure():
    scored = {
        "femur": {"sex=f": 0, "sex=m": 80},
        "tibia": {"sex=f": 80, "sex=m": 80},
        "patella": {"sex=f": 0},
    }
    (sentence,) = inference.missing_structure_warnings(scored)
    assert sentence.startswith("femur has no score in sex=f")


def test_one_failure_gives_a_useful_interval():
    """Thirty patients at 0.95, and fifteen of whom one fails: the studentized bootstrap gave [0.000, 4.739]."""
    rng = np.random.default_rng(0)
    values = 0.95 + 0.001 * rng.normal(size=(45, 1))
    values[-1] = 0
    (dice,) = describe(values, np.repeat([0, 1], [30, 15]))
    (pair,) = dice["pairs"]
    low, high = pair["all_patients"]["interval"]
    assert -0.15 < low < 0 and 0.1 < high < 0.35
    assert dice["gap"]["value"] == pytest.approx(0.95 / 15, abs=0.001)
    assert dice["gap"]["interval"] == pytest.approx([0, high])
    # Without the failure nothing differs.
    assert dice["gap_without_failures"]["patients"] == {"sex=f": 30, "sex=m": 14}
    assert pair["difference"] == pytest.approx(values[:30].mean() - values[30:-1].mean())
    assert abs(pair["difference"]) < 0.001 and pair["p"] == dice["test"]["p"] > 0.05
    assert -0.002 < pair["interval"][0] < 0 < pair["interval"][1] < 0.002
    assert 1 <= dice["ser"]["interval"][0] < dice["ser"]["value"] < dice["ser"]["interval"][1] < 10
    assert 0.05 < dice["worst"]["interval"][0] < dice["worst"]["interval"][1] < 0.4
    assert 0 < dice["es"]["interval"][0] < dice["es"]["interval"][1] <= 1


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(0, 2)), min_size=18, max_size=40))
def test_no_interval_leaves_what_the_score_can_take(rows):
    values, index = np.array([[score] for score, _ in rows]), np.array([group for _, group in rows])
    (dice,) = describe(values, index, minimum=5, draws=60)
    for pair in dice["pairs"]:
        for first_summary in (pair, pair["all_patients"]):
            if first_summary["interval"]:
                assert -1 <= first_summary["interval"][0] <= first_summary["difference"] + 1e-9
                assert first_summary["difference"] - 1e-9 <= first_summary["interval"][1] <= 1
        if pair["interval"]:
            assert (pair["p"] <= 0.05) == (pair["interval"][0] > 0 or pair["interval"][1] < 0)
    for key, most in (("worst", 1), ("gap", 1), ("es", 1)):
        ends = dice[key]["interval"]
        assert ends is None or (0 <= ends[0] <= ends[1] + 1e-12 and ends[1] <= most + 1e-9)
