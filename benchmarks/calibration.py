"""Do intervals cover and tests reject as often as they say? Simulated cohorts of paired knees with a known truth.

    python benchmarks/calibration.py

A patient has two knees whose scores correlate by 0.5. Errors have the mean 0.08 and the SD 0.03 (0.06 in the smaller
groups where spread is doubled); skewed ones are log-normal. Intervals and tests are the package's own; beside them
stand the choices that look natural and are not. The cohorts of a batch share their resamples and permutations, which
changes no cohort's result in distribution.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from scipy import stats

from benchmarks.machine import hardware
from kneefair_jax.fairness import (
    hypothesis_tests,
    inference,
    patient_bootstrap,
    reference_ser,
    simultaneous_intervals,
)
from kneefair_jax.fairness.simultaneous_intervals import Means
from kneefair_jax.runtime import atomic, run_directory

MEAN_ERROR, SD = 0.08, 0.03
DELTA = 0.03  # equivalence margin, and the true difference at its edge
RATIO = 1.25  # true SER
SPACED = np.linspace(0, 0.05, 6)  # true differences of six groups
BATCH = 100


class Condition(NamedTuple):
    """How cohorts are drawn: patients of each group, and the SD of each group's knees over `SD`."""

    sizes: tuple[int, ...]
    wider: tuple[float, ...]
    skewed: bool

    @property
    def name(self) -> str:
        """`60-15 skewed doubled`."""
        spread = "doubled" if max(self.wider) > 1 else "equal"
        return f"{'-'.join(map(str, self.sizes))} {'skewed' if self.skewed else 'normal'} {spread}"


CONDITIONS = [
    Condition(sizes, tuple(wider if size == min(sizes) else 1.0 for size in sizes), skewed)
    for sizes, skewed, wider in product(
        ((60, 15), (200, 60), (60, 60, 60, 15, 15, 15), (200, 200, 200, 60, 60, 60)),
        (False, True),
        (1.0, 2.0),
    )
]


def knees(condition: Condition, cohorts: int, rng: np.random.Generator) -> np.ndarray:
    """Errors of two knees a patient, every group with the mean `MEAN_ERROR`: f64[cohorts, P, 2]."""
    groups = []
    for size, wider in zip(condition.sizes, condition.wider, strict=True):
        sd = SD * wider
        # The logarithms' variance, and the correlation that they need for one of 0.5 between the errors.
        log = np.log1p((sd / MEAN_ERROR) ** 2)
        share = np.log1p(np.expm1(log) / 2) / log if condition.skewed else 0.5
        patient, knee = rng.normal(size=(cohorts, size, 1)), rng.normal(size=(cohorts, size, 2))
        z = np.sqrt(share) * patient + np.sqrt(1 - share) * knee
        groups.append(
            MEAN_ERROR * np.exp(np.sqrt(log) * z - log / 2) if condition.skewed else MEAN_ERROR + sd * z
        )
    return np.concatenate(groups, axis=1)


def batch(
    condition: Condition, cohorts: int, rng: np.random.Generator, draws: int, permutations: int
) -> dict[str, np.ndarray]:
    """What happened in each cohort: measure -> bool[cohorts]."""
    errors = knees(condition, cohorts, rng)
    sizes = np.array(condition.sizes)
    scores = 1 - errors.mean(2)
    drawn, squared = patient_bootstrap.resample(scores, sizes, rng, draws)
    point = patient_bootstrap.means(scores, sizes)
    spread = patient_bootstrap.squared_errors(scores, sizes)
    every = [
        Means(point[c : c + 1], spread[c : c + 1], drawn[:, c : c + 1], squared[:, c : c + 1])
        for c in range(cohorts)
    ]
    tests = hypothesis_tests.permuted_welch(scores, sizes, rng, permutations)
    assert tests is not None
    found = {"test rejects": tests.p <= 0.05}
    groups = [np.split(one, np.cumsum(sizes)[:-1]) for one in scores]
    names = [str(g) for g in range(len(sizes))]
    found["warned"] = np.array(
        [bool(inference.small_group_warnings(dict(zip(names, one, strict=True)))) for one in groups]
    )
    if len(sizes) > 2:
        return found | _of_many(every)
    found |= _of_two(every, scores, errors, sizes, rng, permutations)
    return found | {"gap missed without a warning": ~found["gap covers"] & ~found["warned"]}


def _of_two(
    every: list[Means],
    scores: np.ndarray,
    errors: np.ndarray,
    sizes: np.ndarray,
    rng: np.random.Generator,
    permutations: int,
) -> dict[str, np.ndarray]:
    found: dict[str, list[bool]] = {}
    apart, moved = np.array([1.0, 1 / RATIO]), np.array([DELTA, 0.0])
    for means in every:
        ends = simultaneous_intervals.contrasts(means, simultaneous_intervals.pairs(2))
        _note(found, "gap covers", _covers(ends and [end.item() for end in ends], 0.0))
        edge = means._replace(point=means.point + moved, drawn=means.drawn + moved)
        shown = hypothesis_tests.tost(edge, sizes, DELTA, int(sizes.min()))
        low, high = shown["intervals"][0]
        _note(found, "TOST claims", shown["equivalent"])
        _note(found, "TOST claims, whatever the sizes", low > -DELTA and high < DELTA)
        equal = means.errors()
        other = Means(
            equal.point * apart, equal.spread * apart**2, equal.drawn * apart, equal.squared * apart**2
        )
        _note(found, "SER covers", _covers(simultaneous_intervals.ratio(other), RATIO))
        _note(
            found,
            "SER above null",
            _ser(equal.point[0]) > (reference_ser.null_percentile(equal, sizes) or np.inf),
        )
        _note(found, "naive: SER, percentile, covers", _percentile(_ser(other.drawn[:, 0]), RATIO))
        _note(
            found, "naive: SER of equal groups, percentile, covers", _percentile(_ser(equal.drawn[:, 0]), 1.0)
        )
        difference = means.drawn[:, 0, 0] - means.drawn[:, 0, 1]
        _note(found, "naive: gap, percentile, covers", _percentile(difference, 0.0))
    low, high = hypothesis_tests.welch_intervals(scores, sizes)[:, 0].T
    first, second = np.split(scores, [sizes[0]], axis=1)
    one, other = (part.reshape(len(part), -1) for part in np.split(errors, [sizes[0]], axis=1))
    return {name: np.array(noted) for name, noted in found.items()} | {
        "Welch covers": (low <= 0) & (high >= 0),
        "Mann-Whitney rejects": stats.mannwhitneyu(first, second, axis=1).pvalue <= 0.05,
        "naive: knees as independent reject": stats.ttest_ind(one, other, axis=1, equal_var=False).pvalue
        <= 0.05,
        "naive: permuted means reject": _permuted_means(scores, sizes, rng, permutations) <= 0.05,
    }


