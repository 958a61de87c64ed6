r"""Measure cases per second of the input pipeline and of other loaders, and the time that training waits for data.

    python benchmarks/pipeline.py --torch_python=PYTHON_WITH_TORCH

The cases are those of configs/quickstart.py. Every loader reads them uncompressed from memory-mapped arrays, the
pipeline also from its own store: in the first epoch of a run it unpacks them, in the later ones it has kept them.
Rounds alternate between the loaders, so that a busy machine is busy for all; ratios are medians over the rounds. The
torch environment is one of its own: pip install torch==2.13.0 numpy.
"""

import argparse
import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import hardware
from configs import quickstart
from kneefair_jax import groups
from kneefair_jax.data import cohort_loader, pipeline, sampling, store
from kneefair_jax.runtime import atomic, run_directory
from kneefair_jax.training import setup

WORKERS = (0, 2)  # processes of the DataLoader


class Mapped:
    """Cases in memory-mapped arrays, with the interface of `store.Cases`."""

    def __init__(self, folder: Path):
        self.image = np.load(folder / "image.npy", mmap_mode="r")
        self.label = np.load(folder / "label.npy", mmap_mode="r")
        self.spacing = np.ones(2, np.float32)

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        return {
            "image": np.array(self.image[row]),
            "label": np.array(self.label[row]),
            "spacing": self.spacing,
        }


def plain(cases: Mapped, batch_size: int, epochs: int) -> Iterator[dict[str, np.ndarray]]:
    """What one would write without any of this."""
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        order = rng.permutation(len(cases))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            rows = order[start : start + batch_size]
            yield {"image": cases.image[rows], "label": cases.label[rows], "case": rows}


def seconds(batches: Iterator[Any], steps: int) -> float:
    """Time to take that many batches, the start of the threads included."""
    start = time.perf_counter()
    batch_count = sum(1 for _ in itertools.islice(batches, steps))
    elapsed = time.perf_counter() - start
    assert batch_count == steps
    return elapsed


