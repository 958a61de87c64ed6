import pytest
from statsmodels.stats.multitest import multipletests

from kneefair_jax.fairness import family
from kneefair_jax.fairness.family import Hypothesis


def report():
    contrast = {
        "contrast": 0.02,
        "error": 0.01,
        "skewness": 0.0,
        "freedom": (1.0, 60.0),
        "coefficients": [1, -1, -1, 1],
    }
    difference = {"estimate": 0.1, "interval": (0.02, 0.18), "p": 0.004, "p_adjusted": 0.004}
    pairs = [
        {"first": a, "second": b, "difference": difference | {"p": p, "p_adjusted": 3 * p}}
        for a, b, p in (("age=1", "age=2", 0.001), ("age=1", "age=3", 0.02), ("age=2", "age=3", 0.5))
    ]
    comparisons = {
        "sex": {
            "test": {"p": 0.004, "p_adjusted": 0.008},
            "pairs": [{"first": "sex=f", "second": "sex=m", "difference": dict(difference)}],
            "unranked": {"sex=x": {"p": 0.3, "p_adjusted": 0.6}},
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
    others = family.p_values(result["rates"], result["interactions"])
    everything = {**others, Hypothesis(family.MEAN, "sex"): 0.03, Hypothesis(family.MEAN, "age"): 0.9}
    assert len(everything) == 7
    family.write(result, everything)
    adjusted = multipletests(list(everything.values()), method="holm")[1]
    corrected = dict(zip(everything, adjusted, strict=True))
    members = {
        Hypothesis(one["kind"], one["attribute"], one["group"]): one["p_adjusted"]
        for one in result["primary"]["hypotheses"]
    }
    assert members == pytest.approx(corrected)
    compared = result["rates"]["endpoints"]["failure"]["comparisons"]
    for one, written in (
        (Hypothesis(family.FAILURE, "age"), compared["age"]["test"]["p_adjusted"]),
        (Hypothesis(family.FAILURE, "sex"), compared["sex"]["test"]["p_adjusted"]),
        (
            Hypothesis(family.SMALL_FAILURE, "sex", "sex=x"),
            compared["sex"]["unranked"]["sex=x"]["p_adjusted"],
        ),
        (
            Hypothesis(family.SMALL_MEAN, "sex", "sex=x"),
            result["rates"]["small_groups"]["dice"]["sex"]["sex=x"]["p_adjusted"],
        ),
        (Hypothesis(family.INTERACTION, "sex,age"), result["interactions"]["sex,age"]["dice"]["p_holm"]),
    ):
        assert written == pytest.approx(corrected[one])
    assert corrected[Hypothesis(family.FAILURE, "age")] == pytest.approx(7 * 0.002)


def test_pairs_pay_for_the_family_once():
    result = report()
    family.write(result, family.p_values(result["rates"], result["interactions"]))
    pairs = result["rates"]["endpoints"]["failure"]["comparisons"]["age"]["pairs"]
    # Holm within the attribute (3 x 0.001, 2 x 0.02, 0.5), then the factor of the attribute's test (5 hypotheses).
    assert [pair["difference"]["p_adjusted"] for pair in pairs] == pytest.approx([0.015, 0.2, 1.0])
    (pair,) = result["rates"]["endpoints"]["failure"]["comparisons"]["sex"]["pairs"]
    assert pair["difference"]["p_adjusted"] == pytest.approx(4 * 0.004)


def test_the_hash_is_of_what_was_stated_and_not_of_the_numbers():
    first, second, third = report(), report(), report()
    others = family.p_values(first["rates"], first["interactions"])
    family.write(first, others)
    family.write(second, {one: p / 2 for one, p in others.items()})
    third["rates"]["failure_dice"] = 0.7
    family.write(third, others)
    assert first["primary"]["sha256"] == second["primary"]["sha256"] != third["primary"]["sha256"]
