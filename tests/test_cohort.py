from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kneefair_jax import cohort, groups
from kneefair_jax.errors import InputError

SHARES = (0.7, 0.15, 0.15)


@st.composite
def cohorts(draw):
    """Cohorts of 20 to 80 patients with one to three cases, two attributes, some of them missing."""
    patients = draw(st.integers(20, 80))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    cases = rng.integers(1, 4, patients)
    sex = rng.choice(["female", "male", ""], patients, p=[0.5, 0.4, 0.1])
    race = rng.choice(["White", "Black", "Asian", ""], patients, p=[0.6, 0.2, 0.1, 0.1])
    table = pd.DataFrame(
        {
            "patient_id": np.repeat([f"P{i}" for i in range(patients)], cases),
            "sex": groups.categorical(pd.Series(np.repeat(sex, cases))),
            "race": groups.categorical(pd.Series(np.repeat(race, cases))),
        }
    )
    table.insert(0, "case_id", [f"C{i}" for i in range(len(table))])
    return table


def per_patient(table, names):
    return table.assign(split=names).drop_duplicates("patient_id").set_index("patient_id")


@settings(max_examples=40)
@given(cohorts(), st.integers(0, 99), st.sampled_from([SHARES, (0.6, 0.2, 0.2), (0.5, 0.17, 0.33)]))
def test_split_is_by_patient_and_in_proportion(table, seed, shares):
    names = cohort.split(table, shares, seed, ["sex", "race"])
    cohort.check_no_leak(table.assign(split=names))
    patients = per_patient(table, names)
    strata = [patients, *(stratum for _, stratum in patients.groupby(["sex", "race"], observed=True))]
    for stratum in strata:
        counts = stratum["split"].value_counts().reindex(cohort.SPLITS, fill_value=0)
        assert (abs(counts - len(stratum) * np.array(shares)) <= 1 + 1e-9).all()


@settings(max_examples=20)
@given(cohorts(), st.integers(0, 99))
def test_split_ignores_the_order_of_rows(table, seed):
    names = cohort.split(table, SHARES, seed, ["sex"])
    shuffled = table.sample(frac=1, random_state=seed)
    pd.testing.assert_series_equal(cohort.split(shuffled, SHARES, seed, ["sex"]).sort_index(), names)


@settings(max_examples=20)
@given(cohorts(), st.integers(0, 99), st.integers(2, 6))
def test_folds_test_every_patient_once(table, seed, k):
    test_patients = []
    for fold in range(k):
        names = cohort.folds(table, k, fold, SHARES, seed, ["sex", "race"])
        cohort.check_no_leak(table.assign(split=names))
        patients = per_patient(table, names)["split"]
        rest = patients[patients != "test"]
        assert abs((rest == "validation").sum() - len(rest) * 0.15 / 0.85) <= 1
        assert abs((patients == "test").sum() - len(patients) / k) <= 1
        test_patients += patients.index[patients == "test"].tolist()
    assert sorted(test_patients) == sorted(table["patient_id"].unique())


def plain(patients):
    ids = [f"P{i}" for i in range(patients)]
    return pd.DataFrame({"case_id": ids, "patient_id": ids})


def test_split_depends_on_the_seed_alone_and_stays():
    table = plain(20)
    names = cohort.split(table, (0.5, 0.25, 0.25), 0, [])
    assert names.value_counts().to_dict() == {"train": 10, "validation": 5, "test": 5}
    assert not names.equals(cohort.split(table, (0.5, 0.25, 0.25), 1, []))
    # A published split must not change with a version of Python or of a library.
    assert table["case_id"][names == "test"].tolist() == ["P0", "P9", "P13", "P15", "P18"]


def test_split_first_case_decides_the_stratum():
    table = pd.DataFrame(
        {"case_id": ["b", "a", "c"], "patient_id": ["P", "P", "Q"], "age": ["old", "young", "old"]}
    )
    assert cohort._strata(table, ["age"]).to_dict() == {"P": "young", "Q": "old"}


def test_split_a_share_of_zero_stays_empty():
    assert set(cohort.split(plain(9), (0, 0, 1), 0, [])) == {"test"}


@pytest.mark.parametrize("shares", [(0.7, 0.3), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1), (np.nan, 0.5, 0.5)])
def test_split_refuses_invalid_shares(shares):
    with pytest.raises(InputError, match="sum to 1"):
        cohort.split(plain(9), shares, 0, [])


def test_split_refuses_too_few_patients():
    with pytest.raises(InputError, match=r"2 patients are too few: none is left for .*; add patients"):
        cohort.split(plain(2), SHARES, 0, [])
    with pytest.raises(InputError, match="2 patients; give at most as many folds"):
        cohort.folds(plain(2), 3, 0, SHARES, 0, [])


@pytest.mark.parametrize(("k", "fold"), [(1, 0), (5, 5), (5, -1)])
def test_folds_refuses_an_invalid_fold(k, fold):
    with pytest.raises(InputError, match="count them from 0"):
        cohort.folds(plain(9), k, fold, SHARES, 0, [])


