"""The simulation of model comparisons: exchangeable models, and studies with a known power."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import calibration_comparison
from benchmarks.calibration_comparison import CONDITIONS, Condition


def test_models_have_the_stated_spread_correlation_and_gaps():
    rng = np.random.default_rng(0)
    drawn = [calibration_comparison.scores(Condition(3, (0.03, 0.01), True), rng) for _ in range(400)]
    index = drawn[0][2]
    assert np.bincount(index).tolist() == [60, 30, 15]
    scores = np.array([[one[:2] for one in drawn]])[0]  # [400, 2, P]
    for model, gap in enumerate((0.03, 0.01)):
        means = [scores[:, model][:, index == g].mean() for g in range(3)]
        assert np.ptp(means) == pytest.approx(gap, abs=0.002)
        assert means[0] == pytest.approx(0.9 + 0.02 * model, abs=0.002)
    first, second = (scores[:, model][:, index == 0].ravel() for model in (0, 1))
    assert first.std() == pytest.approx(0.03, rel=0.08)
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0.8, abs=0.05)


def test_conditions_have_names_of_their_own():
    assert len({one.name for one in CONDITIONS}) == len(CONDITIONS) == 35


def test_a_change_to_no_gap_of_many_groups_is_covered():
    """With the bias of the plug-in means and no allowance for what is missing, 68 % were."""
    shares = calibration_comparison.models(Condition(12, (0.03, 0.0)), cohorts=100, swaps=79)
    assert shares["covered"] >= 0.86 and shares["disagree"] == 0 and shares["narrower"] > 0.5


def test_stored_results_are_the_rows_of_the_page():
    folder = Path(calibration_comparison.__file__).parents[1]
    stored = json.loads((folder / "benchmarks/results/calibration_comparison.json").read_text())
    page = (folder / "docs/statistics.md").read_text().splitlines()
    rows = [row for row in calibration_comparison.rows(stored) if row]
    assert len(rows) == 35 + 5 and set(rows) <= set(page)


def test_a_pair_selected_by_the_baseline_flatters_and_each_method_s_own_gap_does_not():
    """The pair of equal groups shrinks by the expected range of the baseline's three means over seeds."""
    result = calibration_comparison.selected_pair(3, 3, 600)
    expected = 1.6926 * 0.002 / np.sqrt(3)  # expected range of three standard normal values
    assert result["change of pair"] == pytest.approx(-expected, rel=0.08)
    assert abs(result["change of gap"]) < 2e-4
    assert result["any, gap"] < 0.06


def test_a_study_with_own_errors_is_the_paired_t_test():
    """One method of six at the first step of Holm's correction, by the noncentral t."""
    result = calibration_comparison.study("one method repairs all", 3, 400, own_error=True)
    noncentral, critical = 0.017 / (0.004 / np.sqrt(3)), stats.t.ppf(1 - 0.05 / 6 / 2, 2)
    assert result["first"] == pytest.approx(stats.nct.sf(critical, 2, noncentral), abs=0.08)
