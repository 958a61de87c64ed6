r"""Run everything that is measured on a GPU, in one command of less than nine minutes; see benchmarks/gpu.sh.

    bash benchmarks/gpu.sh [--out FOLDER] [--minutes M] [--only SECTION,...] [--smoke]

Correctness first, then evaluation, a trace, the input pipeline, phantoms, and the training step beside PyTorch's. Each
section runs in a process of its own with its own share of the time, and writes into `gpu.json` what it has so far: one
that fails, or is stopped, keeps no other from running. The exit status is 1 unless all of them succeed. `--smoke` runs
tiny sizes on the CPU, without PyTorch, in seconds.
"""

import argparse
import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from kneefair_jax.runtime import atomic

ROOT = Path(__file__).parents[1]
SMOKE_SECONDS = 300.0  # of each section: a busy machine fails no smoke test
END_SECONDS = 5.0  # before a section's process is killed, it is to have ended by itself


class Section(NamedTuple):
    """A part of the run.

    Attributes:
        function: of `benchmarks.gpu_sections`.
        reserve: seconds that the sections before it leave to it.
        most: seconds that it may take.
    """

    function: str
    reserve: float
    most: float


# In the order in which they run. The training step comes last: its rows take all the time that is left. Two runs on an
# H100 with 16 cores took 5, 31, 17, 26 and 84 s for environment, correctness, evaluation, trace and pipeline, 65 s for
# phantoms of one size, and 50 to 73 s for each row of the training step, most of it compilation.
SECTIONS = {
    "environment": Section("environment", 10, 60),
    "correctness": Section("correctness", 40, 100),
    "evaluation": Section("evaluation", 25, 50),
    "trace": Section("trace", 35, 60),
    "pipeline": Section("pipeline", 85, 110),
    "phantoms": Section("phantoms", 75, 240),
    "train_step": Section("training", 230, 480),
}


def time_limit(name: str, chosen: tuple[str, ...], seconds_left: float) -> float:
    """Seconds that a section may take so that those after it keep theirs, as far as there is that much time.

    Args:
        name: of the section.
        chosen: all sections of the run, in order.
        seconds_left: of the whole run.
    """
    later = chosen[chosen.index(name) + 1 :]
    return min(SECTIONS[name].most, seconds_left - sum(SECTIONS[section].reserve for section in later))


def read(path: Path) -> dict[str, Any]:
    """The results so far; none where there is no file."""
    return json.loads(path.read_text()) if path.exists() else {"sections": {}}


def update(path: Path, name: str, **fields: Any) -> None:
    """Sets fields of a section in the file of results."""
    results = read(path)
    results["sections"].setdefault(name, {}).update(fields)
    atomic.write_json(path, results)


def run_section(name: str, path: Path, *, smoke: bool, seconds: float, titles: str = "") -> bool:
    """Runs a section in this process and writes its result, or its error, into the file.

    Returns:
        Whether it succeeded.
    """
    from benchmarks import gpu_sections

    start = time.monotonic()
    function: Callable[..., None] = getattr(gpu_sections, SECTIONS[name].function)
    extra = {"titles": titles} if name == "train_step" else {}
    try:
        function(smoke, start + seconds, lambda result: update(path, name, result=result), **extra)
        outcome = {"status": "ok"}
    except Exception as error:
        traceback.print_exc()
        outcome = {"status": "failed", "error": f"{type(error).__name__}: {error}"[:4000]}
    update(path, name, seconds=time.monotonic() - start, **outcome)
    return outcome["status"] == "ok"


