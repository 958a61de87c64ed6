import csv
import io
import json

import numpy as np
import pandas as pd
import pytest

from kneefair_jax.report import build, checklist, page
from kneefair_jax.report.checklist import OPEN


def value(lines, guideline, number):
    return next(one.value for one in lines if (one.guideline, one.number) == (guideline, number))


def test_facts_of_the_report_fill_items_and_the_rest_is_open(report):
    report["cohort"]["flow"] = {
        "listed": 40,
        "excluded": [{"reason": "unreadable file", "records": 4}],
        "cohort": {"cases": 36, "patients": 18},
        "splits": {"train": {"cases": 24, "patients": 12}, "test": {"cases": 12, "patients": 6}},
        "tested": {"cases": 12, "patients": 6},
        "not_scored": {"cases": 0, "patients": 0},
        "failed": 1,
        "without_failure": 5,
        "groups": {},
    }
    lines = checklist.items(page.plain(report))
    assert value(lines, "CLAIM 2024", "35") == "40 records listed; excluded: 4 records (unreadable file)"
    assert value(lines, "CLAIM 2024", "19") == "train 12 patients and test 6 patients"
    assert value(lines, "STARD-AI", "31") == "mean Dice 0.938 (95 % interval 0.931 to 0.944) over 66 patients"
    assert "sex 0.015 (95 % interval 0.002 to 0.027)" in value(lines, "FUTURE-AI", "Fairness 3")
    missing = value(lines, "TRIPOD+AI", "11")
    assert "age 4 patients" in missing and "4 records (unreadable file)" in missing
    for guideline, number in (("CLAIM 2024", "44"), ("CLAIM 2024", "33"), ("TRIPOD+AI", "17")):
        assert value(lines, guideline, number) == OPEN


def test_missing_structures_and_scores_are_missing_data():
    """Of 24 cases, fibula lacks every fourth, c1 the tibia's distance, and c2 and c14, patient p2, any score."""
    rows = pd.DataFrame(
        [
            {"case_id": f"c{i}", "patient_id": f"p{i % 12}", "sex": "fm"[i % 2], "structure": structure}
            for i in range(24)
            for structure in ("femur", "tibia", "fibula")
        ]
    ).astype({"sex": "category"})
    rows["dice"] = 0.9 + 0.001 * np.arange(72) / 72
    rows["hd95_mm"] = 1.0 + 0.01 * np.arange(72) / 72
    case, structure = rows["case_id"], rows["structure"]
    none = ((structure == "fibula") & (np.arange(72) // 3 % 4 == 0)) | case.isin(["c2", "c14"])
    rows.loc[none, ["dice", "hd95_mm"]] = np.nan
    rows.loc[(case == "c1") & (structure == "tibia"), "hd95_mm"] = np.nan
    report = build.build_report(
        rows.assign(model="", split="test", iou=np.nan, assd_mm=np.nan, nsd=np.nan, true_area_mm2=np.nan),
        rows.drop_duplicates("case_id")[["case_id", "patient_id", "sex"]],
        build.Analysis(["femur", "tibia", "fibula"], ["sex"], min_group_patients=2, draws=40),
        run={"config": None},
    )
    lines = checklist.items(page.plain(report))
    texts = {value(lines, *item) for item in (("CLAIM 2024", "12"), ("TRIPOD+AI", "11"), ("STARD-AI", "20"))}
    (text,) = texts
    for fact in (
        "femur 2 cases",
        "tibia 2 cases",
        "fibula 8 cases",
        "standardized",
        "HD95",
        "of tibia 1 case",
    ):
        assert fact in text
    assert (
        value(lines, "CLAIM 2024", "35")
        == "24 records listed; excluded: 2 records (no Dice of any structure)"
    )
    assert "2 cases of 1 patient" in text and "no attribute of a tested case is unknown" in text
    assert "excluded.csv" not in text


def test_a_run_states_its_network_and_synthetic_data_and_an_audit_its_readers(report):
    report["run"]["config"] = {
        "data": {"source": "phantom"},
        "model": {"name": "unet", "widths": [8, 16]},
    }
    report["run"]["grid"] = [64, 96]
    report["readers"] = {"dice": {"mean_difference": 0.012, "interval": [0.004, 0.02]}}
    lines = checklist.items(page.plain(report))
    model = value(lines, "CLAIM 2024", "22")
    assert "8 and 16" in model and "64 x 96" in model and "background, femur" in model
    assert "phantom" in value(lines, "CLAIM 2024", "7")
    assert "0.012 (95 % interval 0.004 to 0.020)" in value(lines, "CLAIM 2024", "18")
    report["run"]["config"] = None
    del report["readers"]
    lines = checklist.items(page.plain(report))
    assert {value(lines, "CLAIM 2024", number) for number in ("7", "18", "22")} == {OPEN}


def test_an_item_is_listed_once_and_open_items_point_nowhere(report):
    lines = checklist.items(page.plain(report))
    keys = [(one.guideline, one.number) for one in lines]
    assert len(set(keys)) == len(keys) and {one.guideline for one in lines} == set(checklist.SOURCES)
    assert all((one.value == OPEN) == (one.section == "") for one in lines)


def test_texts_from_files_are_escaped_guarded_and_without_paths(report):
    evil = "<script>alert(1)</script>"
    text = json.dumps(page.plain(report)).replace("female", evil)
    tainted = json.loads(text)
    tainted["run"]["versions"] = {"=1+1": "/home/somebody/secret/jax"}
    lines = checklist.items(tainted)
    html = page.checklist_page(lines)
    assert "<script>" not in html and "&lt;script&gt;" in html
    rows = list(csv.reader(io.StringIO(checklist.table(lines))))
    assert len(rows) == len(lines) + 1
    software = next(row[3] for row in rows if row[:2] == ["CLAIM 2024", "23"])
    assert software.startswith("'=1+1") and "somebody" not in software


def test_both_files_are_written_beside_the_page(tmp_path, report, cases, curves, examples):
    page.write(tmp_path, report, cases, curves, examples)
    html = (tmp_path / checklist.PAGE).read_text()
    assert f'<a href="{page.PAGE}">' in html and html.count("<h2>") == 4
    assert "PERSON" not in html
    assert f'<a href="{checklist.PAGE}">' in (tmp_path / page.PAGE).read_text()
    assert (tmp_path / checklist.TABLE).read_text().startswith("guideline,item,topic,value,where\n")


@pytest.mark.parametrize("split", [True, False])
def test_partitions_are_disjoint_only_where_there_are_some(report, split):
    report["cohort"]["flow"] = {"splits": {"test": {"cases": 2, "patients": 1}} if split else {}}
    report["cohort"]["flow"] |= {"listed": 2, "excluded": []}
    report["cohort"]["flow"] |= {
        "cohort": {"cases": 2, "patients": 1},
        "tested": {"cases": 2, "patients": 1},
        "failed": 0,
        "not_scored": {"cases": 0, "patients": 0},
    }
    lines = checklist.items(page.plain(report))
    assert (value(lines, "CLAIM 2024", "20") == OPEN) != split
