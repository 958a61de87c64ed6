"""The commands of README and of the documentation run, with fewer steps, smaller networks and fewer patients."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys

import pytest

from tests import documents, oai_tree

pytestmark = pytest.mark.slow

PAGES = [
    page for page in documents.PAGES if any(line.startswith("kneefair") for line in documents.commands(page))
]
# Each task has slow tests of its own in tests/cli.
ELSEWHERE = ("kneefair demo", "kneefair init")

RUN = ["--config.train.steps=2", "--config.train.eval_every=1", "--config.report.bootstrap_draws=40"]
NETWORK = ["--config.model.widths=(2,4)", "--config.data.size=(32,40)"]
PHANTOMS = ["--config.data.phantom.patients=120"]
STUDY = [
    "--config.study.methods=('erm','group_dro')",
    "--config.study.seeds=(0,)",
    "--config.study.bootstrap_draws=40",
]


def small(command):
    """Return the command's arguments, with settings that make a run short."""
    arguments = shlex.split(command)[1:]
    config = next((part.partition("=")[2] for part in arguments if part.startswith("--config=")), "")
    if arguments[0] in ("train", "check", "study") or (arguments[0] == "evaluate" and config):
        arguments += RUN
        arguments += [] if config == "finetune" else NETWORK  # the weights fix the network
        arguments += PHANTOMS if config in ("quickstart", "study", "phantom_to_real") else []
        arguments += STUDY if arguments[0] == "study" else []
        arguments += ["--config.study.sweep=()"] if config == "study" else []
    return arguments


def run(command, folder):
    environment = {**os.environ, "PYTHONPATH": str(documents.ROOT)}
    environment.pop("JAX_NUM_CPU_DEVICES", None)
    result = subprocess.run(
        [sys.executable, "-m", "kneefair_jax.cli", *small(command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write the files that the commands read, and the run of the first report."""
    folder = documents.workspace(tmp_path_factory.mktemp("documents"))
    audit = documents.blocks(documents.ROOT / "docs" / "tutorials" / "audit.md", "python")[0]
    with contextlib.chdir(folder):
        exec(audit.text, {})  # two models' masks
    oai_tree.tree(folder / "OAI", 24)
    shutil.move(folder / "OAI" / "masks", folder / "MASKS")
    run("kneefair train --config=quickstart --workdir=runs/quickstart", folder)
    shutil.copy(folder / "knee.png", folder / "runs")
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_run(page, files, tmp_path):
    folder = shutil.copytree(files, tmp_path / "files")
    for command in documents.commands(page):
        if command.startswith("kneefair") and not command.startswith(ELSEWHERE):
            run(command, folder)
