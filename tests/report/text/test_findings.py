from dataclasses import asdict

import numpy as np
import pytest

from kneefair_jax.fairness import scores as fairness_scores
from kneefair_jax.fairness.results import AttributeSummary
from kneefair_jax.report.text import findings, formatting, summary
from tests.report import failed_cohort

BLOCK = formatting.AttributeGroups("sex", "sex", {"sex=f": "f", "sex=m": "m"})


def block_of(*, p=0.5, low=0.0, beyond=None, equivalent=None, detectable=0.02) -> dict:
    return {
        "groups": {
            "sex=f": {"mean": 0.92, "interval": None, "patients": 20, "cases": 40, "ranked": True},
            "sex=m": {"mean": 0.94, "interval": None, "patients": 30, "cases": 60, "ranked": True},
        },
        "summaries": {
            "sex": asdict(AttributeSummary())
            | {
                "worst": {"value": 0.08, "interval": None, "group": "sex=f"},
                "gap": {"value": 0.02, "interval": None if low is None else [low, 0.04]},
                "gap_without_failures": {
                    "value": 0.02,
                    "interval": None if low is None else [low, 0.04],
                    "interval_adjusted": None if low is None else [low, 0.04],
                    "patients": {"sex=f": 20, "sex=m": 30},
                },
                "ser": {
                    "value": 1.3,
                    "interval": [1.1, 1.5],
                    "size": 1.2,
                    "beyond_size": {
                        "value": 1.07,
                        "interval": beyond,
                        "observed": 1.31,
                        "expected": 1.22,
                        "best": "sex=m",
                        "worst": "sex=f",
                        "patients": {"sex=m": 30, "sex=f": 20},
                    },
                },
                "test": None if p is None else {"name": "permuted Welch t", "p": p / 2, "p_holm": p},
                "pairs": [
                    {
                        "first": "sex=f",
                        "second": "sex=m",
                        "difference": -0.02,
                        "interval": None if low is None else [-0.04, -low],
                        "interval_adjusted": None if low is None else [-0.04, -low],
                        "p_holm": p,
                    }
                ],
                "equivalence": None
                if equivalent is None
                else {
                    "delta": 0.05,
                    "confidence": 0.95,
                    "equivalent": equivalent,
                    "reason": "a group of 20",
                    "intervals": [],
                    "failure_intervals": [],
                },
                "detectable": detectable,
            }
        },
    }


def paragraph(**numbers) -> str:
    scores = block_of(**numbers)
    return " ".join(findings.sentences(findings.judge(BLOCK, scores), scores["groups"], "Dice", 10))


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ({"p": 0.01, "low": 0.01}, "significant"),
        ({"p": 0.049, "low": 0.0}, "unlocated"),
        ({"p": 0.05, "low": 0.001}, "open"),
        ({"p": 0.01, "low": None}, "unlocated"),
        ({"p": 0.3}, "open"),
        ({"p": 0.3, "equivalent": True}, "open"),
        ({"p": 0.01, "low": 0.01, "equivalent": True}, "significant"),
        ({"p": None, "low": 0.01}, "untested"),
    ],
)
def test_a_pair_is_named_only_by_its_own_test_and_interval(numbers, kind):
    verdict = findings.judge(BLOCK, block_of(**numbers))
    assert verdict.kind == kind and bool(verdict.pairs) == (kind == "significant")


def test_gaps_of_two_attributes_are_exploratory():
    scores = block_of(p=0.001, low=0.01, equivalent=True)
    scores["summaries"]["sex,race"] = scores["summaries"].pop("sex")
    verdict = findings.judge(BLOCK._replace(key="sex,race"), scores)
    assert (verdict.kind, verdict.equivalence) == ("exploratory", "small")


def test_the_opening_calls_no_groups_of_two_attributes_equivalent(audited):
    summaries = audited["scores"]["dice"]["summaries"]
    summaries["sex,race"]["equivalence"] = summaries["age"]["equivalence"]
    expected = " ".join(summary.paragraphs(audited))
    summaries["sex,race"]["equivalence"] = None
    assert (
        " ".join(summary.paragraphs(audited)) == expected
        and "Mean Dice is equivalent across groups" in expected
    )


def test_an_attribute_outside_the_family_is_exploratory_and_its_paragraph_claims_nothing():
    scores = block_of(p=0.001, low=0.01)
    scores["summaries"]["sex"]["test"]["p_holm"] = None
    verdict = findings.judge(BLOCK, scores)
    assert verdict.kind == "exploratory" and verdict.size is None
    text = " ".join(findings.sentences(verdict, scores["groups"], "Dice", 10))
    assert "exploratory" in text and "significant" not in text


