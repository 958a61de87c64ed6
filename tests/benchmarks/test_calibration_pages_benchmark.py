import pytest

from benchmarks import calibration_pages


@pytest.mark.slow
def test_cohorts_have_no_difference_but_where_they_say_so():
    null, race = (
        [calibration_pages.cohort(kind, seed).groupby("race")["dice"].mean() for seed in range(20)]
        for kind in ("normal", "race")
    )
    assert sum(one["White"] - one["Black"] for one in null) / 20 == pytest.approx(0, abs=0.003)
    assert sum(one["White"] - one["Black"] for one in race) / 20 == pytest.approx(0.03, abs=0.003)


@pytest.mark.slow
def test_claims_of_one_page():
    claims = calibration_pages.claims("race", 0, draws=199)
    # Race differs truly, so that its gap is no false claim; nothing else is claimed.
    assert not any(claims.values())
    null = calibration_pages.claims("failures", 0, draws=199)
    assert set(null) == set(claims) and not null["test and interval disagree"]


def test_a_p_value_that_its_interval_contradicts_is_a_disagreement():
    summary = {
        "test": {"p_holm": 0.01},
        "gap_without_failures": {"interval_adjusted": [0.0, 0.1]},
        "pairs": [
            {"first": "a", "second": "b", "p_holm": 0.01, "interval_adjusted": [-0.1, -0.01]},
            {"first": "a", "second": "c", "p_holm": 0.2, "interval_adjusted": [-0.1, -0.01]},
        ],
    }
    differences = [
        {"p_adjusted": 0.2, "interval_adjusted": (-0.1, 0.2)},
        {"p_adjusted": None, "interval_adjusted": None},
    ]
    failure = {"comparisons": {"sex": {"pairs": [{"difference": d} for d in differences], "unranked": {}}}}
    report = {
        "scores": {"dice": {"summaries": {"sex": summary}}},
        "rates": {"endpoints": {"failure": failure}},
        "interactions": {"sex,race": {"dice": {"p_holm": 0.04, "interval_adjusted": None}}},
    }
    assert calibration_pages.disagreements(report) == ["gap by sex", "a - c"]
