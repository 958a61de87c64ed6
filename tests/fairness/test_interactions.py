import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from kneefair_jax import groups
from kneefair_jax.fairness import interactions as module
from kneefair_jax.fairness import two_part


def cells(point, sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(m, 0.03, n) for m, n in zip(point, sizes, strict=True)]


TWO_BY_TWO = [("f", "x"), ("f", "y"), ("m", "x"), ("m", "y")]


def johansen_test(parts, levels=TWO_BY_TWO):
    groups = [two_part.summarize(part, np.zeros(len(part), bool), 0.0, 1.0) for part in parts]
    return module.johansen(groups, module.additive_contrasts(levels))


def test_a_large_sample_is_the_normal_s():
    parts = cells([0.93, 0.88, 0.9, 0.90], [80, 90, 100, 70])
    test = johansen_test(parts)
    a, b, c, d = (part.mean() for part in parts)
    assert test.contrast == pytest.approx(a - b - c + d)
    error = np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts))
    assert test.error == pytest.approx(error) and test.freedom[0] == 1
    assert test.p == pytest.approx(2 * stats.norm.sf(abs(test.contrast) / error), abs=0.001)
    entry = module.Interaction([], coefficients=[1, -1, -1, 1], **test._asdict())
    for level in (0.05, 0.001):
        half = stats.norm.ppf(1 - level / 2) * error
        assert module.interval(entry, "dice", level) == pytest.approx(
            [test.contrast - half, test.contrast + half], abs=0.003
        )


def test_a_contrast_is_welch_s_t():
    """With half of the cells the same in both rows, the interaction is a difference of two means, as Welch tests it."""
    rng = np.random.default_rng(1)
    symmetric = [
        0.01 * np.array([-2.0, -1, -1, 0, 1, 1, 2]) + 0.9,
        0.05 * np.array([-1.0, -1, 0, 1, 1]) + 0.88,
    ]
    flat = [np.full(9, 0.9) + 1e-12 * rng.normal(size=9)] * 2
    test = johansen_test([symmetric[0], symmetric[1], *flat])
    welch = stats.ttest_ind(*symmetric, equal_var=False)
    assert test.freedom[1] == pytest.approx(welch.df, rel=1e-4)
    assert test.p == pytest.approx(welch.pvalue, rel=1e-3)


def test_several_contrasts_by_hand():
    """Johansen's statistic of a 2 x 3 table, written out with matrices."""
    levels = [(a, b) for a in "fm" for b in "xyz"]
    parts = cells([0.9, 0.85, 0.8, 0.88, 0.86, 0.75], [8, 12, 9, 15, 7, 10])
    test = johansen_test(parts, levels)
    mean = np.array([part.mean() for part in parts])
    variance = np.diag([part.var(ddof=1) / len(part) for part in parts])
    c = np.array([[1, -1, 0, -1, 1, 0], [0, 1, -1, 0, -1, 1.0]])
    inverse = np.linalg.inv(c @ variance @ c.T)
    p = variance @ c.T @ inverse @ c
    lack = sum(
        (np.trace(p @ q @ p @ q) + np.trace(p @ q) ** 2) / (len(part) - 1) / 2
        for part, q in zip(parts, [np.diag(row) for row in np.eye(6)], strict=True)
    )
    statistic = (c @ mean) @ inverse @ (c @ mean) / (2 + 2 * lack - 6 * lack / 4)
    assert test.statistic == pytest.approx(statistic)
    assert test.freedom == pytest.approx((2, 8 / (3 * lack)))
    assert test.p == pytest.approx(stats.f.sf(statistic, 2, 8 / (3 * lack)))
    assert test.contrast is None and module.interval(module.Interaction([], **test._asdict()), "dice") is None


def test_contrasts_are_what_an_additive_model_cannot_be():
    assert module.additive_contrasts(TWO_BY_TWO) == pytest.approx(np.array([[1, -1, -1, 1.0]]))
    rows = [(a, b) for a in "abc" for b in "xyz"]
    contrasts = module.additive_contrasts(rows)
    assert contrasts.shape == (4, 9)
    additive = [{"a": 0.1, "b": 0.3, "c": 0.2}[a] + {"x": 1, "y": 4, "z": 2}[b] for a, b in rows]
    assert contrasts @ additive == pytest.approx(np.zeros(4))
    # Without one cell of 2 x 3 a single contrast is left, of the four cells of complete columns.
    assert module.additive_contrasts([(a, b) for a in "fm" for b in "xyz"][:5]) == pytest.approx(
        np.array([[1, -1, 0, -1, 1.0]])
    )
    assert len(module.additive_contrasts(TWO_BY_TWO[:3])) == 0


