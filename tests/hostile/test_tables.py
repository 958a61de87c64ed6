"""Tables as people have them, through the command lines: the numbers of the plain table, or a refusal by row."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kneefair_jax import audit
from kneefair_jax.audit.__main__ import main
from kneefair_jax.errors import InputError
from kneefair_jax.predict import __main__ as predict_cli
from kneefair_jax.runs import modes
from tests.hostile import tables
from tests.predict.networks import write

QUICK = ("--draws", "40", "--min-group-patients", "2")
AGES = ("--attributes", "sex", "age", "--bins", "age=60")


def run(path, *options, capsys, attributes=AGES):
    """Exit status, report or None, stdout and stderr of an audit of a score table."""
    out = path.parent / f"{path.name}_out"
    status = main(["--scores", str(path), *attributes, "--out", str(out), *QUICK, *options])
    text = capsys.readouterr()
    report = json.loads((out / "report.json").read_text()) if status == 0 else None
    assert out.exists() == (status == 0)
    return status, report, text.out, text.err


def report_of(path, attributes):
    """The report of an audit of a score table."""
    out = path.parent / "out"
    assert main(["--scores", str(path), *attributes, "--out", str(out), *QUICK]) == 0
    return json.loads((out / "report.json").read_text())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The report of the plain table."""
    return report_of(tables.scores(tmp_path_factory.mktemp("plain") / "plain.csv"), AGES)


@pytest.mark.parametrize("name", tables.DIALECTS)
def test_another_dialect_gives_the_same_numbers_and_a_note(name, plain, tmp_path, capsys):
    path = tables.scores(tmp_path / f"{name}.csv", **tables.DIALECTS[name])
    status, report, out, _ = run(path, capsys=capsys)
    assert status == 0
    assert report["scores"] == plain["scores"]
    assert report["scores"]["dice"]["overall"]["patients"] == tables.PATIENTS
    notes = [line for line in out.splitlines() if line.startswith("note:")]
    assert len(notes) == {"utf8_mark": 0, "semicolons_commas": 2, "tabs_commas": 2}.get(
        name, 2 if "commas" in name else 1
    )


@pytest.mark.parametrize("name", tables.REFUSED)
def test_a_table_that_cannot_be_read_is_refused_by_row(name, tmp_path, capsys):
    changes, expected = tables.REFUSED[name]
    path = tables.scores(tmp_path / f"{name}.csv", **changes)
    status, _, _, err = run(path, capsys=capsys)
    assert status == 2
    assert str(path) in err and "Traceback" not in err
    assert [word for word in expected if word not in err] == []
    assert len(err.splitlines()) <= 6


def test_similar_identifiers_pass_where_somebody_insists(tmp_path, capsys):
    path = tables.scores(tmp_path / "zeros.csv", patient=lambda i, k: f"{i:04d}" if k else str(i))
    status, report, _, _ = run(path, "--allow-similar-ids", capsys=capsys)
    assert status == 0 and report["scores"]["dice"]["overall"]["patients"] == 2 * tables.PATIENTS


def test_identifiers_with_lost_digits_are_always_refused(tmp_path, capsys):
    path = tables.scores(tmp_path / "lost.csv", **tables.REFUSED["id_scientific"][0])
    assert run(path, "--allow-similar-ids", capsys=capsys)[0] == 2


def test_identifiers_keep_their_zeros(tmp_path, capsys):
    ids = lambda i, k: f"{i:04d}"
    path = tables.scores(tmp_path / "zeros.csv", patient=ids)
    assert run(path, capsys=capsys)[0] == 0
    frame = pd.read_csv(path, dtype=str)
    frame.astype({"dice": float}).to_parquet(tmp_path / "zeros.parquet")
    assert run(tmp_path / "zeros.parquet", capsys=capsys)[0] == 0
    for name in ("zeros.csv", "zeros.parquet"):
        cases = pd.read_parquet(tmp_path / f"{name}_out" / "cases.parquet")
        assert set(cases["patient_id"]) == {f"{i:04d}" for i in range(tables.PATIENTS)}


