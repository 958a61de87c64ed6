"""Measure what a run loses by faults: `python -m benchmarks.faults`, as root, since it mounts a small disk.

A small run is killed, stopped, left without disk space or given damaged files, then resumed by the same command. Each
row states the fault, the number of repeated steps, and whether the resumed run equals an uninterrupted one bit for bit:
every array of the last state, `metrics.jsonl` and `cases.parquet`.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from benchmarks.machine import hardware
from kneefair_jax.runtime import atomic, run_directory

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

Row = dict[str, Any]


class Place(NamedTuple):
    """Where runs are made.

    Attributes:
        root: of their folders.
        store: of prepared cases.
        environment: of their processes.
        draw: of random moments and places.
    """

    root: Path
    store: Path
    environment: dict[str, str]
    draw: random.Random

    def start(self, name: str | Path, *flags: str, devices: int = 1) -> subprocess.Popen[str]:
        """The run's process."""
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

    def go(self, name: str | Path, *flags: str, devices: int = 1) -> tuple[int, str]:
        """Run to the end and return status and stderr."""
        return over(self.start(name, *flags, devices=devices))

    def start_pair(self, name: str) -> list[subprocess.Popen[str]]:
        """Start two processes of one run over loopback."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        flags = (f"--coordinator={address}", "--processes=2")
        return [self.start(name, *flags, f"--process={i}") for i in range(2)]


def over(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Status and stderr of a process, when it is over; one that hangs is killed."""
    try:
        _, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return 999, "hung: " + process.communicate()[1]
    return process.returncode, err


def last_line(err: str) -> str:
    """Return the last line that is not a library log."""
    lines = [
        line
        for line in err.splitlines()
        if line.startswith(("error:", "preempted", "interrupted")) or "another task died" in line
    ]
    return (lines or err.splitlines() or [""])[-1]


def checkpoints(workdir: Path) -> list[int]:
    """The steps that are on disk."""
    folder = workdir / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.exists() else []


def reached(workdir: Path) -> int:
    """The last step of which there is a line."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    steps = [0]
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            steps.append(json.loads(line)["step"])
    return max(steps)


def continued(log: Path) -> int:
    """The step that the last start went on from, by its own word; 0 if it began."""
    words = [line for line in log.read_text().splitlines() if line.startswith(("--mode=", "continuing from"))]
    return int(words[-1].split()[-1]) if words[-1].startswith("continuing") else 0


def partial(workdir: Path) -> set[tuple[str, int]]:
    """The checkpoints that are not whole, each with the time of its last change: one may be begun twice."""
    folders = (workdir / "checkpoints").glob("*tmp*")
    unfinished = set()
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):  # it has become whole
            unfinished.add((folder.name, folder.stat().st_ctime_ns))
    return unfinished


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Waits for a condition, or for the process's end."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not condition() and time.monotonic() < deadline:
        time.sleep(0.002)


def arrays(state: Path) -> Any:
    """What a checkpoint holds, wherever it was written."""
    checkpointer = ocp.PyTreeCheckpointer()
    tree = checkpointer.metadata(state).item_metadata.tree
    how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    return checkpointer.restore(state, args=ocp.args.PyTreeRestore(restore_args=how))


def equal(a: Path, b: Path) -> dict[str, bool]:
    """Whether two finished runs are the same, bit for bit."""
    states = [arrays(run / "checkpoints" / str(STEPS) / "state") for run in (a, b)]
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


def row(fault: str, happened: str, lost_steps: int | None, same: dict[str, bool] | None, **more: Any) -> Row:
    """One of the table."""
    result = {"fault": fault, "happened": happened, "steps_made_again": lost_steps, "equal": same, **more}
    print(json.dumps(result), flush=True)
    return result


def finish(place: Place, name: str, straight: str, *flags: str) -> dict[str, bool] | None:
    """Runs to the end, and compares; None if it does not end well."""
    status, err = place.go(name, *flags)
    if status:
        print(f"{name}: {status}: {err[-2000:]}", flush=True)
        return None
    return equal(place.root / name, place.root / straight)


def killed(place: Place, times: int) -> Iterator[Row]:
    """SIGKILL at random moments, half of them just as a checkpoint is being written."""
    number, at, lost_steps, writing, ends = 0, 0, [], 0, []
    while at < times:
        name = f"killed_{number}"
        workdir = place.root / name
        while at < times:
            reached_before, left = reached(workdir), partial(workdir)  # what the kill before has left
            process = place.start(name)
            if at % 5 == 0:
                time.sleep(place.draw.uniform(0, 8))  # imports, compilation and preparation too
            else:
                until(lambda: reached(workdir) > reached_before, process)  # noqa: B023
                time.sleep(place.draw.uniform(0, 0.6))
                if at % 2:
                    until(lambda: bool(partial(workdir) - left), process)  # noqa: B023
            if process.poll() is not None:
                over(process)
                break
            process.kill()
            over(process)
            writing += bool(partial(workdir) - left)
            lost_steps.append(max(0, reached(workdir) - max(checkpoints(workdir), default=0)))
            at += 1
            print(f"killed {at} times; {lost_steps[-1]} steps after a checkpoint", flush=True)
        ends.append(finish(place, name, "straight"))
        number += 1
    same = {
        key: all(bool(end) and end[key] for end in ends)
        for key in ("state", "metrics.jsonl", "cases.parquet")
    }
    yield row(
        f"SIGKILL, {times} times",
        f"{number} runs, killed {times} times at random moments, {writing} of them while a checkpoint was being "
        "written",
        max(lost_steps),
        same,
        each=lost_steps,
    )


def stopped(place: Place, kind: signal.Signals) -> Iterator[Row]:
    """A scheduler's notice."""
    name = kind.name.lower()
    workdir = place.root / name
    process = place.start(name)
    until(lambda: reached(workdir) >= 20, process)
    time.sleep(place.draw.uniform(0, 0.3))
    sent = time.monotonic()
    process.send_signal(kind)
    status, err = over(process)
    seconds = round(time.monotonic() - sent, 1)
    checkpoint_step, at = max(checkpoints(workdir)), reached(workdir)
    happened = f"exit {status} after {seconds} s, checkpoint of step {checkpoint_step}; {last_line(err)}"
    yield row(
        kind.name, happened, max(0, at - checkpoint_step), finish(place, name, "straight"), status=status
    )


