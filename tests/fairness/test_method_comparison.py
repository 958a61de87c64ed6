import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kneefair_jax.errors import InputError
from kneefair_jax.fairness import method_comparison, seed_intervals

SEEDS = 5
SIZES = {"A": 40, "B": 15}


def study(gaps=None, seed=0, sizes=SIZES, seeds=SEEDS, noise=0.002):
    """method -> f[S, P] whose last group lies `gap` below 0.95, and the groups' index."""
    gaps = gaps or {"erm": 0.05, "equal_share": 0.02, "reweighted": 0.05, "oracle": 0.01}
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(len(sizes)), list(sizes.values()))
    patients = rng.normal(0, 0.01, len(index))
    last = index == len(sizes) - 1
    return {
        name: 0.95 - gap * last + patients + rng.normal(0, noise, (seeds, len(index)))
        for name, gap in gaps.items()
    }, index


def compare(scores, index, names=tuple(SIZES), **options):
    options = {"draws": 200, "oracle": "oracle"} | options
    return method_comparison.compare_methods(scores, index, names, **options).to_dict()


def test_values_by_hand():
    scores = {"erm": np.array([[0.9, 0.8, 0.6, 0.6], [0.9, 0.9, 0.7, 0.6]])}
    result = compare(scores, np.array([0, 0, 1, -1]), oracle=None, min_group_patients=1)
    erm = result["methods"]["erm"]
    assert result["pair"] == {"best": "A", "worst": "B"}
    assert erm["mean"]["per_seed"] == pytest.approx([0.725, 0.775])
    assert erm["groups"] == pytest.approx({"A": 0.875, "B": 0.65})
    assert erm["worst"]["per_seed"] == pytest.approx([0.6, 0.7])
    assert erm["gap"]["per_seed"] == pytest.approx([0.25, 0.2])
    assert erm["ser"]["per_seed"] == pytest.approx([0.4 / 0.15, 3.0])
    es = [0.725 / (1 + 0.125 + 0.125), 0.775 / (1 + 0.125 + 0.075)]
    assert erm["es"]["per_seed"] == pytest.approx(es)
    assert erm["gap"]["value"] == pytest.approx(0.225)
    assert erm["gap"]["seeds"] == pytest.approx(stats.t.interval(0.95, 1, 0.225, 0.025))
    assert erm["gap"]["patients"] is None and erm["change"] is None  # one patient; the baseline


def test_changes_are_paired_tests_over_seeds():
    scores, index = study()
    result = compare(scores, index)

    def gap(name):
        return scores[name][:, index == 0].mean(1) - scores[name][:, index == 1].mean(1)

    comparison = ("equal_share", "reweighted")
    errors, freedom, _ = seed_intervals.pooled_errors(np.stack([gap(name) for name in ("erm", *comparison)]))
    for name, error in zip(comparison, errors, strict=True):
        change = result["methods"][name]["change"]
        shifted = (gap(name) - gap("erm")).mean()
        assert change["gap"]["p"] == pytest.approx(2 * stats.t.sf(abs(shifted) / error, freedom))
        assert change["gap"]["seeds"] == pytest.approx(stats.t.interval(0.95, freedom, shifted, error))
        mean = stats.ttest_rel(scores[name].mean(1), scores["erm"].mean(1))
        assert change["mean"]["p"] == pytest.approx(mean.pvalue)
    # The gap's changes are the primary family, all other columns the secondary; the oracle is in none.
    for family, count in (("primary", 2), ("secondary", 8)):  # there is no HD95 here
        tests = [
            entry
            for name in comparison
            for entry in result["methods"][name]["change"].values()
            if entry["p"] is not None and entry["family"] == family
        ]
        assert len(tests) == count
        expected, floor = [], 0.0
        for k, entry in enumerate(sorted(tests, key=lambda entry: entry["p"])):
            floor = min(1.0, max(floor, entry["p"] * (len(tests) - k)))
            expected.append(floor)
        assert sorted(entry["p_holm"] for entry in tests) == pytest.approx(expected)
    oracle = result["methods"]["oracle"]["change"]["gap"]
    assert oracle["p_holm"] is None
    assert oracle["p"] == pytest.approx(stats.ttest_rel(gap("oracle"), gap("erm")).pvalue)


