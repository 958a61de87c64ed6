from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from kneefair_jax.errors import InputError
from kneefair_jax.fairness import model_comparison, scores
from kneefair_jax.fairness.hypothesis_tests import holm


def table(scores, sex):
    """Two structures around each patient's score, which is their mean."""
    frames = [
        pd.DataFrame(
            {
                "case_id": [f"c{i:03}" for i in range(len(scores))],
                "patient_id": [f"p{i:03}" for i in range(len(scores))],
                "structure": structure,
                "sex": pd.Categorical(sex),
                "dice": np.asarray(scores) + shift,
            }
        )
        for structure, shift in (("femur", 0.01), ("tibia", -0.01))
    ]
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def cohort():
    rng = np.random.default_rng(3)
    sex = np.repeat(["female", "male"], [60, 140])
    first = rng.normal(0.9, 0.03, 200) - 0.02 * (sex == "female")
    second = first + rng.normal(0.002, 0.01, 200) + 0.003 * (sex == "female")
    return sex, first, second


def compare_pairs(models, attributes=("sex",), **options):
    return model_comparison.compare_models(models, list(attributes), **{"draws": 400} | options).to_dict()[
        "pairs"
    ]


def test_changes_are_those_of_the_means_and_gaps(cohort):
    """With 200 patients the studentized bootstrap of the mean is close to the t test of the patients' changes."""
    sex, first, second = cohort
    (pair,) = compare_pairs({"a": table(first, sex), "b": table(second, sex)}, draws=10_000, seed=1)
    change, gap = second - first, pair["change_of_gap"]
    mean = stats.ttest_1samp(change, 0)
    assert pair["change_of_mean"]["value"] == pytest.approx(change.mean())
    ends = mean.confidence_interval()
    np.testing.assert_allclose(
        pair["change_of_mean"]["interval"], [ends.low, ends.high], atol=0.05 * (ends.high - ends.low)
    )
    assert pair["change_of_mean"]["p"] == pytest.approx(mean.pvalue, abs=0.02)
    gaps = [abs(scores[sex == "male"].mean() - scores[sex == "female"].mean()) for scores in (first, second)]
    assert [gap["first"], gap["second"]] == pytest.approx(gaps)
    assert gap["value"] == pytest.approx(gaps[1] - gaps[0])
    assert gap["interval"][0] < gap["value"] < gap["interval"][1]


def test_means_and_gaps_count_their_own_patients(cohort):
    """Patients with an unknown or rare level count in the mean alone, those without a score by both in neither."""
    sex, first, second = cohort
    sex = sex.astype(object)
    sex[:7], sex[-4:] = None, "unknown sex"
    first = np.where(np.arange(200) == 10, np.nan, first)
    second = np.where(np.arange(200) == 100, np.nan, second)
    (pair,) = compare_pairs({"a": table(first, sex), "b": table(second, sex)})
    both = ~np.isnan(first + second)
    ranked = both & np.isin(sex.astype(str), ["female", "male"])
    mean, gap = pair["change_of_mean"], pair["change_of_gap"]
    assert (pair["patients"], gap["patients"]) == (both.sum(), ranked.sum()) == (198, 187)
    assert [mean["first"], mean["second"]] == pytest.approx([first[both].mean(), second[both].mean()])
    gaps = [
        abs(scores[ranked & (sex == "male")].mean() - scores[ranked & (sex == "female")].mean())
        for scores in (first, second)
    ]
    assert [gap["first"], gap["second"]] == pytest.approx(gaps)


def test_the_interval_of_the_mean_excludes_zero_where_p_is_small(cohort):
    sex, first, _ = cohort
    rng = np.random.default_rng(0)
    verdicts = set()
    for shift in np.linspace(0, 0.004, 8):
        (pair,) = compare_pairs(
            {"a": table(first, sex), "b": table(first + rng.normal(shift, 0.01, 200), sex)}
        )
        entry = pair["change_of_mean"]
        low, high = entry["interval"]
        if abs(entry["p"] - 0.05) > 0.01:  # 400 draws resolve p no further
            assert (entry["p"] < 0.05) == (low > 0 or high < 0)
            verdicts.add(entry["p"] < 0.05)
    assert verdicts == {True, False}


