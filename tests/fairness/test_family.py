import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from kneefair_jax.errors import InputError
from kneefair_jax.fairness import family, rates
from kneefair_jax.fairness.family import Hypothesis, Primary

ALL = Primary("dice", ("sex", "age"))


def report():
    contrast = {
        "cells": [],
        "contrast": 0.02,
        "error": 0.01,
        "skewness": 0.0,
        "freedom": (1.0, 60.0),
        "coefficients": [1, -1, -1, 1],
    }
    difference = {"estimate": 0.1, "interval": (0.02, 0.18), "p": 0.004, "p_adjusted": 0.004}
    difference["tallies"] = [[12, 60], [6, 60]]
    pairs = [
        {"first": a, "second": b, "difference": difference | {"p": p, "p_adjusted": 3 * p}}
        for a, b, p in (("age=1", "age=2", 0.001), ("age=1", "age=3", 0.02), ("age=2", "age=3", 0.5))
    ]
    comparisons = {
        "sex": {
            "test": {"p": 0.004, "p_adjusted": 0.008},
            "pairs": [{"first": "sex=f", "second": "sex=m", "difference": dict(difference)}],
            "unranked": {"sex=x": {"p": 0.3, "p_adjusted": 0.6, "tallies": [[1, 5], [18, 120]]}},
        },
        "age": {"test": {"p": 0.002, "p_adjusted": 0.004}, "pairs": pairs, "unranked": {}},
    }
    return {
        "rates": {
            "failure_dice": 0.5,
            "endpoints": {"failure": {"comparisons": comparisons}},
            "small_groups": {"dice": {"sex": {"sex=x": {"p": 0.01, "p_adjusted": 0.01}}}},
        },
        "interactions": {"sex,age": {"dice": {"p": 0.04, "p_holm": 0.04, **contrast}}},
    }


def test_one_correction_covers_all_kinds():
    result = report()
    other_p_values = family.p_values(result["rates"], result["interactions"], ALL)
    everything = {**other_p_values, Hypothesis(family.MEAN, "sex"): 0.03, Hypothesis(family.MEAN, "age"): 0.9}
    assert len(everything) == 7
    family.write_adjusted(result, everything, ALL)
    adjusted = multipletests(list(everything.values()), method="holm")[1]
    corrected = dict(zip(everything, adjusted, strict=True))
    members = {
        Hypothesis(hypothesis["kind"], hypothesis["attribute"], hypothesis["group"]): hypothesis["p_adjusted"]
        for hypothesis in result["primary"]["hypotheses"]
    }
    assert members == pytest.approx(corrected)
    comparison = result["rates"]["endpoints"]["failure"]["comparisons"]
    for hypothesis, written in (
        (Hypothesis(family.FAILURE, "age"), comparison["age"]["test"]["p_adjusted"]),
        (Hypothesis(family.FAILURE, "sex"), comparison["sex"]["test"]["p_adjusted"]),
        (
            Hypothesis(family.SMALL_FAILURE, "sex", "sex=x"),
            comparison["sex"]["unranked"]["sex=x"]["p_adjusted"],
        ),
        (
            Hypothesis(family.SMALL_MEAN, "sex", "sex=x"),
            result["rates"]["small_groups"]["dice"]["sex"]["sex=x"]["p_adjusted"],
        ),
        (Hypothesis(family.INTERACTION, "sex,age"), result["interactions"]["sex,age"]["dice"]["p_holm"]),
    ):
        assert written == pytest.approx(corrected[hypothesis])
    assert corrected[Hypothesis(family.FAILURE, "age")] == pytest.approx(7 * 0.002)


def test_an_adjusted_interval_has_the_level_at_which_p_was_judged():
    result = report()
    family.write_adjusted(result, family.p_values(result["rates"], result["interactions"], ALL), ALL)
    (pair,) = result["rates"]["endpoints"]["failure"]["comparisons"]["sex"]["pairs"]
    assert pair["difference"]["p_adjusted"] == pytest.approx(4 * 0.004)
    expected = rates.difference_interval(rates.Tally(12, 60), rates.Tally(6, 60), 1 - 0.05 / 4)
    assert pair["difference"]["interval_adjusted"] == pytest.approx(expected)
    entry = result["interactions"]["sex,age"]["dice"]
    level = 0.05 * 0.04 / entry["p_holm"]
    half = 0.01 * stats.t.ppf(1 - level / 2, 60)
    assert entry["interval_adjusted"] == pytest.approx([0.02 - half, 0.02 + half])


def test_pairs_pay_for_the_family_once():
    result = report()
    family.write_adjusted(result, family.p_values(result["rates"], result["interactions"], ALL), ALL)
    pairs = result["rates"]["endpoints"]["failure"]["comparisons"]["age"]["pairs"]
    # Holm within the attribute (3 x 0.001, 2 x 0.02, 0.5), then the factor of the attribute's test (5 hypotheses).
    assert [pair["difference"]["p_adjusted"] for pair in pairs] == pytest.approx([0.015, 0.2, 1.0])
    (pair,) = result["rates"]["endpoints"]["failure"]["comparisons"]["sex"]["pairs"]
    assert pair["difference"]["p_adjusted"] == pytest.approx(4 * 0.004)