def test_identifiers_that_a_parquet_has_as_floats_are_refused(tmp_path, capsys):
    frame = pd.read_csv(tables.scores(tmp_path / "a.csv"))
    frame.astype({"patient_id": float}).to_parquet(tmp_path / "a.parquet")
    status, _, _, err = run(tmp_path / "a.parquet", capsys=capsys)
    assert status == 2 and "row 2" in err and f"'{tables.IDS[0]}.0'" in err


def test_words_for_missing_are_missing_and_counted(tmp_path, capsys):
    status, report, out, _ = run(
        tables.words(tmp_path / "words.csv"), capsys=capsys, attributes=("--attributes", "sex")
    )
    assert status == 0
    groups = report["scores"]["dice"]["groups"]
    assert set(groups) == {"sex=F", "sex=M", "sex=missing"}
    assert groups["sex=missing"]["patients"] == 12
    (note,) = [line for line in out.splitlines() if "olumn sex" in line]
    # Of i = 0, 5, ..., 55: unknown is 30; - is 10, 45; ? is 25; . is 5, 40; n.a. is 20, 55, with two knees each.
    counts = {
        word: 2 * sum(tables.WORDS[i % 7] == word for i in range(0, 60, 5)) for word in tables.WORDS[2:]
    }
    assert all(f"{word!r} ({count})" in note for word, count in counts.items())
    assert f"{sum(counts.values())} cells" in note and "#N/A" not in note


@pytest.mark.parametrize("word", ["#N/A", "unknown", "-", "?"])
def test_words_in_the_place_of_a_score_are_counted(word, tmp_path, capsys):
    text = tables.scores(tmp_path / "a.csv").read_text().splitlines()
    text[3:5] = [line.rpartition(",")[0] + f",{word}" for line in text[3:5]]
    (tmp_path / "a.csv").write_text("\n".join(text))
    status, report, out, _ = run(tmp_path / "a.csv", capsys=capsys)
    assert status == 0 and report["scores"]["dice"]["overall"]["patients"] == 59
    assert any(f"2 rows have {word!r} for dice" in line for line in out.splitlines())


SEX = ("--attributes", "sex")


@pytest.fixture(scope="module")
def structures_alone(tmp_path_factory):
    """The report of a table that has nothing but structures."""
    path = tables.long(tmp_path_factory.mktemp("structures") / "plain.csv")
    return report_of(path, SEX)


@pytest.mark.parametrize("shape", [tables.long, tables.wide])
@pytest.mark.parametrize("name", tables.EXTRAS)
def test_what_is_no_structure_is_left_out_with_a_note(name, shape, structures_alone, tmp_path, capsys):
    status, report, out, _ = run(
        shape(tmp_path / "a.csv", tables.EXTRAS[name]), capsys=capsys, attributes=SEX
    )
    assert status == 0 and report["cohort"]["structures"] == ["femur", "tibia"]
    assert report["scores"] == structures_alone["scores"]
    notes = "\n".join(line for line in out.splitlines() if line.startswith("note:"))
    assert [extra for extra in tables.EXTRAS[name] if extra not in notes] == []


def test_one_structure_may_be_the_foreground(tmp_path, capsys):
    lines = [
        "case_id,sex,dice_foreground,dice_background",
        *(f"c{i},{'FM'[i % 2]},0.{i + 10},0.99" for i in range(24)),
    ]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    status, report, _, _ = run(tmp_path / "a.csv", capsys=capsys, attributes=("--attributes", "sex"))
    assert status == 0 and report["cohort"]["structures"] == ["foreground"]


