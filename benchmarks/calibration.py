"""Do intervals cover and tests reject as often as they say? Simulated cohorts of paired knees with a known truth.

    python benchmarks/calibration.py

A patient has two knees whose scores correlate by 0.5. Errors have the mean 0.08 and the SD 0.03 (0.06 in the last group
where spread is doubled); skewed ones are log-normal, bounded ones beta. In a share of the patients one knee fails, with
a Dice of 0. Intervals and tests are the package's own; beside them stand choices that look natural and are not. The
cohorts of a batch share their permutations, which changes no cohort's result in distribution.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from scipy import stats

from benchmarks.machine import hardware
from kneefair_jax.fairness import equivalence, group_intervals, hypothesis_tests, inference, two_part
from kneefair_jax.fairness.two_part import Scores
from kneefair_jax.runtime import atomic, run_directory

MEAN_ERROR, SD = 0.08, 0.03
DELTA = 0.03  # equivalence margin, and the true difference at its edge
BATCH = 100


class Condition(NamedTuple):
    """How cohorts are drawn.

    Attributes:
        sizes: patients of each group.
        wider: SD of each group's knees over `SD`.
        shape: `normal`, `skewed` or `beta`.
        failures: share of each group's patients of whom a knee fails.
        compensated: whether the means are equal all the same: groups that fail more score higher otherwise.
    """

    sizes: tuple[int, ...]
    wider: tuple[float, ...]
    shape: str
    failures: tuple[float, ...]
    compensated: bool = False

    @property
    def name(self) -> str:
        """`60-15 skewed doubled, failures 0 and 5 %`."""
        spread = "doubled" if max(self.wider) > 1 else "equal"
        shares = " and ".join(f"{100 * share:g}" for share in dict.fromkeys(self.failures))
        equal = ", equal means" if self.compensated else ""
        return f"{'-'.join(map(str, self.sizes))} {self.shape} {spread}, failures {shares} %{equal}"

    @property
    def truth(self) -> np.ndarray:
        """The groups' true mean scores, f64[G]: a patient who fails loses half of the mean."""
        return self.centers * (1 - np.array(self.failures) / 2)

    @property
    def centers(self) -> np.ndarray:
        """The groups' mean scores without failures, f64[G]."""
        kept = 1 - np.array(self.failures) / 2
        return (1 - MEAN_ERROR) * (kept.min() / kept if self.compensated else np.ones(len(kept)))


CONDITIONS = (
    [
        Condition(sizes, (*(1.0 for _ in sizes[1:]), wider), shape, (0.0,) * len(sizes))
        for sizes, shape, wider in product(
            ((60, 15), (200, 60), (100, 30, 12), (60, 5)), ("normal", "skewed"), (1.0, 2.0)
        )
    ]
    + [
        Condition((n, n), (1.0, 1.0), "beta", failures)
        for n, failures in product(
            (12, 30, 60, 150, 500),
            ((0.0, 0.0), (0.01, 0.01), (0.02, 0.02), (0.05, 0.05), (0.0, 0.05), (0.01, 0.03)),
        )
    ]
    + [
        Condition(sizes, (1.0,) * len(sizes), "beta", failures)
        for sizes, failures in (
            ((200, 60), (0.02, 0.02)),
            ((200, 60), (0.0, 0.05)),
            ((60, 15), (0.02, 0.02)),
            ((60, 15), (0.0, 0.05)),
            ((100, 30, 12), (0.02, 0.02, 0.02)),
            ((100, 30, 12), (0.0, 0.0, 0.05)),
        )
    ]
) + [
    Condition(sizes, (1.0, 1.0), "beta", (0.0, 0.02), compensated=True)
    for sizes in ((60, 60), (200, 60), (150, 150))
]


def knees(condition: Condition, cohorts: int, rng: np.random.Generator) -> np.ndarray:
    """Errors of two knees a patient, of the condition's `centers` but for failures: f64[cohorts, P, 2]."""
    groups = []
    for size, wider, failures, center in zip(
        condition.sizes, condition.wider, condition.failures, condition.centers, strict=True
    ):
        sd, mean = SD * wider, 1 - center
        # The logarithms' variance, and the correlation that they need for one of 0.5 between the errors.
        log = np.log1p((sd / mean) ** 2)
        share = np.log1p(np.expm1(log) / 2) / log if condition.shape == "skewed" else 0.5
        patient, knee = rng.normal(size=(cohorts, size, 1)), rng.normal(size=(cohorts, size, 2))
        z = np.sqrt(share) * patient + np.sqrt(1 - share) * knee
        if condition.shape == "skewed":
            errors = mean * np.exp(np.sqrt(log) * z - log / 2)
        elif condition.shape == "beta":
            total = mean * (1 - mean) / sd**2 - 1
            errors = stats.beta.ppf(stats.norm.cdf(z), mean * total, (1 - mean) * total)
        else:
            errors = mean + sd * z
        errors[..., 0][rng.random((cohorts, size)) < failures] = 1.0
        groups.append(errors)
    return np.concatenate(groups, axis=1)