def throughput(
    cases: store.Cases, folder: Path, batch_size: int, rounds: int, epochs: int, torch_python: str | None
) -> dict[str, Any]:
    """Cases a second of each loader."""
    mapped, cached = Mapped(folder), pipeline.CachedCases(cases)
    steps = epochs * (len(mapped) // batch_size)
    group = np.zeros(len(mapped), np.int32)

    def piped(source: Any) -> float:
        order = _shuffled(len(mapped), batch_size)
        return seconds(pipeline.training_batches(source, order, group, batch_size=batch_size), steps)

    loaders: dict[str, Callable[[], float]] = {
        "pipeline, first epoch": lambda: piped(cases),
        "pipeline, later epochs": lambda: piped(cached),
        "pipeline, memory-mapped": lambda: piped(mapped),
        "plain loop, memory-mapped": lambda: seconds(plain(mapped, batch_size, epochs), steps),
    }
    with contextlib.ExitStack() as stack:
        torch_version = None
        if torch_python:
            torch_version, loader_rates = stack.enter_context(
                torch_loaders(torch_python, folder, batch_size, epochs)
            )
            loaders |= loader_rates
        for run in loaders.values():
            run()  # files into the page cache, workers started
        times: dict[str, list[float]] = {name: [] for name in loaders}
        for _ in range(rounds):
            for name, run in loaders.items():
                times[name].append(run())
    rates = {name: [steps * batch_size / t for t in values] for name, values in times.items()}
    ratios = {
        f"{pipeline_name} / {name}": _median(
            [a / b for a, b in zip(rates[pipeline_name], rates[name], strict=True)]
        )
        for pipeline_name in rates
        for name in rates
        if pipeline_name.startswith("pipeline") and not name.startswith("pipeline")
    }
    return {
        "torch": torch_version,
        "cases_per_second": {name: _median(values) for name, values in rates.items()},
        "rounds": {name: [round(value) for value in values] for name, values in rates.items()},
        "ratios": ratios,
    }


@contextlib.contextmanager
def torch_loaders(
    python: str, folder: Path, batch_size: int, epochs: int
) -> Iterator[tuple[str, dict[str, Callable[[], float]]]]:
    """Torch's version, and a DataLoader for each number of workers, in a process that lives as long as this."""
    script = Path(__file__).with_name("torch_loader.py")
    arguments = [folder, batch_size, *WORKERS]
    with subprocess.Popen(
        [python, str(script), *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        write, read = process.stdin, process.stdout

        def answer() -> str:
            if line := read.readline().strip():
                return line
            raise SystemExit("the torch process ended; its error is above")

        def ask(workers: int) -> float:
            print(workers, epochs, file=write, flush=True)
            return float(answer())

        names = {f"DataLoader, {workers} workers, memory-mapped": workers for workers in WORKERS}
        yield answer(), {name: partial(ask, workers) for name, workers in names.items()}


def waiting(
    config: Any, cohort: cohort_loader.Cohort, cases: store.Cases, rounds: int, steps: int
) -> dict[str, Any]:
    """The share of the training step's time in which the device has nothing to do because data are not there.

    For `share`, each step is waited for before the next batch is asked for. So waiting is counted in full. The loop of
    a real run asks while the device still computes: `overlapped` compares that loop with steps on a batch that is on
    the device already, and its share is 1 - the second's time over the first's.
    """
    experiment = setup.build(config, cohort)
    batch_size = config.train.batch_size
    state = experiment.state
    shares: list[float] = []
    milliseconds: list[float] = []
    arrays = pipeline.CachedCases(cases)
    batches = pipeline.training_batches(
        arrays, experiment.order, experiment.partition.index, batch_size=batch_size
    )
    for _ in range(3):  # compiles, and fills the buffers
        state, metrics = experiment.train_step(state, experiment.place(next(batches)))
        jax.block_until_ready(metrics)
    for _ in range(rounds):
        waited, start = 0.0, time.perf_counter()
        for _ in range(steps):
            request = time.perf_counter()
            batch = experiment.place(next(batches))
            waited += time.perf_counter() - request
            state, metrics = experiment.train_step(state, batch)
            jax.block_until_ready((state, metrics))
        elapsed = time.perf_counter() - start
        shares.append(waited / elapsed)
        milliseconds.append(1000 * elapsed / steps)
    overlapped: dict[str, list[float]] = {"loop": [], "resident": []}
    resident = experiment.place(next(batches))
    for _, way in itertools.product(range(rounds), overlapped):
        start = time.perf_counter()
        for _ in range(steps):
            batch = resident if way == "resident" else experiment.place(next(batches))
            state, metrics = experiment.train_step(state, batch)
        jax.block_until_ready((state, metrics))
        overlapped[way].append(1000 * (time.perf_counter() - start) / steps)
    waits = [
        1 - resident_time / loop
        for resident_time, loop in zip(overlapped["resident"], overlapped["loop"], strict=True)
    ]
    return {
        "overlapped": {
            "share": max(0.0, _median(waits)),
            "milliseconds": {way: _median(values) for way, values in overlapped.items()},
            "rounds": overlapped,
        },
        "share": _median(shares),
        "step_milliseconds": _median(milliseconds),
        "steps": steps,
        "rounds": {"share": shares, "step_milliseconds": milliseconds},
    }


def main() -> None:
    """Prints what it finds and writes it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch_python", help="a Python with torch; without it, no DataLoader")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "pipeline.json")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=10, help="of each loader in each round")
    parser.add_argument("--steps", type=int, default=50, help="training steps in each round")
    parser.add_argument("--patients", type=int, default=300, help="phantom patients, two knees each")
    options = parser.parse_args()
    config = quickstart.get_config()
    config.data.phantom.patients = options.patients
    cohort = cohort_loader.load(config.data, config.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = store.prepare(cohort.source, cohort.grid, folder / "store")
        for key in ("image", "label"):
            np.save(folder / f"{key}.npy", np.stack([cases[row][key] for row in range(len(cases))]))
        batch_size = config.train.batch_size
        read = throughput(cases, folder, batch_size, options.rounds, options.epochs, options.torch_python)
        waits = waiting(config, cohort, cases, options.rounds, options.steps)
    result = {
        "what": f"{len(cases)} cases of {'x'.join(map(str, cohort.grid))}, batches of {batch_size}",
        "hardware": hardware(),
        "environment": run_directory.environment(),
        "load_average": os.getloadavg(),
        "throughput": read,
        "waiting": waits,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(options.out, result)
    for title, value in {**read["cases_per_second"], **read["ratios"]}.items():
        print(f"{title:75s} {value:10.3g}")
    print(f"{'share of a training step spent waiting for data':75s} {waits['share']:10.3%}")


def _shuffled(count: int, batch_size: int) -> Any:
    rows = np.arange(count)
    no_groups = groups.Partition((), (), np.full(count, groups.UNKNOWN, np.int32))
    return sampling.shuffled(rows, no_groups, rows, batch_size, 0)


def _median(values: list[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    main()