def test_too_few_draws_give_no_interval(tmp_path, capsys):
    path = tables.scores(tmp_path / "plain.csv")
    arguments = ["--scores", str(path), "--attributes", "sex", "--out", str(tmp_path / "out")]
    for draws in ("1", "39"):
        assert main([*arguments, "--draws", draws]) == 2
        err = capsys.readouterr().err
        assert f"--draws: {draws}" in err and " 40 " in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--delta=dice=0_1", "--bins=age=6_0"])
def test_numbers_of_options_are_decimal(option, tmp_path, capsys):
    path = tables.scores(tmp_path / "plain.csv")
    flag, _, word = option.partition("=")
    status = main(
        ["--scores", str(path), "--attributes", "sex", "age", "--out", str(tmp_path / "o"), flag, word]
    )
    assert status == 2 and word in capsys.readouterr().err


def test_readers_of_the_same_cases_in_another_spelling_are_refused(tmp_path, capsys):
    """Cases that the table of readers spells otherwise would be skipped in silence."""
    path = tables.scores(tmp_path / "plain.csv")
    rows = [f"{'Cc'[i > 0]}{i:03d}R,{reader},0.9{reader == 'b':d}" for i in range(9) for reader in "ab"]
    (tmp_path / "readers.csv").write_text("\n".join(["case_id,reader,dice", *rows]))
    status, _, _, err = run(path, "--readers", str(tmp_path / "readers.csv"), capsys=capsys)
    assert status == 2 and "readers.csv row" in err and "'C000R'" in err and "'c000R'" in err
    (tmp_path / "readers.csv").write_text("\n".join(["case_id;reader;dice", *rows[2:]]).replace(",", ";"))
    status, report, _, _ = run(path, "--readers", str(tmp_path / "readers.csv"), capsys=capsys)
    assert status == 0 and report["run"]["delta"] == pytest.approx({"dice": 0.01})


def test_scores_and_metadata_that_spell_cases_differently_are_refused(tmp_path, capsys):
    scores = ["case_id,dice", *(f"{i},0.9{i % 10}" for i in range(24))]
    people = ["case_id,patient_id,sex", *(f"{i:03d},p{i},{'FM'[i % 2]}" for i in range(24))]
    (tmp_path / "scores.csv").write_text("\n".join(scores))
    (tmp_path / "people.csv").write_text("\n".join(people))
    for more in ((), ("--on-missing", "skip")):
        options = ("--metadata", str(tmp_path / "people.csv"), *more)
        status, _, _, err = run(
            tmp_path / "scores.csv", *options, capsys=capsys, attributes=("--attributes", "sex")
        )
        assert status == 2 and "24 cases (0, 1, 2, 3, 4, ...)" in err and "has '000'; write them alike" in err


def test_a_structure_in_two_spellings_is_refused(tmp_path, capsys):
    rows = [f"c{i},{'FM'[i % 2]},{('femur', 'Femur')[i // 2 % 2]},0.9" for i in range(24)]
    (tmp_path / "a.csv").write_text("\n".join(["case_id,sex,structure,dice", *rows]))
    status, _, _, err = run(tmp_path / "a.csv", capsys=capsys, attributes=("--attributes", "sex"))
    assert status == 2 and "row 4" in err and "'Femur'" in err


def test_a_metric_frame_has_the_groups_of_the_report(tmp_path):
    path = tables.groups_without_scores(tmp_path / "scores.csv")
    result = audit.table(path, ["sex"], settings=audit.Settings(min_group_patients=2, draws=40))
    block = result.report["scores"]["dice"]
    frame = result.metric_frame("sex")
    assert list(frame.by_group.index) == ["F", "M"]
    small = result.metric_frame("sex", include_small=True)
    assert np.isnan(small.by_group.loc["X", "dice"]) and block["groups"]["sex=X"]["mean"] is None
    for sex in ("F", "M"):
        assert frame.by_group.loc[sex, "dice"] == pytest.approx(block["groups"][f"sex={sex}"]["mean"])
    gap = block["summaries"]["sex"]["gap"]["value"]
    assert frame.difference()["dice"] == pytest.approx(gap) and gap > 0
    low, high = sorted(block["groups"][f"sex={sex}"]["mean"] for sex in "FM")
    assert frame.ratio()["dice"] == pytest.approx(low / high)
    assert [frame.group_min()["dice"], frame.group_max()["dice"]] == pytest.approx([low, high])
    everybody = result.metric_frame("sex", include_missing=True)
    assert everybody.by_group.loc["missing", "dice"] == pytest.approx(block["groups"]["sex=missing"]["mean"])
    assert everybody.overall["dice"] == pytest.approx(block["overall"]["mean"])


