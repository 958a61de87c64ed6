import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from kneefair_jax import groups
from kneefair_jax.fairness import group_intervals, two_part
from kneefair_jax.fairness import interactions as module


def cells(point, sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(m, 0.03, n) for m, n in zip(point, sizes, strict=True)]


def contrast_of(parts):
    groups = [two_part.scores(part, part < 0.5, 0.0, 1.0) for part in parts]
    return group_intervals.tested_contrast(groups, module.CONTRAST)


def test_a_large_sample_is_the_normal_s():
    parts = cells([0.93, 0.88, 0.9, 0.90], [80, 90, 100, 70])
    contrast, (low, high), p = contrast_of(parts)
    a, b, c, d = (part.mean() for part in parts)
    assert contrast == pytest.approx(a - b - c + d)
    error = np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts))
    assert p == pytest.approx(2 * stats.norm.sf(abs(contrast) / error), abs=0.001)
    # The test rejects, so the limit next to zero is its own; the other allows for unobserved failures.
    assert p < 0.001 and low == pytest.approx(contrast - stats.norm.ppf(0.975) * error, abs=0.001)
    assert high > contrast + 0.04


def test_gaps_of_one_attribute_alone_are_no_interaction():
    """Both main effects are large; p is uniform."""
    rejected = [contrast_of(cells([0.9, 0.8, 0.7, 0.6], [12] * 4, seed))[2] <= 0.05 for seed in range(400)]
    assert 0.025 < np.mean(rejected) < 0.08


def test_cells_without_spread_show_no_interaction():
    contrast, (low, high), p = contrast_of([np.full(9, 0.9)] * 4)
    assert (contrast, p) == (pytest.approx(0), 1.0) and low < 0 < high


def test_a_failure_decides_by_the_interval():
    parts = cells([0.9, 0.9, 0.9, 0.9], [40] * 4)
    parts[0][:6] = 0
    contrast, (_, high), p = contrast_of(parts)
    assert contrast == pytest.approx(-0.135, abs=0.03)
    assert (p <= 0.05) == (high < 0)


def table(races=2, patients=48):
    rng = np.random.default_rng(0)
    rows = [
        {
            "case_id": f"{p:02d}{side}",
            "patient_id": f"{p:02d}",
            "structure": structure,
            "sex": "fm"[p % 2],
            "race": "BWA"[p // 2 % races] if p else "",
            "dice": rng.uniform(0.8, 1),
            "hd95_mm": rng.uniform(1, 2),
        }
        for p in range(patients)
        for side in "LR"
        for structure in ("femur", "tibia")
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(**{name: groups.categorical(frame[name]) for name in ("sex", "race")})


def found(frame, minimum=5):
    return module.interactions(frame, ("femur", "tibia"), ("sex", "race"), min_group_patients=minimum)


def test_two_by_two():
    frame = table()
    result = found(frame)
    assert list(result) == ["sex,race"] and list(result["sex,race"]) == ["dice", "hd95_mm"]
    entry = result["sex,race"]["dice"]
    assert entry["cells"] == ["sex=f,race=B", "sex=f,race=W", "sex=m,race=B", "sex=m,race=W"]
    by_patient = frame.groupby("patient_id").agg({"dice": "mean", "sex": "first", "race": "first"})
    mean = by_patient.groupby(["sex", "race"], observed=True)["dice"].mean()
    expected = mean["f", "B"] - mean["f", "W"] - mean["m", "B"] + mean["m", "W"]
    assert entry["contrast"] == pytest.approx(expected)
    assert entry["interval"][0] < expected < entry["interval"][1] and 0 < entry["p"] <= 1


def test_p_is_corrected_over_pairs_of_attributes_score_by_score():
    frame = table()
    rng = np.random.default_rng(1)
    visit = dict(zip(frame["patient_id"].unique(), rng.permutation(["x", "y"] * 24), strict=True))
    frame = frame.assign(visit=groups.categorical(frame["patient_id"].map(visit)))
    result = module.interactions(frame, ("femur", "tibia"), ("sex", "race", "visit"), min_group_patients=3)
    assert len(result) == 3
    for score in ("dice", "hd95_mm"):
        p_values = [result[key][score]["p"] for key in result]
        expected = multipletests(p_values, method="holm")[1]
        assert [result[key][score]["p_holm"] for key in result] == pytest.approx(expected)
    assert found(frame)["sex,race"]["dice"]["p_holm"] == found(frame)["sex,race"]["dice"]["p"]


def test_other_tables_have_none():
    assert found(table(races=3)) == {} and found(table(), minimum=13) == {}