def test_holm_corrects_gaps_over_models_and_attributes_and_means_over_models(cohort):
    sex, first, second = cohort
    race = np.tile(["A", "B"], 100)
    tables = {name: table(s, sex).assign(race=pd.Categorical([*race, *race])) for name, s in
              (("a", first), ("b", second), ("c", second + 0.01))}  # fmt: skip
    pairs = compare_pairs(tables, ("sex", "race"))
    assert [(p["first"], p["second"], p["attribute"]) for p in pairs] == [
        (*models, attribute)
        for models in (("a", "b"), ("a", "c"), ("b", "c"))
        for attribute in ("sex", "race")
    ]
    assert pairs[0]["change_of_mean"] == pairs[1]["change_of_mean"]
    # b and c differ by the same for all patients: no change of the gap, and no spread to judge the mean by.
    last = pairs[-1]
    assert last["change_of_gap"]["p"] == 1
    assert last["change_of_mean"]["interval"] == pytest.approx([0.01, 0.01])
    assert last["change_of_mean"]["p"] is None
    for key, family in (("change_of_gap", pairs), ("change_of_mean", pairs[:4:2])):
        p = holm({k: pair[key]["p"] for k, pair in enumerate(family)})
        assert [pair[key]["p_holm"] for pair in family] == list(p.values())
    assert len({pair["change_of_gap"]["p"] for pair in pairs}) == 3


def test_the_order_of_the_models_turns_the_sign_alone(cohort):
    sex, first, second = cohort
    race = np.tile(["A", "B", "C", "D"], 50)
    tables = {name: table(s, sex).assign(race=pd.Categorical([*race, *race])) for name, s in
              (("a", first), ("b", second))}  # fmt: skip
    straight = compare_pairs(tables, ("sex", "race"))
    back = compare_pairs({"b": tables["b"], "a": tables["a"]}, ("sex", "race"))
    for forward, backward in zip(straight, back, strict=True):
        for key in ("change_of_mean", "change_of_gap"):
            assert (
                forward[key]["p"] == backward[key]["p"] and forward[key]["p_holm"] == backward[key]["p_holm"]
            )
            assert forward[key]["value"] == pytest.approx(-backward[key]["value"])
            low, high = backward[key]["interval"]
            assert forward[key]["interval"] == pytest.approx([-high, -low])
        for one, other in zip(forward["change_by_group"], backward["change_by_group"], strict=True):
            assert one["value"] == pytest.approx(-other["value"])
            assert one["interval"] == pytest.approx([-end for end in other["interval"][::-1]])


def knees(seed):
    """60 patients with two knees each, whose KL grades differ in half of them: `side`, `kl`, and one score a knee."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(60), 2)
    grades = np.where(np.arange(120) % 4 == 1, "3", "1")  # the right knee of every other patient
    return pd.DataFrame(
        {
            "case_id": [f"c{k:03}" for k in range(120)],
            "patient_id": [f"p{k:02}" for k in patients],
            "structure": "femur",
            "side": pd.Categorical(np.tile(["L", "R"], 60)),
            "kl": pd.Categorical(grades),
            "dice": 0.9
            + rng.normal(0, 0.02, 60)[patients]
            + rng.normal(0, 0.01, 120)
            - 0.03 * (grades == "3"),
        }
    )


def test_the_change_of_the_gap_is_that_of_the_tables():
    """The trap: the group of a patient's first case by name, which turns knees of grade 3 into grade 1."""
    models = {"a": knees(0), "b": knees(1)}
    attributes = ["side", "kl"]
    gaps = {
        name: scores.scores(frame, ["femur"], attributes, min_group_patients=5, draws=60, seed=0)["dice"]
        for name, frame in models.items()
    }
    for pair in compare_pairs(models, attributes):
        first, second = (gaps[name]["summaries"][pair["attribute"]]["gap"]["value"] for name in ("a", "b"))
        assert pair["change_of_gap"]["value"] == pytest.approx(second - first)
        assert pair["change_of_gap"]["first"] == pytest.approx(first)
        assert pair["patients"] == 60
        means = [gaps[name]["overall"]["mean"] for name in ("a", "b")]
        assert pair["change_of_mean"]["value"] == pytest.approx(means[1] - means[0])


def test_few_patients_have_no_interval_and_one_group_no_gap(cohort):
    sex, first, second = cohort
    few = slice(57, 64)  # three women, four men
    models = {"a": table(first[few], sex[few]), "b": table(second[few], sex[few])}
    (pair,) = model_comparison.compare_models(models, ["sex"], min_group_patients=2, draws=100).to_dict()[
        "pairs"
    ]
    assert pair["change_of_mean"]["interval"] is not None
    assert pair["change_of_gap"]["value"] is not None
    assert pair["change_of_gap"]["interval"] is pair["change_of_gap"]["p"] is None
    (pair,) = model_comparison.compare_models(models, ["sex"], min_group_patients=10, draws=100).to_dict()[
        "pairs"
    ]
    assert pair["change_of_gap"].pop("patients") == 0
    assert set(pair["change_of_gap"].values()) == {None}


