import shlex
from pathlib import Path

import pytest

from kneefair_jax.report.text.recommendation import export_command, recommendation
from tests.report.text.test_study_text import STUDY, method

NARROWS = [(-0.02, 0.003), (0.018, 0.001), (0.001, 0.4)]


def study_of(**methods):
    comparison = STUDY["comparison"] | {"methods": {"erm": method(0.05), **methods}}
    folders = {name: {"path": f"runs/{name}/seed_1", "validation": 0.9} for name in comparison["methods"]}
    return STUDY | {"comparison": comparison, "rule": "worst_group", "folders": folders}


def test_the_method_with_the_smallest_gap_that_meets_the_criterion():
    result = recommendation(study_of(dro=method(0.03, NARROWS), adversary=method(0.02, NARROWS)))
    assert result.method == "adversary" and result.path == "runs/adversary/seed_1"
    assert result.command == "kneefair export runs/adversary/seed_1"
    assert "0.050" in result.reason and "0.020" in result.reason and "worst group" in result.reason


@pytest.mark.parametrize(
    "change",
    [
        [(-0.02, 0.2), (0.0, 0.5), (0.0, 0.5)],  # not significant
        [(0.02, 0.003), (0.0, 0.5), (0.0, 0.5)],  # a larger gap
        [(-0.02, 0.003), (0.0, 0.5), (-0.01, 0.01)],  # a lower mean
        [(-0.02, None), (0.0, None), (0.0, None)],  # one seed
    ],
)
def test_none_is_better_than_the_baseline(change):
    result = recommendation(study_of(dro=method(0.03, change)))
    assert result.method == "erm" and result.verdict == "No method is better than erm"
    assert result.command.endswith("runs/erm/seed_1")


def test_an_interval_over_patients_that_includes_zero_is_no_recommendation():
    dro = method(0.03, NARROWS)
    dro["change"]["gap"]["patients"] = [-0.05, 0.01]
    assert recommendation(study_of(dro=dro)).method == "erm"


def test_an_undefined_interval_over_patients_is_no_recommendation():
    dro = method(0.03, NARROWS)
    dro["change"]["gap"]["patients"] = None
    assert recommendation(study_of(dro=dro)).method == "erm"


def test_of_two_methods_the_one_whose_gap_is_not_reversed():
    narrowed = method(0.004, [(-0.046, 0.003), (0.018, 0.001), (0.001, 0.4)])
    reversed_gap = method(-0.011, [(-0.061, 0.003), (0.018, 0.001), (0.001, 0.4)])
    reversed_gap["pair"]["seeds"] = [-0.03, 0.006]
    assert recommendation(study_of(a=narrowed, rev=reversed_gap)).method == "a"
    assert recommendation(study_of(rev=reversed_gap)).method == "erm"


def test_of_more_than_two_groups_a_reversed_pair_is_no_recommendation():
    dro = method(0.011, NARROWS)
    dro["pair"] = {"value": -0.011, "seeds": [-0.03, 0.006]}
    assert recommendation(study_of(dro=dro)).method == "erm"


def test_the_export_command_is_quoted_for_a_shell():
    command = export_command(Path("my study") / "runs" / "erm" / "seed_1")
    assert shlex.split(command) == ["kneefair", "export", "my study/runs/erm/seed_1"]


def test_a_reversed_gap_is_no_recommendation_and_an_unknown_path_no_command():
    dro = method(0.03, NARROWS)
    dro["pair"] = {"value": -0.04, "seeds": [-0.05, -0.03]}
    study = study_of(dro=dro)
    del study["folders"]
    result = recommendation(study)
    assert result.method == "erm" and result.path == result.command == ""
