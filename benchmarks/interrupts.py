"""Interrupt the commands at random moments: `python -m benchmarks.interrupts`; `--only NAME` runs one command.

Each command gets SIGINT (by its whole process group, as a terminal sends it) and SIGTERM, in turns, at a random moment
between the start of its imports and its end. It passes where the command ends with one line and status 130 or 75, where
every file that was finished is still there, and where the same command then ends with the same files, bit for bit,
apart from times and the commit.
"""

import argparse
import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.machine import hardware
from kneefair_jax.runtime import atomic

ROOT = Path(__file__).parents[1]
TIMES = 20
PATIENCE = 300.0  # seconds until a process counts as hanging
SEED = 0
_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 75}
_SMALL = (
    "--config.data.phantom.patients=60",
    "--config.data.size=(32,32)",
    "--config.model.widths=(2,4)",
    "--config.train.steps=20",
    "--config.train.eval_every=10",
    "--config.train.log_every=5",
    "--config.train.batch_size=8",
    "--config.report.bootstrap_draws=40",
)
# Times and the machine; files of a training run with dates in them, whose content `cases.parquet` depends on.
_EXCLUDED = re.compile(
    r"(^|/)(\.lock|machine\.json|environment\.json|log\.txt|tensorboard/.*|checkpoints/.*|store/.*|index\.html|checklist\.html)$"
)
_TIMES = re.compile(r'"(started|commit|seconds|compile_seconds)": .*|"times": \{[^}]*\}')


class Command(NamedTuple):
    """A command that is interrupted.

    Attributes:
        argv: returns the words after `python` that write to a folder.
        finished: returns the relative paths of what is finished in the folder of an interrupted run.
    """

    argv: Callable[[Path], list[str]]
    finished: Callable[[Path], list[str]]


