"""Measure coverage of the intervals and level of the tests in simulated cohorts of knees with a known truth.

    python benchmarks/calibration.py

A patient has two knees, or one to four, whose scores correlate by 0.5. Errors have the mean 0.08 and the SD 0.03 (0.06
in the last group where spread is doubled); skewed ones are log-normal, bounded ones beta, heavy-tailed ones Student's t
with 3 degrees of freedom. In a share of the patients one knee fails, with a Dice of 0. Intervals and tests are those of
`inference.describe`, which the report prints; beside them stand choices that look natural and are not.
"""

import argparse
import json
import os
import sys
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from scipy import stats

from benchmarks.machine import hardware
from kneefair_jax.fairness import inference, rates, two_part
from kneefair_jax.fairness.patient_table import Column, GroupedScores
from kneefair_jax.fairness.two_part import Scores
from kneefair_jax.runtime import atomic, run_directory

MEAN_ERROR, SD = 0.08, 0.03
DELTA = 0.03  # equivalence margin, and the true difference at its edge
OUTSIDE = 40  # patients in no group, where there are any
MOST_KNEES = 4


class Condition(NamedTuple):
    """How cohorts are drawn.

    Attributes:
        sizes: patients of each group.
        wider: SD of each group's knees over `SD`.
        shape: `normal`, `skewed`, `beta` or `t3`.
        failures: share of each group's patients of whom a knee fails.
        compensated: whether the means of all patients are equal all the same: groups that fail more score higher
            otherwise.
        lower: by how much the last group's mean lies lower.
        varied: whether patients have one to four knees, and not two, and `OUTSIDE` others belong to no group.
    """

    sizes: tuple[int, ...]
    wider: tuple[float, ...]
    shape: str
    failures: tuple[float, ...]
    compensated: bool = False
    lower: float = 0.0
    varied: bool = False

    @property
    def name(self) -> str:
        """`60-15 skewed doubled, failures 0 and 5 %`."""
        spread = "doubled" if max(self.wider) > 1 else "equal"
        shares = " and ".join(f"{100 * share:g}" for share in dict.fromkeys(self.failures))
        equal = ", equal means" if self.compensated else ""
        lower = f", {self.lower:g} lower" if self.lower else ""
        varied = ", 1 to 4 knees, others in no group" if self.varied else ""
        return f"{'-'.join(map(str, self.sizes))} {self.shape} {spread}, failures {shares} %{equal}{lower}{varied}"

    @property
    def observed_shares(self) -> np.ndarray:
        """The share of the groups' mean scores that failures leave, f64[G]: a patient loses one knee of all."""
        one_of = np.mean(1 / np.arange(1, MOST_KNEES + 1)) if self.varied else 0.5
        return 1 - np.array(self.failures) * one_of

    @property
    def truth(self) -> np.ndarray:
        """The groups' true mean scores over all patients, f64[G]."""
        return self.centers * self.observed_shares

    @property
    def centers(self) -> np.ndarray:
        """The groups' mean scores of patients without a failure, f64[G]."""
        shares = (
            self.observed_shares.min() / self.observed_shares
            if self.compensated
            else np.ones(len(self.observed_shares))
        )
        return (1 - MEAN_ERROR) * shares - self.lower * (np.arange(len(shares)) == len(shares) - 1)


