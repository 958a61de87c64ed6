import numpy as np
import pandas as pd
import pytest

from kneefair_jax.report import build
from kneefair_jax.report.figures import cohort_figures

EXCLUDED = (("unreadable file", 3), ("no prediction", 2))


@pytest.fixture
def report():
    """60 patients with two cases each, a third of them tested; two tested patients have a failed segmentation."""
    rng = np.random.default_rng(0)
    cases = pd.DataFrame({"case_id": [f"c{i:03d}" for i in range(120)]})
    cases["patient_id"] = [f"PERSON-{i // 2}" for i in range(120)]
    cases["sex"] = pd.Categorical(np.where(np.arange(120) // 2 % 2, "male", "female"))
    cases["race"] = pd.Categorical(np.where(np.arange(120) // 2 % 10, "A", "missing"))
    cases["split"] = np.repeat(["train", "validation", "test"], 40)
    table = cases[cases["split"] == "test"].assign(
        structure="femur", model="unet", dice=rng.normal(0.93, 0.01, 40), true_area_mm2=100.0
    )
    table.loc[table["case_id"].isin(["c081", "c090"]), "dice"] = 0.1
    return build.build_report(
        table,
        cases,
        build.Analysis(["femur"], ["sex", "race"], draws=40),
        run={"config": None},
        excluded=EXCLUDED,
    )


def test_counts_add_up(report):
    flow = report["cohort"]["flow"]
    assert flow["listed"] == 125 == flow["cohort"]["cases"] + sum(one["records"] for one in flow["excluded"])
    for key, total in flow["cohort"].items():
        assert sum(one[key] for one in flow["splits"].values()) == total
    assert flow["splits"]["test"] == flow["tested"] == {"cases": 40, "patients": 20}
    assert (flow["failed"], flow["without_failure"]) == (2, 18)
    assert flow["not_scored"] == {"cases": 0, "patients": 0}
    assert flow["groups"] == {"sex": {"groups": 2, "ranked": 2}, "race": {"groups": 1, "ranked": 1}}


def test_the_diagram_shows_every_count(report):
    figure = cohort_figures.flow(report["cohort"]["flow"], "flow")
    for text in (
        "125 records",
        "3 records: unreadable file",
        "120 cases of 60 patients",
        "train: 40 cases of 20 patients",
        "2 patients with a failed segmentation",
        "18 patients",
        "race: 1 of 1 group",
    ):
        assert text in figure.split('aria-label="')[1].split('"')[0]
        assert figure.count(text) >= 2  # in the words and in the picture
    assert "PERSON" not in figure
