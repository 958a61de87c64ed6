import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kneefair_jax import groups
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import patient_table
from kneefair_jax.fairness.patient_table import CORRELATION, stack_runs, standardized_means


def cases():
    return pd.DataFrame(
        {
            "case_id": ["b", "a", "b", "a"],
            "patient_id": ["q", "p", "q", "p"],
            "structure": ["femur", "femur", "tibia", "tibia"],
            "dice": [0.9, 0.8, 0.7, 0.7],
            "hd95_mm": [1.0, 2.0, 3.0, 4.0],
            "nsd": [np.nan] * 4,
        }
    )


def test_a_column_for_each_score_that_is_there():
    table = patient_table.table(cases(), ("femur", "tibia"))
    assert table.columns == tuple(
        patient_table.Column(score, part)
        for score in ("dice", "hd95_mm")
        for part in ("macro", "femur", "tibia")
    )
    np.testing.assert_allclose(table.values, [[0.75, 0.8, 0.7, 3, 2, 4], [0.8, 0.9, 0.7, 2, 1, 3]])
    assert table.rows.index.tolist() == ["a", "b"] and table.patients.tolist() == [0, 1]
    assert [column.lower_is_better for column in table.columns] == [False] * 3 + [True] * 3


def test_dice_is_there_even_if_undefined():
    table = patient_table.table(cases().assign(dice=np.nan), ("femur",))
    assert {column.score for column in table.columns} == {"dice", "hd95_mm"}
    assert np.isnan(table.values[:, :2]).all()


def bones(scores):
    """The long table of cases: name -> Dice of femur, tibia and fibula."""
    return pd.DataFrame(
        [
            {
                "case_id": case,
                "patient_id": case,
                "structure": structure,
                "dice": dice,
                "hd95_mm": 10 - 10 * dice,
            }
            for case, of_case in scores.items()
            for structure, dice in zip(("femur", "tibia", "fibula"), of_case, strict=True)
        ]
    )


def test_the_macro_score_does_not_change_with_the_structures_that_are_missing():
    cases = bones(
        {"a": (0.95, 0.93, 0.85), "b": (0.95, 0.93, np.nan), "c": (np.nan, 0.93, 0.85), "d": (np.nan,) * 3}
    )
    macro = patient_table.macro(cases, "dice")
    np.testing.assert_allclose(macro, [0.91, 0.91, 0.91, np.nan])
    np.testing.assert_allclose(patient_table.macro(cases, "hd95_mm"), [0.9, 0.9, 0.9, np.nan])
    table = patient_table.table(cases, ("femur", "tibia", "fibula"))
    np.testing.assert_array_equal(table.values[:, 0], macro)


def test_the_macro_score_of_complete_cases_is_the_mean_bit_by_bit():
    rng = np.random.default_rng(0)
    cases = bones({name: tuple(rng.uniform(0.5, 1, 3)) for name in "abcdefgh"})
    plain = cases.groupby("case_id")["dice"].mean()
    pd.testing.assert_series_equal(patient_table.macro(cases, "dice"), plain, check_exact=True)
    # Some rows are absent, others are there without a score.
    for lacking in (cases.drop(index=2), cases.assign(dice=cases["dice"].where(cases.index != 2))):
        macro = patient_table.macro(lacking, "dice")
        assert (macro[1:] == plain[1:]).all() and macro["a"] != plain["a"]


def test_a_failed_structure_counts_in_its_case_and_not_in_what_others_are_expected_to_score():
    cases = bones({"a": (0.9, 0.9, 0.6), "b": (0.9, 0.9, 0.0), "c": (0.9, 0.9, np.nan)})
    np.testing.assert_allclose(patient_table.macro(cases, "dice"), [0.8, 0.6, 0.8])
    # At another threshold the fibula of .6 failed too, so that no fibula is typical.
    np.testing.assert_allclose(patient_table.macro(cases, "dice", 0.7)["c"], (0.9 + 0.9 + 0.3) / 3, atol=0.02)
    # 5 mm are those of a segmentation that failed, by its Dice.
    cases["hd95_mm"] = [1.0, 1.0, 4.0, 1.0, 1.0, 40.0, 1.0, 1.0, np.nan]
    np.testing.assert_allclose(patient_table.macro(cases, "hd95_mm"), [2, 14, 2])


def test_the_macro_score_stays_in_the_range_of_the_score():
    cases = bones(
        {
            "a": (0.95, 0.95, 0.5),
            "b": (0.95, 0.95, 0.5),
            "c": (np.nan, np.nan, 0.95),
            "d": (0.0, np.nan, np.nan),
        }
    )
    macro = patient_table.macro(cases, "dice")
    assert macro["c"] == 1.0 and macro["d"] == 0.0
    assert patient_table.macro(cases, "hd95_mm")["c"] == 0.0