@pytest.mark.parametrize("levels", [TWO_BY_TWO, [(a, b) for a in "fm" for b in "xyz"]])
def test_gaps_of_one_attribute_alone_are_no_interaction(levels):
    """Both main effects are large; p is uniform."""
    point = [0.9 - 0.1 * "fm".index(a) - 0.05 * "xyz".index(b) for a, b in levels]
    rejected = [
        johansen_test(cells(point, [12] * len(levels), seed), levels).p <= 0.05 for seed in range(400)
    ]
    assert 0.025 < np.mean(rejected) < 0.08


def test_cells_without_spread_show_no_interaction():
    test = johansen_test([np.full(9, 0.9)] * 4)
    assert (test.contrast, test.p) == (pytest.approx(0), 1.0)


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


def interactions_of(frame, minimum=5):
    return module.interactions(frame, ("femur", "tibia"), ("sex", "race"), min_group_patients=minimum)


def test_two_by_two():
    frame = table()
    result = interactions_of(frame)
    assert list(result) == ["sex,race"] and list(result["sex,race"]) == ["dice", "hd95_mm"]
    entry = result["sex,race"]["dice"]
    assert entry.cells == ["sex=f,race=B", "sex=f,race=W", "sex=m,race=B", "sex=m,race=W"]
    by_patient = frame.groupby("patient_id").agg({"dice": "mean", "sex": "first", "race": "first"})
    mean = by_patient.groupby(["sex", "race"], observed=True)["dice"].mean()
    expected = mean["f", "B"] - mean["f", "W"] - mean["m", "B"] + mean["m", "W"]
    assert entry.contrast == pytest.approx(expected)
    assert entry.interval[0] < expected < entry.interval[1] and 0 < entry.p <= 1


def test_p_is_corrected_over_pairs_of_attributes_score_by_score():
    frame = table()
    rng = np.random.default_rng(1)
    visit = dict(zip(frame["patient_id"].unique(), rng.permutation(["x", "y"] * 24), strict=True))
    frame = frame.assign(visit=groups.categorical(frame["patient_id"].map(visit)))
    result = module.interactions(frame, ("femur", "tibia"), ("sex", "race", "visit"), min_group_patients=3)
    assert len(result) == 3
    for score in ("dice", "hd95_mm"):
        p_values = [result[key][score].p for key in result]
        expected = multipletests(p_values, method="holm")[1]
        assert [result[key][score].p_holm for key in result] == pytest.approx(expected)
    assert interactions_of(frame)["sex,race"]["dice"].p_holm == interactions_of(frame)["sex,race"]["dice"].p


def test_more_than_two_levels_are_tested_together():
    entry = interactions_of(table(races=3, patients=60))["sex,race"]["dice"]
    assert entry.freedom[0] == 2 and len(entry.cells) == 6
    assert entry.contrast is entry.interval is None and 0 < entry.p <= 1


def test_failed_segmentations_take_no_part():
    frame = table()
    before = interactions_of(frame)["sex,race"]["dice"]
    again = frame[frame["case_id"] == "05L"].assign(case_id="99L", patient_id="99", dice=0.0)
    after = interactions_of(pd.concat([frame, again], ignore_index=True))["sex,race"]["dice"]
    assert after.contrast == pytest.approx(before.contrast) and after.p == pytest.approx(before.p)


def test_cells_of_few_survivors_are_a_reason():
    frame = table()
    cell = frame[(frame["sex"] == "m") & (frame["race"] == "W")]["patient_id"].unique()
    frame.loc[frame["patient_id"].isin(cell[4:]), "dice"] = 0.1
    entry = interactions_of(frame)["sex,race"]["dice"]
    assert entry.reason and entry.p is entry.p_holm is entry.contrast is entry.interval is None
    assert interactions_of(table())["sex,race"]["dice"].reason is None


def test_too_few_ranked_cells_have_none():
    assert interactions_of(table(), minimum=13) == {}