def test_power_has_the_study_s_own_numbers_where_it_has_them():
    scores, index = study()
    result = compare(scores, index)
    power, repairable = result["power"], result["repairable"]
    assert power["own_change"] and power["own_sd"] and power["change"] == repairable["value"]
    gaps = [result["methods"][name]["pair"]["per_seed"] for name in ("erm", "equal_share", "reweighted")]
    assert power["sd"] == pytest.approx(seed_intervals.pooled_errors(np.array(gaps))[2])
    assert power["power"] > 0.99
    twin = compare({"erm": scores["erm"], "equal_share": scores["erm"].copy()}, index, oracle=None)["power"]
    assert (twin["change"], twin["sd"], twin["own_change"], twin["own_sd"]) == (0.017, 0.004, False, False)
    single, index = study(seeds=1)
    assert compare(single, index)["power"] is None


def test_patients_with_rows_in_several_groups_count_once_in_the_mean():
    """Three of ten patients have a row in either group: the gap is of rows, the mean of patients."""
    rng = np.random.default_rng(0)
    patients = np.array([*range(10), 0, 1, 2])
    index = np.array([0] * 10 + [1] * 3)
    rows = {name: rng.uniform(0.6, 1, (2, 13)) for name in ("erm", "other")}
    total = {
        name: np.stack([values[:, patients == k].mean(1) for k in range(10)], axis=1)
        for name, values in rows.items()
    }
    patient_groups = np.array([-1] * 3 + [0] * 7)
    result = compare(
        rows, index, oracle=None, overall=(total, patient_groups), hd95=total, min_group_patients=3, draws=60
    )
    assert result["patients"] == 10 and result["excluded"] == 0
    assert {name: group["patients"] for name, group in result["groups"].items()} == {"A": 10, "B": 3}
    for name, entry in result["methods"].items():
        assert entry["mean"]["per_seed"] == pytest.approx(total[name].mean(1))
        assert entry["hd95"]["per_seed"] == pytest.approx(total[name].mean(1))
        ends = rows[name][:, index == 0].mean(), rows[name][:, index == 1].mean()
        assert entry["groups"] == pytest.approx({"A": ends[0], "B": ends[1]})
        assert entry["gap"]["value"] == pytest.approx(abs(ends[0] - ends[1]))


def test_the_bootstrap_of_a_change_is_paired():
    """Unpaired, the patients' own spread would drown a change that every patient shows."""
    result = compare(*study())
    low, high = result["methods"]["equal_share"]["change"]["gap"]["patients"]
    unpaired = result["methods"]["equal_share"]["gap"]["patients"]
    assert high - low < 0.3 * (unpaired[1] - unpaired[0]) and low < -0.03 < high


def test_the_share_of_the_repairable_gap():
    scores, index = study()
    result = compare(scores, index)
    repairable, closed = result["repairable"], result["methods"]["equal_share"]["closed"]
    per_seed = {name: np.array(entry["gap"]["per_seed"]) for name, entry in result["methods"].items()}
    total, part = per_seed["erm"] - per_seed["oracle"], per_seed["erm"] - per_seed["equal_share"]
    assert repairable["significant"] and repairable["value"] == pytest.approx(total.mean())
    assert repairable["seeds"] == pytest.approx(stats.t.interval(0.95, 4, total.mean(), stats.sem(total)))
    assert closed["value"] == pytest.approx(part.mean() / total.mean())
    assert closed["seeds"][0] < 0.75 < closed["seeds"][1]
    expected = stats.ttest_rel(part, total / 2, alternative="greater").pvalue
    assert closed["half"]["p"] == pytest.approx(expected) and expected < 0.01
    left = per_seed["equal_share"] - per_seed["oracle"]
    assert closed["left"]["value"] == pytest.approx(left.mean())
    assert closed["left"]["seeds"] == pytest.approx(stats.t.interval(0.95, 4, left.mean(), stats.sem(left)))
    assert closed["half"]["p_holm"] == pytest.approx(2 * expected)
    useless = result["methods"]["reweighted"]["closed"]
    assert useless["half"]["p"] > 0.9 and useless["seeds"][1] < 0.5
    assert result["methods"]["erm"]["closed"] is None and result["methods"]["oracle"]["closed"] is None


def test_nothing_to_repair_gets_no_share():
    scores, index = study({"erm": 0.02, "equal_share": 0.02, "oracle": 0.02})
    result = compare(scores, index)
    closed = result["methods"]["equal_share"]["closed"]
    assert not result["repairable"]["significant"]
    assert closed["value"] is None and closed["half"] is None and "nothing to repair" in closed["reason"]


