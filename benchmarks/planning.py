"""Check the sample sizes of `fairness.patients_needed` by simulated power.

    python -m benchmarks.planning

Two groups with beta scores of mean 0.95 and a standard deviation of 0.03 among patients who do not fail; a patient who
fails has a Dice of 0. Power of 80 %, tests at 5 %. The difference of means is tested by Welch's t among patients who do
not fail, that of failure rates by Fisher's exact test, and equivalence by `equivalence.tost`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.machine import hardware
from kneefair_jax.fairness import equivalence, power, two_part
from kneefair_jax.runtime import atomic, run_directory

MEAN, SD = 0.95, 0.03
MARGINS, RATES, RATIOS = (0.02, 0.01), (0.0, 0.01, 0.02, 0.05), (1, 3)
LEVEL = 0.05


def group(rng: np.random.Generator, patients: int, rate: float, lower: float = 0.0) -> two_part.Scores:
    """Scores of one group, whose mean without failures lies `lower` below the others'."""
    mean = MEAN - lower
    total = mean * (1 - mean) / SD**2 - 1
    scores = rng.beta(mean * total, (1 - mean) * total, patients)
    failed = rng.random(patients) < rate
    return two_part.summarize(np.where(failed, 0.0, scores), failed, 0.0, 1.0)


def simulated(needed: power.PatientsNeeded, cohorts: int, seed: int = 0) -> dict[str, float | None]:
    """The share of cohorts in which each difference, or equivalence, is found with as many patients as it needs."""
    rng = np.random.default_rng([seed, round(1e4 * needed.margin), round(1e4 * needed.failure_rate)])
    rejections = {"mean": 0, "failures": 0, "equivalence": 0}
    for _ in range(cohorts):
        if needed.mean is not None:
            sizes = (needed.mean, int(np.ceil(needed.ratio * needed.mean)))
            low, high = (
                group(rng, n, needed.failure_rate, lower)
                for n, lower in zip(sizes, (needed.margin, 0.0), strict=True)
            )
            test = stats.ttest_ind_from_stats(
                *(low.center, low.error * np.sqrt(low.freedom + 1), low.freedom + 1),
                *(high.center, high.error * np.sqrt(high.freedom + 1), high.freedom + 1),
                equal_var=False,
            )
            rejections["mean"] += test.pvalue <= LEVEL
        if needed.failures is not None:
            n, m = needed.failures, int(np.ceil(needed.ratio * needed.failures))
            a, b = (
                rng.binomial(size, rate)
                for size, rate in ((n, needed.failure_rate + needed.margin), (m, needed.failure_rate))
            )
            rejections["failures"] += stats.fisher_exact([[a, b], [n - a, m - b]]).pvalue <= LEVEL
        if needed.equivalence is not None:
            sizes = (needed.equivalence, int(np.ceil(needed.ratio * needed.equivalence)))
            groups = [group(rng, n, needed.failure_rate) for n in sizes]
            rejections["equivalence"] += equivalence.tost(groups, "ab", needed.margin).equivalent
    return {
        name: None if getattr(needed, name) is None else count / cohorts for name, count in rejections.items()
    }


def main() -> None:
    """Prints the numbers of patients and the simulated power, and writes them as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "planning.json")
    parser.add_argument("--cohorts", type=int, default=2_000)
    options = parser.parse_args()
    settings: dict[str, Any] = {}
    for margin in MARGINS:
        for rate in RATES:
            for ratio in RATIOS:
                needed = power.patients_needed(margin, SD, rate, ratio=ratio, span=MEAN)
                name = f"margin {margin:g}, failures {100 * rate:g} %, ratio {ratio}"
                patients = {kind: getattr(needed, kind) for kind in ("mean", "failures", "equivalence")}
                settings[name] = {"patients": patients, "power": simulated(needed, options.cohorts)}
                print(name, json.dumps(settings[name]), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about = {"hardware": hardware(), "environment": run_directory.environment(), "cohorts": options.cohorts}
    atomic.write_json(options.out, about | {"settings": settings})


if __name__ == "__main__":
    main()
