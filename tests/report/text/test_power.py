"""Power and sample size in words."""

import pytest

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


def test_an_example_margin_is_called_so(report):
    assert "0.020 in Dice (an example" in power.paragraph(report)
    report["power"]["age"]["margin_stated"] = True
    assert "example" not in power.paragraph(report)


@pytest.mark.parametrize("empty", [{}, {"power": {}}])
def test_a_report_without_power_says_nothing(empty):
    assert power.paragraph(empty) == "" and power.rows(empty) == []
