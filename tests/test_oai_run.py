"""The OAI's tree and the study's, through `launch.py`: prepared, two steps, a report by sex, race and age."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from tests import oai_tree

ROOT = Path(__file__).parents[1]
PATIENTS = 24
SMALL = (
    "--config.data.size=(16,16)",
    "--config.model.widths=(2,4)",
    "--config.train.steps=2",
    "--config.train.eval_every=2",
    "--config.report.bootstrap_draws=50",
)


def launch(config, workdir, *extra):
    environment = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    command = [sys.executable, str(ROOT / "launch.py"), f"--config={ROOT / f'configs/{config}.py'}"]
    command += [f"--workdir={workdir}", *SMALL, *extra]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def groups(workdir):
    report = json.loads((workdir / "report" / "report.json").read_text())
    return report["scores"]["dice"]


def test_the_oai_s_tree_by_knee(tmp_path):
    root = oai_tree.tree(tmp_path / "oai", PATIENTS)
    hand = root / "00m/0.C.2" / oai_tree.patient(1) / "20050120/00000001/001"
    oai_tree.write_film(hand, oai_tree.film(0)[0], SeriesDescription="PA Right Hand")
    broken = oai_tree.place(root, 5)
    broken.write_bytes(broken.read_bytes()[:-100])
    result = launch(
        "oai",
        tmp_path / "run",
        f"--config.data.root={root}",
        f"--config.data.masks={root / 'masks'}",
        "--config.data.knees=split",
        "--config.data.attributes=('sex','race','age','side')",
        "--config.data.on_broken=skip",
    )
    assert result.returncode == 0, result.stderr

    cases = pd.read_parquet(tmp_path / "run" / "cases.parquet").drop_duplicates("case_id")
    assert set(cases["side"]) == {"right", "left"}
    sexes, races = {1: "male", 2: "female"}, {1: "White", 2: "Black"}
    known = {oai_tree.patient(k): (sexes[oai_tree.sex(k)], races[oai_tree.race(k)]) for k in range(PATIENTS)}
    assert all(known[row.patient_id] == (row.sex, row.race) for row in cases.itertuples())
    named = groups(tmp_path / "run")["groups"]
    assert {"sex=male", "sex=female", "race=White", "race=Black", "side=right"} <= set(named)
    assert any(name.startswith("age=") for name in named)
    left_out = pd.read_csv(tmp_path / "run" / "left_out.csv").set_index("what")["why"]
    assert left_out[f"{oai_tree.patient(1)}_00m_00000001"] == f"not a {oai_tree.SERIES}"
    assert str(broken) in left_out[f"{oai_tree.name(5)}_right"]
    assert "left out: 3" in result.stdout and oai_tree.patient(5) not in result.stdout
    counts = pd.read_csv(tmp_path / "run" / "cohort.csv").query("group == 'all' and split == 'all'")
    assert counts[["patients", "cases"]].to_numpy().tolist() == [[PATIENTS - 1, 2 * PATIENTS - 2]]


def test_the_study_s_layout_by_film(tmp_path):
    root = oai_tree.study(tmp_path / "study", PATIENTS, bare=True)
    result = launch("study", tmp_path / "run", f"--config.data.root={root}")
    assert result.returncode == 0, result.stderr
    dice = groups(tmp_path / "run")
    assert {"sex=male", "sex=female", "race=White", "race=Black"} <= set(dice["groups"])
    assert len(dice["structures"]) == 8
    assert not (tmp_path / "run" / "left_out.csv").exists()
