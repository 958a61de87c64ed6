"""What a run would meet on this machine: devices, versions, memory and disk, and where the time of a step goes."""

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
from kneefair_jax.data.case_arrays import Arrays
from kneefair_jax.runtime import memory, run_directory
from kneefair_jax.runtime.progress import duration
from kneefair_jax.training.setup import Experiment

SECONDS = 2.0  # of timing, for reading and for steps each
GIB = 2**30
# On disk at a time, about: the last two, each rule's choice, some that no other dominates, and one being written.
_CHECKPOINTS = 8


class Found(NamedTuple):
    """What was found and measured.

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


def measure(config: ConfigDict, made: Experiment, cases: Arrays, workdir: Path) -> Found:
    """Compiles and times the training step of a run, and the reading of its cases; the run's state is used up.

    Args:
        config: of the run.
        made: the run; `made.state` must not be used after this call, a step donates it.
        cases: prepared.
        workdir: the run's folder, there.
    """
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(made.state))
    batches = pipeline.training_batches(
        cases, made.order, made.partition.index, weight=made.weight, batch_size=config.train.batch_size
    )
    batch = next(batches)
    for _ in range(pipeline.READ.prefetch_buffer_size):
        next(batches)  # read ahead before anyone asked: no measure of how fast
    reading = np.mean(_times(lambda: next(batches))).item()
    state, compiling = made.state, time.perf_counter()
    state, metrics = made.train_step(state, made.place(batch))
    jax.block_until_ready(metrics)
    compiling = time.perf_counter() - compiling

    def step() -> None:
        nonlocal state
        state, metrics = made.train_step(state, made.place(batch))
        jax.block_until_ready(metrics)

    stepping = np.median(_times(step)).item()
    device = jax.devices()[0]
    environment = run_directory.environment()
    return Found(
        devices=environment["device"],
        backend=jax.default_backend(),
        hidden_gpus=0 if jax.default_backend() == "gpu" else nvidia_gpus(),
        versions=environment["versions"],
        device_bytes=None if device.platform == "cpu" else (device.memory_stats() or {}).get("bytes_limit"),
        host_bytes=memory.host_bytes(),
        free_bytes=shutil.disk_usage(workdir).free,
        checkpoint_bytes=size,
        compile_seconds=compiling,
        step_seconds=stepping,
        batch_size=config.train.batch_size,
        batch_seconds=reading,
        steps=made.steps,
    )


def nvidia_gpus(devices: Path = Path("/dev")) -> int:
    """NVIDIA GPUs that the driver shows on this machine."""
    return sum(path.name.removeprefix("nvidia").isdigit() for path in devices.glob("nvidia*"))


def lines(found: Found) -> Iterator[str]:
    """For the terminal: what there is, how fast it is, and what is slow and why."""
    libraries = ", ".join(f"{name} {found.versions[name]}" for name in ("python", "jax", "flax"))
    memory = f"{found.host_bytes / GIB:.0f} GiB of memory"
    if found.device_bytes:
        memory += f", {found.device_bytes / GIB:.0f} GiB a device"
    yield f"machine: {found.devices}; {libraries}; {memory}; {found.free_bytes / GIB:.1f} GiB of disk free"
    yield (
        f"a training step takes {1000 * found.step_seconds:.0f} ms, {found.batch_size / found.step_seconds:.0f} cases "
        f"a second, after {found.compile_seconds:.0f} s of compilation; reading gives "
        f"{found.batch_size / found.batch_seconds:.0f} cases a second"
    )
    yield f"{found.steps} steps: {duration(found.steps * slower(found) + found.compile_seconds)}, besides evaluations"
    for note in notes(found):
        yield f"note: {note}"


def slower(found: Found) -> float:
    """Seconds of a step with its reading beside it, the longer of the two."""
    return max(found.step_seconds, found.batch_seconds)


def notes(found: Found) -> Iterator[str]:
    """What is slow or scarce, why, and what helps."""
    if found.hidden_gpus:
        yield (
            f"this machine has {found.hidden_gpus} NVIDIA GPUs and JAX sees none; install '.[cuda]', and see that "
            "JAX_PLATFORMS and CUDA_VISIBLE_DEVICES do not hide them"
        )
    elif found.backend == "cpu":
        yield "JAX runs on the CPU, where convolutions take nearly all of a step; a GPU is what helps"
    if found.batch_seconds > found.step_seconds:
        yield (
            "reading is slower than the step: the first pass over the cases waits for it (later ones keep what fits in "
            "memory); put data.store on a local disk"
        )
    needed = _CHECKPOINTS * found.checkpoint_bytes
    if found.free_bytes < needed:
        yield (
            f"the disk has {found.free_bytes / GIB:.2f} GiB free, and checkpoints take about {needed / GIB:.2f} GiB; "
            "make room, or give another --workdir"
        )
    if found.host_bytes < 4 * GIB:
        yield "less than 4 GiB of memory; a smaller train.batch_size needs less"


def _times(work: Any) -> list[float]:
    """Seconds of each call, for `SECONDS` in all, at least 3 and at most 50 calls."""
    times: list[float] = []
    for count in itertools.count():
        if count >= 50 or (count >= 3 and sum(times) > SECONDS):
            return times
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return times
