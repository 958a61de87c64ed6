"""`launch.py` from the command line: a complete run, a killed run, and messages for bad input."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.films import folder
from tests.launched import run_in_process, run_subprocess

ROOT = Path(__file__).parents[1]
SMALL = (
    "--config.data.size=(16,16)",
    "--config.model.widths=(2,4)",
    "--config.model.convolutions=1",
    "--config.train.eval_every=5",
    "--config.report.bootstrap_draws=50",
    # Less to compile: of the augmentations, the flip stays.
    *(
        f"--config.augment.{name}=0.0"
        for name in ("rotation", "scale", "shift", "gamma", "contrast", "noise")
    ),
)


def command(root, workdir, *extra, steps=40):
    base = [sys.executable, str(ROOT / "launch.py"), f"--config={ROOT / 'configs/folder.py'}"]
    return [
        *base,
        f"--config.data.root={root}",
        f"--workdir={workdir}",
        f"--config.train.steps={steps}",
        *SMALL,
        *extra,
    ]


def launch(*arguments, **options):
    return run_in_process(command(*arguments, **options))


def without_times(workdir):
    report = json.loads((workdir / "report" / "report.json").read_text())
    del report["run"]["times"]
    return json.dumps(report, sort_keys=True)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("films") / "f")


@pytest.fixture(scope="module")
def straight(films, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "straight"
    result = run_subprocess(command(films, workdir))
    assert result.returncode == 0, result.stderr
    return result, workdir


def test_a_run_says_what_it_does_and_leaves_what_it_promised(straight):
    result, workdir = straight
    assert "parameters" in result.stdout and "age=missing" in result.stdout
    assert "images/s" in result.stdout and "left" in result.stdout
    assert f"report: {workdir}/report/index.html" in result.stdout
    expected = {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "cohort.csv",
    }
    assert expected | {"cases.parquet", "predictions.npz", "report"} <= set(os.listdir(workdir))
    assert "p1" not in result.stdout  # no patient is named


@pytest.mark.slow  # fast: tests/training/test_loop.py stops and resumes a run in this process
def test_killed_at_any_moment_and_started_again_is_the_same_report(films, straight, tmp_path):
    workdir = tmp_path / "killed"
    environment = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    draw = random.Random(0)
    for kill in (0, 1, 1):
        process = subprocess.Popen(
            command(films, workdir),
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Some moment after the first checkpoint of this start, or before it.
        earlier = set(os.listdir(workdir / "checkpoints")) if (workdir / "checkpoints").exists() else set()
        deadline = time.monotonic() + 60
        while process.poll() is None and kill and time.monotonic() < deadline:
            if (workdir / "checkpoints").exists() and set(os.listdir(workdir / "checkpoints")) - earlier:
                break
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.2) if kill else 2.5)
        process.send_signal(signal.SIGKILL)
        process.wait()
    result = run_subprocess(command(films, workdir))
    assert result.returncode == 0, result.stderr
    assert without_times(workdir) == without_times(straight[1])


def test_another_config_in_the_same_folder_is_refused(films, straight):
    result = launch(films, straight[1], "--config.loss=focal")
    assert result.returncode == 2
    assert "loss is 'focal' but was 'dice_cross_entropy'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_evaluate_alone_with_an_external_cohort(films, straight, tmp_path):
    external = shutil.copytree(films, tmp_path / "other")
    table = pd.read_csv(external / "metadata.csv")
    for column in ("case_id", "patient_id"):
        table[column] = "x" + table[column]
    table.to_csv(external / "metadata.csv", index=False)
    workdir = shutil.copytree(straight[1], tmp_path / "run")
    result = launch(films, workdir, "--mode=evaluate", f"--config.data.external={external}")
    assert result.returncode == 0, result.stderr
    report = json.loads((workdir / "report" / "report.json").read_text())
    assert report["external"]["scores"]["dice"]["overall"]["cases"] == 24
    leak = launch(films, workdir, "--mode=evaluate", f"--config.data.external={films}")
    assert leak.returncode == 2 and "external case 'c0' has the patient_id" in leak.stderr


def test_check_reads_everything_and_refuses_what_training_would(films, straight, tmp_path):
    workdir = shutil.copytree(straight[1], tmp_path / "run")
    result = launch(films, workdir, "--mode=check")
    assert result.returncode == 0, result.stderr
    assert "sex=f" in result.stdout and "near-duplicate films" in result.stdout
    assert {".written-check.json", "check.json", "contact_sheet.png", "faults.csv", "hardware.json"} == set(
        os.listdir(workdir / "check")
    )
    assert "a training step takes" in result.stdout and "of disk free" in result.stdout
    words = shlex.split(result.stdout.splitlines()[-1])
    assert words[:2] == ["kneefair", "train"] and f"--workdir={workdir}" in words
    assert f"--config.data.root={films}" in words and "--mode=check" not in words
    root = shutil.copytree(films, tmp_path / "bad")
    (root / "images/3.png").write_bytes(b"no")
    (root / "masks/7.png").write_bytes(b"no")
    result = launch(root, tmp_path / "new", "--mode=check")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert result.stderr.startswith("error: 2 of 24 cases cannot be read:\n")
    assert "row 5: " in result.stderr and "row 9: " in result.stderr
    assert "excluded.csv" in os.listdir(tmp_path / "new" / "check")
    assert "kneefair train" not in result.stdout


def edit(films, tmp_path, row=None, drop=(), **cells):
    """Copy the films with some cells of metadata.csv changed; row 2 is the first case."""
    root = shutil.copytree(films, tmp_path / "bad")
    table = pd.read_csv(root / "metadata.csv", dtype=str, keep_default_na=False)
    for column, value in cells.items():
        if row is None:
            table[column] = value
        else:
            table.loc[row - 2, column] = value
    table.drop(columns=list(drop)).to_csv(root / "metadata.csv", index=False)
    return root


def test_a_table_that_changed_since_is_refused(films, straight, tmp_path):
    """Other patient ids give other splits, so that training cases would be tested."""
    workdir = shutil.copytree(straight[1], tmp_path / "run")
    table = pd.read_csv(films / "metadata.csv")
    root = edit(films, tmp_path, patient_id=("q" + table["patient_id"]).tolist())
    for mode in ("train", "evaluate"):
        result = launch(root, workdir, f"--mode={mode}")
        assert result.returncode == 2 and "its table changed since" in result.stderr


def break_external(root):
    """Add an external cohort with a film that cannot be read."""
    external = shutil.copytree(root, root.parent / "x")
    table = pd.read_csv(external / "metadata.csv")
    table.assign(patient_id="x" + table["patient_id"]).to_csv(external / "metadata.csv", index=False)
    (external / "images/3.png").write_bytes(b"")


def resize(root):
    from PIL import Image

    Image.open(root / "masks/3.png").resize((9, 9)).save(root / "masks/3.png")


BAD = {
    "missing file": ({"row": 4, "image": "images/none.png"}, None, (), "row 4"),
    "unreadable file": ({}, lambda root: (root / "images/3.png").write_bytes(b"no"), (), "row 5"),
    "size mismatch": ({}, resize, (), "row 5"),
    "label outside the scheme": ({}, None, ("--config.data.structures=disc",), "row 2"),
    "duplicate case": ({"row": 3, "case_id": "c0"}, None, (), "row 3"),
    "empty attribute": ({"sex": ""}, None, (), "sex"),
    "non-numeric age": ({"row": 6, "age": "old"}, None, (), "row 6"),
    "unknown column": ({}, None, ("--config.data.attributes=('sex','race')",), "race"),
    "patient on two sides": (
        {"split": ["train", "test", *["train"] * 18, *["validation", "test"] * 2]},
        None,
        ("--config.data.split_column=split",),
        "'c0' in train and case 'c1' in test",
    ),
    "no metadata": ({}, lambda root: (root / "metadata.csv").unlink(), (), "metadata.csv"),
    "no such config": (
        {},
        None,
        ("--config=configs/foldr.py",),
        "'configs/foldr.py' is no file",
    ),
    "typo in the config": ({}, None, ("--config.train.stepz=3",), "did you mean train.steps?"),
    "typo in a section": ({}, None, ("--config.trian.steps=3",), "did you mean train.steps?"),
    "a name that results use": (
        {"model": "unit 1"},
        None,
        ("--config.data.attributes=('sex','model')",),
        "rename yours",
    ),
    "broken external image": (
        {},
        break_external,
        ("--config.data.external={external}",),
        "row 5",
    ),
    "nothing to evaluate": ({}, None, ("--mode=evaluate",), "has no checkpoint"),
    "negative seed": ({}, None, ("--config.seed=-1",), "seed=-1"),
    "a shard of no study": ({}, None, ("--shard=0/2",), "drop it with --mode=train"),
    "not a number": ({}, None, ("--config.train.log_every=many",), "log_every"),
    "a field twice": (
        {},
        None,
        ("--config.data.attributes=('sex',)", "--config.data.attributes=('age',)"),
        "attributes",
    ),
    "a field twice, otherwise written": (
        {},
        None,
        ("-config.data.seed", "1", "--config.data.seed=2"),
        "config.data.seed is given more than once",
    ),
    "a field of the command twice": (
        {},
        None,
        ("--config.train.steps=3",),
        "config.train.steps is given more than once",
    ),
    "no such fold": ({}, None, ("--config.data.folds=3", "--config.data.fold=5"), "fold=5 of 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_leaves_no_trace(name, films, tmp_path):
    cells, change, flags, expected = BAD[name]
    root = edit(films, tmp_path, **cells)
    if change:
        change(root)
    workdir = tmp_path / "workdir"
    result = launch(root, workdir, *(flag.format(external=root.parent / "x") for flag in flags))
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert expected in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 6  # a head line and the first five rows
    assert not workdir.exists()


@pytest.mark.parametrize(
    "flag", ["--config.seed=-1", pytest.param("--config.train.stepz=3", marks=pytest.mark.slow)]
)
def test_bad_input_has_the_same_message_in_a_process(flag, films, tmp_path):
    run = command(films, tmp_path / "workdir", flag)
    process = run_subprocess(run)
    assert "Traceback" not in process.stderr
    in_process = run_in_process(run)
    assert (process.returncode, process.stderr) == (in_process.returncode, in_process.stderr)
