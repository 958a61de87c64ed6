import json

import numpy as np
import orbax.checkpoint as ocp
import pandas as pd
import pytest

from benchmarks.result_differences import differences, equal, kind


@pytest.fixture
def results(tmp_path):
    """Two result folders with a checkpoint, a table, predictions and a report each, the same in both."""
    for name in ("before", "after"):
        out = tmp_path / name / "run"
        (out / "report").mkdir(parents=True)
        pd.DataFrame({"case_id": ["a", "b"], "dice": [0.5, np.nan]}).to_parquet(out / "cases.parquet")
        np.savez(out / "predictions.npz", a=np.arange(4, dtype=np.uint8))
        report = {"scores": {"dice": [0.5, None]}, "run": {"commit": name, "started": name}}
        (out / "report" / "report.json").write_text(json.dumps(report))
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(out / "checkpoints" / "7" / "state", {"params": {"w": np.ones(3, np.float32)}})
    return tmp_path / "before", tmp_path / "after"


def test_two_runs_of_one_commit_do_not_differ(results):
    compared, different = differences(*results)
    # Two columns, one prediction, one array, and two values of the report.
    assert (compared, different) == (2 + 1 + 1 + 2, {"values": []})


def test_every_kind_of_difference_is_named(results):
    before, after = results
    run = after / "run"
    pd.DataFrame({"case_id": ["a", "b"], "dice": [0.5, 0.0]}).to_parquet(run / "cases.parquet")
    np.savez(run / "predictions.npz", a=np.arange(4, dtype=np.uint8), b=np.zeros(1))
    (run / "report" / "report.json").write_text(
        json.dumps({"scores": {"dice": [0.25, None], "iou": None}, "run": {"commit": ""}})
    )
    with ocp.PyTreeCheckpointer() as checkpointer:
        one_bit = np.nextafter(np.ones(3, np.float32), 2, dtype=np.float32)
        checkpointer.save(run / "checkpoints" / "7" / "state", {"params": {"w": one_bit}}, force=True)
    assert sorted(differences(before, after)[1]["values"]) == [
        "run/cases.parquet/dice",
        "run/checkpoints/7/state['params']['w']",
        "run/predictions.npz['b']",
        "run/report/report.json['scores']['dice'][0]",
    ]


def test_renamed_and_added_config_fields_do_not_differ(results):
    before, after = results
    for folder, report in ((before, {"delta": 0.1}), (after, {"equivalence_margin": 0.1, "author": "x"})):
        (folder / "run" / "r.json").write_text(json.dumps({"run": {"config": {"report": report}}}))
    assert differences(before, after)[1] == {"values": []}


def test_rounding_and_sentences_are_kinds_of_their_own(results):
    before, after = results
    for folder, value, note in ((before, 0.1, "left out"), (after, 0.1 + 1e-15, "excluded")):
        table = pd.DataFrame({"p": [value], "note": [note]})
        table.to_csv(folder / "run" / "report" / "pairs.csv", index=False)
        (folder / "run" / "report" / "index.html").write_text(f"<p>{note}</p>")
    assert differences(before, after)[1] == {
        "values": [],
        "rounding": ["run/report/pairs.csv['p'][0]"],
        "text": ["run/report/index.html", "run/report/pairs.csv['note'][0]"],
    }


@pytest.mark.parametrize(
    ("name", "before", "after", "expected"),
    [
        ("r.json['worst']['group']", "f", "m", "values"),
        ("r.json['test']['name']", "Welch", "Fisher", "values"),
        ("r.json['value']", "left out", "excluded", "values"),
        ("r.json['notes'][0]", "4 cases were left out", "4 cases were excluded", "text"),
        ("r.json['notes'][0]", "4 cases were excluded", "5 cases were excluded", "values"),
        ("pairs.csv['id'][0]", "007", "7", "values"),
        ("pairs.csv['id'][0]", "10000000001", "10000000002", "values"),
        ("pairs.csv['patients'][0]", "7", "7.0", "values"),
        ("pairs.csv['p'][0]", "1e-07", "1.00000000000001e-07", "rounding"),
        ("pairs.csv['p'][0]", "0.1", "0.1001", "values"),
        ("pairs.csv['p'][0]", "0.1", "", "values"),
        ("pairs.csv['warnings'][0]", "few", "few patients", "text"),
        ("report/checklist.csv['value'][3]", "left out", "excluded", "text"),
        ("index.html", "<td>p = 0.01</td>", "<td>p = 0.02</td>", "values"),
        ("index.html", "<td>p &lt; 0.001</td>", "<td>p = 0.001</td>", "values"),
        ("index.html", "<p>Real. p = 0.01</p>", "<p>Significant. p = 0.02</p>", "values"),
        ("index.html", "<p>Real. p = 0.01</p>", "<p>Significant. p = 0.01</p>", "text"),
        ("index.html", '<path d="M 0.1 2"/>', '<path d="M 0.10000000000000001 2"/>', "rounding"),
        ("index.html", "<style>a {top: 1px}</style>", "<style>a {top: 2px}</style>", "text"),
        (
            "index.html",
            '<img src="data:image/png;base64,iV">',
            '<img src="data:image/png;base64,iW">',
            "values",
        ),
    ],
)
def test_only_words_of_sentences_are_text(name, before, after, expected):
    assert kind(name, before, after) == expected


def test_the_order_of_columns_counts(results):
    for folder, columns in zip(results, (["p", "id"], ["id", "p"]), strict=True):
        pd.DataFrame({"p": [0.5], "id": ["007"]})[columns].to_csv(folder / "run" / "pairs.csv", index=False)
    assert differences(*results)[1] == {"values": ["run/pairs.csv[columns]"]}


def test_a_column_that_later_commits_add_does_not_differ(results):
    before, after = results
    pd.DataFrame({"group": ["x"], "mean": [0.5]}).to_csv(before / "run/report/summaries.csv", index=False)
    summaries = pd.DataFrame({"group": ["x"], "patients": [3], "mean": [0.5]})
    summaries.to_csv(after / "run/report/summaries.csv", index=False)
    assert not any(differences(before, after)[1].values())
    summaries.assign(mean=0.6).to_csv(after / "run/report/summaries.csv", index=False)
    assert differences(before, after)[1]["values"] == ["run/report/summaries.csv['mean'][0]"]


def test_an_id_with_zeros_is_not_a_number(results):
    for folder, case_id in zip(results, ("007", "7"), strict=True):
        (folder / "run" / "pairs.csv").write_text(f"id\n{case_id}\n")
    assert differences(*results)[1] == {"values": ["run/pairs.csv['id'][0]"]}


def test_an_empty_file_differs_from_one_with_columns(results):
    for folder, text in zip(results, ("", "id\n"), strict=True):
        (folder / "run" / "pairs.csv").write_text(text)
    assert "run/pairs.csv[columns]" in differences(*results)[1]["values"]


def test_types_and_signs_count():
    assert equal(float("nan"), float("nan")) and equal(np.array([np.nan]), np.array([np.nan]))
    assert not equal(1, 1.0) and not equal(1, True) and not equal(0.0, -0.0)
    assert not equal(np.zeros(1, np.float32), np.zeros(1))
    assert not equal(np.array([0.0]), np.array([-0.0]))
    assert not equal(pd.Series([0.0]), pd.Series([-0.0]))
    assert equal(pd.Series([np.nan]), pd.Series([np.nan]))
    assert not equal(pd.Series([1], dtype="int32"), pd.Series([1], dtype="int64"))