def test_the_hash_is_of_what_was_stated_and_not_of_the_numbers():
    first, second, third = report(), report(), report()
    other_p_values = family.p_values(first["rates"], first["interactions"], ALL)
    family.write_adjusted(first, other_p_values, ALL)
    family.write_adjusted(second, {hypothesis: p / 2 for hypothesis, p in other_p_values.items()}, ALL)
    third["rates"]["failure_dice"] = 0.7
    family.write_adjusted(third, other_p_values, ALL)
    assert first["primary"]["sha256"] == second["primary"]["sha256"] != third["primary"]["sha256"]


def stated_hash(primary):
    result = report()
    family.write_adjusted(result, family.p_values(result["rates"], result["interactions"], primary), primary)
    return result["primary"]["sha256"]


def test_the_hash_changes_with_score_and_attributes():
    hashes = [
        stated_hash(primary)
        for primary in (
            ALL,
            Primary("iou", ("sex", "age")),
            Primary("dice", ("sex",)),
            Primary("dice", ("age",)),
        )
    ]
    assert len(set(hashes)) == 4
    assert stated_hash(family.resolve(family.parse("dice:age,sex"), ["sex", "age"])) == hashes[0]
    assert stated_hash(family.resolve(family.parse("dice"), ["sex", "age"])) == hashes[0]


def test_what_lies_outside_the_family_changes_nothing_in_it():
    """Of sex: failure test 0.004, small group's failures 0.3 and mean 0.01, gap 0.03; Holm by hand."""
    result, primary = report(), Primary("dice", ("sex",))
    members = family.p_values(result["rates"], result["interactions"], primary)
    assert set(members.values()) == {0.004, 0.3, 0.01}
    family.write_adjusted(result, members | {Hypothesis(family.MEAN, "sex"): 0.03}, primary)
    comparison = result["rates"]["endpoints"]["failure"]["comparisons"]
    assert comparison["sex"]["test"]["p_adjusted"] == pytest.approx(4 * 0.004)
    assert comparison["sex"]["pairs"][0]["difference"]["p_adjusted"] == pytest.approx(4 * 0.004)
    assert comparison["sex"]["unranked"]["sex=x"]["p_adjusted"] == pytest.approx(0.3)
    small = result["rates"]["small_groups"]["dice"]["sex"]["sex=x"]
    assert small["p_adjusted"] == pytest.approx(3 * 0.01)
    gap = next(
        hypothesis for hypothesis in result["primary"]["hypotheses"] if hypothesis["kind"] == family.MEAN
    )
    assert gap["p_adjusted"] == pytest.approx(2 * 0.03)
    assert comparison["age"]["test"]["p_adjusted"] is None
    assert all(pair["difference"]["p_adjusted"] is None for pair in comparison["age"]["pairs"])
    assert result["interactions"]["sex,age"]["dice"]["p_holm"] is None
    assert result["primary"]["attributes"] == ["sex"]


def test_pairs_of_attributes_are_covered_where_both_are():
    primary = Primary("dice", ("sex", "age"))
    assert primary.covers("sex") and primary.covers("sex,age")
    assert not any(primary.covers(key) for key in ("race", "sex,race", "race,age", "se"))
    assert Primary().covers("sex") and Primary().covers("sex,race")


@pytest.mark.parametrize(
    ("text", "score", "attributes"),
    [("dice", "dice", None), ("hd95_mm:sex", "hd95_mm", ("sex",)), ("nsd:race, age", "nsd", ("race", "age"))],
)
def test_a_family_is_parsed_by_hand(text, score, attributes):
    assert family.parse(text) == Primary(score, attributes)


@pytest.mark.parametrize("text", ["", "Dice", "sex", ":sex", "dice:", "dice:sex,", "dice:sex,sex"])
def test_a_family_that_cannot_be_is_refused(text):
    with pytest.raises(InputError, match="--primary"):
        family.parse(text)


def test_attributes_are_spelled_out_in_the_report_s_order():
    assert family.resolve(Primary(), ["race", "sex"]) == Primary("dice", ("race", "sex"))
    assert family.resolve(Primary("dice", ("sex", "race")), ["race", "sex"]) == Primary(
        "dice", ("race", "sex")
    )
    with pytest.raises(InputError, match="'age'.*race, sex"):
        family.resolve(Primary("dice", ("age",)), ["race", "sex"], "config.report.primary")
    with pytest.raises(InputError, match="'length'"):
        family.resolve(Primary("length"), ["sex"])


def test_a_score_that_was_not_measured_is_refused():
    cases = pd.DataFrame({"dice": [0.9, 0.8], "iou": [0.8, None], "hd95_mm": [None, None]})
    for score in ("dice", "iou"):
        family.require_measured(Primary(score), cases)
    for score in ("hd95_mm", "nsd"):
        with pytest.raises(InputError, match=f"{score}.*dice, iou"):
            family.require_measured(Primary(score), cases)