def test_a_patient_without_a_score_by_both_is_left_out(cohort):
    sex, first, second = cohort
    second = np.where(np.arange(200) == 7, np.nan, second)
    (pair,) = model_comparison.compare_models(
        {"a": table(first, sex), "b": table(second, sex)}, ["sex"], draws=50
    ).to_dict()["pairs"]
    assert pair["patients"] == 199
    assert pair["change_of_mean"]["value"] == pytest.approx(np.nanmean(second - first))


def test_other_patients_are_refused(cohort):
    sex, first, second = cohort
    with pytest.raises(InputError, match="was not tested on the cases"):
        model_comparison.compare_models(
            {"a": table(first, sex), "b": table(second[:-1], sex[:-1])}, ["sex"], draws=50
        )


def test_a_score_that_is_not_compared_by_group_is_refused(cohort):
    sex, first, second = cohort
    models = {"a": table(first, sex), "b": table(second, sex)}
    with pytest.raises(ValueError, match="score 'ece'"):
        model_comparison.compare_models(models, ["sex"], score="ece", draws=50)


def test_a_distance_has_the_numbers_of_a_share_in_its_own_unit_without_bounds(cohort):
    sex, first, second = cohort
    shares = {"a": table(first, sex), "b": table(second, sex)}
    distances = {name: frame.assign(hd95_mm=1000 * frame["dice"]) for name, frame in shares.items()}
    (share,) = compare_pairs(shares)
    (distance,) = compare_pairs(distances, score="hd95_mm")
    for key in ("change_of_mean", "change_of_gap"):
        assert distance[key]["p"] == share[key]["p"]
        assert distance[key]["value"] == pytest.approx(1000 * share[key]["value"])
        assert distance[key]["interval"] == pytest.approx([1000 * end for end in share[key]["interval"]])
    assert distance["change_of_gap"]["interval"][0] < -1


def test_progress_advances_once_for_each_attribute_of_each_pair(cohort):
    sex, first, second = cohort
    models = {
        name: table(scores, sex) for name, scores in zip("abc", (first, second, first[::-1]), strict=True)
    }
    done = []
    pairs = compare_pairs(models, draws=50, advance=lambda: done.append(1))
    assert len(done) == len(pairs) == 3


def two_models(sizes, seed=0, change=0.0, noise=0.01):
    """Two models' scores of patients in groups; the last group lies 0.03 lower, by the second model less so."""
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(len(sizes)), sizes)
    patients = rng.normal(0.9, 0.02, len(index)) - 0.03 * (index == len(sizes) - 1)
    first, second = patients + rng.normal(0, noise, (2, len(index)))
    return first, second + change * (index == len(sizes) - 1), index


def by_swaps(first, second, index, patients=None, swaps=399, seed=0):
    patients = np.arange(len(index)) if patients is None else patients
    return model_comparison.compare_gaps(first, second, index, patients, swaps, seed)


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
    first, second, index = two_models((5, 5), seed=4, change=0.02)
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


@settings(max_examples=20)
@given(seed=st.integers(0, 999), groups=st.sampled_from([2, 3, 5]))
def test_test_and_interval_agree_and_the_models_order_turns_the_sign(seed, groups):
    first, second, index = two_models((12,) * groups, seed, change=0.012)
    result, back = by_swaps(first, second, index), by_swaps(second, first, index)
    low, high = result.interval
    assert (low > 0 or high < 0) == (result.p <= 0.05)
    assert back.p == result.p and back.value == pytest.approx(-result.value)
    assert back.interval == pytest.approx((-high, -low))


def test_groups_names_and_a_common_shift_change_nothing():
    first, second, index = two_models((12, 9, 15), change=0.01)
    expected = by_swaps(first, second, index)
    renamed = by_swaps(first, second + 0.07, np.array([2, 0, 1])[index])
    assert renamed.p == expected.p and renamed.interval == pytest.approx(expected.interval)


def test_a_narrower_gap_is_significant_and_equal_models_do_not_differ():
    first, second, index = two_models((60, 30), change=0.02)
    result = by_swaps(first, second, index)
    assert result.p < 0.02 and result.interval[0] < -0.02 < result.interval[1] < 0
    same = by_swaps(first, first + 0.01, index)
    assert same.p == 1 and same.interval == pytest.approx((0, 0), abs=1e-15)


def test_the_farther_end_allows_for_the_bias_that_could_be_missing():
    """The nearer end is where the test puts it, so both ends add up to twice the change but for that bias."""
    first, second, index = two_models((20, 20, 20, 20), seed=2, change=0.017)
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
    first, second, index = two_models((20, 20), seed=3, change=0.006)
    twice = [np.tile(first_result, 2) for first_result in (first, second, index)]
    separate = by_swaps(*twice, swaps=2000).p
    together = by_swaps(*twice, patients=np.tile(np.arange(40), 2), swaps=2000).p
    assert separate < together == pytest.approx(by_swaps(first, second, index, swaps=2000).p, abs=0.03)