def _of_many(every: list[Means]) -> dict[str, np.ndarray]:
    found: dict[str, list[bool]] = {}
    for means in every:
        for name, shift in (("equal", 0 * SPACED), ("spaced", SPACED)):
            moved = means._replace(point=means.point + shift, drawn=means.drawn + shift)
            _note(found, f"max - min covers, {name}", _covers(simultaneous_intervals.gap(moved), shift.max()))
            _note(found, f"SD covers, {name}", _covers(simultaneous_intervals.sd(moved), shift.std()))
            _note(
                found,
                f"worst covers, {name}",
                _covers(simultaneous_intervals.worst_error(moved.errors()), MEAN_ERROR),
            )
            extremes = np.ptp(moved.drawn[:, 0], axis=1)
            _note(found, f"naive: max - min, percentile, covers, {name}", _percentile(extremes, shift.max()))
            # Errors from the best group's to 1.25 times that.
            ratios = 1 + (RATIO - 1) * shift / SPACED.max()
            equal = means.errors()
            other = Means(
                equal.point * ratios,
                equal.spread * ratios**2,
                equal.drawn * ratios,
                equal.squared * ratios**2,
            )
            _note(found, f"SER covers, {name}", _covers(simultaneous_intervals.ratio(other), ratios.max()))
    return {name: np.array(noted) for name, noted in found.items()}


def _permuted_means(
    scores: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, permutations: int
) -> np.ndarray:
    """The p value of permuting the difference of means itself, f64[cohorts]."""
    weights = np.repeat([1 / sizes[0], -1 / sizes[1]], sizes)
    shuffled = rng.permuted(np.tile(weights, (permutations, 1)), axis=1)
    observed = np.abs(scores @ weights) * (1 - 1e-9)
    return (1 + (np.abs(shuffled @ scores.T) >= observed).sum(0)) / (1 + permutations)


def _note(found: dict[str, list[bool]], name: str, value: bool) -> None:
    found.setdefault(name, []).append(bool(value))


def _covers(ends: Sequence[float] | None, truth: float) -> bool:
    return ends is not None and ends[0] <= truth + 1e-12 and truth <= ends[1] + 1e-12


def _percentile(drawn: np.ndarray, truth: float) -> bool:
    return _covers(np.quantile(drawn, [0.025, 0.975]).tolist(), truth)


def _ser(errors: np.ndarray) -> np.ndarray:
    return errors.max(-1) / errors.min(-1)


def measure(
    condition: Condition, cohorts: int, draws: int, permutations: int, seed: int = 0
) -> dict[str, Any]:
    """The share of cohorts in which each thing happened."""
    start = time.perf_counter()
    rng = np.random.default_rng([seed, CONDITIONS.index(condition)])
    parts = [
        batch(condition, min(BATCH, cohorts - begin), rng, draws, permutations)
        for begin in range(0, cohorts, BATCH)
    ]
    return {
        "cohorts": cohorts,
        "draws": draws,
        "permutations": permutations,
        "seconds": time.perf_counter() - start,
        "share": {name: float(np.concatenate([part[name] for part in parts]).mean()) for name in parts[0]},
    }


def main() -> None:
    """Prints what it finds and writes it as JSON; conditions that are not run again keep their numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "calibration.json")
    parser.add_argument("--cohorts", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=999, help="bootstrap resamples a cohort")
    parser.add_argument("--permutations", type=int, default=999)
    parser.add_argument("--only", nargs="+", default=[""], help="conditions whose name contains one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    chosen = [one for one in CONDITIONS if any(part in one.name for part in options.only)]
    if not chosen:
        parser.error(f"no condition is called that; there are {', '.join(one.name for one in CONDITIONS)}")
    before = json.loads(options.out.read_text())["conditions"] if options.out.exists() else {}
    run = partial(measure, cohorts=options.cohorts, draws=options.draws, permutations=options.permutations)
    with ProcessPoolExecutor(options.jobs) as pool:
        for condition, found in zip(chosen, pool.map(run, chosen), strict=True):
            before[condition.name] = found
            print(f"{condition.name}: {found['cohorts']} cohorts in {found['seconds']:.0f} s")
            for name, share in found["share"].items():
                print(f"  {name}: {100 * share:.1f} %", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "hardware": hardware(),
        "environment": run_directory.environment(),
        "load_average": os.getloadavg(),
    }
    atomic.write_json(options.out, about | {"conditions": before})


if __name__ == "__main__":
    main()