def test_an_oracle_that_is_worse_leaves_nothing_to_repair():
    scores, index = study({"erm": 0.02, "equal_share": 0.01, "oracle": 0.05})
    result = compare(scores, index)
    assert result["repairable"]["seeds"][1] < 0 and not result["repairable"]["significant"]
    assert result["methods"]["equal_share"]["closed"]["value"] is None


def test_one_seed_has_points_and_patients_alone():
    scores, index = study(seeds=1)
    entry = compare(scores, index)["methods"]["equal_share"]
    assert entry["gap"]["seeds"] is None and entry["gap"]["patients"] is not None
    assert entry["change"]["gap"]["p"] is None and entry["change"]["gap"]["p_holm"] is None
    assert entry["closed"]["reason"] == "one seed has no interval"


def test_identical_methods_do_not_differ():
    scores, index = study()
    result = compare(scores | {"equal_share": scores["erm"].copy()}, index)
    changes = result["methods"]["equal_share"]["change"]
    assert changes.pop("hd95")["value"] is None
    for key, change in changes.items():
        assert change["value"] == 0 and change["p"] == change["p_holm"] == 1
        assert change["seeds"] == [0, 0]
        assert change["patients"] == (None if key in ("ser", "es") else [0, 0])
    assert result["methods"]["equal_share"]["closed"]["value"] == 0


def test_a_gap_that_a_method_turns_round_is_negative():
    result = compare(*study({"erm": 0.03, "group_dro": -0.02, "oracle": 0.0}))
    assert result["methods"]["group_dro"]["gap"]["value"] == pytest.approx(-0.02, abs=8e-3)
    assert result["methods"]["group_dro"]["closed"]["value"] > 1


def test_changes_of_three_groups_are_of_each_method_s_own_gap():
    sizes = {"A": 40, "B": 20, "C": 15}
    scores, index = study({"erm": 0.05, "group_dro": -0.02, "oracle": 0.01}, sizes=sizes)
    result = compare(scores, index, tuple(sizes))
    assert result["pair"]["worst"] == "C"
    reversed_method, change = result["methods"]["group_dro"], result["methods"]["group_dro"]["change"]["gap"]
    assert reversed_method["gap"]["value"] > 0 > reversed_method["pair"]["value"]
    means = {name: np.stack([scores[name][:, index == g].mean(1) for g in range(3)]) for name in scores}
    gap = {name: np.ptp(values, axis=0) for name, values in means.items()}
    differences = gap["group_dro"] - gap["erm"]
    assert change["per_seed"] == pytest.approx(differences)
    assert change["p"] == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)  # of one method
    assert result["repairable"]["value"] == pytest.approx((gap["erm"] - gap["oracle"]).mean())
    left = reversed_method["closed"]["left"]["value"]
    assert left == pytest.approx((gap["group_dro"] - gap["oracle"]).mean())
    assert change["patients"][0] < differences.mean() < change["patients"][1] < 0
    assert (
        0
        <= reversed_method["gap"]["patients"][0]
        < reversed_method["gap"]["value"]
        < reversed_method["gap"]["patients"][1]
    )


def test_undefined_scores_leave_the_patient_out_of_every_run():
    scores, index = study()
    is_included = np.arange(len(index)) != 3
    broken = scores | {"reweighted": scores["reweighted"].copy()}
    broken["reweighted"][2, 3] = np.nan
    result, expected = (
        compare(broken, index),
        compare({k: v[:, is_included] for k, v in scores.items()}, index[is_included]),
    )
    assert result["excluded"] == 1 and result["patients"] == len(index) - 1
    assert result | {"excluded": 0} == expected


def test_small_and_unknown_groups_are_not_ranked():
    """The trap: an unknown attribute that falls into group 0."""
    scores, index = study()
    index[:5] = -1
    result = compare(scores, index)
    assert result["groups"]["A"] == {"patients": 35, "ranked": True}
    erm = result["methods"]["erm"]
    assert erm["groups"]["A"] == pytest.approx(scores["erm"][:, 5:40].mean())
    assert erm["mean"]["value"] == pytest.approx(scores["erm"].mean())
    unpaired = compare(scores, index, min_group_patients=20)
    assert unpaired["pair"] is None and unpaired["repairable"] is None
    entry = unpaired["methods"]["equal_share"]
    assert entry["gap"]["value"] is None and entry["mean"]["value"] is not None
    assert "p" not in entry["gap"]
    assert entry["change"]["gap"]["p_holm"] is None and entry["change"]["mean"]["p_holm"] is not None
    assert entry["front"] == {"worst": None, "gap": None} and entry["closed"] is None