def test_means_by_patient_leave_nan_out():
    values = np.array([[0.9, np.nan], [0.7, 0.5], [0.6, 0.4]])
    result = patient_table.patient_means(values, np.array(["p", "p", "q"]))
    np.testing.assert_allclose(result, [[0.8, 0.5], [0.6, 0.4]])


def test_a_patient_in_two_groups_is_a_row_in_each():
    values = np.array([[0.9], [0.7], [0.6], [0.2]])
    patients, index = np.array(["q", "p", "p", "p"]), np.array([1, 0, 0, 1])
    means, who, where = patient_table.patient_group_means(values, patients, index)
    np.testing.assert_allclose(means[:, 0], [0.65, 0.2, 0.9])
    assert who.tolist() == ["p", "p", "q"] and where.tolist() == [0, 1, 1]


def table(seed, patients=6):
    """Two knees a patient, two structures; the last patient's race is missing."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        [
            {
                "case_id": f"p{p}{side}",
                "patient_id": f"p{p}",
                "structure": structure,
                "race": "" if p == patients - 1 else "AB"[p % 2],
                "sex": "fm"[p % 3 == 0],
                "dice": rng.uniform(),
            }
            for p in range(patients)
            for side in "LR"
            for structure in ("femur", "tibia")
        ]
    )
    return frame.assign(race=groups.categorical(frame["race"]), sex=groups.categorical(frame["sex"]))


def test_patients_means_by_hand():
    frame = table(0)
    frame.loc[(frame["case_id"] == "p0L") & (frame["structure"] == "tibia"), "dice"] = np.nan
    frame.loc[frame["patient_id"] == "p1", "dice"] = np.nan
    runs = stack_runs({"erm": [frame, table(1)], "other": [table(2), table(3)]}, ["race"])
    assert runs.scores["erm"].shape == (2, 6) and runs.names == ("race=A", "race=B")
    assert runs.index.tolist() == [0, 1, 0, 1, 0, -1]
    macro = patient_table.macro(frame, "dice")
    assert runs.scores["erm"][0, 0] == pytest.approx((macro["p0L"] + macro["p0R"]) / 2)
    assert np.isnan(runs.scores["erm"][0, 1])


def test_the_order_of_rows_changes_nothing():
    straight = stack_runs({"erm": [table(0)], "b": [table(1)]}, ["sex", "race"])
    shuffled = stack_runs(
        {"erm": [table(0).sample(frac=1, random_state=1)], "b": [table(1).sample(frac=1, random_state=2)]},
        ["sex", "race"],
    )
    assert straight.names == shuffled.names and (straight.index == shuffled.index).all()
    for name, values in straight.scores.items():
        np.testing.assert_allclose(values, shuffled.scores[name], rtol=1e-15)


def test_other_patients_or_seeds_are_refused():
    with pytest.raises(InputError, match="run 2 of b was not tested on the cases of run 1 of erm"):
        stack_runs({"erm": [table(0)] * 2, "b": [table(1), table(2, patients=5)]}, ["race"])
    with pytest.raises(InputError, match="b has 1 seeds and erm 2"):
        stack_runs({"erm": [table(0)] * 2, "b": [table(1)]}, ["race"])


def test_columns_with_the_same_rows():
    has_value = np.random.default_rng(0).random((11, 12)) < 0.8
    has_value[:, 5], has_value[:, 9], has_value[:, 7] = has_value[:, 1], has_value[:, 1], ~has_value[:, 1]
    sets = patient_table.columns_by_rows(has_value)
    for columns in sets:
        assert all((has_value[:, columns] == has_value[:, columns[:1]]).all(1))
    assert sorted(np.concatenate(sets)) == list(range(12)) and [1, 5, 9] in [part.tolist() for part in sets]
    assert len(sets) == len(np.unique(has_value, axis=1).T)
    assert patient_table.columns_by_rows(np.zeros((0, 3), bool))[0].tolist() == [0, 1, 2]


MEANS = np.array([0.96, 0.95, 0.94, 0.88])  # femur, tibia, patella, fibula


def cohort(rng, sizes=(100, 60), missing=(0.0, 0.5), gap=(0.0, 0.0, 0.0, 0.0)):
    """Scores of cases of two groups; the fibula is missing in these shares of them."""
    group = np.repeat([0, 1], sizes)
    case = rng.normal(0, 0.01, len(group))
    values = MEANS + case[:, None] + rng.normal(0, 0.01, (len(group), 4)) - group[:, None] * np.array(gap)
    values[rng.random(len(group)) < np.array(missing)[group], 3] = np.nan
    return values, group


def test_cases_with_every_structure_keep_their_mean_bit_by_bit():
    values, _ = cohort(np.random.default_rng(0))
    complete = ~np.isnan(values).any(1)
    means = standardized_means(values)
    assert (means[complete] == np.nanmean(values, axis=1)[complete]).all()
    assert (standardized_means(values[complete]) == values[complete].mean(1)).all()


def test_by_hand_of_structures_without_spread():
    """All cases score .9 in the femur and .7 in the tibia, so every macro score is .8, whatever is missing."""
    values = np.array([[0.9, 0.7], [0.9, np.nan], [np.nan, 0.7], [0.9, 0.7]])
    np.testing.assert_allclose(standardized_means(values), 0.8, rtol=1e-12)
    # The case of one structure is .06 better than its expected score there.
    better = np.array([[0.9, 0.7], [0.9, 0.7], [0.9, 0.7], [np.nan, 0.76]])
    expected = brute_force(better)
    np.testing.assert_allclose(standardized_means(better)[3], 0.76 - expected[1] + expected.mean())


def brute_force(values):
    """Structure effects by the dense covariance matrix of all scores."""
    cases, structures = np.nonzero(~np.isnan(values))
    design = np.eye(values.shape[1])[structures]
    covariance = CORRELATION * (cases[:, None] == cases) + (1 - CORRELATION) * np.eye(len(cases))
    inverse = np.linalg.inv(covariance)
    return np.linalg.solve(design.T @ inverse @ design, design.T @ inverse @ values[cases, structures])


def test_expected_scores_are_those_of_generalized_least_squares():
    rng = np.random.default_rng(1)
    values = np.where(rng.random((30, 4)) < 0.4, np.nan, rng.uniform(size=(30, 4)))
    values[0] = np.nan
    expected, has_value = brute_force(values), ~np.isnan(values)
    deviation = np.nansum(values - expected, axis=1)[1:] / has_value.sum(1)[1:]
    means = standardized_means(values)
    np.testing.assert_allclose(means[1:], deviation + expected.mean(), rtol=1e-10)
    assert np.isnan(means[0])


def test_failed_segmentations_count_but_set_no_expectation():
    values = np.array([[0.9, 0.7], [0.9, 0.7], [0.9, 0.0], [0.9, np.nan]])
    means = standardized_means(values, values >= 0.5)
    np.testing.assert_allclose(means, [0.8, 0.8, 0.45, 0.8])
    # A structure of which every segmentation failed is expected to fail.
    values = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, np.nan]])
    np.testing.assert_allclose(standardized_means(values, values >= 0.5), 0.5)


def test_structures_that_no_case_has_together_are_compared_by_their_means():
    values = np.array([[0.9, np.nan], [0.8, np.nan], [np.nan, 0.6], [np.nan, 0.5], [np.nan, 0.4]])
    np.testing.assert_allclose(standardized_means(values), [0.725, 0.625, 0.775, 0.675, 0.575])


def test_a_structure_that_no_case_has_counts_nowhere():
    values = np.array([[0.9, 0.7, np.nan], [0.8, 0.6, np.nan]])
    assert standardized_means(values).tolist() == [(0.9 + 0.7) / 2, (0.8 + 0.6) / 2]


@pytest.mark.parametrize("missing", [(0.0, 0.5), (0.5, 0.5), (0.0, 0.9)])
def test_no_gap_where_no_structure_has_one(missing):
    gaps, rejected = [], 0
    for seed in range(80):
        values, group = cohort(np.random.default_rng(seed), missing=missing)
        means = standardized_means(values)
        gaps.append(means[group == 0].mean() - means[group == 1].mean())
        rejected += stats.ttest_ind(means[group == 0], means[group == 1], equal_var=False).pvalue < 0.05
    assert abs(np.mean(gaps)) < 4 * np.std(gaps) / np.sqrt(len(gaps)) < 0.0015
    assert rejected <= 10  # 4 are expected


@pytest.mark.parametrize(
    ("gap", "expected"),
    [((0.02,) * 4, 0.02), ((0.0, 0.04, 0.0, 0.0), 0.0113), ((0.0, 0.0, 0.0, 0.04), 0.0061)],
)
def test_a_gap_in_all_structures_and_in_one(gap, expected):
    """The fibula counts in the half that has it, and the others count for it in the other half."""
    gaps = []
    for seed in range(100):
        values, group = cohort(np.random.default_rng(seed), gap=gap)
        means = standardized_means(values)
        gaps.append(means[group == 0].mean() - means[group == 1].mean())
    assert np.mean(gaps) == pytest.approx(expected, abs=0.0006)


def test_what_is_missing_is_counted_by_group():
    scored = {"femur": {"f": 10, "m": 12}, "fibula": {"f": 4, "m": 12}, "patella": {"f": 9, "m": 11}}
    (warning,) = patient_table.incomplete_case_warnings(scored, {"f": 10, "m": 12})
    assert "(fibula in 6 of 10 of f, patella in 1 of 10 of f, patella in 1 of 12 of m)" in warning
    assert patient_table.incomplete_case_warnings({"femur": {"f": 10}}, {"f": 10}) == []


def test_what_is_added_is_zero_without_missing_structures():
    assert patient_table.adjustments(np.random.default_rng(0).uniform(size=(5, 3))).tolist() == [0.0] * 5
