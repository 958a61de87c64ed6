"""What the methods cite is what the report used."""

import pytest

from kneefair_jax.report.text import methods


def test_every_scores_margin_is_named_in_its_unit(audited):
    for score, delta in (("hd95_mm", 1.5), ("ece", 0.03)):
        audited["scores"][score]["summaries"]["age"]["equivalence"]["delta"] = delta
    audited["scores"]["iou"]["summaries"]["age"]["equivalence"] = None
    text, _ = methods.methods_text(audited)
    assert "lies within ±0.020 in Dice, ±1.500 mm in HD95 and ±0.030 in ECE (two one-sided tests" in text


def test_no_margin_no_equivalence(report):
    assert "equivalent" not in methods.methods_text(report)[0]


def test_another_cohort_s_resolution_is_told(report):
    report["run"]["resolution"] = "source"
    report["external"] = {"scores": report["scores"], "resolution": "source"}
    assert "Those of the external cohort" not in methods.methods_text(report)[0]
    report["external"]["resolution"] = "grid"
    assert "Those of the external cohort were computed on the grid of" in methods.methods_text(report)[0]


@pytest.mark.parametrize(
    "used", [["Brunner-Munzel"], ["Kruskal-Wallis"], ["Brunner-Munzel", "Kruskal-Wallis"]]
)
def test_each_rank_test_has_its_own_reference(audited, used):
    for scores in audited["scores"].values():
        for i, summary in enumerate(scores["summaries"].values()):
            summary["rank"]["name"] = used[i % len(used)]
    text, references = methods.methods_text(audited)
    for name, year in (("Brunner", "2000"), ("Kruskal", "1952")):
        found = [line for line in references if name in line]
        assert bool(found) == any(name in test for test in used)
        for line in found:
            test = next(test for test in used if name in test)
            assert year in line and f"{test} {line.split()[0]}" in text
