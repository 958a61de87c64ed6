"""Starts small runs in separate processes, and reads the files of a run directory."""

import contextlib
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

ROOT = Path(__file__).parents[1]
STEPS = 60
FLAGS = (
    "--config=configs/quickstart.py",
    "--config.data.phantom.patients=40",
    "--config.data.size=(32,40)",
    "--config.model.widths=(2,4)",
    f"--config.train.steps={STEPS}",
    "--config.train.batch_size=8",
    "--config.train.eval_every=4",
    "--config.train.log_every=3",
    "--config.report.bootstrap_draws=40",
)
PATIENCE = 300.0  # seconds until a process counts as hanging


class Place(NamedTuple):
    """The folders and the environment of the runs.

    Attributes:
        root: folder of the run directories.
        store: folder of the prepared cases.
        environment: variables of the processes.
        draw: generator of random times and byte positions.
    """

    root: Path
    store: Path
    environment: dict[str, str]
    draw: random.Random

    def start(self, name: str | Path, *flags: str, devices: int = 1) -> subprocess.Popen[str]:
        """Start the process of a run."""
        workdir = self.root / name
        log = (self.root / f"{workdir.name}.log").open("a")
        store = () if any("data.store" in flag for flag in flags) else (f"--config.data.store={self.store}",)
        return subprocess.Popen(
            [sys.executable, "launch.py", f"--workdir={workdir}", *FLAGS, *store, *flags],
            cwd=ROOT,
            env=self.environment | {"JAX_NUM_CPU_DEVICES": str(devices)},
            stdout=log,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, name: str | Path, *flags: str, devices: int = 1) -> tuple[int, str]:
        """Run to the end and return status and stderr."""
        return wait(self.start(name, *flags, devices=devices))

    def start_pair(self, name: str) -> list[subprocess.Popen[str]]:
        """Start two processes of one run over loopback."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        flags = (f"--coordinator={address}", "--processes=2")
        return [self.start(name, *flags, f"--process={i}") for i in range(2)]


def wait(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end of a process and return status and stderr; kill a process that hangs."""
    try:
        _, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return 999, "hung: " + process.communicate()[1]
    return process.returncode, err


def last_message(err: str) -> str:
    """Return the last line that is not a library log."""
    lines = [
        line
        for line in err.splitlines()
        if line.startswith(("error:", "preempted", "interrupted")) or "another task died" in line
    ]
    return (lines or err.splitlines() or [""])[-1]


def checkpoint_steps(workdir: Path) -> list[int]:
    """Return the steps of the finished checkpoints, in ascending order."""
    folder = workdir / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.exists() else []


def last_step(workdir: Path) -> int:
    """Return the last step that `metrics.jsonl` has a line of; 0 without one."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    steps = [0]
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            steps.append(json.loads(line)["step"])
    return max(steps)


def resumed_step(log: Path) -> int:
    """Return the step from which the last start resumed, by its log; 0 if it started from scratch."""
    starts = [
        line for line in log.read_text().splitlines() if line.startswith(("--mode=", "continuing from"))
    ]
    return int(starts[-1].split()[-1]) if starts[-1].startswith("continuing") else 0


def unfinished_checkpoints(workdir: Path) -> set[tuple[str, int]]:
    """Return the unfinished checkpoints with the time of their last change, since a step may be saved twice."""
    folders = (workdir / "checkpoints").glob("*tmp*")
    unfinished = set()
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):  # the checkpoint is finished now
            unfinished.add((folder.name, folder.stat().st_ctime_ns))
    return unfinished


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for a condition or for the end of the process."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not condition() and time.monotonic() < deadline:
        time.sleep(0.002)


def checkpoint_arrays(state: Path) -> Any:
    """Return the arrays of a checkpoint as NumPy arrays, whatever devices wrote it."""
    checkpointer = ocp.PyTreeCheckpointer()
    tree = checkpointer.metadata(state).item_metadata.tree
    how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    return checkpointer.restore(state, args=ocp.args.PyTreeRestore(restore_args=how))


def compare_runs(a: Path, b: Path) -> dict[str, bool]:
    """Return for each result whether two finished runs agree bit for bit."""
    states = [checkpoint_arrays(run / "checkpoints" / str(STEPS) / "state") for run in (a, b)]
    leaves = [jax.tree.leaves(state) for state in states]
    return {
        "state": len(leaves[0]) == len(leaves[1])
        and all(
            np.asarray(x).tobytes() == np.asarray(y).tobytes()
            for x, y in zip(leaves[0], leaves[1], strict=True)
        ),
        "metrics.jsonl": (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes(),
        "cases.parquet": (a / "cases.parquet").read_bytes() == (b / "cases.parquet").read_bytes(),
    }