def test_folds_needs_a_training_share():
    with pytest.raises(InputError, match="share of train above 0"):
        cohort.folds(plain(9), 3, 0, (0, 0.5, 0.5), 0, [])


def test_a_leak_names_the_cases_and_splits_but_no_patient():
    table = pd.DataFrame(
        {"case_id": ["a", "b", "c"], "patient_id": ["P1", "P2", "P2"], "split": ["train", "test", "train"]}
    )
    with pytest.raises(
        InputError, match=r"case 'b' in test and case 'c' in train \(1 such.*same split"
    ) as error:
        cohort.check_no_leak(table)
    assert "P2" not in str(error.value)
    cohort.check_no_leak(table[:2])


def test_an_external_cohort_has_other_patients():
    main = pd.DataFrame({"case_id": ["a", "b"], "patient_id": ["P1", "P2"]})
    cohort.check_disjoint(main, main.assign(patient_id=["X1", "X2"]))
    with pytest.raises(InputError, match="external case 'b' has the patient_id of a case"):
        cohort.check_disjoint(main, main.assign(patient_id=["X1", "P2"]))


@pytest.fixture
def counted():
    return pd.DataFrame(
        {
            "case_id": list("abcde"),
            "patient_id": ["P", "P", "Q", "R", "S"],
            "sex": groups.categorical(pd.Series(["f", "f", "m", "m", ""])),
            "race": groups.categorical(pd.Series(["W", "W", "W", "B", "B"])),
            "split": ["train", "train", "train", "test", "validation"],
        }
    )


def test_table_by_hand(counted):
    counts = cohort.table(counted, ["sex", "race"])
    assert list(counts.index.unique("group")) == [
        "sex=f",
        "sex=m",
        "sex=missing",
        "race=B",
        "race=W",
        "sex=f,race=W",
        "sex=m,race=B",
        "sex=m,race=W",
        "sex=missing,race=B",
        "all",
    ]
    assert counts.loc[("sex=f", "train")].tolist() == [1, 2]
    assert counts.loc[("race=W", "train")].tolist() == [2, 3]
    assert counts.loc[("sex=m", "all")].tolist() == [2, 2]
    assert counts.loc[("sex=missing", "validation")].tolist() == [1, 1]
    assert counts.loc[("all", "all")].tolist() == [4, 5]
    unsplit = cohort.table(counted.drop(columns="split"), [])
    assert unsplit.index.tolist() == [("all", "all")] and unsplit.iloc[0].tolist() == [4, 5]


@settings(max_examples=20)
@given(cohorts())
def test_table_adds_up(table):
    table["split"] = cohort.split(table, SHARES, 0, ["sex"])
    counts = cohort.table(table, ["sex", "race"])
    for kind in ("sex=", "race="):
        groups_ = [g for g in counts.index.unique("group") if g.startswith(kind) and "," not in g]
        for split in (*cohort.SPLITS, "all"):
            # Each patient has one level here, so patients add up as cases do.
            np.testing.assert_array_equal(
                sum(counts.loc[(group, split)] for group in groups_), counts.loc[("all", split)]
            )


def test_text_is_aligned_and_compact(counted):
    lines = cohort.text(cohort.table(counted, ["sex"])).split("\n")
    assert [line.split() for line in lines] == [
        ["patients", "(cases)", "train", "validation", "test", "all"],
        ["sex=f", "1", "(2)", "0", "(0)", "0", "(0)", "1", "(2)"],
        ["sex=m", "1", "(1)", "0", "(0)", "1", "(1)", "2", "(2)"],
        ["sex=missing", "0", "(0)", "1", "(1)", "0", "(0)", "1", "(1)"],
        ["all", "2", "(3)", "1", "(1)", "1", "(1)", "4", "(5)"],
    ]
    assert all(len(first) == len(second) for first, second in pairwise(lines))
    groups_ = cohort.table(counted, ["sex"]).rename(index={"sex=f": "sex=<=50"})
    assert "sex=≤50" in cohort.text(groups_)
    text = cohort.text(cohort.table(counted[1:], ["sex"]))
    assert "(" not in text


def test_similar_levels_are_reported():
    cases = pd.DataFrame(
        {"sex": pd.Categorical(["female", "Female ", "male"]), "site": pd.Categorical(list("aab"))}
    )
    assert cohort.similar_levels(cases, ["sex", "site"]) == [
        "sex has the groups 'Female ' and 'female'; write them the same way if they are one"
    ]


def test_a_patient_of_two_sexes_is_reported():
    table = pd.DataFrame({"case_id": list("abcd"), "patient_id": ["P1", "P1", "P2", "P2"]})
    table["sex"] = groups.categorical(pd.Series(["f", "m", "f", "f"]))
    table["race"] = groups.categorical(pd.Series(["x", "x", "y", "y"]))
    (note,) = cohort.varying_attributes(table, ["sex", "race"])
    assert note.startswith("sex differs") and "for 1 patient (such as a, b)" in note and "P1" not in note
