import json

import numpy as np
import pandas as pd
import pytest

from kneefair_jax.audit import equivalence_margin, files
from kneefair_jax.audit.__main__ import main
from kneefair_jax.audit.arguments import parser
from kneefair_jax.data import label_map
from kneefair_jax.errors import InputError
from tests.audit import folder


@pytest.fixture
def command(tmp_path):
    root = folder.write(tmp_path)
    return [
        *("--truth", f"{root}/truth", "--pred", f"{root}/pred", "--metadata", f"{root}/metadata.csv"),
        *("--attributes", "sex", "--labels", "femur=1", "tibia=2", "--out", f"{root}/out"),
        *("--draws", "40", "--min-group-patients", "2"),
    ]


def test_one_command_leaves_page_and_numbers_and_no_path(command, tmp_path, capsys):
    (tmp_path / "pred" / "stray.png").write_bytes((tmp_path / "pred" / "c0.png").read_bytes())
    endpoints = ("--failure-dice", "0.8", "--endpoint", "dice>=0.6", "--endpoint", "nsd>=0.5")
    assert main([*command, "--equivalence-margin", "dice=0.01", *endpoints]) == 0
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["run"]["delta"] == {"dice": 0.01}
    assert report["run"]["failure_dice"] == 0.8 and report["run"]["endpoints"] == ["dice>=0.6", "nsd>=0.5"]
    assert set(report["rates"]["endpoints"]) == {"failure", "absent", "dice>=0.6", "nsd>=0.5"}
    scored = pd.read_csv(tmp_path / "out" / "cases.csv")
    failed = scored[scored["dice"] < 0.8]["patient_id"].nunique()
    assert report["rates"]["endpoints"]["failure"]["count"] == failed > 0
    assert report["run"]["model"] == "pred"
    assert report["run"]["command"].startswith("kneefair audit --truth truth --pred pred")
    women = report["scores"]["dice"]["groups"]["sex=female"]["mean"]
    assert f"sex female         6  {women:.3f}  [" in said
    assert "gap by sex: 0.0" in said
    assert "sex: " in said.splitlines()[-1] and "±0.010" in said.splitlines()[-1]
    reason = report["scores"]["dice"]["summaries"]["sex"]["equivalence"]["reason"].replace("sex=", "")
    assert reason and said.splitlines()[-1].endswith(f"({reason})")
    assert (
        "note: Excluded, since no case with a reference mask matches them: 1 x prediction by pred (stray"
        in said
    )
    assert str(tmp_path / "out" / "index.html") in said
    written = [tmp_path / "out" / name for name in ("index.html", "report.json", "cases.csv")]
    assert not any(str(tmp_path) in path.read_text() for path in written)


def test_no_output_has_the_names_of_parent_folders(tmp_path, capsys):
    root = folder.write(tmp_path / "Smith, Jo (x)" / "st=udy")
    folder.save(folder.truth_of(1), root / "truth" / "c0.png")  # so that there is a table of faults
    (root / "truth" / "c2.png").rename(root / "elsewhere.png")
    (root / "truth" / "c2.png").symlink_to(root / "elsewhere.png")
    words = [
        *("--truth", f"{root}/truth", "--pred", f"model={root}/pred", "--metadata", f"{root}/metadata.csv"),
        *("--attributes", "sex", f"--out={root}/out, 1", "--draws", "40"),
    ]
    assert main(words) == 0
    assert str(root / "out, 1" / "mask_faults.csv") in capsys.readouterr().out.splitlines()[-1]
    written = [path.read_bytes() for path in (root / "out, 1").iterdir()]
    assert len(written) > 5 and not any(b"Smith" in content or b"st=udy" in content for content in written)


