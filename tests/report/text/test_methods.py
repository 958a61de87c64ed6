"""What the methods cite is what the report used."""

import pytest

from kneefair_jax.fairness import family
from kneefair_jax.report.text import methods


def test_every_scores_margin_is_named_in_its_unit(audited):
    for score, delta in (("hd95_mm", 1.5), ("nsd", 0.03)):
        audited["scores"][score]["summaries"]["age"]["equivalence"]["delta"] = delta
    audited["scores"]["iou"]["summaries"]["age"]["equivalence"] = None
    text, _ = methods.methods_text(audited)
    assert "the 96.7 % intervals of all differences lie within ±0.020 in Dice and ±0.030 in NSD," in text
    assert "90 %" not in text and "±1.500 mm" not in text  # distances are never shown to be equivalent


def test_where_a_margin_of_two_readers_comes_from(audited):
    agreement = {
        "patients": 40,
        "mean_difference": -0.02,
        "interval": [-0.03, -0.01],
        "limits_of_agreement": [-0.08, 0.04],
        "margin": 0.02,
    }
    audited["readers"] = {"dice": agreement, "nsd": agreement | {"margin": 0.5}}  # that of NSD was stated
    text, references = methods.methods_text(audited)
    (sentence,) = [part for part in text.split(". ") if "two readers" in part]
    for quantity in ("Dice -0.0200", "-0.0300 to -0.0100", "-0.0800 to 0.0400", "40 patients"):
        assert quantity.replace("-", "\N{MINUS SIGN}") in sentence
    assert "NSD" not in sentence and sum("Bland" in one for one in references) == 1


def test_parts_of_intervals_and_tests_are_cited_where_they_were_computed(audited):
    """Student's part and the permutation test need patients without a failed segmentation."""
    failure = audited["rates"]["endpoints"]["failure"]
    comparison = {"pairs": [], "test": None, "unranked": {"sex=other": {"p": 1.0}}}
    failure["comparisons"] = {"sex": comparison}

    def cited(counts, tests):
        tallies = [failure, *failure["groups"].values()]
        sizes = [failure["overall"]["n"], *(group["rate"]["n"] for group in failure["groups"].values())]
        for tally, n in zip(tallies, sizes, strict=True):
            tally["count"] = counts(n)
        audited["rates"]["small_groups"] = {"dice": {"sex": tests}}
        audited["scores"].pop("hd95_mm", None)
        text, references = methods.methods_text(audited)
        names = [name for name in ("Zou GY", "Bickel PJ") if any(name in line for line in references)]
        return names, "by permutation" in next(
            part for part in text.split(". ") if "too small to rank were" in part
        )

    assert cited(lambda n: 0, {"sex=other": {"p": 0.5}}) == (["Zou GY", "Bickel PJ"], True)
    assert cited(lambda n: n, {}) == (["Bickel PJ"], False)


def test_no_margin_no_equivalence(report):
    assert "equivalent" not in methods.methods_text(report)[0]


def test_another_cohort_s_resolution_is_named(report):
    report["run"]["resolution"] = "native"
    report["external"] = {"scores": report["scores"], "resolution": "native", "pooled": {}}
    assert "Scores of the external cohort" not in methods.methods_text(report)[0]
    report["external"]["resolution"] = "working"
    assert (
        "Scores of the external cohort were computed at the working resolution of"
        in methods.methods_text(report)[0]
    )


def test_pooled_means_are_cited_where_either_cohort_has_them(report):
    assert not any("Herriot" in one for one in methods.methods_text(report)[1])
    report["external"] = {"scores": report["scores"], "resolution": "working", "pooled": {"sex=male": {}}}
    text, references = methods.methods_text(report)
    assert sum("Herriot" in one for one in references) == 1
    assert "external cohort" in next(part for part in text.split(". ") if "pooled" in part)


def test_the_family_is_stated_with_its_score_attributes_and_kinds(audited):
    hypotheses = [{"kind": kind} for kind in (family.MEAN, family.SMALL_FAILURE)]
    audited["primary"] |= {"score": "hd95_mm", "attributes": ["sex", "age"], "hypotheses": hypotheses}
    text = methods.methods_text(audited)[0]
    (sentence,) = [sentence for sentence in text.split(". ") if "primary family" in sentence]
    assert all(part in sentence for part in ("mean HD95 (mm)", "by sex and age", "too small to rank"))
    assert "race" not in sentence and "interactions" not in sentence


