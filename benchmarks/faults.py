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
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.fault_runs import (
    ROOT,
    STEPS,
    Place,
    checkpoint_steps,
    compare_runs,
    last_message,
    last_step,
    resumed_step,
    unfinished_checkpoints,
    wait,
    wait_until,
)
from benchmarks.machine import hardware
from kneefair_jax.runtime import atomic, run_directory

Row = dict[str, Any]


def row(fault: str, happened: str, lost_steps: int | None, same: dict[str, bool] | None, **more: Any) -> Row:
    """One of the table."""
    result = {"fault": fault, "happened": happened, "repeated_steps": lost_steps, "equal": same, **more}
    print(json.dumps(result), flush=True)
    return result


def finish(place: Place, name: str, straight: str, *flags: str) -> dict[str, bool] | None:
    """Runs to the end, and compares; None if it does not end well."""
    status, err = place.run(name, *flags)
    if status:
        print(f"{name}: {status}: {err[-2000:]}", flush=True)
        return None
    return compare_runs(place.root / name, place.root / straight)


def killed(place: Place, times: int) -> Iterator[Row]:
    """SIGKILL at random moments, half of them just as a checkpoint is being written."""
    number, at, lost_steps, writing, ends = 0, 0, [], 0, []
    while at < times:
        name = f"killed_{number}"
        workdir = place.root / name
        while at < times:
            reached_before, left = (
                last_step(workdir),
                unfinished_checkpoints(workdir),
            )  # what the kill before has left
            process = place.start(name)
            if at % 5 == 0:
                time.sleep(place.draw.uniform(0, 8))  # imports, compilation and preparation too
            else:
                wait_until(lambda: last_step(workdir) > reached_before, process)  # noqa: B023 - called within this turn of the loop
                time.sleep(place.draw.uniform(0, 0.6))
                if at % 2:
                    wait_until(lambda: bool(unfinished_checkpoints(workdir) - left), process)  # noqa: B023 - called within this turn of the loop
            if process.poll() is not None:
                wait(process)
                break
            process.kill()
            wait(process)
            writing += bool(unfinished_checkpoints(workdir) - left)
            lost_steps.append(max(0, last_step(workdir) - max(checkpoint_steps(workdir), default=0)))
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


def killed_online(place: Place) -> Iterator[Row]:
    """SIGKILL of a run whose training step draws its phantoms."""
    online, name = "--config.data.phantom.online=True", "killed_online"
    status, err = place.run("straight_online", online)
    assert status == 0, err
    process = place.start(name, online)
    wait_until(lambda: last_step(place.root / name) >= STEPS // 3, process)
    process.kill()
    status, _ = wait(process)
    reached, kept = last_step(place.root / name), max(checkpoint_steps(place.root / name), default=0)
    yield row(
        "SIGKILL, online phantoms",
        f"exit {status} at step {reached}, checkpoint of step {kept}",
        max(0, reached - kept),
        finish(place, name, "straight_online", online),
    )


def stopped(place: Place, kind: signal.Signals) -> Iterator[Row]:
    """A scheduler's notice."""
    name = kind.name.lower()
    workdir = place.root / name
    process = place.start(name)
    wait_until(lambda: last_step(workdir) >= 20, process)
    time.sleep(place.draw.uniform(0, 0.3))
    sent = time.monotonic()
    process.send_signal(kind)
    status, err = wait(process)
    seconds = round(time.monotonic() - sent, 1)
    checkpoint_step, at = max(checkpoint_steps(workdir)), last_step(workdir)
    happened = f"exit {status} after {seconds} s, checkpoint of step {checkpoint_step}; {last_message(err)}"
    yield row(
        kind.name, happened, max(0, at - checkpoint_step), finish(place, name, "straight"), status=status
    )


def damaged(place: Place, kind: str) -> Iterator[Row]:
    """The largest file of the newest checkpoint's arrays, cut in half or with one bit flipped."""
    name = kind.replace(" ", "_")
    workdir = shutil.copytree(place.root / "straight", place.root / name)
    newest = checkpoint_steps(workdir)[-1]
    files = (workdir / "checkpoints" / str(newest) / "state").glob("ocdbt*/d/*")
    path = max(files, key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    if kind == "truncated checkpoint":
        data = data[: len(data) // 2]
    else:
        data[place.draw.randrange(len(data))] ^= 1 << place.draw.randrange(8)
    path.write_bytes(data)
    status, err = place.run(name, "--mode=evaluate")
    happened = f"evaluate: exit {status}, {last_message(err) or 'no message'}"
    at = last_step(workdir)
    same = finish(place, name, "straight")
    log = place.root / f"{name}.log"
    line = next((line for line in log.read_text().splitlines() if "damaged" in line), "no message")
    yield row(kind, f"{happened}; train: {line}", at - resumed_step(log), same)


def one_of_two(place: Place) -> Iterator[Row]:
    """One process of two is killed; then one of two gets a notice."""
    for process in place.start_pair("two_straight"):
        status, err = wait(process)
        assert status == 0, err
    for fault, kind, which in (
        ("one of two killed", signal.SIGKILL, 1),
        ("SIGTERM to one of two", signal.SIGTERM, 1),
    ):
        name = fault.replace(" ", "_")
        workdir = place.root / name
        processes = place.start_pair(name)
        wait_until(lambda: last_step(workdir) >= 20, processes[0])  # noqa: B023 - called within this turn
        sent = time.monotonic()
        processes[which].send_signal(kind)
        status, err = wait(processes[1 - which])
        seconds = round(time.monotonic() - sent, 1)
        first_status, _ = wait(processes[which])
        lost_steps = max(0, last_step(workdir) - max(checkpoint_steps(workdir), default=0))
        ends = [wait(process) for process in place.start_pair(name)]
        same = compare_runs(workdir, place.root / "two_straight") if not any(s for s, _ in ends) else None
        happened = (
            f"the other ended after {seconds} s with exit {status}: {last_message(err)}; "
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
            status, err = place.run(name)
            checkpoint_step = max(checkpoint_steps(name), default=0)
            lost_steps = max(0, last_step(name) - checkpoint_step)
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            resumed_status, errors = place.run(name)
            same = compare_runs(name, place.root / "straight") if resumed_status == 0 else print(errors)
            yield row(
                fault,
                f"exit {status}: {last_message(err)}; with space: exit {resumed_status}",
                lost_steps,
                same,
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
    status, err = place.run("bad_record", f"--config.data.store={copy}")
    shutil.rmtree(copy)
    same = finish(place, "bad_record", "straight", f"--config.data.store={copy}")
    yield row("a flipped bit in the store", f"exit {status}: {last_message(err)}; store deleted", 0, same)


def two_runs(place: Place) -> Iterator[Row]:
    """The same command twice at once."""
    workdir = place.root / "twice"
    first = place.start("twice")
    wait_until(lambda: last_step(workdir) >= 3, first)
    first.send_signal(signal.SIGSTOP)  # or it would be over too soon
    status, err = place.run("twice")
    first.send_signal(signal.SIGCONT)
    end, _ = wait(first)
    same = compare_runs(workdir, place.root / "straight") if end == 0 else None
    yield row("two runs in one workdir", f"the second: exit {status}: {last_message(err)}", 0, same)


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
    "online": lambda place, _: killed_online(place),
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
        lines.append(f"| {r['fault']} | {r['happened']} | {r['repeated_steps']} | {same} |")
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
        status, err = place.run("straight")
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
