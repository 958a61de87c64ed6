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
from kneefair_jax.measurements import MEASUREMENTS, spacing
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
    rows = run_measurements.of_case(STRUCTURES, example, prediction, is_phantom=inspection is None)
    # Hosts exchange results as bytes.
    rows = np.ascontiguousarray(rows).reshape(1, -1).view(np.uint8).view(rows.dtype).reshape(1, -1)
    cohort = study.cohort(8)._replace(structures=STRUCTURES)
    return run_measurements.tabulate(rows, cohort, np.array([0])).set_index("measurement")


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


def test_nothing_is_measured_on_a_grid_that_may_be_stretched():
    class Cases(list):
        inspections = ()

    mask = label()
    stretched = np.repeat(mask, 2, axis=1)
    case = {"image": np.zeros((*stretched.shape, 1), np.uint8), "label": stretched}
    cases = Cases([case | {"spacing": np.array([PIXEL, PIXEL / 2])}, case | {"spacing": np.full(2, np.nan)}])
    rows = run_measurements.of_working_grid(
        STRUCTURES, cases, np.arange(2), np.stack([stretched] * 2), is_phantom=True
    )
    cohort = study.cohort(8)._replace(structures=STRUCTURES)
    table = run_measurements.tabulate(rows, cohort, np.arange(2))
    angles = table[table["measurement"] == "fta"]
    assert angles["reference"].iloc[0] == pytest.approx(6, abs=0.7)
    assert np.isnan(angles["reference"].iloc[1]) and "stretched" in angles["reference_reason"].iloc[1]
    assert table["reference_reason"].iloc[len(MEASUREMENTS) :].ne("").all()


def test_every_reason_fits_its_width():
    reasons = [spacing.UNKNOWN, run_measurements.RESIZED]
    reasons += [
        spacing.bone_spacing(np.full(2, 0.2), kind).refusal for kind in (*spacing.AT_DETECTOR, "other")
    ]
    assert max(map(len, reasons)) < run_measurements._WIDTH


def test_folds_are_measured_all_or_none(tmp_path):
    table = measured(label(), label()).reset_index()
    folds = [tmp_path / "0", tmp_path / "1"]
    for fold in folds:
        fold.mkdir()
    assert run_measurements.of_folds(folds, ()) == []
    run_measurements.write(folds[0], table)
    with pytest.raises(InputError, match="1"):
        run_measurements.of_folds(folds, ())
    run_measurements.write(folds[1], table)
    assert len(run_measurements.of_folds(folds, ())) == 2


def test_void_pixels_cut_both_masks():
    mask = label()
    mask[:, :100] = anatomy.VOID
    prediction = anatomy.clear_void(mask, label())
    table = measured(mask, prediction)
    assert table["reference_reason"]["bicondylar_width"] != ""
    assert np.isnan(table["error"]["bicondylar_width"])


def test_the_table_and_the_section(tmp_path):
    cohort = study.cohort(24)._replace(structures=STRUCTURES)
    cases = np.arange(24)
    wide = [label(medial=4.0 + 0.1 * k) for k in range(3)]
    rows = np.stack(
        [
            run_measurements.of_case(
                STRUCTURES,
                Example(np.zeros((*wide[k % 3].shape, 1), np.uint8), wide[k % 3], np.full(2, PIXEL)),
                wide[(k + 1) % 3],
                is_phantom=True,
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
    assert not (tmp_path / "report/measurements.csv").exists()  # nor the tables of the report
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
