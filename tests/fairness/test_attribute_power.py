"""The power of each attribute's groups, against hand-made groups and the numbers of the scores."""

import numpy as np
import pytest

from kneefair_jax.fairness import power
from kneefair_jax.fairness.attribute_power import EXAMPLE_MARGIN, attribute_power
from kneefair_jax.fairness.scores import scores
from tests.report import failed_cohort


def powers(table, minimum=10, **settings):
    return attribute_power(
        table, failed_cohort.STRUCTURES, failed_cohort.ATTRIBUTES, min_group_patients=minimum, **settings
    )


def test_without_failures_the_detectable_gap_is_that_of_the_scores():
    table = failed_cohort.cases(0)
    entries = powers(table)
    summaries = scores(
        table,
        failed_cohort.STRUCTURES,
        list(failed_cohort.ATTRIBUTES),
        min_group_patients=10,
        draws=40,
        seed=0,
    )["dice"]["summaries"]
    assert list(entries) == ["sex", "race"]
    for attribute, entry in entries.items():
        assert entry["detectable"] == pytest.approx(summaries[attribute]["detectable"], rel=1e-12)
        assert entry["failure_rate"] == 0
    assert entries["race"]["groups"] == ("race=A", "race=B") and entries["race"]["patients"] == (28, 28)


def test_failures_are_taken_apart_and_counted():
    """Of 20 women 6 fail, of 40 men none: the means are of 14 and 40 patients, the pooled rate is 6 / 60."""
    table = failed_cohort.cases(6, women=20, men=40)
    entry = powers(table, equivalence_margin=0.03)["sex"]
    macro = table.groupby(["patient_id", "sex"], observed=True)["dice"].agg(["mean", "min"]).reset_index()
    sound = macro[macro["min"] >= 0.5].groupby("sex", observed=True)["mean"]
    n, sd = sound.size(), sound.std()
    assert n.to_dict() == {"female": 14, "male": 40}
    assert entry["groups"] == ("sex=female", "sex=male") and entry["patients"] == (20, 40)
    expected = power.mean_difference((14, 40), (sd["female"], sd["male"]))
    assert entry["detectable"] == pytest.approx(expected)
    assert entry["failure_rate"] == pytest.approx(0.1)
    assert entry["detectable_failure_rate"] == power.failure_difference((20, 40), entry["failure_rate"])
    spread = np.sqrt((13 * sd["female"] ** 2 + 39 * sd["male"] ** 2) / 52)
    needed = entry["needed"]
    assert entry["margin_stated"] and needed["margin"] == 0.03 and needed["ratio"] == 2
    assert needed["spread"] == pytest.approx(spread)
    assert needed["span"] == pytest.approx(macro[macro["min"] >= 0.5]["mean"].mean())
    assert needed["mean"] < min(needed["equivalence"], needed["failures"])


def test_without_a_stated_margin_there_is_an_example():
    entry = powers(failed_cohort.cases(0))["sex"]
    assert not entry["margin_stated"] and entry["needed"]["margin"] == EXAMPLE_MARGIN


def test_the_hardest_pair_of_three_groups_is_described():
    entry = powers(failed_cohort.cases(0), minimum=3)["race"]
    assert "race=C" in entry["groups"] and entry["patients"] == (4, 28)


def test_attributes_with_fewer_than_two_ranked_groups_have_no_power():
    assert powers(failed_cohort.cases(0), minimum=29).keys() == {"sex"}
    assert powers(failed_cohort.cases(0), minimum=31) == {}
    # All women but one fail: one score has no spread.
    table = failed_cohort.cases(29)
    assert attribute_power(table, failed_cohort.STRUCTURES, ["sex"], min_group_patients=10) == {}
