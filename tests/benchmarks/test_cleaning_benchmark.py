import numpy as np
import pandas as pd

from benchmarks import cleaning


def test_cases_that_gain_and_lose_are_counted():
    raw = pd.DataFrame({"femur": [0.9, 0.8, np.nan, 0.7]})
    cleaned = pd.DataFrame({"femur": [0.95, 0.79, np.nan, 0.7005]})
    entry = cleaning.compare(raw, cleaned)["femur"]
    assert (entry["better"], entry["worse"], entry["films"]) == (1, 1, 3)
    assert np.isclose(entry["largest gain"], 0.05) and np.isclose(entry["largest loss"], 0.01)
    assert np.isclose(entry["cleaned"] - entry["raw"], 0.0405 / 3)
