"""Measure this machine before a run: devices, versions, memory and disk, and the time of a training step."""

import itertools
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from kneefair_jax.data import pipeline
from kneefair_jax.data.pipeline import Arrays
from kneefair_jax.runtime import memory, run_directory
from kneefair_jax.runtime.progress import duration
from kneefair_jax.training.setup import Experiment

SECONDS = 2.0  # of timing, for reading and for steps each
GIB = 2**30
# Approximate number on disk at a time: the last two, each rule's choice, some undominated ones, and one being written.
_CHECKPOINTS = 8


class Hardware(NamedTuple):
    """The machine, and timings of a run on it.

    Attributes:
        devices: number and kind, such as `8 x NVIDIA H100`.
        backend: `cpu`, `gpu` or `tpu`.
        hidden_gpus: NVIDIA GPUs of the machine that JAX does not see.
        versions: of Python and the libraries.
        device_bytes: memory of one device; None where it is the host's.
        host_bytes: memory of the host.
        free_bytes: of the disk that holds the run's folder.
        checkpoint_bytes: of one checkpoint.
        compile_seconds: of the training step.
        step_seconds: median of a training step, after the first.
        batch_size: cases of a step.
        batch_seconds: mean of reading a batch from the store, with the threads of training.
        steps: of the run.
    """

    devices: str
    backend: str
    hidden_gpus: int
    versions: dict[str, str]
    device_bytes: int | None
    host_bytes: int
    free_bytes: int
    checkpoint_bytes: int
    compile_seconds: float
    step_seconds: float
    batch_size: int
    batch_seconds: float
    steps: int


def measure(config: ConfigDict, experiment: Experiment, cases: Arrays, workdir: Path) -> Hardware:
    """Compile and time the training step of a run, and the reading of its cases; this consumes the run's state.

    Args:
        config: of the run.
        experiment: the run; `experiment.state` must not be used after this call, since a step donates it.
        cases: prepared.
        workdir: the run directory, which exists.
    """
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(experiment.state))
    batches = pipeline.training_batches(
        cases,
        experiment.order,
        experiment.partition.index,
        weight=experiment.weight,
        batch_size=config.train.batch_size,
    )
    batch = next(batches)
    for _ in range(pipeline.READ.prefetch_buffer_size):
        next(batches)  # prefetched before the timing starts
    batch_seconds = np.mean(_times(lambda: next(batches))).item()
    state, start = experiment.state, time.perf_counter()
    state, metrics = experiment.train_step(state, experiment.place(batch))
    jax.block_until_ready(metrics)
    compile_seconds = time.perf_counter() - start

    def step() -> None:
        nonlocal state
        state, metrics = experiment.train_step(state, experiment.place(batch))
        jax.block_until_ready(metrics)

    step_seconds = np.median(_times(step)).item()
    device = jax.devices()[0]
    environment = run_directory.environment()
    return Hardware(
        devices=environment["device"],
        backend=jax.default_backend(),
        hidden_gpus=0 if jax.default_backend() == "gpu" else nvidia_gpus(),
        versions=environment["versions"],
        device_bytes=None if device.platform == "cpu" else (device.memory_stats() or {}).get("bytes_limit"),
        host_bytes=memory.host_bytes(),
        free_bytes=shutil.disk_usage(workdir).free,
        checkpoint_bytes=size,
        compile_seconds=compile_seconds,
        step_seconds=step_seconds,
        batch_size=config.train.batch_size,
        batch_seconds=batch_seconds,
        steps=experiment.steps,
    )


def nvidia_gpus(devices: Path = Path("/dev")) -> int:
    """Return the number of NVIDIA GPUs that the driver shows on this machine."""
    return sum(path.name.removeprefix("nvidia").isdigit() for path in devices.glob("nvidia*"))


def lines(hardware: Hardware) -> Iterator[str]:
    """Yield the lines for the terminal: the machine, its speed, and notes on what is slow or scarce."""
    libraries = ", ".join(f"{name} {hardware.versions[name]}" for name in ("python", "jax", "flax"))
    memory_text = f"{hardware.host_bytes / GIB:.0f} GiB of memory"
    if hardware.device_bytes:
        memory_text += f", {hardware.device_bytes / GIB:.0f} GiB a device"
    yield f"machine: {hardware.devices}; {libraries}; {memory_text}; {hardware.free_bytes / GIB:.1f} GiB of disk free"
    train_rate, read_rate = (
        hardware.batch_size / hardware.step_seconds,
        hardware.batch_size / hardware.batch_seconds,
    )
    yield (
        f"a training step takes {1000 * hardware.step_seconds:.0f} ms, {train_rate:.0f} cases a second, after "
        f"{hardware.compile_seconds:.0f} s of compilation; reading gives {read_rate:.0f} cases a second"
    )
    seconds = hardware.steps * step_and_read_seconds(hardware) + hardware.compile_seconds
    yield f"{hardware.steps} steps: {duration(seconds)}, besides evaluations"
    for note in notes(hardware):
        yield f"note: {note}"


def step_and_read_seconds(hardware: Hardware) -> float:
    """Return the seconds of a step with concurrent reading, which are those of the slower one."""
    return max(hardware.step_seconds, hardware.batch_seconds)


def notes(hardware: Hardware) -> Iterator[str]:
    """Yield a note on each thing that is slow or scarce, with the reason and the remedy."""
    if hardware.hidden_gpus:
        yield (
            f"this machine has {hardware.hidden_gpus} NVIDIA GPUs and JAX detects none; install '.[cuda]', and check "
            "that JAX_PLATFORMS and CUDA_VISIBLE_DEVICES do not hide them"
        )
    elif hardware.backend == "cpu":
        yield "JAX runs on the CPU, where convolutions take nearly all of a step; use a GPU"
    if hardware.batch_seconds > hardware.step_seconds:
        yield (
            "reading is slower than the step, so the first pass over the cases waits for it (later passes read from "
            "memory what fits); put data.store on a local disk"
        )
    needed = _CHECKPOINTS * hardware.checkpoint_bytes
    if hardware.free_bytes < needed:
        yield (
            f"the disk has {hardware.free_bytes / GIB:.2f} GiB free, and checkpoints take about "
            f"{needed / GIB:.2f} GiB; make room, or give another --workdir"
        )
    if hardware.host_bytes < 4 * GIB:
        yield "less than 4 GiB of memory; a smaller train.batch_size needs less"


def _times(work: Any) -> list[float]:
    """Return the seconds of each call, for `SECONDS` in total, at least 3 and at most 50 calls."""
    times: list[float] = []
    for count in itertools.count():
        if count >= 50 or (count >= 3 and sum(times) > SECONDS):
            return times
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times
