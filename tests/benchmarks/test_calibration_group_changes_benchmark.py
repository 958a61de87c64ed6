"""The benchmark's shares are those of its cohorts."""

from benchmarks import calibration_group_changes as benchmark


def test_the_interval_covers_skewed_changes():
    """The studentized bootstrap alone covers the mean in 92 % of the cohorts of exchangeable models."""
    scenario = benchmark.SCENARIOS["exchangeable models, skewed errors"]
    assert benchmark.coverage(scenario, 20, 300) >= 0.94


def test_changes_that_no_patient_shows_are_not_covered():
    """With six patients, none of whom changes in 0.9^6 = 53 % of the cohorts."""
    scenario = benchmark.SCENARIOS["one patient of ten changes by 0.2 to 0.6"]
    assert 0.4 <= benchmark.coverage(scenario, 6, 300) <= 0.6
