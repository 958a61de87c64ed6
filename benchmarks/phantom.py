"""Count phantoms per second: clinical, wide and varied ones, at two sizes, as a source of cases draws them.

    python benchmarks/phantom.py

Compilation is measured apart; rounds alternate between the kinds.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import hardware
from configs import phantom_to_real
from kneefair_jax.data import phantom
from kneefair_jax.data.source import Source
from kneefair_jax.runtime import atomic, run_directory

KINDS = {
    f"{name}, {side} x {side}": (randomisation, films, side)
    for name, randomisation, films in (
        ("clinical", (0.0, 0.0), "plain"),
        ("wide", (1.0, 1.0), "plain"),
        ("wide and varied", (1.0, 1.0), "varied"),
    )
    for side in (128, 256)
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
    """Cases a second of each kind; the first 16 cases of a size include its compilation."""
    source_by_name = sources(cases)
    first = {name: seconds(source, 16) for name, source in source_by_name.items()}
    times: dict[str, list[float]] = {name: [] for name in source_by_name}
    for _ in range(rounds):
        for name, source in source_by_name.items():
            times[name].append(seconds(source, cases))
    rates = {name: [cases / t for t in values] for name, values in times.items()}
    return {
        "first_16_seconds": first,
        "cases_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "rounds": rates,
    }


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
    about = {
        "hardware": hardware(),
        "environment": run_directory.environment(),
        "load_average": os.getloadavg(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(options.out, about | results)
    for name, rate in results["cases_per_second"].items():
        print(f"{name:25s} {rate:8.1f} cases/s")


if __name__ == "__main__":
    main()
