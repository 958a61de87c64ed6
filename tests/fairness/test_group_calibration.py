import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.fairness.group_calibration import Sums, calibration


def test_by_hand():
    """Three cases of two patients, two structures, two bins; the second structure is absent from the third case."""
    cases = pd.DataFrame({"patient_id": ["p", "p", "q"], "sex": groups.categorical(pd.Series(list("ffm")))})
    pixels = np.array([[[4, 0], [2, 2]], [[4, 4], [2, 6]], [[5, 0], [0, 0]]], np.float32)
    confidence = np.array([[[1, 0], [0.5, 1.5]], [[1, 3], [0.5, 5]], [[2, 0], [0, 0]]], np.float32)
    accuracy = np.array([[[2, 0], [0.5, 2]], [[1, 3], [0.5, 3]], [[1, 0], [0, 0]]], np.float32)
    made = calibration(Sums(pixels, confidence, accuracy), cases, ("sex",))
    # Case 1: 1 / 4 and .5 / 4; case 2: 0 and 2 / 8; case 3: 1 / 5.
    women = ((0.25 + 0.125) / 2 + (0 + 0.25) / 2) / 2
    np.testing.assert_allclose(
        [made["ece"][name] for name in ("sex=f", "sex=m", "all")], [women, 0.2, (women + 0.2) / 2], rtol=1e-6
    )
    assert made["curves"]["sex=f"] == {
        "confidence": [3 / 12, 9.5 / 12],
        "accuracy": [4 / 12, 8 / 12],
        "pixels": [12, 12],
    }
    assert made["curves"]["sex=m"] == {"confidence": [0.4, None], "accuracy": [0.2, None], "pixels": [5, 0]}
    assert made["curves"]["all"]["pixels"] == [17, 12]


def test_a_group_without_a_structure_is_undefined():
    cases = pd.DataFrame({"patient_id": ["p", "q"], "sex": groups.categorical(pd.Series(list("fm")))})
    zeros = np.zeros((2, 1, 3))
    made = calibration(Sums(zeros, zeros, zeros), cases, ("sex",))
    assert made["ece"] == {"all": None, "sex=f": None, "sex=m": None}
    assert made["curves"]["all"]["accuracy"] == [None] * 3
