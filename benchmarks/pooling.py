"""Measure the error and the coverage of pooled means (`kneefair_jax.fairness.small_groups`) in simulated cohorts.

    python -m benchmarks.pooling            # measures and writes benchmarks/results/pooling.json
    python -m benchmarks.pooling --table    # prints the table of docs/statistics.md from that file

Scores are in units of a patient's standard deviation. Means of groups deviate from the main effects of their attributes
by a normal deviation with the standard deviation `tau`; main effects are drawn once a layout. Counted are groups of 3
to 29 patients. The model was chosen on other random draws of `LAYOUTS`; `HELD_OUT` had no part in that choice.
"""

import argparse
import json
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from kneefair_jax.fairness import small_groups
from kneefair_jax.runtime import atomic

# Patients of each group, by levels of one attribute or of two.
LAYOUTS = {
    "2 groups": [[80, 10]],
    "3 groups": [[60, 20, 6]],
    "6 groups": [[80, 40, 20, 10, 5, 3]],
    "2 x 2 cells": [[40, 9], [60, 5]],
    "2 x 4 cells": [[40, 20, 9, 4], [60, 15, 6, 3]],
    "3 x 5 cells": [[50, 25, 12, 6, 3], [30, 15, 8, 5, 3], [20, 10, 6, 4, 3]],
}
HELD_OUT = {
    "4 groups": [[100, 25, 8, 4]],
    "2 x 3 cells": [[70, 15, 5], [25, 10, 7]],
    "4 x 4 cells": [[60, 30, 12, 5], [40, 20, 10, 4], [25, 15, 6, 3], [12, 8, 5, 3]],
}
MAIN_EFFECTS = 0.7
RESULTS = Path(__file__).parent / "results" / "pooling.json"


class Truth(NamedTuple):
    """How scores arise.

    Attributes:
        tau: standard deviation of the groups' deviations.
        wide: the spread of every second group.
        skewed: whether errors are log-normal, with a tail toward low scores.
        outlier: deviation of the smallest group alone, in place of `tau`.
    """

    tau: float = 0.3
    wide: float = 1.0
    skewed: bool = False
    outlier: float = 0.0


TRUTHS = {
    "no deviations": Truth(0.0),
    "tiny deviations": Truth(0.15),
    "small deviations": Truth(),
    "large deviations": Truth(1.0),
    "doubled spread": Truth(wide=2.0),
    "skewed scores": Truth(skewed=True),
    "skewed, doubled spread": Truth(wide=2.0, skewed=True),
    "one group deviates": Truth(0.0, outlier=-1.5),
}


def design(layout: np.ndarray) -> np.ndarray:
    """Return f64[G, p], the mean and, for two attributes, indicators of their levels."""
    row, column = (place.ravel() for place in np.indices(layout.shape))
    levels = [row == k for k in range(1, layout.shape[0])]
    levels += [column == k for k in range(1, layout.shape[1]) if layout.shape[0] > 1]
    return np.stack([np.ones(layout.size), *levels], axis=1)


def measure(name: str, truth_name: str, cohorts: int) -> dict[str, float]:
    """Return coverage, error and width over the small groups; means over groups and cohorts."""
    layout, truth = np.array((LAYOUTS | HELD_OUT)[name]), TRUTHS[truth_name]
    sizes, columns = layout.ravel(), design(layout)
    small = sizes < small_groups.POOLED_PATIENTS.stop
    effects = np.random.default_rng(5).normal(0, MAIN_EFFECTS, columns.shape[1])
    effects[0] = 0
    spread = np.where(np.arange(len(sizes)) % 2, truth.wide, 1.0)
    rng = np.random.default_rng([cohorts, zlib.crc32(f"{name}: {truth_name}".encode())])
    rows = []
    for _ in range(cohorts):
        deviations = truth.tau * rng.normal(size=len(sizes))
        deviations[sizes.argmin()] += truth.outlier
        means = columns @ effects + deviations
        scores = [
            mean + scale * _errors(rng, n, truth.skewed)
            for mean, scale, n in zip(means, spread, sizes, strict=True)
        ]
        pooled = small_groups.pool(scores, columns)
        estimates = np.array([one.mean for one in pooled])
        ends = np.array([one.interval for one in pooled])
        raw = np.array([one.raw for one in pooled])
        student = special.stdtrit(sizes - 1.0, 0.975) * [values.std(ddof=1) for values in scores] / sizes**0.5
        rows.append(
            [
                (ends[:, 0] <= means) & (means <= ends[:, 1]),
                np.abs(raw - means) <= student,
                (estimates - means) ** 2,
                (raw - means) ** 2,
                ends[:, 1] - ends[:, 0],
                2 * student,
            ]
        )
    coverage, student_coverage, error, raw_error, width, student_width = np.mean(rows, axis=0)[:, small]
    return {
        "covered": float(coverage.mean()),
        "least_covered_group": float(coverage.min()),
        "smallest_group_covered": float(coverage[sizes[small].argmin()]),
        "raw_covered": float(student_coverage.mean()),
        "squared_error_over_raw": float(error.mean() / raw_error.mean()),
        "worst_group_squared_error_over_raw": float((error / raw_error).max()),
        "width_over_raw": float(width.mean() / student_width.mean()),
    }


def _errors(rng: np.random.Generator, n: int, skewed: bool) -> np.ndarray:
    """Return f64[n] errors with mean 0 and standard deviation 1."""
    noise = rng.normal(size=n)
    return (np.exp(0.32) - np.exp(0.8 * noise)) / np.sqrt(np.exp(1.28) - np.exp(0.64)) if skewed else noise


def table(results: dict[str, Any]) -> str:
    """Return coverage in % and squared error over the raw means' as Markdown: a row a truth, a column a layout."""
    layouts = [*LAYOUTS, *(f"*{name}*" for name in HELD_OUT)]
    lines = [f"| deviations | {' | '.join(layouts)} |", "|---" * (len(layouts) + 1) + "|"]
    for truth in TRUTHS:
        cells = [results["settings"][f"{layout}: {truth}"] for layout in LAYOUTS | HELD_OUT]
        pairs = [f"{100 * cell['covered']:.1f}, {cell['squared_error_over_raw']:.2f}" for cell in cells]
        lines.append(f"| {truth} | {' | '.join(pairs)} |")
    return "\n".join(lines)


def main() -> None:
    """Print each setting and write all of them as JSON, or print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print the table of the results in --out")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.out.read_text())))
        return
    results: dict[str, dict[str, float]] = {}
    for layout in LAYOUTS | HELD_OUT:
        for truth in TRUTHS:
            results[f"{layout}: {truth}"] = measure(layout, truth, options.cohorts)
            print(f"{layout}: {truth}", json.dumps(results[f"{layout}: {truth}"]), flush=True)
    atomic.write_json(options.out, {"cohorts": options.cohorts, "settings": results})


if __name__ == "__main__":
    main()