def _conditions() -> list[Condition]:
    continuous = [
        Condition(sizes, (*(1.0 for _ in sizes[1:]), wider), shape, (0.0,) * len(sizes))
        for sizes, shape, wider in product(
            ((60, 15), (200, 60), (100, 30, 12), (60, 5)), ("normal", "skewed", "t3"), (1.0, 2.0)
        )
    ]
    paired = [
        Condition((n, n), (1.0, 1.0), "beta", failures)
        for n, failures in product(
            (12, 30, 60, 150, 500),
            (
                (0.0, 0.0),
                (0.01, 0.01),
                (0.02, 0.02),
                (0.03, 0.03),
                (0.05, 0.05),
                (0.0, 0.05),
                (0.01, 0.03),
            ),
        )
    ]
    unequal = [
        Condition(sizes, (1.0,) * len(sizes), "beta", failures, varied=varied)
        for sizes, failures, varied in (
            ((200, 60), (0.02, 0.02), False),
            ((200, 60), (0.0, 0.05), False),
            ((60, 15), (0.02, 0.02), False),
            ((60, 15), (0.0, 0.05), False),
            ((100, 30, 12), (0.02, 0.02, 0.02), False),
            ((100, 30, 12), (0.0, 0.0, 0.05), False),
            ((200, 60), (0.02, 0.02), True),
            ((60, 15), (0.0, 0.0), True),
            ((100, 30, 12), (0.02, 0.02, 0.02), True),
        )
    ]
    compensated = [
        Condition(sizes, (1.0, 1.0), "beta", (0.0, 0.02), compensated=True)
        for sizes in ((60, 60), (200, 60), (150, 150))
    ]
    edge = [
        Condition((n, m), (1.0, 1.0), "beta", failures, lower=DELTA)
        for (n, m), failures in product(
            ((60, 60), (100, 100), (200, 60), (500, 500)), ((0.0, 0.0), (0.02, 0.02))
        )
    ]
    return [*continuous, *paired, *unequal, *compensated, *edge]


CONDITIONS = _conditions()