def damaged(place: Place, kind: str) -> Iterator[Row]:
    """The largest file of the newest checkpoint's arrays, cut in half or with one bit flipped."""
    name = kind.replace(" ", "_")
    workdir = shutil.copytree(place.root / "straight", place.root / name)
    newest = checkpoints(workdir)[-1]
    files = (workdir / "checkpoints" / str(newest) / "state").glob("ocdbt*/d/*")
    path = max(files, key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    if kind == "truncated checkpoint":
        data = data[: len(data) // 2]
    else:
        data[place.draw.randrange(len(data))] ^= 1 << place.draw.randrange(8)
    path.write_bytes(data)
    status, err = place.go(name, "--mode=evaluate")
    happened = f"evaluate: exit {status}, {last_line(err) or 'no message'}"
    at = reached(workdir)
    same = finish(place, name, "straight")
    log = place.root / f"{name}.log"
    line = next((line for line in log.read_text().splitlines() if "damaged" in line), "no message")
    yield row(kind, f"{happened}; train: {line}", at - continued(log), same)


def one_of_two(place: Place) -> Iterator[Row]:
    """One process of two is killed; then one of two gets a notice."""
    for process in place.start_pair("two_straight"):
        status, err = over(process)
        assert status == 0, err
    for fault, kind, which in (
        ("one of two killed", signal.SIGKILL, 1),
        ("SIGTERM to one of two", signal.SIGTERM, 1),
    ):
        name = fault.replace(" ", "_")
        workdir = place.root / name
        processes = place.start_pair(name)
        until(lambda: reached(workdir) >= 20, processes[0])  # noqa: B023
        sent = time.monotonic()
        processes[which].send_signal(kind)
        status, err = over(processes[1 - which])
        seconds = round(time.monotonic() - sent, 1)
        first_status, _ = over(processes[which])
        lost_steps = max(0, reached(workdir) - max(checkpoints(workdir), default=0))
        ends = [over(process) for process in place.start_pair(name)]
        same = equal(workdir, place.root / "two_straight") if not any(s for s, _ in ends) else None
        happened = (
            f"the other ended after {seconds} s with exit {status}: {last_line(err)}; "
            f"exit of the first {first_status}"
        )
        yield row(fault, happened, lost_steps, same, seconds=seconds)


def full(place: Place) -> Iterator[Row]:
    """A disk that is full: a tmpfs of few bytes; then with more."""
    disk = place.root / "disk"
    disk.mkdir()
    for fault, kib in (("ENOSPC at a checkpoint", 400), ("ENOSPC at the report", 0)):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(disk)], check=True)
        try:
            name = disk / fault.replace(" ", "_")
            if kib:
                subprocess.run(["mount", "-o", f"remount,size={kib}k", str(disk)], check=True)
            else:
                shutil.copytree(
                    place.root / "straight", name, ignore=shutil.ignore_patterns("cases.parquet", "report")
                )
                used = sum(p.stat().st_blocks * 512 for p in disk.rglob("*")) // 1024
                subprocess.run(["mount", "-o", f"remount,size={used + 40}k", str(disk)], check=True)
            status, err = place.go(name)
            checkpoint_step = max(checkpoints(name), default=0)
            lost_steps = max(0, reached(name) - checkpoint_step)
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            resumed_status, errors = place.go(name)
            same = equal(name, place.root / "straight") if resumed_status == 0 else print(errors)
            yield row(
                fault, f"exit {status}: {last_line(err)}; with space: exit {resumed_status}", lost_steps, same
            )
        finally:
            subprocess.run(["umount", str(disk)], check=True)


