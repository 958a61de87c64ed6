import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kneefair_jax.fairness import predicted_scores


def cases():
    """Six patients of two groups; patient p has two cases, and q's prediction is not trusted."""
    rows = [
        # patient, sex, predicted, low, high, score, untrusted
        ("p", "f", 0.90, 0.80, 0.95, 0.70, 0),
        ("p", "f", 0.80, 0.70, 0.85, 0.80, 0),
        ("q", "f", np.nan, np.nan, np.nan, np.nan, 1),
        ("r", "f", 0.95, 0.90, 0.97, 0.93, 0),
        ("s", "m", 0.90, 0.85, 0.95, 0.92, 0),
        ("t", "m", 0.96, 0.90, 0.98, 0.97, 0),
        ("u", "m", 0.94, 0.90, 0.98, np.nan, 0),
    ]
    table = pd.DataFrame(
        rows, columns=["patient_id", "sex", "predicted", "low", "high", "score", "untrusted"]
    )
    table["error"] = table["score"] - table["predicted"]
    outside = (table["score"] < table["low"]) | (table["score"] > table["high"])
    table["outside"] = outside.astype(float).where(table["score"].notna())
    table["covered"] = 1 - table["outside"]
    return table.assign(sex=table["sex"].astype("category"))


def test_values_by_hand():
    result = predicted_scores.predicted_scores(cases(), ["sex"], minimum=2, measured=True)
    female, male = result.groups["sex=f"], result.groups["sex=m"]
    assert (female.cases, male.cases, result.overall.cases) == (4, 3, 7)
    assert (female.untrusted.count, female.untrusted.rate.n) == (1, 3)
    assert (male.untrusted.count, male.untrusted.rate.n) == (0, 3)
    # p has the mean of two cases, q none.
    assert female.predicted.estimate == pytest.approx((0.85 + 0.95) / 2)
    assert female.low == pytest.approx((0.75 + 0.90) / 2) and female.high == pytest.approx((0.90 + 0.97) / 2)
    assert (female.outside.count, female.outside.rate.n) == (1, 2)
    assert female.covered == pytest.approx((0.5 + 1) / 2)
    assert female.error.estimate == pytest.approx((-0.1 - 0.02) / 2)
    expected = stats.ttest_1samp([-0.1, -0.02], 0).confidence_interval()
    assert female.error.interval == pytest.approx((max(expected.low, -1), min(expected.high, 1)))
    assert (male.outside.count, male.outside.rate.n, male.covered) == (0, 2, 1)
    assert result.measured


def test_without_scores_there_is_no_error():
    table = cases().assign(error=np.nan, outside=np.nan, covered=np.nan)
    result = predicted_scores.predicted_scores(table, ["sex"], minimum=2, measured=False)
    assert result.overall.error is None and result.overall.outside is None and result.overall.covered is None
    assert not result.measured


def test_small_groups_are_not_ranked():
    result = predicted_scores.predicted_scores(cases(), ["sex"], minimum=4, measured=True)
    assert not result.groups["sex=f"].untrusted.ranked and result.overall.untrusted.ranked
