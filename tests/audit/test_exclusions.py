"""Counts of cases that are not tested."""

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.audit import exclusions
from kneefair_jax.audit.cases import Excluded

LISTED = pd.DataFrame(
    {
        "case_id": [f"c{i}" for i in range(6)],
        "sex": groups.categorical(pd.Series(["m", "f", "f", "f", groups.MISSING, "m"]), ["f", "m"]),
        "file": groups.categorical(pd.Series(["x"] * 6), ["x"]),
    }
)


def test_cases_that_are_not_tested_are_counted_by_group():
    """c1 has a Dice of one of two structures, c2 of none, and c3 and c4 are excluded."""
    dice = {"c0": [0.9, 0.8], "c1": [np.nan, 0.7], "c2": [np.nan, np.nan], "c5": [0.0, 0.0]}
    rows = [(case, value) for case, values in dice.items() for value in values]
    scores = pd.DataFrame(rows, columns=["case_id", "dice"])
    assert exclusions.by_group(LISTED, ["sex"], scores) == {
        "sex=f": {"cases": 3, "not_tested": 2},
        "sex=m": {"cases": 2, "not_tested": 0},
        "sex=missing": {"cases": 1, "not_tested": 1},
    }
    assert exclusions.by_group(LISTED.iloc[[0, 1, 5]], ["sex"], scores) == {}


def test_the_table_has_the_attributes_of_cases():
    excluded = [Excluded("c3", "a", "no prediction"), Excluded("", "a", "no case", "x.png")]
    excluded += [Excluded("c9", "", "another split")]
    table = exclusions.table(excluded, LISTED, ["sex", "file"])
    assert table.columns.tolist() == ["case_id", "mask", "reason", "file", "sex"]
    assert table["sex"].tolist() == ["f", "", ""] and table["file"].tolist() == ["", "x.png", ""]
    assert exclusions.table([], LISTED, ["sex"]).empty


def test_a_record_counts_once_by_reason():
    by_two = [Excluded("c1", model, "no prediction") for model in ("a", "b")]
    assert exclusions.excluded_counts([*by_two, Excluded("c2", "b", "no prediction")]) == [
        ("no prediction by a (1) and b (2), 1 of them by several", 2)
    ]
    files = [Excluded("", "a", "no case", name) for name in ("x.png", "y.png")]
    assert exclusions.unmatched_counts([*by_two, *files]) == [("no case", 2)]
    assert exclusions.excluded_counts(files) == []