@pytest.mark.parametrize(
    "used", [["Brunner-Munzel"], ["Kruskal-Wallis"], ["Brunner-Munzel", "Kruskal-Wallis"]]
)
def test_each_rank_test_has_its_own_reference(audited, used):
    for scores in audited["scores"].values():
        ranked = [summary for summary in scores["summaries"].values() if summary["rank"]]
        for i, summary in enumerate(ranked):
            summary["rank"]["name"] = used[i % len(used)]
    text, references = methods.methods_text(audited)
    for name, year in (("Brunner", "2000"), ("Kruskal", "1952")):
        lines = [line for line in references if name in line]
        assert bool(lines) == any(name in test for test in used)
        for line in lines:
            test = next(test for test in used if name in test)
            assert year in line and f"{test} {line.split()[0]}" in text


def adjustment(report):
    """The sentences of the methods between those that every report has."""
    text, references = methods.methods_text(report)
    return text, "Bell RM" in " ".join(references)


def test_an_adjustment_names_the_covariates_of_the_model_and_those_left_out(audited):
    model = audited["model"]["dice"]
    model["without_mediators"] |= {"covariates": ["age", "site"], "formula": "dice ~ sex * race + age + site"}
    text, is_cited = adjustment(audited)
    assert (
        is_cited
        and "for the other attributes, age and site (dice ~ sex * race + age + site; 78 patients)" in text
    )
    assert "bmi: unknown in most cases" in text and "Confounders" not in text


@pytest.mark.parametrize("excluded", [[], ["age: unknown in all cases"]])
def test_no_covariate_is_no_adjustment(audited, excluded):
    """One attribute alone, `dice ~ sex`, whatever could not be read."""
    model = audited["model"]["dice"]
    for label in ("with_mediators", "without_mediators"):
        fit = model[label]
        model[label] = fit | {
            "formula": "dice ~ sex",
            "covariates": [],
            "contrasts": [one for one in fit["contrasts"] if one["attribute"] == "sex"],
        }
    model["excluded"] = excluded
    text, is_cited = adjustment(audited)
    assert not is_cited and "Gaps were not adjusted for covariates" in text
    assert "were adjusted" not in text and "dice ~ sex" not in text
    assert all(reason in text for reason in excluded) and ("Excluded from the model" in text) == bool(
        excluded
    )


def test_a_mediator_alone_is_named_as_one(audited):
    """Two attributes are adjusted for each other; area, in the second model, is no confounder."""
    text, is_cited = adjustment(audited)
    assert is_cited and "for the other attributes (dice ~ sex * race; 78 patients)" in text
    assert "possible mediators, for the other attributes and log(area)" in text


def test_a_model_that_was_not_fitted_adjusts_for_nothing(audited):
    model = audited["model"]["dice"]
    model |= {"with_mediators": None, "reasons": ["with mediators: 14 patients are too few"]}
    text, is_cited = adjustment(audited)
    assert is_cited and "14 patients are too few" in text and "log(area)" not in text
    model |= {"without_mediators": None}
    text, is_cited = adjustment(audited)
    assert not is_cited and "Gaps were not adjusted (with mediators: 14 patients" in text


def test_covariates_without_an_attribute_adjust_no_gap(audited):
    model = audited["model"]["dice"]
    for label in ("with_mediators", "without_mediators"):
        model[label] |= {"contrasts": [], "covariates": ["age"], "formula": "dice ~ age"}
    model["excluded"] = ["sex: the same in all cases"]
    text, is_cited = adjustment(audited)
    assert not is_cited and "Gaps were not adjusted" in text and "sex: the same in all cases" in text
    assert "dice ~ age" not in text


def test_distances_are_described_where_they_were_measured(audited):
    assert "Distances have no upper limit" in methods.methods_text(audited)[0]
    del audited["scores"]["hd95_mm"]
    assert "istance" not in methods.methods_text(audited)[0].replace("average surface distance", "")