def knees(condition: Condition, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One cohort: mean scores over a patient's knees, f64[P], and who has a failed knee, bool[P]."""
    scores, failed = [], []
    for size, wider, failures, center in zip(
        condition.sizes, condition.wider, condition.failures, condition.centers, strict=True
    ):
        sd, mean = SD * wider, 1 - center
        # The logarithms' variance, and the correlation that they need for one of 0.5 between the errors.
        log = np.log1p((sd / mean) ** 2)
        share = np.log1p(np.expm1(log) / 2) / log if condition.shape == "skewed" else 0.5
        draw = partial(rng.standard_t, 3) if condition.shape == "t3" else rng.standard_normal
        most = MOST_KNEES if condition.varied else 2
        patient, knee = draw(size=(size, 1)), draw(size=(size, most))
        z = np.sqrt(share) * patient + np.sqrt(1 - share) * knee
        if condition.shape == "skewed":
            errors = mean * np.exp(np.sqrt(log) * z - log / 2)
        elif condition.shape == "beta":
            total = mean * (1 - mean) / sd**2 - 1
            errors = stats.beta.ppf(stats.norm.cdf(z), mean * total, (1 - mean) * total)
        else:
            errors = mean + sd * z / (np.sqrt(3) if condition.shape == "t3" else 1)
        count = rng.integers(1, most + 1, size) if condition.varied else np.full(size, most)
        fails = rng.random(size) < failures
        errors[fails, 0] = 1.0
        is_present = np.arange(most) < count[:, None]
        scores.append(1 - np.where(is_present, errors, 0).sum(1) / count)
        failed.append(fails)
    return np.concatenate(scores), np.concatenate(failed)


def cohort(condition: Condition, rng: np.random.Generator, permutations: int) -> dict[str, float]:
    """What happens in one cohort: measure -> whether it does, or a width."""
    scores, failed = knees(condition, rng)
    sizes = np.array(condition.sizes)
    truth, centers = condition.truth, condition.centers
    index = np.repeat(np.arange(len(sizes)), sizes)
    if condition.varied:
        scores = np.append(scores, rng.uniform(0.5, 1, OUTSIDE))
        failed, index = np.append(failed, np.zeros(OUTSIDE, bool)), np.append(index, [-1] * OUTSIDE)
    names = [str(g) for g in range(len(sizes))]
    grouped = GroupedScores(scores[:, None], failed[:, None], np.arange(len(scores)), index, names)
    settings = inference.Settings(min(5, sizes.min()), permutations, {"dice": DELTA})
    (description,) = inference.describe(
        grouped, [Column("dice", "macro")], [int(rng.integers(2**31))], settings
    )
    entry, differences = asdict(description.summary), description.differences
    parts = [(scores[index == g], failed[index == g]) for g in range(len(sizes))]
    groups = [two_part.summarize(part, flags, 0.0, 1.0) for part, flags in parts]
    ends = np.array([two_part.limits(group, 0.025) for group in groups])
    last = parts[-1][0]
    student = stats.t.interval(0.95, len(last) - 1, last.mean(), stats.sem(last))
    reference = _two_part_reference(groups[-1])
    pairs = entry["pairs"]
    true_differences = [centers[int(pair["first"])] - centers[int(pair["second"])] for pair in pairs]
    intervals = [pair["interval"] for pair in pairs]
    measured = {
        "first mean covers": ends[0, 0] <= truth[0] <= ends[0, 1],
        "last mean covers": ends[-1, 0] <= truth[-1] <= ends[-1, 1],
        "gap over all patients covers": _covers(entry["gap"]["interval"], np.ptp(truth)),
        "naive: Student's t of the last mean covers": student[0] <= truth[-1] <= student[1],
        "equivalent": entry["equivalence"]["equivalent"],
        "width of the last mean": ends[-1, 1] - ends[-1, 0],
        "width of the last mean, plain two-part": reference[1] - reference[0],
    }
    if differences is not None and None not in intervals:
        off = [ends[0] > 0 or ends[1] < 0 for ends in intervals]
        measured |= {
            "gap covers": _covers(entry["gap_without_failures"]["interval"], np.ptp(centers)),
            "all differences cover": all(
                _covers(ends, value) for ends, value in zip(intervals, true_differences, strict=True)
            ),
            "test rejects": entry["test"]["p"] <= 0.05,
            "test and interval disagree": any(
                (pair["p"] <= 0.05) != excluded for pair, excluded in zip(pairs, off, strict=True)
            ),
        }
    return measured


def _covers(ends: list[float], value: float) -> bool:
    return ends[0] <= value + 1e-12 and value - 1e-12 <= ends[1]


def _two_part_reference(group: Scores) -> tuple[float, float]:
    """Clopper-Pearson's limits of the failure rate times Student's limits of the rest, at their extremes."""
    low, high = rates.clopper_pearson(rates.Tally(group.failed, group.n)) or (0.0, 1.0)
    half = stats.t.ppf(0.975, group.freedom) * group.error
    return (1 - high) * (group.center - half), (1 - low) * (group.center + half)


def measure(condition: Condition, cohorts: int, permutations: int, seed: int = 0) -> dict[str, Any]:
    """The share of cohorts in which each thing happened, of those in which it could, and median widths."""
    start = time.perf_counter()
    rng = np.random.default_rng([seed, zlib.crc32(condition.name.encode())])
    measured: dict[str, list[float]] = {}
    for _ in range(cohorts):
        for name, value in cohort(condition, rng, permutations).items():
            measured.setdefault(name, []).append(value)
    return {
        "cohorts": cohorts,
        "permutations": permutations,
        "seconds": time.perf_counter() - start,
        "share": {name: float(np.mean(values)) for name, values in measured.items() if "width" not in name},
        "median": {name: float(np.median(values)) for name, values in measured.items() if "width" in name},
    }


def main() -> None:
    """Prints what it finds and writes it as JSON; conditions that are not run again keep their numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "calibration.json")
    parser.add_argument("--cohorts", type=int, default=2_000)
    parser.add_argument("--permutations", type=int, default=499)
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
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for condition, result in zip(chosen, pool.map(run, chosen), strict=True):
            results[condition.name] = result
            print(f"{condition.name}: {result['cohorts']} cohorts in {result['seconds']:.0f} s")
            for name, share in result["share"].items():
                print(f"  {name}: {100 * share:.1f} %", flush=True)
            atomic.write_json(options.out, about | {"conditions": results})


if __name__ == "__main__":
    main()
