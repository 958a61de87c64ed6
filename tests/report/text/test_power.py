"""Power and sample size in words."""

import re
from dataclasses import asdict

import pytest

from kneefair_jax.fairness import power as sample_size
from kneefair_jax.report.text import power
from kneefair_jax.report.text.formatting import DASH


@pytest.fixture
def report():
    needed = {
        "margin": 0.02,
        "spread": 0.03,
        "failure_rate": 0.02,
        "ratio": 1.5,
        "span": 0.95,
        "power": 0.8,
        "level": 0.05,
        "equivalence_level": 0.05,
        "mean": 31,
        "failures": 1234,
        "equivalence": None,
    }
    entry = {
        "groups": ["age=<=50", "age=51-64"],
        "patients": [40, 60],
        "detectable": 0.01754,
        "failure_rate": 0.02,
        "detectable_failure_rate": 0.1405,
        "margin_stated": False,
        "needed": needed,
    }
    return {"power": {"age": entry}}


def test_the_cells_of_an_attribute(report):
    (row,) = power.rows(report)
    assert row == (
        "age",
        "≤50 40, 51-64 60",
        "0.018",
        "14.1 % in ≤50, 2.0 % in all",
        "31",
        "1,234",
        "more than 100,000",
    )


def test_the_phrase_names_the_group_and_both_rates(report):
    phrase = power.detectable_failures(report, "age")
    assert phrase == "a failure rate of at least 14.1 % in ≤50 (observed in all ranked groups: 2.0 %)"
    assert power.detectable_failures(report, "sex") is None
    report["power"]["age"]["detectable_failure_rate"] = None
    assert power.detectable_failures(report, "age") is None
    assert power.rows(report)[0].failure_rate == "none up to 100 % in ≤50"


def test_a_failure_rate_above_one_needs_no_number_of_patients(report):
    report["power"]["age"]["needed"] |= {"failure_rate": 0.99, "failures": None}
    assert power.rows(report)[0].failures == DASH


def entry_of(sizes, spread, failure_rate=0.0, margin=0.02):
    """Return the report of two groups of these sizes, with the patients that the margin needs."""
    needed = sample_size.patients_needed(margin, spread, failure_rate, ratio=sizes[1] / sizes[0], span=0.95)
    groups = ["sex=female", "sex=male"]
    return {"power": {"sex": {"groups": groups, "patients": list(sizes), "needed": asdict(needed)}}}


def numbers_needed(sentence):
    return tuple(int(text) for text in re.search(r"n = (\d+) in female and (\d+) in male", sentence).groups())


def test_a_gap_is_detected_with_80_percent_power_by_the_patients_of_both_groups_that_it_needs():
    sentence = power.required_patients(entry_of((40, 44), 0.05), "sex")
    needed = numbers_needed(sentence)
    assert "gap of 0.020" in sentence and "now 40 and 44" in sentence
    assert "80 % power" in sentence and "uncorrected 5 % level" in sentence

    test = pytest.importorskip("statsmodels.stats.power").TTestIndPower()

    def detected(patients):
        return test.power(0.02 / 0.05, nobs1=patients[0], ratio=patients[1] / patients[0], alpha=0.05)

    assert 0.80 <= detected(needed) < 0.82
    # The smaller group alone does not suffice.
    assert detected((needed[0], 44)) < 0.65


def test_equivalence_is_shown_with_80_percent_power_by_the_patients_of_both_groups_that_it_needs():
    sentence = power.required_patients(entry_of((60, 120), 0.03), "sex")
    needed = numbers_needed(sentence)
    assert "within ±0.020" in sentence and "now 60 and 120" in sentence and "one-sided 5 %" in sentence

    def shown_equivalent(patients):
        return sample_size.equivalence_power(patients, 0.02, 0.03, 0.0, 0.95)

    assert 0.80 <= shown_equivalent(needed) < 0.85
    assert shown_equivalent((needed[0], 120)) < 0.1


def test_without_failures_the_patients_for_equivalence_are_a_lower_bound():
    assert "at least" in power.required_patients(entry_of((60, 120), 0.03), "sex")
    failed = power.required_patients(entry_of((300, 600), 0.03, failure_rate=0.002, margin=0.01), "sex")
    assert "Equivalence" in failed and "at least" not in failed


def test_an_example_margin_is_called_so(report):
    assert "0.020 in Dice (an example" in power.paragraph(report)
    report["power"]["age"]["margin_stated"] = True
    assert "example" not in power.paragraph(report)


def test_a_report_without_power_says_nothing():
    assert power.paragraph({"power": {}}) == "" and power.rows({"power": {}}) == []