def commands(root: Path) -> dict[str, Command]:
    """Write the inputs of the commands below `root` and return the commands by name."""
    films, truth, pred = (root / name for name in ("films", "truth", "pred"))
    rng = np.random.default_rng(0)
    for folder in (films, truth, pred):
        folder.mkdir()
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case_id", "patient_id", "sex", "spacing_mm"])
        for number in range(60):
            mask = np.zeros((160, 120), np.uint8)
            mask[20:70, 30 + number % 9 : 90] = 1
            mask[75 : 130 - number % 7, 30:90] = 2
            _save(mask, truth / f"c{number}.png")
            _save(np.roll(mask, number % 4, axis=0), pred / f"c{number}.png")
            writer.writerow([f"c{number}", f"p{number // 2}", "fm"[number // 2 % 2], "0.5"])
            _save(
                np.clip(mask * 60 + rng.normal(80, 10, mask.shape), 0, 255).astype(np.uint8),
                films / f"{number}.png",
            )
    run = root / "run"
    train = ["launch.py", "--config=configs/quickstart.py", *_SMALL, f"--workdir={run}"]
    status, _, err = _finish(_start(train))
    if status:
        raise RuntimeError(f"{' '.join(train)}: exit status {status}: {err}")

    def audit(out: Path) -> list[str]:
        masks = ["--truth", str(truth), "--pred", str(pred), "--metadata", str(root / "metadata.csv")]
        return [
            "-m",
            "kneefair_jax.audit",
            *masks,
            "--labels",
            "femur=1",
            "tibia=2",
            "--attributes",
            "sex",
            "--out",
            str(out),
        ]

    def study(out: Path) -> list[str]:
        chosen = ["--config.study.methods=('erm','oversampled')", "--config.study.seeds=(10,)"]
        return [
            "launch.py",
            "--mode=study",
            "--config=configs/study.py:null",
            *_SMALL,
            *chosen,
            f"--workdir={out}",
        ]

    return {
        "predict": Command(
            lambda out: [
                "-m",
                "kneefair_jax.predict",
                "--checkpoint",
                "phantom",
                "--images",
                str(films),
                "--out",
                str(out),
                "--batch-size",
                "4",
            ],
            _segmented,
        ),
        "audit": Command(audit, lambda out: []),
        "check": Command(
            lambda out: [
                "launch.py",
                "--mode=check",
                "--config=configs/quickstart.py",
                *_SMALL,
                f"--workdir={out}",
            ],
            lambda out: [],
        ),
        "export": Command(
            lambda out: ["-m", "kneefair_jax.export", str(run), "--out", str(out)], lambda out: []
        ),
        "study": Command(study, lambda out: _paths(out, "runs/*/seed_*/report/report.json")),
    }


def _save(array: np.ndarray, path: Path) -> None:
    Image.fromarray(array).save(path)


def _paths(folder: Path, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))


def _segmented(out: Path) -> list[str]:
    """Return the masks of the files that `areas.csv` lists."""
    table = out / "areas.csv"
    if not table.exists():
        return []
    with table.open(newline="") as file:
        return sorted({row["mask"] for row in csv.DictReader(file)})


def _start(argv: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *argv],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return status, stdout and stderr; a process that hangs is killed."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return 999, "", "hung: " + process.communicate()[1]
    return process.returncode, out, err


def _wait_for_handlers(process: subprocess.Popen[str]) -> None:
    """Wait until the process handles SIGTERM; before that Python itself starts, some hundredths of a second."""
    bit = 1 << (signal.SIGTERM - 1)
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)
        if caught and int(caught[1], 16) & bit:
            return
        time.sleep(0.002)


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of a finished run whose bytes are compared, by relative path, without times and commit."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    training = (folder / "runs").exists()
    return {
        name: _TIMES.sub("", path.read_text()).encode() if path.suffix == ".json" else path.read_bytes()
        for name, path in sorted(files.items())
        if not (_EXCLUDED.search(name) and (training or not name.endswith(".html")))
    }


def interrupt(
    command: Command, out: Path, number: signal.Signals, seconds: float, expected: dict[str, bytes]
) -> dict[str, Any]:
    """Interrupt the command once, run it again, and return the row of the table."""
    process = _start(command.argv(out))
    _wait_for_handlers(process)
    time.sleep(seconds)
    if ended := process.poll() is not None:
        pass
    elif number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    sent = time.monotonic()
    status, _, err = _finish(process)
    waited = time.monotonic() - sent
    finished = {name: (out / name).read_bytes() for name in command.finished(out)}
    again, _, errors = _finish(_start(command.argv(out)))
    after = content(out)
    lines = err.splitlines()
    faults = {
        f"status {status}": status != _STATUS[number] and not (status == 0 and not lines),
        f"{len(lines)} lines": len(lines) != (status != 0),
        "traceback": "Traceback" in err + errors,
        f"the same command: status {again}": again != 0,
        "finished files lost": any(
            (out / name).read_bytes() != data for name, data in finished.items() if again == 0
        ),
        "another result: "
        + ", ".join(
            sorted(k for k in expected.keys() | after.keys() if expected.get(k) != after.get(k))[:3]
        ): after != expected,
    }
    return {
        "signal": number.name,
        "after_seconds": round(seconds, 2),
        "ended_before": ended,
        "status": status,
        "seconds_to_end": round(waited, 2),
        "line": (lines or [""])[-1],
        "finished_before": len(finished),
        "faults": [fault for fault, present in faults.items() if present],
        **({"stderr": err[-3000:]} if len(lines) > 1 else {}),
    }


def series(name: str, command: Command, root: Path, times: int) -> dict[str, Any]:
    """Interrupt a command `times` times and return the rows and their summary."""
    draw = random.Random(f"{SEED}{name}")
    process = _start(command.argv(root / f"{name}_straight" / "out"))
    _wait_for_handlers(process)
    started = time.monotonic()
    status, _, err = _finish(process)
    if status:
        raise RuntimeError(f"{name}: exit status {status}: {err}")
    length = time.monotonic() - started
    expected = content(root / f"{name}_straight" / "out")
    rows = []
    for turn in range(times):
        number = (signal.SIGINT, signal.SIGTERM)[turn % 2]
        row = interrupt(command, root / f"{name}_{turn}" / "out", number, draw.uniform(0, length), expected)
        row["line"] = row["line"].replace(str(root), "FOLDER")
        print(json.dumps({"command": name} | row), flush=True)
        rows.append(row)
    return {
        "seconds": round(length, 1),
        "files_compared": len(expected),
        "interrupted": sum(row["status"] != 0 for row in rows),
        "longest_seconds_to_end": max((row["seconds_to_end"] for row in rows if row["status"]), default=0),
        "failed": sum(bool(row["faults"]) for row in rows),
        "rows": rows,
    }


def main() -> int:
    """Write the table; return 1 where a row has a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", metavar="NAME", help="predict, audit, check, export, study")
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "interrupts.json")
    options = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs ignore it, and theirs
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(root / "compiled")
        results = {
            name: series(name, command, root, options.times)
            for name, command in commands(root).items()
            if not options.only or name in options.only
        }
    # Commands that were not interrupted anew keep their rows.
    before = json.loads(options.out.read_text())["commands"] if options.out.exists() else {}
    atomic.write_json(options.out, {"hardware": hardware(), "seed": SEED, "commands": before | results})
    failed = {name: result["failed"] for name, result in results.items()}
    print(f"failed, of {options.times} each: {failed}")
    return any(failed.values())


if __name__ == "__main__":
    sys.exit(main())