def test_the_higher_mean_comes_first_of_errors_too():
    """Women have the lower mean: the worse Dice, the better distance."""
    for lower, best, worst in ((False, "sex=m", "sex=f"), (True, "sex=f", "sex=m")):
        scores = block_of(p=None, low=None)
        scores["summaries"]["sex"]["worst"]["group"] = worst
        verdict = findings.judge(BLOCK, scores, lower_is_better=lower)
        assert verdict.kind == "untested" and not verdict.pairs and verdict.best == best
        assert findings.describe_pairs(verdict) == "m > f"


@pytest.mark.parametrize(
    ("numbers", "size"),
    [
        ({"p": 0.5, "beyond": [1.1, 1.3]}, None),  # a gap that is not significant needs no explanation
        ({"beyond": [0.98, 1.17]}, "consistent"),
        ({"beyond": [0.5, 1.0]}, "consistent"),
        ({"beyond": [1.01, 1.2]}, "more"),
        ({"beyond": [0.7, 0.99]}, "less"),
        ({"beyond": None}, None),  # a ratio without an interval says nothing
        ({"p": None, "beyond": [1.01, 1.2]}, None),  # nor one that was not tested
    ],
)
def test_what_size_explains(numbers, size):
    assert findings.judge(BLOCK, block_of(**({"p": 0.01, "low": 0.01} | numbers))).size == size


def test_a_large_p_is_never_equality():
    assert (
        "(p = 0.010 after Holm's correction): m > f by 0.020 (corrected interval 0.010 to 0.040)"
        in paragraph(p=0.01, low=0.01)
    )
    assert "m > f" in paragraph(p=0.01, low=0.01)
    assert "no single pair of groups does" in paragraph(p=0.01)
    assert "not distinguishable from zero" in paragraph(p=0.2, low=0.01)
    quiet = paragraph(p=0.8)
    assert "does not show equality" in quiet and "0.020" in quiet and "80 %" in quiet
    assert "equivalent" not in quiet and "no difference" not in quiet
    assert "test" in paragraph(p=None) and "distinguishable" not in paragraph(p=None)


def test_what_size_gives_stands_beside_the_ratio_with_its_interval():
    real = {"p": 0.01, "low": 0.01}
    text = paragraph(**real, beyond=[0.98, 1.17])
    assert "consistent with size alone" in text
    for value in ("1.31", "1.22", "1.07", "0.98", "1.17"):
        assert value in text
    assert "more than size explains" in paragraph(**real, beyond=[1.01, 1.2])
    assert "less than size alone gives" in paragraph(**real, beyond=[0.8, 0.9])
    assert "size" not in paragraph(**real)


def test_a_ratio_without_the_comparison_with_size_has_no_verdict():
    scores = block_of(p=0.01, low=0.01)
    scores["summaries"]["sex"]["ser"]["beyond_size"] = None
    assert findings.judge(BLOCK, scores).size is None


@pytest.mark.parametrize(
    ("numbers", "equivalence"),
    [
        ({}, None),
        ({"equivalent": False}, "not shown"),
        ({"equivalent": True}, "equivalent"),
        ({"p": 0.01, "equivalent": True}, "small"),
        ({"p": 0.01, "low": 0.01, "equivalent": True}, "small"),
        ({"p": None, "equivalent": True}, "small"),
    ],
)
def test_opening_details_and_tables_agree_on_equivalence(report, numbers, equivalence):
    scores = block_of(**numbers)
    verdict = findings.judge(BLOCK, scores)
    assert verdict.equivalence == equivalence
    report["scores"]["dice"] |= scores
    report["cohort"]["attributes"] = ["sex"]
    (text_of_attribute,), first, cell = (
        summary.attribute_paragraphs(report),
        " ".join(summary.paragraphs(report)),
        findings.table_cell(verdict),
    )
    for text in (text_of_attribute, first):
        assert ("±0.050" in text) == (equivalence is not None)
        assert ("is not shown" in text) == (equivalence == "not shown")
        assert ("within the equivalence margin" in text) == (equivalence == "small")
        assert "fair" not in text.lower()
    assert "equivalent across groups by sex within ±0.050" in first or equivalence != "equivalent"
    assert ("within ±" in cell) == (equivalence in ("equivalent", "small"))


def test_equivalence_is_of_the_mean_and_says_why_not():
    text = paragraph(equivalent=True)
    assert (
        "not show equality" not in text and "Mean Dice is equivalent across the groups within ±0.050" in text
    )
    assert "95 % intervals of all differences" in text and "90 %" not in text
    assert "(a group of 20)" in paragraph(equivalent=False)


