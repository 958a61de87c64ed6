import numpy as np
import pandas as pd
import pytest

from kneefair_jax.preflight import outliers

STRUCTURES = ("femur", "tibia")


def test_a_case_by_hand():
    image = np.zeros((4, 6, 1), np.uint8)
    image[:2] = 10
    label = np.zeros((4, 6), np.uint8)
    label[:3, :2] = 1
    measured = outliers.of_case(image, label, np.array([0.5, 2.0], np.float32), STRUCTURES)
    assert measured == pytest.approx(
        {
            "height of the picture, mm": 2.0,
            "width of the picture, mm": 12.0,
            "mean grey value": 6.0,
            "contrast (SD of grey values)": 6.0,
            "area of femur, mm2": 6.0,
            "area of tibia, mm2": 0.0,
        }
    )
    unknown = outliers.of_case(image, label, np.array([np.nan, np.nan], np.float32), STRUCTURES)
    assert unknown["area of femur, %"] == pytest.approx(25.0)
    assert np.isnan(unknown["height of the picture, mm"])


def table(**columns):
    rows = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=pd.Index([f"c{k}" for k in range(rows)], name="case_id"))


def test_outliers_by_hand():
    width = [140.0] * 9 + [176.0, 174.0, 70.0]  # alike: a change by more than 25 % counts
    found = outliers.outliers(table(width=width))
    assert [(outlier.case_id, outlier.value) for outlier in found] == [("c11", 70.0), ("c9", 176.0)]
    assert found[0].median == pytest.approx(140.0) and found[0].measure == "width"


def test_a_spread_of_its_own_sets_the_limit():
    rng = np.random.default_rng(0)
    area = np.exp(rng.normal(8, 0.2, 2000))
    assert outliers.outliers(table(area=area)) == []  # 5 of 0.2: farther than any of 2,000 normal draws
    area[[3, 9]] = np.exp([8 + 1.3, 8 - 1.1])
    assert [outlier.case_id for outlier in outliers.outliers(table(area=area))] == ["c3", "c9"]


def test_zeros_and_unknown_values_are_not_compared():
    assert outliers.outliers(table(area=[0.0, np.nan, 5.0, 5.0, 5.1])) == []
    assert outliers.outliers(table(area=[np.nan, np.nan])) == []


def test_absent_structures_are_named_whatever_the_unit():
    columns = {
        "area of right femur, mm2": [3.0, 0.0, np.nan],
        "area of right femur, %": [np.nan, np.nan, 0.0],
        "area of tibia, mm2": [1.0, 1.0, np.nan],
        "area of tibia, %": [np.nan, np.nan, 1.0],
    }
    assert outliers.absent(table(**columns)) == {"right femur": ["c1", "c2"]}
