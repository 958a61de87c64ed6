"""Groups that a report will be too small to rank, and what is advised."""

from types import SimpleNamespace

import pandas as pd
import pytest
from ml_collections import ConfigDict

from kneefair_jax import cohort as cohorts
from kneefair_jax import groups
from kneefair_jax.errors import InputError
from kneefair_jax.preflight import group_sizes
from kneefair_jax.preflight.group_sizes import Remedy, SmallGroup, lines, small_groups


def loaded(levels, *, folds=0, fractions=(0.7, 0.15, 0.15), own_split=None, bins=()):
    """A cohort of one attribute `race`, two cases a patient, and its `data` section.

    Args:
        levels: level -> patients.
        folds: of a cross-validation.
        fractions: of the splits.
        own_split: the split of each patient, where the table has one.
        bins: attributes that are binned numbers.
    """
    race = [level for level, n in levels.items() for _ in range(2 * n)]
    cases = pd.DataFrame({"patient_id": [f"p{k // 2:03d}" for k in range(len(race))]})
    cases["case_id"] = [f"c{k:03d}" for k in range(len(race))]
    cases["race"] = groups.categorical(pd.Series(race), [level for level in levels if level != "missing"])
    data = ConfigDict({"fractions": fractions, "folds": folds, "seed": 0, "bins": dict.fromkeys(bins, (1,))})
    if own_split:
        cases["split"] = [own_split[k // 2] for k in range(len(race))]
    source = SimpleNamespace(cases=cases)
    if folds:
        cases = cases.assign(split=cohorts.folds(cases, folds, 0, fractions, 0, ["race"]))
    elif not own_split:
        cases = cases.assign(split=cohorts.split(cases, fractions, 0, ["race"]))
    return SimpleNamespace(cases=cases, attributes=("race",), source=source), data


def test_folds_and_fractions_by_hand():
    """15 % of 100 and of 40 patients are 15 and 6; 24 % of 40 are 9.6, dealt as 10. Missing values are no group."""
    cohort, data = loaded({"A": 100, "B": 40, "missing": 8})
    (small,) = small_groups(cohort, data, 10)
    assert small == SmallGroup(
        "race=B",
        6,
        40,
        10,
        (
            Remedy("folds", "config.data.folds=5", 40),
            Remedy("fractions", "config.data.fractions=(0.61, 0.15, 0.24)", 10),
        ),
    )


def test_the_fractions_advised_are_the_smallest_that_are_enough():
    cohort, data = loaded({"A": 83, "B": 37, "C": 61})
    advised = {group.group: group.remedies[1] for group in small_groups(cohort, data, 12)}
    assert list(advised) == ["race=B", "race=C"]
    for name, remedy in advised.items():
        assert remedy.kind == "fractions"
        fractions = tuple(map(float, remedy.change.split("(")[1].strip(")").split(",")))
        patients = []
        for test in (fractions[2], fractions[2] - 0.01):
            split = cohorts.split(cohort.cases.drop(columns="split"), (0.85 - test, 0.15, test), 0, ["race"])
            members = cohort.cases[(split == "test") & (cohort.cases["race"] == name[-1])]
            patients.append(members["patient_id"].nunique())
        assert patients[0] == remedy.patients >= 12 > patients[1]


def test_no_test_fraction_of_a_half_or_more_is_advised():
    """Of 20 patients 49 % are fewer than 10, or 10 by rounding, never 12."""
    (small,) = small_groups(*loaded({"A": 100, "B": 20}), 12)
    assert [remedy.kind for remedy in small.remedies] == ["folds"]


def test_fractions_that_leave_a_split_empty_are_not_advised():
    """Of 4 patients 2 are tested only where none is left for training."""
    cohort, data = loaded({"A": 4}, fractions=(0.3, 0.45, 0.25))
    with pytest.raises(InputError, match="none is left for train"):
        cohorts.split(cohort.cases.drop(columns="split"), (0.1, 0.45, 0.45), 0, ["race"])
    (small,) = small_groups(cohort, data, 2)
    assert small.tested == 1 and [remedy.kind for remedy in small.remedies] == ["folds"]


def test_small_levels_are_merged_where_that_is_enough():
    cohort, data = loaded({"A": 100, "B": 40, "C": 35, "D": 90})
    entries = small_groups(cohort, data, 10)
    tested = {group.group: group.tested for group in entries}
    assert tested.keys() == {"race=B", "race=C"}
    for group in entries:
        assert group.remedies[-1] == Remedy("merge", "merging race=B and race=C", sum(tested.values()))
    assert all(r.kind != "merge" for group in small_groups(cohort, data, 13) for r in group.remedies)


def test_a_small_bin_is_merged_with_its_smaller_neighbor():
    levels = {"<=50": 20, "51-64": 200, "65-78": 100, ">=79": 20}
    remedies = {
        group.group: group.remedies[-1].change for group in small_groups(*loaded(levels, bins=("race",)), 10)
    }
    assert remedies == {
        "race=<=50": "merging race=<=50 and race=51-64",
        "race=>=79": "merging race=65-78 and race=>=79",
    }


def test_two_levels_are_never_merged():
    """Merging all levels leaves nothing to compare."""
    for group in small_groups(*loaded({"A": 40, "B": 40}), 10):
        assert [remedy.kind for remedy in group.remedies] == ["folds", "fractions"]


def test_folds_test_every_patient():
    (small,) = small_groups(*loaded({"A": 40, "B": 8}, folds=3), 10)
    assert (small.tested, small.patients, small.remedies) == (8, 8, ())
    assert "8 of 8 patients" in next(lines([small])) and "more patients" in next(lines([small]))


def test_remedies_drop_the_split_column_of_the_table():
    splits = (["train"] * 30 + ["validation"] * 5 + ["test"] * 5) * 2
    entries = small_groups(*loaded({"A": 40, "B": 40}, own_split=splits), 10)
    assert [group.tested for group in entries] == [5, 5]
    for group in entries:
        assert [remedy.kind for remedy in group.remedies] == ["folds", "fractions"]
        assert all("config.data.split_column=''" in remedy.change for remedy in group.remedies)


@pytest.mark.parametrize("minimum", [1, 15])
def test_groups_that_are_large_enough_need_no_note(minimum):
    assert small_groups(*loaded({"A": 100, "B": 120}), minimum) == []


VOID_CASES = pd.DataFrame(
    {"sex": pd.Categorical(["f", "f", "m", "m"]), "site": pd.Categorical(["a", "b", "a", "b"])}
)


def test_void_pixels_by_hand():
    counts = group_sizes.void_of_groups([0.5, 0.25, 0.0, 0.25], VOID_CASES, ("sex",))
    assert counts == {
        "all": {"cases": 4, "void_cases": 3, "share": 0.25},
        "sex=f": {"cases": 2, "void_cases": 2, "share": 0.375},
        "sex=m": {"cases": 2, "void_cases": 1, "share": 0.125},
    }
    lines = list(group_sizes.void_lines(counts, " of the external cohort"))
    assert len(lines) == 4 and "external" in lines[0]
    assert all(word in lines[3] for word in ("sex=m", "1 of 2", "12.5%"))


def test_no_line_without_void_pixels():
    assert group_sizes.void_of_groups([0.0] * 4, VOID_CASES, ("sex", "site")) == {}
    assert list(group_sizes.void_lines({}, "")) == []
