import pytest

from benchmarks import calibration_pages


def test_cohorts_have_no_difference_but_where_they_say_so():
    null, race = (
        [calibration_pages.cohort(kind, seed).groupby("race")["dice"].mean() for seed in range(20)]
        for kind in ("normal", "race")
    )
    assert sum(one["White"] - one["Black"] for one in null) / 20 == pytest.approx(0, abs=0.003)
    assert sum(one["White"] - one["Black"] for one in race) / 20 == pytest.approx(0.03, abs=0.003)


def test_claims_of_one_page():
    claims = calibration_pages.claims("race", 0, draws=199)
    assert claims["any claim"] and claims["claims: gap in mean"] and claims["names a pair"]
    assert not claims["significant without a pair"]
