import numpy as np
import pandas as pd
import pytest

from benchmarks import finetune


def run(folder, scores):
    """A run directory with the test cases' Dice, one case a patient."""
    folder.mkdir()
    patients = [f"p{k:02}" for k in range(len(scores))]
    pd.DataFrame({"patient_id": patients, "split": "test", "dice": scores}).to_parquet(
        folder / "cases.parquet"
    )
    return folder


def test_a_patient_without_a_score_in_one_run_counts_in_no_arm(tmp_path):
    scratch = np.linspace(0.5, 0.9, 30)
    tuned = scratch + np.linspace(0.0, 0.1, 30)
    tuned[29] = np.nan
    runs = {"from scratch": [run(tmp_path / "a", scratch)], "fine-tuned": [run(tmp_path / "b", tuned)]}
    result = finetune.compared(runs)
    assert result["from scratch"]["dice"] == pytest.approx(scratch[:29].mean())
    assert result["fine-tuned"]["dice"] == pytest.approx(tuned[:29].mean())
    change = result["fine-tuned"]["dice"] - result["from scratch"]["dice"]
    assert result["difference"]["dice"] == pytest.approx(change)
    assert result["difference"]["seeds"] == pytest.approx([change])
    low, high = result["from scratch"]["interval"]
    assert low < result["from scratch"]["dice"] < high