def test_a_distance_is_worst_where_it_is_highest():
    table = failed_cohort.cases(0)
    table["hd95_mm"] = np.where(table["sex"] == "male", 3.0, 2.0) + np.arange(len(table)) / 1000
    scores = fairness_scores.scores(
        table, failed_cohort.STRUCTURES, ["sex"], min_group_patients=10, draws=99, seed=0
    )["hd95_mm"]
    (groups,) = formatting.attribute_groups(scores["groups"], ["sex"])
    verdict = findings.judge(groups, scores, lower_is_better=True)
    assert (verdict.best, verdict.worst) == ("sex=female", "sex=male")
    text = findings.sentences(verdict, scores["groups"], "HD95", 10)[0]
    female, male = (scores["groups"][name]["mean"] for name in ("sex=female", "sex=male"))
    assert f"female has the lowest mean HD95 ({female:.3f}) and male the highest ({male:.3f})" in text


def test_the_opening_sorts_the_attributes_by_verdict(audited):
    text = " ".join(summary.paragraphs(audited))
    assert "age (≤50: n = 40, 51-60: n = 40, 61-70: n = 40, ≥71: n = 6, missing: n = 6)" in text
    assert "the gap in mean Dice by sex (male > female by 0.021) is statistically significant." in text
    assert "Structure size alone can explain this gap." in text
    assert "\N{MULTIPLICATION SIGN}" not in text  # gaps of two attributes are exploratory
    assert "by race is not distinguishable from zero" in text and "0.021 by race" in text
    assert "Mean Dice is equivalent across groups by age within ±0.020." in text
    assert (
        "The gap by sex depends on race: interaction 0.012 (p = 0.031 after Holm's correction, interval 0.001 to 0.024)"
        in text
    )


def test_a_pair_is_named_with_its_own_difference_and_not_with_the_gap(audited):
    """Of three groups the largest gap may be that of a small one, which no test supports."""
    summary_of_age = audited["scores"]["dice"]["summaries"]["age"]
    summary_of_age["test"]["p_holm"] = 0.01
    summary_of_age["gap_without_failures"]["value"] = 0.05
    first = summary_of_age["pairs"][0]
    first |= {"p_holm": 0.01, "difference": 0.006, "interval_adjusted": [0.001, 0.011]}
    for text in (" ".join(summary.paragraphs(audited)), " ".join(summary.attribute_paragraphs(audited))):
        assert "≤50 > 51-60 by 0.006" in text and "0.050" not in text


def test_groups_that_differ_without_a_pair_are_not_named(audited):
    race = audited["scores"]["dice"]["summaries"]["race"]
    race["test"]["p_holm"] = 0.01
    text = " ".join(summary.paragraphs(audited))
    assert "groups differ significantly in mean Dice by race, but no single pair of groups does" in text
    assert "White > Black" not in text


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ([1.1, 1.3], "Structure size alone does not explain this gap."),
        ([0.7, 0.9], "Structure size alone would give a larger difference than this gap."),
    ],
)
def test_the_opening_says_where_size_is_not_the_reason(audited, interval, words):
    audited["scores"]["dice"]["summaries"]["sex"]["ser"]["beyond_size"]["interval"] = interval
    assert words in " ".join(summary.paragraphs(audited))


def test_a_report_without_tests(report):
    text = " ".join(summary.paragraphs(report))
    assert "The gap by age is 0.022 (95 % interval 0.000 to 0.044), ≤50 > ≥51." in text
    assert "not tested, and its interval includes zero" in text
    assert "significant" not in text and "equivalent" not in text
    report["scores"]["dice"]["summaries"]["sex"]["gap"] = {"value": 0.0146, "interval": None}
    assert "a gap of 0.015." in summary.attribute_paragraphs(report)[0]
    report["scores"]["dice"]["groups"]["sex=male"]["ranked"] = False
    assert summary.attribute_paragraphs(report)[0] == (
        "By sex, fewer than two groups have the 10 patients that ranking needs."
    )
    assert "too few patients to compare groups by sex" in " ".join(summary.paragraphs(report))


@pytest.mark.parametrize(
    ("p", "low", "explained"), [(0.01, 0.0, True), (0.01, 0.005, False), (0.5, 0.0, False)]
)
def test_an_interval_that_includes_zero_beside_a_significant_test_is_explained(p, low, explained):
    scores = block_of(p=p, low=low)
    scores["summaries"]["sex"]["pairs"][0]["interval_adjusted"] = [-0.04, -0.005]
    verdict = findings.judge(BLOCK, scores)
    texts = findings.sentences(verdict, scores["groups"], "Dice", 10)
    assert any("includes zero" in text for text in texts) == explained
