"""Names that are formulas, HTML or escape sequences: no table, card or terminal line obeys them."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from configs import folder as folder_config
from kneefair_jax.audit import __main__ as audit
from kneefair_jax.data import source
from kneefair_jax.export import model_card
from kneefair_jax.predict import __main__ as predict
from kneefair_jax.runs import modes, study
from tests import launched
from tests.audit import folder as masks
from tests.export.test_model_card import CONFIG, ENVIRONMENT, REPORT
from tests.films import folder
from tests.predict.networks import write

FORMULA = "=HYPERLINK(1)"
ESCAPE = "\x1b[31mred\x07"
RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")


def cells(path):
    """All cells of a CSV file that are not numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            for cell in row:
                try:
                    float(cell)
                except ValueError:
                    yield cell


def assert_no_formula(folder):
    tables = list(folder.rglob("*.csv"))
    assert tables
    for path in tables:
        assert not [cell for cell in cells(path) if cell.startswith(RUN_BY_SPREADSHEETS)], path


def assert_shown(capsys, *expected):
    """What was printed holds no control character, and shows the escape sequence as text."""
    out, err = capsys.readouterr()
    assert not [c for c in out + err if ord(c) < 32 and c not in "\n\t"]
    for text in expected:
        assert text in out + err


def test_tables_of_an_audit_and_its_lines(tmp_path, capsys):
    names = {0: FORMULA, 1: ESCAPE, 2: "@SUM(1)"}
    masks.write(tmp_path, site=lambda i: names[i % 3])
    given = ["--truth", "truth", "--pred", "pred", "--metadata", "metadata.csv", "--out", "out"]
    given = [str(tmp_path / word) if i % 2 else word for i, word in enumerate(given)]
    assert audit.main([*given, "--attributes", "site", "--draws", "40"]) == 0
    assert_no_formula(tmp_path / "out")
    assert FORMULA in set(pd.read_parquet(tmp_path / "out/cases.parquet")["site"])
    assert_shown(capsys, r"\x1b[31mred\x07")


@pytest.mark.slow
def test_the_table_of_areas(tmp_path, capsys, monkeypatch):
    network = write(tmp_path / "w.safetensors", (FORMULA, "tibia"))
    monkeypatch.chdir(tmp_path)
    picture = Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30))
    (tmp_path / "films").mkdir()
    for name in ("=1+1.png", f"{ESCAPE}.png"):
        picture.save(tmp_path / "films" / name)
    given = ["--checkpoint", str(network), "--out", "out", "--no-overlays"]
    assert predict.main([*given, "--images", "films/=1+1.png", f"films/{ESCAPE}.png"]) == 0
    assert predict.main([*given, "--images", f"films/{ESCAPE}.dcm"]) == 2
    assert_no_formula(tmp_path / "out")
    assert f"'{FORMULA}" in set(pd.read_csv("out/areas.csv")["structure"])
    assert_shown(capsys, r"\x1b[31mred\x07")


def test_cases_that_are_left_out(tmp_path, capsys):
    root = folder(tmp_path / "films")
    table = (root / "metadata.csv").read_text().replace("\nc3,", f"\n{FORMULA},").replace("\nc4,", "\n@c4,")
    (root / "metadata.csv").write_text(table)
    for name in (3, 4):
        (root / f"images/{name}.png").write_text("no picture")
    made = folder_config.get_config()
    made.data.update({"root": str(root), "size": (16, 16), "on_read_error": "skip", "workers": 0})
    made.model.update({"widths": (4,), "convolutions": 1})
    made.check.against = ""
    modes.check(made, tmp_path / "run")
    assert_no_formula(tmp_path / "run")
    listed = dict(csv.reader((tmp_path / "run/check/excluded.csv").read_text().splitlines()))
    assert set(listed) == {"what", f"'{FORMULA}", "'@c4"}
    assert not any(str(tmp_path) in why for why in listed.values())


def test_reasons_that_are_formulas(tmp_path):
    source.write_excluded([("-a", "=b"), ("c", "-1")], tmp_path / "excluded.csv")
    rows = list(csv.reader((tmp_path / "excluded.csv").read_text().splitlines()))
    assert rows == [["what", "why"], ["'-a", "'=b"], ["c", "-1"]]


def test_a_model_card_shows_names_as_they_are():
    evil = "<img src=x onerror=alert(1)>|[a](http://b)`"
    report = json.loads(json.dumps(REPORT).replace("site=a|b", json.dumps(f"site={evil}")[1:-1]))
    report["cohort"]["structures"] = [f"tibia{evil}", "femur"]
    structures = report["scores"]["dice"]["structures"]
    structures[f"tibia{evil}"] = structures.pop("tibia")
    text = model_card.model_card_text(evil, CONFIG, report, ENVIRONMENT, license_id="<b>")
    _, _, body = text.split("---\n", 2)
    assert "<img" not in body and "&lt;img" in body and "<b>" not in body
    assert "[a](" not in body.replace("\\[a\\](", "")
    rows = [line for line in body.splitlines() if line.startswith("| site=")]
    assert rows and len({line.replace("\\|", "").count("|") for line in rows if "0.9" in line}) == 1
    assert "&lt;50" in model_card.model_card_text("n", CONFIG, report, {"device": "<50"})


def test_launch_shows_escape_sequences_of_messages(tmp_path):
    root = tmp_path / f"films{ESCAPE}"
    command = [
        *("python", "launch.py", "--config=configs/folder.py", f"--config.data.root={root}"),
        *("--config.data.attributes=('sex',)", f"--workdir={tmp_path / 'run'}"),
    ]
    result = launched.run_in_process(command)
    assert result.returncode == 2
    assert "\x1b" not in result.stdout + result.stderr and r"\x1b[31mred\x07" in result.stderr


@pytest.mark.parametrize("text", ["report: /home/jane/runs/x/report/index.html\n", "a\x1b[0m\n"])
def test_the_log_of_a_study(text):
    logged = study._public_text(text)
    assert "/home" not in logged and "\x1b" not in logged and logged.endswith("\n")