def start_section(
    name: str, path: Path, log: Path, cache: Path, options: argparse.Namespace, seconds: float
) -> bool:
    """Runs a section in a process of its own, and kills it with its children when its time is over.

    Returns:
        Whether it succeeded.
    """
    arguments = ["--section", name, "--out", str(options.out), "--seconds", str(seconds - END_SECONDS)]
    arguments += ["--titles", options.titles] + ["--smoke"] * options.smoke
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if not options.smoke:
        # What two sections compile is compiled once. Rows of train_step share no program with an earlier section, so
        # that their compile times are those of an empty cache.
        environment |= {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    if name == "trace" and not options.smoke:
        # Kernels in a CUDA graph lose the names of their operations.
        flags = "--xla_gpu_enable_command_buffer="
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {flags}".strip()
    with log.open("a") as file:
        print(f"== {name}, at most {seconds:.0f} s", file=file, flush=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            error = f"stopped after {seconds:.0f} s; the log ends: {end_of(log)}"
            update(path, name, status="timeout", error=error, seconds=seconds)
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status and "status" not in read(path)["sections"].get(name, {}):
        error = f"the process ended with status {status}; the log ends: {end_of(log)}"
        update(path, name, status="failed", error=error)
    return status == 0


def end_of(log: Path, size: int = 1500) -> str:
    """The last bytes of a log as text."""
    return log.read_bytes()[-size:].decode(errors="replace")


def run_all(options: argparse.Namespace) -> bool:
    """Runs the chosen sections one after another and prints what there is.

    Returns:
        Whether all succeeded.
    """
    start = time.monotonic()
    path, log = options.out / "gpu.json", options.out / "gpu.log"
    for file in (path, log):
        file.unlink(missing_ok=True)
    succeeded = True
    cache = Path(tempfile.mkdtemp(prefix="kneefair_jax_gpu_"))
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    for name in options.only:
        seconds = time_limit(name, options.only, 60 * options.minutes - (time.monotonic() - start))
        if options.smoke:
            seconds = SMOKE_SECONDS
        if seconds < 2 * END_SECONDS:
            update(path, name, status="not run", error="no time was left")
            succeeded = False
            continue
        began = time.monotonic()
        good = start_section(name, path, log, cache, options, seconds)
        succeeded &= good
        section = read(path)["sections"][name]
        print(f"{name}: {section['status']} after {time.monotonic() - began:.0f} s", flush=True)
        if not good:
            print(f"    {section.get('error', '')}", flush=True)
    text = "\n".join(summary(read(path)["sections"]))
    atomic.write_text(options.out / "gpu.txt", text + "\n")
    print(text, flush=True)
    return succeeded


def summary(sections: dict[str, Any]) -> list[str]:
    """The results as text, as far as there are any."""
    from benchmarks import train_step

    results = {name: section.get("result", {}) for name, section in sections.items()}
    text = [f"{name}: {section.get('status', 'unfinished')}" for name, section in sections.items()]
    text.append(f"device: {results.get('environment', {}).get('device')}")
    for row in results.get("correctness", {}).get("differences", []):
        text.append(f"{row['name']:45s} {row['value']} (at most {row['tolerance']:g})")
    training = results.get("train_step", {})
    if training.get("rows"):
        limits = training["roofline"]
        rates = [f"{name} {rate / 1e12:.1f}" for name, rate in limits["flops_per_second"].items()]
        text.append(f"TFLOP/s: {', '.join(rates)}; copy: {limits['bytes_per_second'] / 1e9:.0f} GB/s")
        text += train_step.lines(training["rows"])
    text += [f"not measured, the time was over: {title}" for title in training.get("not_measured", [])]
    text += training.get("errors", [])
    text += [
        f"phantoms of {side} x {side} not measured, the time was over"
        for side in results.get("phantoms", {}).get("not_measured", [])
    ]
    for row in results.get("phantoms", {}).get("rows", []):
        rates = (row.get(f"{name}_cases_per_second", float("nan")) for name in ("device", "source"))
        text.append(
            "phantoms of {0} x {0}: {1:.0f} a second on the device, {2:.0f} at the host".format(
                row["side"], *rates
            )
        )
    if waiting := results.get("pipeline", {}).get("waiting"):
        text.append(
            f"waiting for data: {waiting['share']:.2%} of a step in turns, "
            f"{waiting['overlapped']['share']:.2%} in the loop of a run"
        )
    text += [f"{name}: {value}" for name, value in results.get("evaluation", {}).items()]
    for row in results.get("trace", {}).get("operations", [])[:10]:
        text.append(f"{row['share']:6.1%} {row['milliseconds']:9.3f} ms {row['count']:5d} {row['name']}")
    return text


def names(text: str) -> tuple[str, ...]:
    """Sections by name, separated by commas, in the order in which they run.

    Raises:
        argparse.ArgumentTypeError: there is no such section.
    """
    words = [word for word in text.split(",") if word]
    if unknown := sorted(set(words) - SECTIONS.keys()):
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(SECTIONS)}")
    return tuple(name for name in SECTIONS if name in words)


def main() -> int:
    """Runs all sections, or, in a process that was started for it, one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--minutes", type=float, default=8.7, help="of all sections together")
    parser.add_argument("--only", type=names, default=tuple(SECTIONS), metavar="SECTION,...")
    parser.add_argument(
        "--titles", default="", metavar="TEXT,...", help="rows of train_step with such a title, in that order"
    )
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on the CPU, without PyTorch")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.smoke:
        # Compiling takes most of a smoke test.
        flags = "--xla_backend_optimization_level=0"
        os.environ |= {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip(),
        }
    if not options.section:
        return int(not run_all(options))
    import jax

    if not options.smoke and jax.default_backend() == "cpu":
        update(
            options.out / "gpu.json", options.section, status="failed", error="JAX sees no GPU; try --smoke"
        )
        return 1
    return int(
        not run_section(
            options.section,
            options.out / "gpu.json",
            smoke=options.smoke,
            seconds=options.seconds,
            titles=options.titles,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
