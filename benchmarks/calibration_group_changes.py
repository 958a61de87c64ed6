"""Measure how often the interval of a group's mean change between two models covers it: prints a Markdown table.

    python -m benchmarks.calibration_group_changes

Of each cohort, one group is drawn: the changes of its patients, second model minus first.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.machine import hardware
from kneefair_jax.fairness import model_comparison, patient_table
from kneefair_jax.runtime import atomic, run_directory

OUT = Path(__file__).parent / "results" / "calibration_group_changes.json"
SIZES = (6, 10, 20, 40, 80)
DRAWS = 1000


class Scenario(NamedTuple):
    """How the changes of n patients are drawn, f[n], and their true mean."""

    draw: Callable[[np.random.Generator, int], np.ndarray]
    mean: float


SCENARIOS = {
    "normal": Scenario(lambda rng, n: rng.normal(0, 0.02, n), 0.0),
    "exchangeable models, skewed errors": Scenario(
        lambda rng, n: rng.gamma(0.5, 0.04, (2, n)).T @ np.array([1, -1]), 0.0
    ),
    "log-normal": Scenario(lambda rng, n: rng.lognormal(0, 1, n), float(np.exp(0.5))),
    "one patient of ten changes by 0.2 to 0.6": Scenario(
        lambda rng, n: np.where(rng.random(n) < 0.1, rng.uniform(0.2, 0.6, n), rng.normal(0, 0.01, n)), 0.04
    ),
}


def coverage(scenario: Scenario, size: int, cohorts: int) -> float:
    """Return the share of cohorts in which the interval of the group's change covers the true mean."""
    rng = np.random.default_rng(size)
    covered = 0
    for seed in range(cohorts):
        change = scenario.draw(rng, size)
        scores = {"a": np.zeros((1, size)), "b": change[None]}
        group = np.zeros(size, int)
        runs = patient_table.Runs(scores, group, ("group",), np.arange(size), scores, group)
        (result,) = model_comparison.changes_by_group(runs, DRAWS, seed)
        covered += result.interval is not None and result.interval[0] <= scenario.mean <= result.interval[1]
    return covered / cohorts


def main() -> None:
    """Print the table of docs/statistics.md, and write the shares as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohorts", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    shares = {
        name: {str(size): coverage(scenario, size, options.cohorts) for size in SIZES}
        for name, scenario in SCENARIOS.items()
    }
    about = {"hardware": hardware(), "environment": run_directory.environment(), "cohorts": options.cohorts}
    atomic.write_json(options.out, {"coverage": shares} | about)
    print("| changes |" + "".join(f" n = {size} |" for size in SIZES))
    print("|---|" + "---|" * len(SIZES))
    for name, by_size in shares.items():
        print(f"| {name} |" + "".join(f" {100 * share:.1f} |" for share in by_size.values()))


if __name__ == "__main__":
    main()
