"""Count phantoms per second: clinical, wide and varied ones, at three sizes, as a source of cases draws them.

    python benchmarks/phantom.py

Compilation is measured apart; rounds alternate between the kinds. Then the quick start's training step is timed with
stored phantoms and with phantoms that the step draws (`data.phantom.online`), in turns.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import grain

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.jax_step import Run, in_turns, timer
from benchmarks.machine import hardware
from configs import phantom_to_real, quickstart
from kneefair_jax.data import cohort_loader, phantom, pipeline
from kneefair_jax.data.source import Source
from kneefair_jax.runtime import atomic, run_directory
from kneefair_jax.training import setup

KINDS = {
    f"{name}, {side} x {side}": (randomisation, films, side)
    for name, randomisation, films in (
        ("clinical", (0.0, 0.0), "plain"),
        ("wide", (1.0, 1.0), "plain"),
        ("wide and varied", (1.0, 1.0), "varied"),
    )
    for side in (128, 256, 512)
}


def sources(cases: int) -> dict[str, Source]:
    """A cohort of each kind."""
    config = phantom_to_real.get_config().data.phantom
    source_by_name = {}
    for name, (randomisation, films, side) in KINDS.items():
        config.update({"patients": cases, "randomisation": randomisation, "films": films})
        source_by_name[name] = phantom.source(config, size=(side, side), seed=0)
    return source_by_name


def seconds(source: Source, cases: int) -> float:
    """Time to draw the first cases of a cohort."""
    start = time.perf_counter()
    count = sum(1 for _ in source.read(range(cases)))
    assert count == cases
    return time.perf_counter() - start


def measure(cases: int, rounds: int) -> dict[str, Any]:
    """Cases a second of each kind; the first 16 cases of a size include its compilation.

    Args:
        cases: drawn in a round at 128 x 128, and fewer at larger sizes.
        rounds: of each kind.
    """
    source_by_name = sources(cases)
    counts = {name: max(16, cases * 128 // side) for name, (_, _, side) in KINDS.items()}
    first = {name: seconds(source, 16) for name, source in source_by_name.items()}
    times: dict[str, list[float]] = {name: [] for name in source_by_name}
    for _ in range(rounds):
        for name, source in source_by_name.items():
            times[name].append(seconds(source, counts[name]))
    rates = {name: [counts[name] / t for t in values] for name, values in times.items()}
    return {
        "first_16_seconds": first,
        "cases_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "rounds": rates,
    }


def step_timer(is_online: bool, side: int = 128) -> Run:
    """Compile the quick start's training step, with stored phantoms or with phantoms that it draws, for timing."""
    config = quickstart.get_config()
    config.data.size = (side, side)
    config.data.phantom.online = is_online
    cohort = cohort_loader.load(config.data, config.data.seed)
    run, size = setup.build(config, cohort), config.train.batch_size
    stored = [] if is_online else [case.arrays() for case in cohort.source.read(range(size))]
    inputs = pipeline.training_inputs(stored, cohort.source, cohort.cases)
    order = grain.MapDataset.range(size).repeat()
    batch = next(pipeline.training_batches(inputs, order, run.partition.index, batch_size=size))
    return timer(run.train_step, run.state, run.place(batch))


def drawing_share(rounds: int, round_seconds: float = 1.0, side: int = 128) -> dict[str, Any]:
    """Return the milliseconds of a step with stored and with online phantoms, and the share that drawing adds."""
    timers = {name: step_timer(name == "online", side) for name in ("stored", "online")}
    times = in_turns(timers, rounds, round_seconds)
    shares = [online / stored - 1 for stored, online in zip(times["stored"], times["online"], strict=True)]
    medians = {f"{name}_milliseconds": statistics.median(values) for name, values in times.items()}
    return {"side": side, **medians, "share": statistics.median(shares), "shares": shares}


def main() -> None:
    """Prints what it finds and writes it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "phantom.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", type=int, default=128)
    options = parser.parse_args()
    results = measure(options.cases, options.rounds)
    results["online"] = drawing_share(2 * options.rounds)
    about = {
        "hardware": hardware(),
        "environment": run_directory.environment(),
        "load_average": os.getloadavg(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(options.out, about | results)
    for name, rate in results["cases_per_second"].items():
        print(f"{name:25s} {rate:8.1f} cases/s")
    print(f"drawing in the step adds {results['online']['share']:.1%}")


if __name__ == "__main__":
    main()
