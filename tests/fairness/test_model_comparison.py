import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kneefair_jax.errors import InputError
from kneefair_jax.fairness import model_comparison


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


def test_changes_agree_with_student_and_welch(cohort):
    """With 60 and 140 patients the studentised bootstrap is close to both t tests, of the patients' changes."""
    sex, first, second = cohort
    models = {"a": table(first, sex), "b": table(second, sex)}
    (pair,) = model_comparison.compare_models(models, ["sex"], seed=1)["pairs"]
    change = second - first
    female, male = change[sex == "female"], change[sex == "male"]
    mean, gap = stats.ttest_1samp(change, 0), stats.ttest_ind(male, female, equal_var=False)
    assert pair["pair"] == {"best": "sex=male", "worst": "sex=female"}
    assert pair["change_of_mean"]["value"] == pytest.approx(change.mean())
    assert pair["change_of_gap"]["value"] == pytest.approx(male.mean() - female.mean())
    for entry, test in ((pair["change_of_mean"], mean), (pair["change_of_gap"], gap)):
        ends = test.confidence_interval()
        np.testing.assert_allclose(
            entry["interval"], [ends.low, ends.high], atol=0.05 * (ends.high - ends.low)
        )
        assert entry["p"] == pytest.approx(test.pvalue, abs=0.02)


def test_the_interval_excludes_zero_where_p_is_small(cohort):
    sex, first, _ = cohort
    rng = np.random.default_rng(0)
    said = set()
    for shift in np.linspace(0, 0.004, 8):
        models = {"a": table(first, sex), "b": table(first + rng.normal(shift, 0.01, 200), sex)}
        (pair,) = model_comparison.compare_models(models, ["sex"], draws=400)["pairs"]
        for entry in (pair["change_of_mean"], pair["change_of_gap"]):
            low, high = entry["interval"]
            if abs(entry["p"] - 0.05) > 0.01:  # 400 draws resolve p no further
                assert (entry["p"] < 0.05) == (low > 0 or high < 0)
                said.add(entry["p"] < 0.05)
    assert said == {True, False}


def test_three_models_swap_signs_and_holm_counts_a_mean_once(cohort):
    sex, first, second = cohort
    race = np.tile(["A", "B"], 100)
    tables = {name: table(s, sex).assign(race=pd.Categorical([*race, *race])) for name, s in
              (("a", first), ("b", second), ("c", second + 0.01))}  # fmt: skip
    result = model_comparison.compare_models(tables, ["sex", "race"], draws=200)
    assert [(p["first"], p["second"], p["attribute"]) for p in result["pairs"]] == [
        (*models, attribute)
        for models in (("a", "b"), ("a", "c"), ("b", "c"))
        for attribute in ("sex", "race")
    ]
    by_sex, by_race = result["pairs"][:2]
    assert by_sex["change_of_mean"] == by_race["change_of_mean"]
    # b and c differ by the same for everybody: no change of the gap, and no spread to judge the mean by.
    last = result["pairs"][-1]
    assert last["change_of_gap"]["p"] == 1
    assert last["change_of_mean"]["interval"] == pytest.approx([0.01, 0.01])
    assert last["change_of_mean"]["p"] is None
    # Of nine tests one has no p: the smallest is corrected by eight.
    p = [entry[key]["p"] for entry in result["pairs"] for key in ("change_of_gap",)]
    p += [result["pairs"][i]["change_of_mean"]["p"] for i in (0, 2)]
    smallest = min(p)
    corrected = min(
        e[k]["p_holm"] for e in result["pairs"] for k in ("change_of_mean", "change_of_gap") if e[k]["p_holm"]
    )
    assert corrected == pytest.approx(min(1, 8 * smallest))
    back = model_comparison.compare_models({"b": tables["b"], "a": tables["a"]}, ["sex"], draws=200)["pairs"][
        0
    ]
    assert back["change_of_mean"]["value"] == pytest.approx(-by_sex["change_of_mean"]["value"])


def test_few_patients_have_no_interval_and_one_group_no_gap(cohort):
    sex, first, second = cohort
    few = slice(57, 64)  # three women, four men
    models = {"a": table(first[few], sex[few]), "b": table(second[few], sex[few])}
    (pair,) = model_comparison.compare_models(models, ["sex"], min_group_patients=2, draws=100)["pairs"]
    assert pair["change_of_mean"]["interval"] is not None
    assert pair["change_of_gap"]["value"] is not None
    assert pair["change_of_gap"]["interval"] is pair["change_of_gap"]["p"] is None
    (pair,) = model_comparison.compare_models(models, ["sex"], min_group_patients=10, draws=100)["pairs"]
    assert pair["pair"] is pair["change_of_gap"]["value"] is None


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
