"""Measure how time and memory grow with the work: `python -m benchmarks.scaling`; `--only TEXT` selects tasks by name.

Each size runs in a process of its own. The table has its processor time, its peak memory, and the growth of the
processor time when the work doubles: 2 for linear work, 4 for its square. A row replaces an earlier one of the same
task and size; each row states the commit that it was measured at.
"""

import argparse
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.machine import hardware
from kneefair_jax.runtime import atomic
from tests.predict import networks

ROOT = Path(__file__).parents[1]
STRUCTURES = ("femur", "tibia", "patella", "fibula")
_LEFT = re.compile(r"(?:\w[\w' ]*: )?\d+/\d+.* left")


class Task(NamedTuple):
    """A command at several sizes.

    Attributes:
        name: of the task.
        sizes: patients or films.
        make: (folder, size) -> the command line after `python`; writes the input into the folder.
    """

    name: str
    sizes: tuple[int, ...]
    make: Callable[[Path, int], list[str]]


def scores(patients: int) -> pd.DataFrame:
    """A long table of scores: four structures, two attributes, half a percent of failed segmentations."""
    rng = np.random.default_rng(0)
    sex = rng.choice(["female", "male"], patients)
    race = rng.choice(["A", "B", "C"], patients, p=[0.6, 0.3, 0.1])
    dice = rng.beta(20, 2, (patients, len(STRUCTURES))) - 0.01 * (sex == "male")[:, None]
    dice[rng.random(dice.shape) < 0.005] = 0.1
    return pd.DataFrame(
        {
            "case_id": np.repeat([f"P{k:06d}" for k in range(patients)], len(STRUCTURES)),
            "structure": np.tile(STRUCTURES, patients),
            "dice": dice.clip(0).ravel().round(5),
            "hd95_mm": rng.gamma(2, 1, dice.size).round(3),
            "sex": np.repeat(sex, len(STRUCTURES)),
            "race": np.repeat(race, len(STRUCTURES)),
        }
    )


def films(folder: Path, count: int, side: int = 32) -> None:
    """Random films as PNG, `0.png` and so on."""
    folder.mkdir()
    pixels = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(pixels.integers(0, 256, (side, side), dtype=np.uint8)).save(folder / f"{number}.png")


def cohort(folder: Path, count: int, side: int = 32) -> None:
    """Films, masks of two structures and `metadata.csv`."""
    folder.mkdir(exist_ok=True)
    films(folder / "images", count, side)
    (folder / "masks").mkdir()
    rng = np.random.default_rng(1)
    for number in range(count):
        mask = np.zeros((side, side), np.uint8)
        top, left = rng.integers(2, side // 2, 2)
        mask[top : top + side // 4, left : left + side // 4] = 1
        mask[top + side // 4 : top + side // 2, left : left + side // 4] = 2
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    pd.DataFrame(
        {
            "case_id": range(count),
            "patient_id": [f"p{number}" for number in range(count)],
            "image": [f"images/{number}.png" for number in range(count)],
            "mask": [f"masks/{number}.png" for number in range(count)],
            "sex": rng.choice(["female", "male"], count),
            "spacing_mm": 1.0,
        }
    ).to_csv(folder / "metadata.csv", index=False)


def _audit_scores(folder: Path, patients: int) -> list[str]:
    scores(patients).to_csv(folder / "scores.csv", index=False)
    attributes = ["--attributes", "sex", "race"]
    return ["-m", "kneefair_jax.audit", "--scores", "scores.csv", *attributes, "--out", "out"]


def _audit_masks(folder: Path, cases: int) -> list[str]:
    cohort(folder, cases)
    paths = ["--truth", "masks", "--pred", "masks", "--metadata", "metadata.csv"]
    labels = ["--labels", "femur=1", "tibia=2", "--attributes", "sex"]
    return ["-m", "kneefair_jax.audit", *paths, *labels, "--out", "out"]


def _predict(folder: Path, count: int) -> list[str]:
    films(folder / "films", count)
    network = networks.write(folder / "network.safetensors")
    return ["-m", "kneefair_jax.predict", "--checkpoint", str(network), "--images", "films", "--out", "out"]


def _check(folder: Path, count: int) -> list[str]:
    cohort(folder / "data", count)
    return [
        str(ROOT / "launch.py"),
        "--mode=check",
        f"--config={ROOT / 'configs' / 'folder.py'}",
        "--config.data.root=data",
        "--config.data.attributes=('sex',)",
        "--config.data.structures=('femur','tibia')",
        "--config.data.size=(32,32)",
        "--config.check.against=",
        "--workdir=out",
    ]


def _duplicates(folder: Path, count: int) -> list[str]:
    """The check of a cohort in which every row names one film of a patient of its own."""
    argv = _check(folder, count)
    first = (folder / "data" / "images" / "0.png").read_bytes()
    for path in (folder / "data" / "images").iterdir():
        path.write_bytes(first)
    return argv


TASKS = (
    Task("audit scores", (5_000, 10_000, 20_000, 50_000, 200_000), _audit_scores),
    Task("audit masks", (1_250, 2_500, 5_000), _audit_masks),
    Task("predict", (2_000, 20_000), _predict),
    Task("check", (2_000, 20_000), _check),
    Task("check, one film in every row", (1_000, 4_000), _duplicates),
)


def growth(sizes: tuple[int, int], costs: tuple[float, float]) -> float:
    """Return the factor of the cost when the size doubles, between two sizes."""
    return 2 ** (math.log(costs[1] / costs[0]) / math.log(sizes[1] / sizes[0]))


def merged(earlier: Sequence[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows with one more in place of an earlier row of its task and size, in the order of `TASKS`.

    Each row after the first of its task has the growth since the row before it.
    """
    order = [task.name for task in TASKS]
    by_place = {(order.index(one["task"]), one["size"]): one for one in (*earlier, row)}
    rows = [by_place[place] for place in sorted(by_place)]
    for smaller, larger in itertools.pairwise(rows):
        if smaller["task"] == larger["task"]:
            costs = smaller["processor_seconds"], larger["processor_seconds"]
            larger["growth_per_doubling"] = round(growth((smaller["size"], larger["size"]), costs), 2)
    return rows


def commit() -> str:
    """The commit of the package, with a plus sign where a file of it differs."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.strip()

    changed = git("status", "--porcelain", "--", "kneefair_jax")
    return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")


def measure(task: Task, size: int) -> dict[str, Any]:
    """Run a task at one size and return its row of the table."""
    with tempfile.TemporaryDirectory() as name:
        # In a process of its own: a process that starts from one of much memory counts its peak as its own.
        with ProcessPoolExecutor(1, get_context("spawn")) as maker:
            argv = maker.submit(task.make, Path(name), size).result()
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, *argv],
            cwd=name,
            env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        with process.stdout as stream:
            messages = stream.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{task.name} at {size}: exit status {process.returncode}\n{messages[-2000:]}")
    return {
        "task": task.name,
        "size": size,
        "seconds": round(time.monotonic() - start, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "gibibytes": round(usage.ru_maxrss / 2**20, 3),
        "progress": _LEFT.findall(messages)[:1],
        "commit": commit(),
    }


def main() -> int:
    """Print each row and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--largest", type=int, default=200_000, metavar="N")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scaling.json")
    options = parser.parse_args()
    for task in TASKS:
        for size in (size for size in task.sizes if options.only in task.name and size <= options.largest):
            row = measure(task, size)
            earlier = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
            atomic.write_json(options.out, {"hardware": hardware(), "rows": merged(earlier, row)})
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