def config(root, **changes):
    spec = importlib.util.spec_from_file_location(
        "folder_config", Path(__file__).parents[2] / "configs/folder.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.get_config()
    made.data.root, made.data.attributes, made.data.size = str(root), ("sex",), (16, 16)
    made.data.structures = "femur,tibia"
    for name, value in changes.items():
        made.data[name] = value
    return made


FOLDERS = {
    "zeros": ({"patient_id": [f"{i // 2:04d}" if i % 2 else f"{i // 2}" for i in range(24)]}, "row 3"),
    "float": ({"patient_id": [f"{i // 2}" + ".0" * (i % 2) for i in range(24)]}, "row 3"),
    "zeros inside": ({"patient_id": [f"P{i // 2:0{1 + 2 * (i % 2)}d}" for i in range(24)]}, "row 3"),
    "two sides": ({"patient_id": ["pP"[i % 2] + f"{i // 2}" for i in range(24)]}, "row 3"),
    "levels": ({"sex": ["f"] * 12 + ["F"] * 2 + ["m"] * 10}, "row 14"),
    "spacing": ({"spacing_mm": ["0.3"] * 5 + ["0_3"] + ["0.3"] * 18}, "row 7"),
    "birth": ({"age": ["1960-01-02"] * 24}, "row 2"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_cohort_is_refused_before_work_starts(name, tmp_path):
    columns, row = FOLDERS[name]
    root = tables.folder(tmp_path / "films", **columns)
    with pytest.raises(InputError, match=rf"metadata\.csv.*{row}\b|metadata\.csv row.*\n.*{row}\b"):
        modes.check(config(root), tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_an_external_cohort_of_the_same_patients_is_refused(tmp_path):
    zeros = {name: [f"{i // 2:03d}" for i in range(24)] for name in ("patient_id",)}
    root = tables.folder(tmp_path / "main", **zeros)
    other = tables.folder(tmp_path / "other", patient_id=[str(i // 2) for i in range(24)])
    with pytest.raises(InputError, match=r"'0' and '000' of data\.root(.|\n)*allow_similar_ids"):
        modes.check(config(root, external=str(other)), tmp_path / "work")


def test_a_table_of_groups_is_refused_by_row(tmp_path, capsys):
    for seed, group in enumerate(("sex=f", "sex=m")):
        write(tmp_path / f"nets/{seed}.safetensors", group=group, seed=seed)
    tables.folder(tmp_path / "films")
    (tmp_path / "groups.csv").write_text("case_id;sex\nP7;f\nP007;m\n")
    arguments = [
        "--checkpoint",
        tmp_path / "nets",
        "--images",
        tmp_path / "films/images",
        "--out",
        tmp_path / "out",
    ]
    arguments += ["--metadata", tmp_path / "groups.csv"]
    assert predict_cli.main([str(word) for word in arguments]) == 2
    err = capsys.readouterr().err
    assert "row 3" in err and "'P7' (row 2)" in err and "--allow-similar-ids" in err
    assert not (tmp_path / "out").exists()
    rows = "".join(f"{i};{'fm'[i % 2]}\n" for i in range(24))
    (tmp_path / "groups.csv").write_text("case_id;sex\n" + rows)
    assert predict_cli.main([str(word) for word in arguments]) == 0
    assert "semicolons" in capsys.readouterr().out
