"""Measure how often the interval of observed over size-expected errors (`reference_ser.beyond_size`) covers the truth.

    python -m benchmarks.size_ratio            # measures and writes benchmarks/results/size_ratio.json
    python -m benchmarks.size_ratio --table    # prints the table of docs/statistics.md from that file

Two groups. The error that follows from size varies by 15 % between patients and is 15 % higher in the second group; a
patient's observed error is that times gamma noise with mean 1, and in the second group times the true ratio.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from kneefair_jax.fairness import reference_ser
from kneefair_jax.runtime import atomic

SIZES = ((8, 8), (20, 20), (60, 20), (200, 60))
SPREADS = (0.3, 0.6, 1.0)  # coefficient of variation of the noise
RATIOS = (1.0, 1.3)
ERROR, BETWEEN = 0.05, 0.15
RESULTS = Path(__file__).parent / "results" / "size_ratio.json"


def coverage(sizes: tuple[int, int], spread: float, ratio: float, cohorts: int) -> float:
    """Return the share of cohorts whose interval covers the true ratio of the ratios."""
    rng = np.random.default_rng([*sizes, round(100 * spread), round(100 * ratio)])
    index = np.repeat([0, 1], sizes)
    count = 0
    for _ in range(cohorts):
        expected = ERROR * (1 + BETWEEN) ** index * rng.lognormal(0, BETWEEN, len(index))
        observed = expected * ratio**index * rng.gamma(spread**-2, spread**2, len(index))
        result = reference_ser.beyond_size(observed, expected, index, ("first", "second"))
        assert result and result.interval
        low, high = result.interval
        count += low <= (ratio if result.worst == "second" else 1 / ratio) <= high
    return count / cohorts


def table(results: dict[str, float]) -> str:
    """Return coverage in % as Markdown: a row a pair of sizes, a column a spread and a ratio."""
    columns = [*itertools.product(RATIOS, SPREADS)]
    head = " | ".join(f"ratio {ratio}, {100 * spread:.0f} %" for ratio, spread in columns)
    lines = [f"| patients | {head} |", "|---" * (len(columns) + 1) + "|"]
    for sizes in SIZES:
        shares = " | ".join(f"{100 * results[_key(sizes, spread, ratio)]:.1f}" for ratio, spread in columns)
        lines.append(f"| {sizes[0]} and {sizes[1]} | {shares} |")
    return "\n".join(lines)


def _key(sizes: tuple[int, int], spread: float, ratio: float) -> str:
    return f"{sizes[0]} and {sizes[1]}, spread {spread}, ratio {ratio}"


def main() -> None:
    """Measure all settings and write them as JSON, or print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", type=int, default=4_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print the table of the results in --out")
    options = parser.parse_args()
    if not options.table:
        settings = itertools.product(SIZES, SPREADS, RATIOS)
        results = {_key(*setting): coverage(*setting, options.cohorts) for setting in settings}
        atomic.write_json(options.out, {"cohorts": options.cohorts, "covered": results})
    print(table(json.loads(options.out.read_text())["covered"]))


if __name__ == "__main__":
    main()