def test_few_patients_or_swaps_have_no_interval():
    first, second, index = two_models((4, 9))
    few = by_swaps(first, second, index)
    assert few.p is few.interval is None and few.value == pytest.approx(few.second - few.first)
    first, second, index = two_models((9, 9))
    assert by_swaps(first, second, index, swaps=8).interval is None


def test_exchangeable_models_are_called_different_in_5_percent():
    """Narrower and wider alike; the benchmark measures it with more cohorts."""
    signs = []
    for seed in range(300):
        first, second, index = two_models((10, 8, 8, 8), seed)
        result = by_swaps(first, second, index, swaps=99, seed=seed)
        signs.append(np.sign(sum(result.interval)) * (result.p <= 0.05))
    narrower, wider = (np.mean(np.array(signs) == sign) for sign in (-1, 1))
    assert 0.003 < narrower < 0.06 and 0.003 < wider < 0.06


def test_the_change_of_each_group_is_that_of_its_patients(cohort):
    """By hand: the paired differences of a group, and their studentized bootstrap with other random numbers."""
    sex, first, second = cohort
    second = np.where(np.arange(200) == 7, np.nan, second)
    (pair,) = compare_pairs({"a": table(first, sex), "b": table(second, sex)}, draws=10_000, seed=1)
    assert [change["group"] for change in pair["change_by_group"]] == ["sex=female", "sex=male"]
    rng = np.random.default_rng(9)
    for change, level in zip(pair["change_by_group"], ("female", "male"), strict=True):
        rows = (sex == level) & ~np.isnan(second)
        differences = second[rows] - first[rows]
        count, mean = len(differences), differences.mean()
        assert (change["patients"], count) == (count, {"female": 59, "male": 140}[level])
        assert change["value"] == pytest.approx(mean)
        assert [change["first"], change["second"]] == pytest.approx([first[rows].mean(), second[rows].mean()])
        samples = differences[rng.integers(0, count, (10_000, count))]
        t = (samples.mean(1) - mean) / (samples.std(1, ddof=1) / np.sqrt(count))
        error = differences.std(ddof=1) / np.sqrt(count)
        ends = mean - np.quantile(t, (0.975, 0.025)) * error
        student = stats.t.interval(0.95, count - 1, mean, error)
        ends = [min(ends[0], student[0]), max(ends[1], student[1])]
        np.testing.assert_allclose(change["interval"], ends, atol=0.05 * np.ptp(ends))


def test_a_group_of_few_patients_has_a_change_without_interval(cohort):
    sex, first, second = cohort
    few = slice(57, 64)  # three women, four men
    (pair,) = compare_pairs(
        {"a": table(first[few], sex[few]), "b": table(second[few], sex[few])}, min_group_patients=2
    )
    women = pair["change_by_group"][0]
    assert women["patients"] == 3 and women["interval"] is None
    assert women["value"] == pytest.approx((second - first)[57:60].mean())


def test_the_interval_of_a_group_stays_between_all_changes_of_shares():
    """Five of six patients change alike, so that the bootstrap reaches far below -1."""
    first = np.full(12, 0.9)
    second = np.where(np.arange(12) == 0, 0.1, 0.9 + 0.001 * np.arange(12))
    sex = np.repeat(["female", "male"], 6)
    (pair,) = compare_pairs({"a": table(first, sex), "b": table(second, sex)}, min_group_patients=2)
    low, high = pair["change_by_group"][0]["interval"]
    assert low == -1 and -0.2 < high < 1
    frames = {"a": table(first, sex), "b": table(second, sex)}
    distances = {name: frame.assign(hd95_mm=100 * frame["dice"]) for name, frame in frames.items()}
    (distance,) = compare_pairs(distances, min_group_patients=2, score="hd95_mm")
    assert distance["change_by_group"][0]["interval"][0] < -100


def test_a_patient_counts_in_each_group_of_its_cases():
    """Knees of grade 3 are those of 30 patients, whose other knees count in grade 1."""
    tables = {"a": knees(0), "b": knees(1)}
    _, pair = compare_pairs(tables, ("side", "kl"))
    by_group = {change["group"]: change for change in pair["change_by_group"]}
    assert {name: change["patients"] for name, change in by_group.items()} == {"kl=1": 60, "kl=3": 30}
    means = {
        name: frame.groupby(["kl", "patient_id"], observed=True)["dice"]
        .mean()
        .groupby("kl", observed=True)
        .mean()
        for name, frame in tables.items()
    }
    for grade in ("1", "3"):
        assert by_group[f"kl={grade}"]["value"] == pytest.approx(means["b"][grade] - means["a"][grade])
