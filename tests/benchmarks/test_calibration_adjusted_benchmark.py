"""The simulation of the adjusted model: true null hypotheses, and a mixed model that is one."""

import numpy as np
import pytest
import statsmodels.api as sm

from benchmarks import calibration_adjusted
from benchmarks.calibration_adjusted import CONDITIONS, Condition


@pytest.mark.parametrize("skewed", [False, True])
def test_groups_have_one_mean_the_stated_spread_and_knees_that_correlate(skewed):
    condition = Condition((30, 10), 2, skewed, 2.0, False)
    rng = np.random.default_rng(0)
    rows = calibration_adjusted.cohort(condition, rng)
    errors = 1 - calibration_adjusted.scores(condition, rows, 4000, rng)
    assert errors.shape == (80, 4000)
    for group, sd in (("0", 0.03), ("1", 0.06)):
        part = errors[(rows["group"] == group).to_numpy()]
        assert part.mean() == pytest.approx(0.08, abs=0.001)
        assert part.std() == pytest.approx(sd, rel=0.05)
        assert np.corrcoef(part[::2].ravel(), part[1::2].ravel())[0, 1] == pytest.approx(0.5, abs=0.03)


def test_the_mixed_model_is_statsmodels_to_the_step_of_the_correlation():
    condition = Condition((20, 10), 4, False, 1.0, True)
    rng = np.random.default_rng(1)
    rows = calibration_adjusted.cohort(condition, rng)
    y = calibration_adjusted.scores(condition, rows, 3, rng)
    x = np.column_stack([np.ones(len(rows)), rows["group"] == "1", rows["age"] - 60]).astype(float)
    patients = rows["patient_id"].to_numpy()
    estimate, error = calibration_adjusted.mixed_model(x, y, patients, np.array([0.0, 1, 0]))
    for c in range(3):
        expected = sm.MixedLM(100 * y[:, c], x, groups=patients).fit(reml=True)
        assert 100 * estimate[c] == pytest.approx(expected.params[1], abs=0.05 * expected.bse[1])
        assert 100 * error[c] == pytest.approx(expected.bse[1], rel=0.02)


def test_a_condition_is_measured():
    condition = next(one for one in CONDITIONS if one.covariates and one.sizes == (100, 30, 12))
    result = calibration_adjusted.measure(condition, 3)
    assert result["cohorts"] == 3 and set(result["share"]) >= {
        "CR2 rejects",
        "CR2 after Hall's transformation rejects",
        "mixed model rejects",
    }
    assert 5 < result["df"] < 60
    names = [one.name for one in CONDITIONS]
    assert len(set(names)) == len(names) == 48
