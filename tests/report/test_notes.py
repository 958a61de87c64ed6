"""What is odd about masks is counted by hand."""

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.report import notes


def test_what_a_reader_must_know_first():
    cases = pd.DataFrame({"case_id": list("abcd"), "sex": groups.categorical(pd.Series(list("ffmm")))})
    observations = notes.observations(
        cases,
        ["sex"],
        true_pixels=np.array([9, 0, 9, 9]),
        pred_pixels=np.array([9, 0, 0, 0]),
        spacing=np.array([[1, 1], [1, 1.2], [np.nan, 1], [1, 1]]),
    )
    assert observations == [
        "the reference mask is empty in 1 of 4 cases (such as b)",
        "the spacing is unknown in 1 of 4 cases (such as c), so these have no distances, NSD or areas",
        "a pixel is larger than the tolerance of NSD, 1 mm, in 1 of 4 cases (such as b): there, an error of one pixel "
        "is a miss",
        "the prediction is empty in 2 of 4 cases (such as c), and scores 0 there (sex: f 0, m 2)",
    ]
    assert notes.sentences(["one two.", "one two", "a.csv has", "is it?"]) == [
        "One two.",
        "a.csv has.",
        "Is it?",
    ]