def test_a_distance_is_reported_by_its_mean():
    scores, index = study()
    distances = {name: 1 + 10 * (1 - values) for name, values in scores.items() if name != "oracle"}
    distances["erm"][0, 7] = np.nan
    methods = compare(scores, index, hd95=distances, draws=4000)["methods"]
    keep = np.arange(len(index)) != 7
    is_included = distances["reweighted"][:, keep]
    result = methods["reweighted"]["hd95"]
    assert result["value"] == pytest.approx(is_included.mean())
    # Within group, as for Dice: what lies between the groups is none of the mean's error.
    variances = [is_included.mean(0)[index[keep] == g].var() * (index[keep] == g).sum() for g in (0, 1)]
    half = stats.t.ppf(0.975, 14) * np.sqrt(15 / 14 * sum(variances)) / keep.sum()
    assert result["patients"] == pytest.approx(
        [is_included.mean() - half, is_included.mean() + half], abs=0.08 * half
    )
    assert methods["oracle"]["hd95"]["value"] is None and methods["oracle"]["change"]["hd95"]["value"] is None


def test_every_column_has_a_paired_change():
    scores, index = study()
    distances = {name: 1 + 10 * (1 - values) for name, values in scores.items()}
    distances["reweighted"][1, 3] = np.nan
    methods = compare(scores, index, hd95=distances, draws=1000)["methods"]
    keep = np.arange(len(index)) != 3
    change = methods["equal_share"]["change"]
    by_hand = {
        "hd95": distances["equal_share"][:, keep].mean(1) - distances["erm"][:, keep].mean(1),
        **{
            key: np.subtract(methods["equal_share"][key]["per_seed"], methods["erm"][key]["per_seed"])
            for key in ("ser", "es")
        },
    }
    for key, differences in by_hand.items():
        assert change[key]["per_seed"] == pytest.approx(differences)
        raw = stats.ttest_1samp(differences, 0)
        assert change[key]["p"] == pytest.approx(raw.pvalue) and change[key]["p_holm"] >= change[key]["p"]
        assert change[key]["seeds"] == pytest.approx(list(raw.confidence_interval()))
    low, high = change["hd95"]["patients"]
    unpaired = methods["equal_share"]["hd95"]["patients"]
    assert low <= change["hd95"]["value"] <= high
    assert high - low < 0.3 * (unpaired[1] - unpaired[0])  # paired by patient


def test_a_distance_is_resampled_with_the_scores():
    """The trap: a bootstrap of its own. A distance that is a score has the score's interval."""
    scores, index = study()
    methods = compare(scores, index, hd95=scores)["methods"]
    for entry in methods.values():
        assert entry["hd95"]["patients"] == pytest.approx(entry["mean"]["patients"], abs=1e-12)


def test_a_stated_pair_is_kept():
    """The trap: every point of a sweep that picks the pair by its own baseline."""
    sizes = {"A": 40, "B": 20, "C": 15}
    scores, index = study({"erm": 0.05, "group_dro": -0.02}, sizes=sizes)
    own_pair = compare(scores, index, tuple(sizes), oracle=None)
    assert own_pair["pair"]["worst"] == "C"
    result = compare(scores, index, tuple(sizes), oracle=None, pair=("C", "A"))
    assert result["pair"] == {"best": "C", "worst": "A"}
    expected = scores["erm"][:, index == 2].mean(1) - scores["erm"][:, index == 0].mean(1)
    erm = result["methods"]["erm"]
    assert erm["pair"]["per_seed"] == pytest.approx(expected) and erm["pair"]["value"] < 0
    assert erm["pair"]["patients"][1] < 0
    assert erm["worst"]["per_seed"] == pytest.approx(own_pair["methods"]["erm"]["worst"]["per_seed"])
    # The gap is that of the extreme groups, whatever the pair.
    change, expected = (
        comparison["methods"]["group_dro"]["change"]["gap"] for comparison in (result, own_pair)
    )
    assert change["per_seed"] == pytest.approx(expected["per_seed"])
    with pytest.raises(InputError, match="the pair's group D is none of A, B, C"):
        compare(scores, index, tuple(sizes), oracle=None, pair=("A", "D"))
    with pytest.raises(InputError, match="the pair's group C has fewer than 18 patients"):
        compare(scores, index, tuple(sizes), oracle=None, pair=("A", "C"), min_group_patients=18)


