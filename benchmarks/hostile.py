"""Run the commands on bad inputs: `python -m benchmarks.hostile`; `--only TEXT` runs the kinds whose name contains it.

A kind passes where the command ends as it should, without a traceback, within a minute and 2 GiB of memory, and leaves
no file outside its output folder. The table has the line that a person sees.
"""

import argparse
import importlib
import json
import os
import pkgutil
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks import hostile_inputs
from benchmarks.hostile_inputs import Kind
from benchmarks.machine import hardware
from kneefair_jax.runtime import atomic

ROOT = Path(__file__).parents[1]
SECONDS = 60.0
GIBIBYTES = 2.0
_SAMPLE_SECONDS = 0.02
_STATUS = {"refused": 2, "reported": 1, "works": 0}
# So that a run-away process cannot exhaust the machine before its memory is measured.
_ADDRESS_SPACE = 24 << 30


def kinds() -> list[Kind]:
    """Return the kinds of all families, in the order of their modules.

    Raises:
        ValueError: two have one name.
    """
    families = sorted(module.name for module in pkgutil.iter_modules(hostile_inputs.__path__))
    all_kinds = [
        kind
        for family in families
        for kind in importlib.import_module(f"{hostile_inputs.__name__}.{family}").KINDS
    ]
    names = [kind.name for kind in all_kinds]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"kinds with one name: {sorted(repeated)}")
    return all_kinds


def run(kind: Kind) -> dict[str, Any]:
    """Run one kind in a new folder and return its row of the table."""
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryFile() as stdout_file,
        tempfile.TemporaryFile() as stderr_file,
    ):
        folder = Path(name)
        argv = kind.make(folder)
        files_before = _files(folder)
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, *argv],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
            stdin=subprocess.DEVNULL,
            stdout=stdout_file,
            stderr=stderr_file,
        )
        resource.prlimit(process.pid, resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
        timer = threading.Timer(kind.seconds or SECONDS, process.kill)
        timer.start()
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _peak_gibibytes(process.pid))
            time.sleep(_SAMPLE_SECONDS)
        timer.cancel()
        seconds = time.monotonic() - start
        stray_files = sorted(path for path in _files(folder) - files_before if path.split("/")[0] != "out")
        stdout, stderr = (_text(file) for file in (stdout_file, stderr_file))
    row = {
        "kind": kind.name,
        "outcome": kind.outcome,
        "status": process.returncode,
        "seconds": round(seconds, 1),
        "gibibytes": round(peak, 2),
        "line": _line(stdout + stderr, stderr).replace(name, "FOLDER"),
    }
    return row | {"faults": _faults(kind, row, stdout, stderr, stray_files)}


def _peak_gibibytes(pid: int) -> float:
    """Return the peak memory of a process so far, 0 if it has ended.

    `ru_maxrss` of a child includes the memory of its parent before `exec`, as pytest's may be larger than the limit.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("VmHWM:")), 0.0)


def _faults(kind: Kind, row: dict[str, Any], stdout: str, stderr: str, stray_files: list[str]) -> list[str]:
    """Return what is wrong with an outcome; empty if nothing."""
    errors = [line for line in stderr.splitlines() if line.startswith("error:")]
    checks = {
        "traceback": "Traceback (most recent call last)" in stdout + stderr,
        f"status {row['status']}": row["status"] != _STATUS[kind.outcome],
        f"more than {kind.seconds or SECONDS:.0f} s": row["seconds"] >= (kind.seconds or SECONDS),
        f"more than {GIBIBYTES:g} GiB": row["gibibytes"] > GIBIBYTES,
        f"{len(errors)} error lines": kind.outcome == "refused" and len(errors) != 1,
        f"no mention of {kind.mention}": kind.mention not in stdout + stderr,
        f"files outside: {', '.join(stray_files[:3])}": bool(stray_files),
    }
    return [fault for fault, present in checks.items() if present]


def _line(output: str, stderr: str) -> str:
    """Return the line for a person: the last one that reports something, else the last one of stderr."""
    lines = [line for line in output.splitlines() if line.startswith(("error:", "failed:", "warning:"))]
    return (lines or stderr.splitlines() or output.splitlines() or [""])[-1][:300]


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _files(folder: Path) -> set[str]:
    """Return the relative paths below a folder that can be listed."""
    return {
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, names in os.walk(os.fsencode(folder).decode(errors="surrogateescape"))
        for name in names
    }


def main() -> int:
    """Print each row and write the table; return 1 where a kind fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "hostile.json")
    options = parser.parse_args()
    rows = []
    for kind in kinds():
        if options.only in kind.name:
            rows.append(run(kind))
            print(json.dumps(rows[-1]), flush=True)
    failed = [row["kind"] for row in rows if row["faults"]]
    print(f"{len(rows)} kinds, {len(failed)} failed: {'; '.join(failed)}")
    if not options.only:
        atomic.write_json(options.out, {"hardware": hardware(), "failed": len(failed), "kinds": rows})
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