def store(place: Place) -> Iterator[Row]:
    """A damaged record in the store of prepared cases."""
    copy = shutil.copytree(place.store, place.root / "bad_store")
    path = max(copy.rglob("*array_record*"), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    status, err = place.go("bad_record", f"--config.data.store={copy}")
    shutil.rmtree(copy)
    same = finish(place, "bad_record", "straight", f"--config.data.store={copy}")
    yield row("a flipped bit in the store", f"exit {status}: {last_line(err)}; store deleted", 0, same)


def two_runs(place: Place) -> Iterator[Row]:
    """The same command twice at once."""
    workdir = place.root / "twice"
    first = place.start("twice")
    until(lambda: reached(workdir) >= 3, first)
    first.send_signal(signal.SIGSTOP)  # or it would be over too soon
    status, err = place.go("twice")
    first.send_signal(signal.SIGCONT)
    end, _ = over(first)
    same = equal(workdir, place.root / "straight") if end == 0 else None
    yield row("two runs in one workdir", f"the second: exit {status}: {last_line(err)}", 0, same)


FAULTS: dict[str, Callable[[Place, int], Iterator[Row]]] = {
    "sigkill": killed,
    "sigterm": lambda place, _: stopped(place, signal.SIGTERM),
    "sigusr1": lambda place, _: stopped(place, signal.SIGUSR1),
    "truncated": lambda place, _: damaged(place, "truncated checkpoint"),
    "flipped": lambda place, _: damaged(place, "bit-flipped checkpoint"),
    "two_runs": lambda place, _: two_runs(place),
    "store": lambda place, _: store(place),
    "full": lambda place, _: full(place),
    "hosts": lambda place, _: one_of_two(place),
}


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| fault | event | repeated steps | equal to an uninterrupted run, bit for bit |",
        "|---|---|---|---|",
    ]
    for r in rows:
        same = (
            "did not end"
            if r["equal"] is None
            else "yes"
            if all(r["equal"].values())
            else f"no: {r['equal']}"
        )
        lines.append(f"| {r['fault']} | {r['happened']} | {r['steps_made_again']} | {same} |")
    return "\n".join(lines)


def main() -> None:
    """Write the file and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--only", nargs="*", default=list(FAULTS), choices=list(FAULTS))
    parser.add_argument("--root", type=Path, help="a folder for the runs, kept; by default one that is not")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "faults.json")
    options = parser.parse_args()
    conditions = {"hardware": hardware(), "environment": run_directory.environment()}
    with contextlib.ExitStack() as stack:
        root = options.root or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root.mkdir(parents=True, exist_ok=True)
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(root / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PLATFORMS": "cpu",
        }
        place = Place(root, root / "store", dict(os.environ) | cache, random.Random(0))
        start = time.monotonic()
        status, err = place.go("straight")
        assert status == 0, err
        print(f"straight: {time.monotonic() - start:.0f} s", flush=True)
        rows = [row for name in options.only for row in FAULTS[name](place, options.kills)]
        for row in rows:
            row["happened"] = row["happened"].replace(str(root), "runs")
            row |= conditions
    # Rows of other faults stay, with their own conditions.
    earlier_rows: list[Row] = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    names = {row["fault"] for row in rows}
    rows = [row for row in earlier_rows if row["fault"] not in names] + rows
    atomic.write_json(options.out, {"steps": STEPS, "eval_every": 4, "rows": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