def test_the_primary_family_and_the_choice_of_pairs_reach_the_report(tmp_path, capsys):
    rows = folder.rows_of(
        dice=lambda i: str(0.9 - 0.02 * (i % 2) - 0.001 * i), iou=lambda i: str(0.8 - 0.001 * i)
    )
    folder.write_table(tmp_path / "scores.csv", rows)
    words = ["--scores", f"{tmp_path}/scores.csv", "--attributes", "sex", "race", "--draws", "40"]
    words += ["--min-group-patients", "2", "--out", f"{tmp_path}/out"]
    reports = []
    for more in ((), ("--primary", "iou:sex", "--no-intersections"), ("--primary", "iou:sex")):
        assert main([*words, *more, *(["--overwrite"] if reports else [])]) == 0
        reports.append(json.loads((tmp_path / "out" / "report.json").read_text()))
    said = capsys.readouterr().out
    assert main(words) == 2 and "--overwrite" in capsys.readouterr().err
    both, stated, crossed = reports
    assert (both["primary"]["score"], both["primary"]["attributes"]) == ("dice", ["sex", "race"])
    assert both["run"]["intersections"] and "sex,race" in both["scores"]["dice"]["summaries"]
    assert (stated["primary"]["score"], stated["primary"]["attributes"]) == ("iou", ["sex"])
    assert set(stated["scores"]["iou"]["summaries"]) == {"sex", "race"} and not stated["run"]["intersections"]
    # Four patients of race B are too few for a test of the gap, and are compared with all others.
    assert stated["scores"]["iou"]["summaries"]["race"]["test"] is None
    assert both["rates"]["small_groups"]["dice"]["race"]["race=B"]["p"] > 0
    assert stated["primary"]["sha256"] == crossed["primary"]["sha256"] != both["primary"]["sha256"]
    assert said.count("gap by race:") == 3 and "sex x race" not in said


