"""Interrupt the commands at random moments: `python -m benchmarks.interrupts`; `--only NAME` runs one command.

Each command gets SIGINT (by its whole process group, as a terminal sends it) and SIGTERM, in turns, at a random moment
between the start of its imports and its end. It passes where the command ends with one line and status 130 or 75, where
every file that was finished is still there, and where the same command then keeps what is finished and ends with the
same files, bit for bit, apart from times and the commit. Then two processes work on one folder at the same time: both
complete, or one of them is refused with one line and status 2.
"""

import argparse
import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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
PAIRS = 2  # times that two processes work on one folder
BATCH = 4  # files that `predict` segments at a time
_FILMS = 16
_REFUSED = 2
_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 75}
_SMALL = (
    "--config.data.phantom.patients=34",
    "--config.data.size=(32,32)",
    "--config.model.widths=(2,4)",
    "--config.train.steps=10",
    "--config.train.eval_every=5",
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
        kept: matches, in the output of the same command, what it keeps: a line each, or a number.
        unit: finished files that are kept together; the others may be made again.
        prepare: makes the folder that the command starts from.
    """

    argv: Callable[[Path], list[str]]
    finished: Callable[[Path], list[str]] = lambda out: []
    kept: str = ""
    unit: int = 1
    prepare: Callable[[Path], object] = lambda out: None


def commands(root: Path) -> dict[str, Command]:
    """Write the inputs of the commands below `root` and return the commands by name."""
    films, truth, pred = (root / name for name in ("films", "truth", "pred"))
    rng = np.random.default_rng(0)
    for folder in (films, truth, pred):
        folder.mkdir()
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case_id", "patient_id", "sex", "spacing_mm"])
        for number in range(_FILMS):
            mask = np.zeros((160, 120), np.uint8)
            mask[20:70, 30 + number % 9 : 90] = 1
            mask[75 : 130 - number % 7, 30:90] = 2
            _save(mask, truth / f"c{number}.png")
            _save(np.roll(mask, number % 4, axis=0), pred / f"c{number}.png")
            writer.writerow([f"c{number}", f"p{number // 2}", "fm"[number // 2 % 2], "0.5"])
            noisy = mask * 60 + rng.normal(80, 10, mask.shape)
            _save(np.clip(noisy, 0, 255).astype(np.uint8), films / f"{number}.png")
    run = root / "run"

    def launch(mode: str, config: str, out: Path, *more: str) -> list[str]:
        return [
            "launch.py",
            f"--mode={mode}",
            f"--config=configs/{config}",
            *_SMALL,
            *more,
            f"--workdir={out}",
        ]

    def trained() -> Path:
        """Return the folder of a run, which is trained at the first call."""
        if not run.exists():
            status, _, err = _finish(_start(launch("train", "quickstart.py", run)))
            if status:
                raise RuntimeError(f"training: exit status {status}: {err}")
        return run

    def predict(out: Path) -> list[str]:
        network = ["-m", "kneefair_jax.predict", "--checkpoint", "phantom", "--batch-size", str(BATCH)]
        return [*network, "--images", str(films), "--out", str(out)]

    def audit(out: Path) -> list[str]:
        masks = ["--truth", str(truth), "--pred", str(pred), "--metadata", str(root / "metadata.csv")]
        labels = ["--labels", "femur=1", "tibia=2", "--attributes", "sex", "--draws", "100"]
        return ["-m", "kneefair_jax.audit", *masks, *labels, "--out", str(out)]

    methods = ("--config.study.methods=('erm','oversampled')", "--config.study.seeds=(10,)")
    return {
        "predict": Command(predict, _segmented, r"\((\d+) by an earlier run", BATCH),
        "audit": Command(audit),
        "check": Command(lambda out: launch("check", "quickstart.py", out)),
        "export": Command(lambda out: ["-m", "kneefair_jax.export", str(trained()), "--out", str(out)]),
        "evaluate": Command(
            lambda out: launch("evaluate", "quickstart.py", out),
            lambda out: _paths(out, "checkpoints/**/*"),
            prepare=lambda out: shutil.copytree(trained(), out),
        ),
        "study": Command(
            lambda out: launch("study", "study.py:null", out, *methods),
            lambda out: _paths(out, "runs/*/seed_*/report/report.json"),
            r"(\d+) finished before",
        ),
    }


def _save(array: np.ndarray, path: Path) -> None:
    Image.fromarray(array).save(path)


def _paths(folder: Path, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob(pattern) if path.is_file())


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


def _number_kept(command: Command, output: str) -> int:
    """Return how much the same command keeps, by its output."""
    matches = re.findall(command.kept, output) if command.kept else []
    return sum(int(match) if match.isdigit() else 1 for match in matches)


def _different(expected: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Return the names of the first three files that differ."""
    return sorted(name for name in expected.keys() | after.keys() if expected.get(name) != after.get(name))[
        :3
    ]


def interrupt(
    command: Command, out: Path, number: signal.Signals, seconds: float, expected: dict[str, bytes]
) -> dict[str, Any]:
    """Interrupt the command once, run it again, and return the row of the table."""
    command.prepare(out)
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
    resumed_status, output, errors = _finish(_start(command.argv(out)))
    different = _different(expected, content(out))
    reused = _number_kept(command, output)
    lines = err.splitlines()
    faults = {
        f"status {status}": status != _STATUS[number] and not (status == 0 and not lines),
        f"{len(lines)} lines": len(lines) != (status != 0),
        "traceback": "Traceback" in err + errors,
        f"the same command: status {resumed_status}": resumed_status != 0,
        "finished files lost": any(
            (out / name).read_bytes() != data for name, data in finished.items() if resumed_status == 0
        ),
        "finished files made again": bool(command.kept)
        and reused < len(finished) // command.unit * command.unit,
        f"another result: {', '.join(different)}": bool(different),
    }
    return {
        "signal": number.name,
        "after_seconds": round(seconds, 2),
        "ended_before": ended,
        "status": status,
        "seconds_to_end": round(waited, 2),
        "line": (lines or [""])[-1],
        "finished_before": len(finished),
        "kept": reused,
        "faults": [fault for fault, present in faults.items() if present],
        **({"stderr": err[-3000:]} if len(lines) > 1 else {}),
    }


def two_at_once(command: Command, out: Path, delay: float, expected: dict[str, bytes]) -> dict[str, Any]:
    """Start the command twice with one folder, the second time after a delay, and return the row of the table."""
    command.prepare(out)
    processes = [_start(command.argv(out))]
    time.sleep(delay)
    processes.append(_start(command.argv(out)))
    with ThreadPoolExecutor(2) as pool:  # each pipe is read while the other process works
        endings = list(pool.map(_finish, processes))
    refused = [err for status, _, err in endings if status == _REFUSED]
    different = _different(expected, content(out))
    faults = {
        "neither completes": all(status for status, _, _ in endings),
        "statuses": any(status not in (0, _REFUSED) for status, _, _ in endings),
        "a refusal without its one line": any(
            len(err.splitlines()) != 1 or "another process" not in err for err in refused
        ),
        f"another result: {', '.join(different)}": bool(different),
    }
    return {
        "delay_seconds": round(delay, 2),
        "statuses": [status for status, _, _ in endings],
        "lines": [err.splitlines()[-1] for err in refused],
        "faults": [fault for fault, present in faults.items() if present],
    }


def series(
    name: str, command: Command, root: Path, times: int, save: Callable[[dict[str, Any]], object]
) -> int:
    """Interrupt a command `times` times and start two at once, save the table after each, and return its faults."""
    draw = random.Random(f"{SEED}{name}")
    rows: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    late = 0  # signals after the end, which count for nothing: compiled programs are in a cache by then

    def summarize() -> dict[str, Any]:
        ends = [row["seconds_to_end"] for row in rows if row["status"]]
        return {
            "seconds": round(straight_seconds, 1),
            "files_compared": len(expected),
            "interrupted": len(ends),
            "signals_after_the_end": late,
            "longest_seconds_to_end": max(ends, default=0),
            "failed": sum(bool(row["faults"]) for row in (*rows, *pairs)),
            "rows": rows,
            "two_at_once": pairs,
        }

    def show(kind: str, row: dict[str, Any], out: Path) -> dict[str, Any]:
        printable_row = json.loads(json.dumps(row).replace(str(root), "FOLDER"))
        print(json.dumps({"command": name, "kind": kind} | printable_row), flush=True)
        if not row["faults"]:
            shutil.rmtree(out)
        return printable_row

    straight = root / f"{name}_straight" / "out"
    command.prepare(straight)
    process = _start(command.argv(straight))
    _wait_for_handlers(process)
    start = time.monotonic()
    status, _, err = _finish(process)
    if status:
        raise RuntimeError(f"{name}: exit status {status}: {err}")
    length = straight_seconds = time.monotonic() - start
    expected = content(straight)
    while len(rows) < times and late < times:
        number, out = (
            (signal.SIGINT, signal.SIGTERM)[len(rows) % 2],
            root / f"{name}_{len(rows)}_{late}" / "out",
        )
        moment = draw.uniform(0, length)
        row = interrupt(command, out, number, moment, expected)
        row_shown = show("interrupt", row, out)
        if row["ended_before"] and not row["faults"]:
            late, length = late + 1, moment
        else:
            rows.append(row_shown)
        save(summarize())
    for turn in range(PAIRS):
        out = root / f"{name}_pair_{turn}" / "out"
        pairs.append(show("two at once", two_at_once(command, out, turn * length / PAIRS, expected), out))
        save(summarize())
    return sum(bool(row["faults"]) for row in (*rows, *pairs))


def save(path: Path, name: str, result: dict[str, Any]) -> None:
    """Write the rows of a command; those of other commands are kept."""
    commands = json.loads(path.read_text())["commands"] if path.exists() else {}
    atomic.write_json(path, {"hardware": hardware(), "seed": SEED, "commands": commands | {name: result}})


def main() -> int:
    """Write the table; return 1 where a row has a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="*", metavar="NAME", help="predict, audit, check, export, evaluate, study"
    )
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "interrupts.json")
    options = parser.parse_args()
    # Background jobs of a shell ignore SIGINT, and so would the processes that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    failed = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ |= {
            "JAX_COMPILATION_CACHE_DIR": str(root / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        for name, command in commands(root).items():
            if options.only and name not in options.only:
                continue
            failed[name] = series(name, command, root, options.times, partial(save, options.out, name))
    print(f"failed, of {options.times} interrupts and {PAIRS} pairs each: {failed}")
    return any(failed.values())


if __name__ == "__main__":
    sys.exit(main())
