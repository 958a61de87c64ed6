"""Measurements of a run's test knees: values, kinds of spacing, the table, the section, and a whole run."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict

from kneefair_jax import anatomy
from kneefair_jax.data.inspection import Inspection
from kneefair_jax.data.source import Example
from kneefair_jax.errors import InputError
from kneefair_jax.evaluation import run_measurements
from kneefair_jax.measurements import MEASUREMENTS, comparison
from kneefair_jax.training import config_checks
from tests.launched import run_in_process
from tests.measurements.knees import knee
from tests.training import study

STRUCTURES = ("femur", "tibia", "fibula", "patella")
PIXEL = 0.5


def label(**shape):
    bones = knee(pixel=PIXEL, **shape)
    mask = np.zeros(bones["femur"].shape, np.uint8)
    for name in ("fibula", "tibia", "femur", "patella"):
        mask[bones[name]] = STRUCTURES.index(name) + 1
    return mask


def measured(mask, prediction, mm=PIXEL, inspection=None):
    example = Example(np.zeros((*mask.shape, 1), np.uint8), mask, np.full(2, mm, np.float32), inspection)
    rows = run_measurements.of_case(STRUCTURES, example, prediction)
    return pd.DataFrame(rows, columns=list(comparison.COLUMNS)).set_index("measurement")


def test_errors_of_a_case():
    table = measured(label(medial=5.0), label(medial=4.0))
    assert table["error"]["jsw_min_medial"] == pytest.approx(-1.0, abs=0.2)
    assert table["error"]["bicondylar_width"] == pytest.approx(0.0, abs=0.1)
    assert set(table["spacing_kind"]) == {"drawn"}


@pytest.mark.parametrize(
    ("kind", "mm", "is_measured"),
    [
        ("table", PIXEL, True),
        ("detector", PIXEL, False),
        ("calibrated", PIXEL, False),  # every PixelSpacing has this kind here
        ("", PIXEL, False),
        ("unknown", np.nan, False),
    ],
)
def test_lengths_need_the_spacing_of_the_bones(kind, mm, is_measured):
    table = measured(label(), label(), mm, Inspection(kind))
    assert (table["reference_reason"]["jsw_min_medial"] == "") is is_measured
    assert np.isfinite(table["reference"]["jsw_min_medial"]) == is_measured
    assert table["reference"]["fta"] == pytest.approx(6, abs=0.7)  # the patella widens the femur


def test_void_pixels_cut_both_masks():
    mask = label()
    mask[:, :100] = anatomy.VOID
    prediction = anatomy.clear_void(mask, label())
    table = measured(mask, prediction)
    assert table["reference_reason"]["bicondylar_width"] != ""
    assert np.isnan(table["error"]["bicondylar_width"])


def test_the_table_and_the_section(tmp_path):
    cohort = study.cohort(24)
    cases = np.arange(24)
    wide = [label(medial=4.0 + 0.1 * k) for k in range(3)]
    rows = np.stack(
        [
            run_measurements.of_case(
                STRUCTURES,
                Example(np.zeros((*wide[k % 3].shape, 1), np.uint8), wide[k % 3], np.full(2, PIXEL)),
                wide[(k + 1) % 3],
            )
            for k in cases
        ]
    )
    table = run_measurements.tabulate(rows, cohort, cases)
    assert len(table) == 24 * len(MEASUREMENTS)
    run_measurements.write(tmp_path, table)
    read = run_measurements.read(tmp_path, cohort.attributes)
    pd.testing.assert_frame_equal(read[list(table.columns)], table, check_dtype=False)
    report = {"cohort": {"attributes": list(cohort.attributes)}}
    config = ConfigDict({"report": {"min_group_patients": 2, "bootstrap_draws": 199}, "seed": 0})
    run_measurements.add(report, read, config, tmp_path / "report")
    errors = report["measurements"]["errors"]["jsw_min_medial"]
    assert errors["overall"]["cases"] == 24
    by_hand = table[table["measurement"] == "jsw_min_medial"]["error"].mean()
    assert errors["overall"]["bias"]["estimate"] == pytest.approx(by_hand)
    by_group = pd.read_csv(tmp_path / "report/measurement_errors.csv")
    assert set(by_group["measurement"]) == set(MEASUREMENTS)
    run_measurements.write(tmp_path, None)
    assert run_measurements.read(tmp_path, cohort.attributes) is None


def test_structures_that_are_no_knee_are_refused_before_training():
    config, cohort = study.config(steps=2), study.cohort()
    config.report.measurements = True
    with pytest.raises(InputError, match="report.measurements"):
        config_checks.validate(config, cohort)


@pytest.mark.slow
@pytest.mark.parametrize("resolution", ["native", "working"])
def test_a_run_measures_its_test_knees(tmp_path, resolution):
    arguments = ["launch.py", "--config=configs/smoke.py", f"--workdir={tmp_path / 'run'}"]
    arguments += ["--config.report.measurements=True", f"--config.report.resolution={resolution}"]
    result = run_in_process([sys.executable, *arguments])
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "run/report/report.json").read_text())
    test = pd.read_parquet(tmp_path / "run/cases.parquet").query("split == 'test'")["case_id"].nunique()
    table = pd.read_parquet(tmp_path / "run/measurements.parquet")
    assert table["case_id"].nunique() == test
    assert report["measurements"]["against"] == "masks"
    assert report["measurements"]["errors"]["bicondylar_width"]["overall"]["cases"] > 0
    assert (tmp_path / "run/report/measurement_errors.csv").exists()
    assert "Measurements by group" in (tmp_path / "run/report/index.html").read_text()
