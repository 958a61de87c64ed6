"""Notes on missing scores, of a table whose gaps are known."""

import numpy as np
import pandas as pd

from kneefair_jax.audit import score_table

TABLE = pd.DataFrame(
    {
        "case_id": ["a", "a", "b", "b"],
        "structure": ["femur", "tibia"] * 2,
        "dice": [0.9, 0.8, np.nan, np.nan],
        "iou": [0.8, 0.7, np.nan, np.nan],
        "nsd": np.nan,
        "hd95_mm": [1.0, np.nan, np.nan, np.nan],
        "assd_mm": np.nan,
    }
)


def test_a_case_without_scores_and_a_row_without_a_distance():
    empty, distance = score_table.notes_on_missing_scores(TABLE, "m")
    assert "2 rows by m" in empty and "1 case" in empty and "(b)" in empty
    assert "1 row by m" in distance and "hd95_mm" in distance and "case a, tibia" in distance


def test_a_structure_that_one_case_lacks_is_no_case_without_scores():
    (note,) = score_table.notes_on_missing_scores(
        TABLE.assign(dice=[0.9, 0.8, 0.7, np.nan], hd95_mm=[1.0, 1.0, 1.0, np.nan]), ""
    )
    assert "1 row" in note and "all of" not in note


def test_a_full_table_has_no_notes():
    assert score_table.notes_on_missing_scores(TABLE.assign(dice=0.9, hd95_mm=1.0), "") == []