def test_values_lie_in_their_intervals_where_the_order_of_groups_turns_by_seed():
    """The trap: an interval of the statistic of the seeds' average, beside the average of the statistic."""
    rng = np.random.default_rng(0)
    for groups in (2, 3):
        index = np.repeat(np.arange(groups), 40)
        turns = np.where((index + np.arange(groups)[:, None]) % groups == 0, -0.05, 0.05)
        scores = {"erm": 0.85 + turns + rng.normal(0, 0.01, len(index))}
        scores["other"] = scores["erm"] + 0.02 + rng.normal(0, 0.001, scores["erm"].shape)
        for name, entry in compare(scores, index, "ABC"[:groups], oracle=None)["methods"].items():
            for over in [entry[key] for key in ("mean", "worst", "gap", "pair", "ser", "es")]:
                assert over["patients"][0] <= over["value"] <= over["patients"][1]
            low, high = entry["worst"]["patients"]
            assert high < 0.84 + 0.02 * (name == "other") and high - low < 0.02
            if entry["change"]:
                low, high = entry["change"]["worst"]["patients"]
                assert low <= entry["change"]["worst"]["value"] <= high and high - low < 0.003


def test_pareto_by_hand():
    x = np.array([0.90, 0.92, 0.91, 0.92, 0.89])
    y = np.array([0.85, 0.80, 0.79, 0.80, 0.85])
    assert method_comparison.pareto(x, y).tolist() == [True, True, False, True, False]


def test_the_front_leaves_the_oracle_out():
    methods = compare(*study())["methods"]
    assert methods["oracle"]["front"] is None
    assert methods["equal_share"]["front"] == {"worst": True, "gap": True}


@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_order_and_names_change_nothing(seed):
    rng = np.random.default_rng(seed)
    scores, index = study(seed=seed, sizes={"A": 12, "B": 12, "C": 11})
    index[:3] = -1
    names = ("A", "B", "C")
    expected = compare(scores, index, names, min_group_patients=5)
    reversed_method, patients = rng.permutation(3), rng.permutation(len(index))
    renamed = np.where(index < 0, -1, reversed_method[index])
    result = compare(
        {name: scores[name][:, patients] for name in reversed(scores)},
        renamed[patients],
        [names[i] for i in np.argsort(reversed_method)],
        min_group_patients=5,
    )
    assert result == expected


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), draws=st.sampled_from([50, 200]))
def test_it_is_plain_json_and_the_seed_decides(seed, draws):
    scores, index = study(seed=seed)
    result = compare(scores, index, draws=draws, seed=seed)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert compare(scores, index, draws=draws, seed=seed) == result
    second_result = compare(scores, index, draws=draws, seed=seed + 1)
    assert second_result["methods"]["erm"]["gap"]["patients"] != result["methods"]["erm"]["gap"]["patients"]


def test_no_method_changes_anything_where_there_is_nothing_to_change():
    """Five methods that are ERM again: Holm keeps false alarms anywhere in the table near 5 % or below."""
    names = ("erm", "a", "b", "c", "d", "e")
    alarms = 0
    for seed in range(150):
        scores, index = study(dict.fromkeys(names, 0.0), seed=seed, sizes={"A": 12, "B": 10})
        methods = compare(scores, index, oracle=None, draws=40)["methods"]
        changes = [entry for name in names[1:] for entry in methods[name]["change"].values()]
        alarms += any(entry["p_holm"] is not None and entry["p_holm"] < 0.05 for entry in changes)
    assert alarms / 150 < 0.09


def test_what_cannot_be_compared_is_refused():
    scores, index = study()
    with pytest.raises(InputError, match="the baseline erm is not among the methods compared: a"):
        compare({"a": scores["erm"]}, index)
    with pytest.raises(InputError, match="the oracle ideal is not among"):
        compare(scores, index, oracle="ideal")
    with pytest.raises(InputError, match="no patient has a score in all runs"):
        compare({"erm": np.full((2, 5), np.nan)}, index[:5], oracle=None)
    with pytest.raises(ValueError, match="seeds x patients"):
        compare(scores, index[1:])
