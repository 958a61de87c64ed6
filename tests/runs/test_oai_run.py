"""The OAI's tree through `launch.py`: prepared, two steps, a report by sex, race and age."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests import oai_tree
from tests.launched import run_in_process

ROOT = Path(__file__).parents[2]
PATIENTS = 24
SMALL = (
    "--config.data.size=(16,16)",
    "--config.model.widths=(2,4)",
    "--config.train.steps=2",
    "--config.train.eval_every=2",
    "--config.report.bootstrap_draws=50",
    *(
        f"--config.augment.{name}=0.0"
        for name in ("rotation", "scale", "shift", "gamma", "contrast", "noise")
    ),
)


def launch(root, workdir, *extra):
    command = [sys.executable, str(ROOT / "launch.py"), f"--config={ROOT / 'configs/oai.py'}"]
    command += [f"--config.data.root={root}", f"--config.data.masks={root / 'masks'}"]
    return run_in_process([*command, f"--workdir={workdir}", *SMALL, *extra])


@pytest.mark.slow
def test_the_oai_s_tree_by_knee(tmp_path):
    root = oai_tree.tree(tmp_path / "oai", PATIENTS)
    hand = root / "00m/0.C.2" / oai_tree.patient(1) / "20050120/00000001/001"
    oai_tree.write_film(hand, oai_tree.film(0)[0], SeriesDescription="PA Right Hand")
    broken = oai_tree.place(root, 5)
    broken.write_bytes(broken.read_bytes()[:-100])
    run = tmp_path / "run"
    result = launch(root, run, "--config.data.knees=split", "--config.data.on_read_error=skip")
    assert result.returncode == 0, result.stderr

    cases = pd.read_parquet(run / "cases.parquet").drop_duplicates("case_id")
    assert {case.rpartition("_")[2] for case in cases["case_id"]} == {"right", "left"}
    sexes, races = {1: "male", 2: "female"}, {1: "White", 2: "Black"}
    known = {oai_tree.patient(k): (sexes[oai_tree.sex(k)], races[oai_tree.race(k)]) for k in range(PATIENTS)}
    assert all(known[row.patient_id] == (row.sex, row.race) for row in cases.itertuples())
    named = json.loads((run / "report" / "report.json").read_text())["scores"]["dice"]["groups"]
    assert {"sex=male", "sex=female", "race=White", "race=Black"} <= set(named)
    assert any(name.startswith("age=") for name in named)
    excluded = pd.read_csv(run / "excluded.csv").set_index("what")["why"]
    assert excluded[f"{oai_tree.patient(1)}_00m_00000001"] == f"not a {oai_tree.SERIES}"
    assert excluded[f"{oai_tree.name(5)}_right"].startswith(f"{broken.parent.name}/{broken.name}: ")
    assert "excluded: 3" in result.stdout and oai_tree.patient(5) not in result.stdout
    counts = pd.read_csv(run / "cohort.csv").query("group == 'all' and split == 'all'")
    assert counts[["patients", "cases"]].to_numpy().tolist() == [[PATIENTS - 1, 2 * PATIENTS - 2]]