@pytest.mark.parametrize(
    ("primary", "message"),
    [
        ("length", "'length': write a score"),
        ("dice:age", "'age' is not an attribute of the report; give some of sex"),
        ("nsd", "nsd: no case has this score"),
    ],
)
def test_a_primary_family_that_cannot_be_is_refused(primary, message, tmp_path, capsys):
    folder.write_table(tmp_path / "scores.csv", folder.rows_of(dice=lambda i: str(0.9 - 0.001 * i)))
    words = ["--scores", f"{tmp_path}/scores.csv", "--attributes", "sex", "--out", f"{tmp_path}/out"]
    assert main([*words, "--primary", primary]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --primary") and message in error
    assert not (tmp_path / "out").exists()


def test_the_calibration_error_is_not_compared(command, capsys):
    assert main([*command, "--primary", "ece"]) == 2
    assert capsys.readouterr().err.startswith("error: --primary 'ece'")


def test_bad_input_is_one_sentence_and_leaves_nothing(command, tmp_path, capsys):
    (tmp_path / "pred" / "c3.png").unlink()
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --pred") and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("")
    assert main(command) == 2
    assert "is a file, or a link that does not lead to a folder; give a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--attributes", "sex"), "give --truth, --pred and --metadata to audit masks, --scores"),
        (("--attributes", "sex", "--scores", "a.csv", "--truth", "b"), "--scores and --truth"),
        (("--attributes", "sex", "--scores", "a.csv"), "a.csv: no such file"),
        (("--attributes", "sex", "--scores", "a.csv", "--delta", "dice"), "write score=margin"),
        (("--attributes", "sex", "--scores", "a.csv", "--bins", "age"), "write column=edges"),
        (("--attributes", "sex", "--scores", "a.csv", "--draws", "39"), "--draws: 39"),
        (("--attributes", "sex", "--scores", "a.csv", "--failure-dice", "half"), "--failure-dice 'half'"),
        (("--attributes", "sex", "--scores", "a.csv", "--failure-dice", "50"), "--failure-dice=50"),
        (("--attributes", "sex", "--scores", "a.csv", "--endpoint", "dice<=0.9"), "dice>=0.9"),
        (
            ("--attributes", "a", "--metadata", "b", "--truth", "c", "--pred", "d", "e/d"),
            "two models have the name 'd'",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(words, message, tmp_path, capsys):
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_help_names_every_option():
    text = parser().format_help()
    for option in (
        "--truth",
        "--pred",
        "--scores",
        "--labels",
        "--attributes",
        "--on-missing",
        "--readers",
        "--out",
    ):
        assert option in text


def test_labels_are_parsed_by_hand():
    assert label_map.parse(["whole femur=1,4", "tibia=2"]) == {
        "whole femur": (1, 4),
        "tibia": (2,),
        "background": (0,),
    }
    assert label_map.parse(["chest"]) == {"right lung": (1,), "left lung": (2,), "heart": (3,)}
    assert label_map.parse(["background=9", "a=255"]) == {"a": (255,), "background": (0, 9)}
    mask = np.array([[0, 9], [255, 0]])
    np.testing.assert_array_equal(
        label_map.to_labels(mask, label_map.parse(["background=9", "a=255"]), "m"), [[0, 0], [1, 0]]
    )
    assert label_map.parse(["chest", "ignore=255", "background=9"]) == {
        "right lung": (1,),
        "left lung": (2,),
        "heart": (3,),
        "background": (0, 9),
        "ignore": (255,),
    }
    labels = label_map.parse(["a=1", "ignore=255"])
    assert label_map.structure_names(labels) == ("a",)
    np.testing.assert_array_equal(label_map.to_labels(np.array([[1, 255]]), labels, "m"), [[1, 0]])
    np.testing.assert_array_equal(label_map.ignored(np.array([[1, 255]]), labels), [[False, True]])
    for words in (
        ["ignore=255"],
        ["a=1", "ignore=0"],
        ["a=1", "ignore=1"],
        ["femur"],
        ["femur=x"],
        ["femur=1_0"],
        ["femur=1.5"],
        ["femur=١"],  # noqa: RUF001
        ["=1"],
        ["femur=1", "femur=2"],
        ["a=1", "b=1"],
        ["a=0"],
        ["background=3"],
    ):
        with pytest.raises(InputError, match="--labels"):
            label_map.parse(words)


def test_more_structures_than_a_label_map_holds_are_refused():
    most = {f"s{i}": i for i in range(1, 256)}
    values = np.array([[0, 255]])
    np.testing.assert_array_equal(label_map.to_labels(values, label_map.check(most), "m"), [[0, 255]])
    with pytest.raises(InputError, match="names 256 structures, and an audit takes up to 255"):
        label_map.check(most | {"s256": 256})


def test_margins_are_parsed_by_hand():
    assert equivalence_margin.parse(["dice=0.01", "hd95_mm=2"]) == {"dice": 0.01, "hd95_mm": 2}
    for word in ("dice=-1", "dice=x", "length=1", "dice=nan"):
        with pytest.raises(InputError, match="write score=margin"):
            equivalence_margin.parse([word])


def test_files_are_matched_by_name_or_by_path(tmp_path):
    for name in ("a/left.png", "b/left.nii.gz", "c.NPY", ".hidden.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    result = files.find(tmp_path, ["a/left", "b/left", "c", "d"], "--truth")
    assert result.by_case == {
        "a/left": tmp_path / "a/left.png",
        "b/left": tmp_path / "b/left.nii.gz",
        "c": tmp_path / "c.NPY",
    }
    assert not result.unlisted
    assert len(files.find(tmp_path, ["c"], "--truth").unlisted) == 2
    with pytest.raises(InputError, match="case 'left' has 2 files"):
        files.find(tmp_path, ["left"], "--truth")


def test_files_with_other_names_are_named_where_no_case_has_a_file(command, tmp_path, capsys):
    for path in (tmp_path / "pred").iterdir():
        path.rename(path.with_name(f"{path.stem}_pred.png"))
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "c0_pred.png" in error and "rename it c0.png" in error
