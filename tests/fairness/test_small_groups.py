import numpy as np
import pandas as pd
import pytest

from kneefair_jax import groups
from kneefair_jax.fairness import patient_table, small_groups


def results(levels, dice, minimum=10, draws=999, failure=0.0, **columns):
    cases = pd.DataFrame(
        {
            "case_id": [f"c{i:03d}" for i in range(len(dice))],
            "patient_id": [f"p{i:03d}" for i in range(len(dice))],
            "structure": "femur",
            "race": groups.categorical(pd.Series(levels)),
            "dice": dice,
            **columns,
        }
    )
    table = patient_table.table(cases, ("femur",))
    failed = patient_table.failures(cases, table, failure)
    return small_groups.tests(table, failed, groups.partitions(table.rows, ["race"]), minimum, draws, 0)


def test_nine_patients_far_below_the_rest_are_flagged():
    draw = np.random.default_rng(0)
    dice = np.concatenate([draw.normal(0.55, 0.05, 9), draw.normal(0.95, 0.02, 60)])
    result = results(["C"] * 9 + ["A"] * 40 + ["B"] * 20, dice)["dice"]["race"]
    assert list(result) == ["race=C"]
    test_result = result["race=C"]
    assert test_result.estimate == pytest.approx(dice[:9].mean() - dice[9:].mean())
    assert test_result.p == test_result.p_adjusted == pytest.approx(1 / 1000) and test_result.n == 69


def test_a_single_patient_is_compared_with_every_other():
    dice = [0.2, *np.linspace(0.9, 0.99, 39)]
    result = results(["C"] + ["A"] * 39, dice)["dice"]["race"]["race=C"]
    assert result.p == pytest.approx(1 / 40)
    dice[0] = 0.945
    assert results(["C"] + ["A"] * 39, dice)["dice"]["race"]["race=C"].p > 0.9


def test_missing_is_no_group_and_no_comparison_and_scores_have_their_own_patients():
    dice = [0.9] * 12 + [0.1, 0.2] + [0.0] * 5 + [0.91] * 3
    levels = ["A"] * 12 + ["B"] * 2 + [""] * 5 + ["C"] * 3
    hd95 = np.where(np.array(levels) == "C", np.nan, np.linspace(1, 2, 22))
    result = results(levels, np.array(dice) + np.linspace(0, 0.01, 22), hd95_mm=hd95)
    assert list(result["dice"]["race"]) == ["race=B", "race=C"] and list(result["hd95_mm"]["race"]) == [
        "race=B"
    ]
    assert result["dice"]["race"]["race=B"].n == 17 and result["hd95_mm"]["race"]["race=B"].n == 14
    p = {name: test_result.p for name, test_result in result["dice"]["race"].items()}
    smaller = min(p, key=p.get)
    assert result["dice"]["race"][smaller].p_adjusted == pytest.approx(min(1, 2 * p[smaller]))


def test_patients_with_a_failed_segmentation_are_left_out_and_make_no_group_small():
    draw = np.random.default_rng(1)
    dice = draw.normal(0.9, 0.02, 40)
    dice[[0, 1, 5]] = 0.1
    levels = ["C"] * 5 + ["A"] * 10 + ["B"] * 25
    result = results(levels, dice, failure=0.5)["dice"]["race"]
    assert list(result) == ["race=C"]  # A has ten patients, though one of them failed
    rest = dice[5:][dice[5:] > 0.5]
    assert result["race=C"].n == 3 + len(rest) == 37
    assert result["race=C"].estimate == pytest.approx(dice[2:5].mean() - rest.mean())


def test_nothing_is_tested_where_all_are_ranked_or_nobody_is_left():
    assert results(["A"] * 12 + ["B"] * 12, np.linspace(0.8, 0.9, 24)) == {"dice": {}}
    assert results(["A"] * 3, [0.8, 0.9, 0.7]) == {"dice": {}}
    assert results(["A"] * 3 + ["B"], [0.8, 0.9, 0.7, 0.6])["dice"]["race"].keys() == {"race=B"}
