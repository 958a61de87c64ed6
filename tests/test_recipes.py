"""The recipes in a shell, with stand-ins for the schedulers; `runtime/test_distributed.py` runs one of them."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]

RECIPES = sorted((ROOT / "recipes").glob("*.sh"))
SLURM = [path.name for path in RECIPES if path.name.startswith("slurm")]


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Create a command of this name that runs these lines of shell."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(name, lines):
        path = tmp_path / name
        path.write_text(f"#!/usr/bin/env bash\ncd {tmp_path}\n{lines}\n")
        path.chmod(0o755)
        return path

    return make


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_it_is_shell(path):
    subprocess.run(["bash", "-n", path], check=True)
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize("recipe", SLURM)
@pytest.mark.parametrize(
    ("status", "restarts", "requeues"),
    [(0, 0, 0), (1, 0, 1), (1, 10, 0), (2, 0, 0), (75, 0, 1), (75, 10, 1), (137, 9, 1), (137, 10, 0)],
)
def test_slurm_requeues_after_transient_failures(recipe, status, restarts, requeues, stand_in, tmp_path):
    stand_in("srun", f'echo "$SRUN_CPUS_PER_TASK $*" > ran; exit {status}')
    stand_in("scontrol", 'echo "$*" >> requeued')
    (tmp_path / "requeued").touch()
    slurm = {"JOB_ID": 7, "CPUS_PER_TASK": 5, "RESTART_COUNT": restarts, "ARRAY_JOB_ID": 7}
    slurm |= {"ARRAY_TASK_ID": 3, "ARRAY_TASK_COUNT": 16}
    environment = os.environ | {f"SLURM_{key}": str(value) for key, value in slurm.items()}
    done = subprocess.run(["bash", ROOT / "recipes" / recipe, "--config=a b"], env=environment)
    assert done.returncode == status
    assert (tmp_path / "ran").read_text().startswith("5 ")
    job = "7_3" if recipe == "slurm_study.sh" else "7"
    assert (tmp_path / "requeued").read_text() == f"requeue {job}\n" * requeues


@pytest.mark.parametrize(
    ("statuses", "starts", "last"),
    [((0,), 1, 0), ((2,), 1, 2), ((75,) * 12 + (0,), 13, 0), ((1, 75, 137, 2), 4, 2), ((1,) * 20, 11, 1)],
    ids=["done", "bad input", "stopped", "mixed", "always fails"],
)
def test_a_tpu_slice_restarts_after_transient_failures(statuses, starts, last, stand_in, tmp_path):
    """The first command installs; the flags reach the hosts' shells intact."""
    (tmp_path / "statuses").write_text("".join(f"{status}\n" for status in (0, *statuses)))
    stand_in(
        "gcloud", 'echo "$*" >> commands; status=$(head -n 1 statuses); sed -i 1d statuses; exit "$status"'
    )
    environment = os.environ | {"TPU": "t", "ZONE": "z", "REPOSITORY": "r", "COMMIT": "abc", "PAUSE": "0"}
    done = subprocess.run(["bash", ROOT / "recipes/cloud_tpu.sh", "--config=a b"], env=environment)
    commands = (tmp_path / "commands").read_text()
    assert done.returncode == last
    assert commands.count("launch.py --distributed --config=a\\ b") == starts
    assert commands.count("git checkout --detach abc") == 1


def test_nothing_runs_if_the_installation_failed(stand_in, tmp_path):
    stand_in("gcloud", "echo >> commands; exit 3")
    environment = os.environ | {"TPU": "t", "ZONE": "z", "REPOSITORY": "r", "COMMIT": "abc"}
    assert subprocess.run(["bash", ROOT / "recipes/cloud_tpu.sh"], env=environment).returncode == 3
    assert (tmp_path / "commands").read_text() == "\n"


def test_two_processes_that_are_stopped_exit_with_their_status(stand_in, tmp_path):
    """Runs need time to save a checkpoint after the signal."""
    python = stand_in(
        "python",
        '[ "$1" = -c ] && exit\n'
        "trap 'sleep 0.2; exit 75' TERM\n"
        "touch started_$$\n"
        "while :; do sleep 0.02; done",
    )
    environment = os.environ | {"PYTHON": str(python)}
    process = subprocess.Popen([ROOT / "recipes/two_processes.sh"], env=environment)
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("started_*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 75


def test_jobset_takes_the_names_and_the_statuses():
    """Its webhook accepts no other names of rules (`ruleNameFmt` of jobset's `jobset_webhook.go`)."""
    spec = yaml.safe_load((ROOT / "recipes/kubernetes_jobset.yaml").read_text())["spec"]
    for rule in spec["failurePolicy"]["rules"]:
        assert re.fullmatch("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
    (job,) = spec["replicatedJobs"]
    job = job["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    actions = {}
    for rule in job["podFailurePolicy"]["rules"]:
        assert rule["onExitCodes"]["containerName"] == container["name"]
        actions |= dict.fromkeys(rule["onExitCodes"]["values"], rule["action"])
    assert actions == {2: "FailJob", 75: "Ignore"}
