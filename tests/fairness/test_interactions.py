import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from kneefair_jax import groups
from kneefair_jax.fairness import interactions as module
from kneefair_jax.fairness.patient_bootstrap import means, resample, squared_errors
from kneefair_jax.fairness.simultaneous_intervals import Means


def cells(point, sizes, draws=4000, seed=0):
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(m, 0.03, n) for m, n in zip(point, sizes, strict=True)])[None]
    drawn, squared = resample(scores, np.array(sizes), rng, draws)
    return scores[0], Means(
        means(scores, np.array(sizes)), squared_errors(scores, np.array(sizes)), drawn, squared
    )


def test_a_large_sample_is_the_normal_s():
    sizes = [80, 90, 100, 70]
    scores, drawn = cells([0.9, 0.88, 0.9, 0.90], sizes)
    found = module.contrast(drawn)
    parts = np.split(scores, np.cumsum(sizes)[:-1])
    a, b, c, d = (part.mean() for part in parts)
    assert found["contrast"] == pytest.approx(a - b - c + d)
    error = np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts))
    half = stats.norm.ppf(0.975) * error
    assert found["interval"] == pytest.approx([found["contrast"] - half, found["contrast"] + half], abs=0.001)
    assert found["p"] == pytest.approx(2 * stats.norm.sf(abs(found["contrast"]) / error), abs=0.02)
    low, high = found["interval"]
    assert (found["p"] <= 0.05) == (low > 0 or high < 0)


def test_gaps_of_one_attribute_alone_are_no_interaction():
    """Both main effects are large; p is uniform."""
    rejected = [
        module.contrast(cells([0.9, 0.8, 0.7, 0.6], [12] * 4, 299, seed)[1])["p"] <= 0.05
        for seed in range(120)
    ]
    assert 0.005 < np.mean(rejected) < 0.1


def test_cells_without_spread_have_no_p():
    still = Means(*(np.full(shape, 0.0) for shape in ((1, 4), (1, 4), (9, 1, 4), (9, 1, 4))))
    assert module.contrast(still) == {"contrast": 0.0, "interval": [0.0, 0.0], "p": None}


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
    return module.interactions(
        frame, ("femur", "tibia"), ("sex", "race"), min_group_patients=minimum, draws=99, seed=0
    )


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
    result = module.interactions(
        frame, ("femur", "tibia"), ("sex", "race", "visit"), min_group_patients=3, draws=99, seed=0
    )
    assert len(result) == 3
    for score in ("dice", "hd95_mm"):
        p_values = [result[key][score]["p"] for key in result]
        expected = multipletests(p_values, method="holm")[1]
        assert [result[key][score]["p_holm"] for key in result] == pytest.approx(expected)
    assert found(frame)["sex,race"]["dice"]["p_holm"] == found(frame)["sex,race"]["dice"]["p"]


def test_other_tables_have_none():
    assert found(table(races=3)) == {} and found(table(), minimum=13) == {}
