import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kneefair_jax.errors import InputError
from kneefair_jax.fairness import model_comparison, scores
from kneefair_jax.fairness.multiplicity import holm


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
    return model_comparison.compare_models(models, list(attributes), **{"draws": 400} | options)["pairs"]


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
    for key, settings in (("change_of_gap", pairs), ("change_of_mean", pairs[:4:2])):
        p = holm({k: pair[key]["p"] for k, pair in enumerate(settings)})
        assert [pair[key]["p_holm"] for pair in settings] == list(p.values())
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
    (pair,) = model_comparison.compare_models(models, ["sex"], min_group_patients=2, draws=100)["pairs"]
    assert pair["change_of_mean"]["interval"] is not None
    assert pair["change_of_gap"]["value"] is not None
    assert pair["change_of_gap"]["interval"] is pair["change_of_gap"]["p"] is None
    (pair,) = model_comparison.compare_models(models, ["sex"], min_group_patients=10, draws=100)["pairs"]
    assert set(pair["change_of_gap"].values()) == {None}


def test_a_patient_without_a_score_by_both_is_left_out(cohort):
    sex, first, second = cohort
    second = np.where(np.arange(200) == 7, np.nan, second)
    (pair,) = model_comparison.compare_models(
        {"a": table(first, sex), "b": table(second, sex)}, ["sex"], draws=50
    )["pairs"]
    assert pair["patients"] == 199
    assert pair["change_of_mean"]["value"] == pytest.approx(np.nanmean(second - first))


def test_other_patients_are_refused(cohort):
    sex, first, second = cohort
    with pytest.raises(InputError, match="was not tested on the cases"):
        model_comparison.compare_models(
            {"a": table(first, sex), "b": table(second[:-1], sex[:-1])}, ["sex"], draws=50
        )


@pytest.mark.parametrize("score", ["assd_mm", "ece", "hd95_mm"])
def test_an_error_is_refused_since_higher_is_taken_as_better(cohort, score):
    sex, first, second = cohort
    models = {"a": table(first, sex), "b": table(second, sex)}
    with pytest.raises(ValueError, match=f"score '{score}': models are compared by one of dice, iou, nsd"):
        model_comparison.compare_models(models, ["sex"], score=score, draws=50)


def test_progress_advances_once_for_each_attribute_of_each_pair(cohort):
    sex, first, second = cohort
    models = {
        name: table(scores, sex) for name, scores in zip("abc", (first, second, first[::-1]), strict=True)
    }
    done = []
    pairs = compare_pairs(models, draws=50, advance=lambda: done.append(1))
    assert len(done) == len(pairs) == 3