def batch(
    condition: Condition, cohorts: int, rng: np.random.Generator, permutations: int
) -> dict[str, np.ndarray]:
    """What happened in each cohort: measure -> bool[cohorts], or a width f64[cohorts]."""
    errors = knees(condition, cohorts, rng)
    sizes, truth = np.array(condition.sizes), condition.truth
    scores, failed = 1 - errors.mean(2), (errors > 0.5).any(2)
    tests = hypothesis_tests.permuted_welch(scores, sizes, rng, permutations)
    assert tests is not None
    measured: dict[str, list[float]] = {}
    for cohort in range(cohorts):
        parts = np.split(scores[cohort], np.cumsum(sizes)[:-1])
        flags = np.split(failed[cohort], np.cumsum(sizes)[:-1])
        groups = [two_part.scores(part, flag, 0.0, 1.0) for part, flag in zip(parts, flags, strict=True)]
        for name, value in _of_cohort(groups, parts, tests, cohort, truth).items():
            measured.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in measured.items()}


def _of_cohort(
    groups: list[Scores],
    parts: list[np.ndarray],
    tests: hypothesis_tests.PermutationTests,
    k: int,
    truth: np.ndarray,
) -> dict[str, float]:
    low, high, p = group_intervals.tested_differences(groups, tests, k)
    differences = np.array(
        [truth[a] - truth[b] for a, b in zip(*np.triu_indices(len(groups), 1), strict=True)]
    )
    ends = np.array([two_part.limits(group, 0.025) for group in groups])
    student = np.array(
        [stats.t.interval(0.95, len(part) - 1, part.mean(), stats.sem(part)) for part in parts]
    )
    reference = np.array([_two_part_reference(group) for group in groups])
    gap = np.ptp(truth)
    limits = group_intervals.gap(low, high)
    rejected = p[0] <= 0.05 if len(groups) == 2 else tests.p[k] <= 0.05
    edge = [*groups[:-1], _moved(groups[-1], truth[0] - truth[-1] - DELTA)]
    names = [str(g) for g in range(len(edge))]
    warned = inference.small_group_warnings({str(g): part for g, part in enumerate(parts)})
    return {
        "first mean covers": ends[0, 0] <= truth[0] <= ends[0, 1],
        "last mean covers": ends[-1, 0] <= truth[-1] <= ends[-1, 1],
        "gap covers": limits[0] <= gap + 1e-12 <= limits[1] + 2e-12,
        "all differences cover": bool(((low <= differences + 1e-12) & (differences - 1e-12 <= high)).all()),
        "test rejects": rejected,
        "any pair named": bool(((p <= 0.05) & ((low > 0) | (high < 0))).any()),
        "test and interval disagree": bool(((p <= 0.05) != ((low > 0) | (high < 0))).any()),
        "TOST claims at the edge": equivalence.tost(edge, names, DELTA).equivalent,
        "warned": bool(warned),
        "naive: Student's t of the last mean covers": student[-1, 0] <= truth[-1] <= student[-1, 1],
        "width of the last mean": ends[-1, 1] - ends[-1, 0],
        "width of the last mean, plain two-part": reference[-1, 1] - reference[-1, 0],
    }


def _two_part_reference(group: Scores) -> tuple[float, float]:
    """Clopper-Pearson's limits of the failure rate times Student's limits of the rest, at their extremes."""
    rate = stats.binomtest(group.failed, group.n).proportion_ci(0.95)
    half = stats.t.ppf(0.975, group.freedom) * group.error
    return (1 - rate.high) * (group.center - half), (1 - rate.low) * (group.center + half)


def _moved(group: Scores, shift: float) -> Scores:
    """The group with another mean of those who did not fail."""
    return group.__class__(**{**vars(group), "mean": group.mean + shift, "center": group.center + shift})


def measure(condition: Condition, cohorts: int, permutations: int, seed: int = 0) -> dict[str, Any]:
    """The share of cohorts in which each thing happened, and median widths."""
    start = time.perf_counter()
    rng = np.random.default_rng([seed, CONDITIONS.index(condition)])
    parts = [
        batch(condition, min(BATCH, cohorts - begin), rng, permutations) for begin in range(0, cohorts, BATCH)
    ]
    together = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {
        "cohorts": cohorts,
        "permutations": permutations,
        "seconds": time.perf_counter() - start,
        "share": {name: float(values.mean()) for name, values in together.items() if "width" not in name},
        "median": {name: float(np.median(values)) for name, values in together.items() if "width" in name},
    }


def main() -> None:
    """Prints what it finds and writes it as JSON; conditions that are not run again keep their numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "calibration.json")
    parser.add_argument("--cohorts", type=int, default=2_000)
    parser.add_argument("--permutations", type=int, default=999)
    parser.add_argument("--only", nargs="+", default=[""], help="conditions whose name contains one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    chosen = [one for one in CONDITIONS if any(part in one.name for part in options.only)]
    if not chosen:
        parser.error(f"no condition is called that; there are {', '.join(one.name for one in CONDITIONS)}")
    results = json.loads(options.out.read_text())["conditions"] if options.out.exists() else {}
    run = partial(measure, cohorts=options.cohorts, permutations=options.permutations)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about = {"hardware": hardware(), "environment": run_directory.environment()}
    with ProcessPoolExecutor(options.jobs) as pool:
        for condition, result in zip(chosen, pool.map(run, chosen), strict=True):
            results[condition.name] = result
            print(f"{condition.name}: {result['cohorts']} cohorts in {result['seconds']:.0f} s")
            for name, share in result["share"].items():
                print(f"  {name}: {100 * share:.1f} %", flush=True)
            atomic.write_json(options.out, about | {"conditions": results})


if __name__ == "__main__":
    main()
