r"""Measure time and memory of a study's bootstrap over patients, beside SciPy's and fairlearn's.

    python -m benchmarks.bootstrap    (with fairlearn installed)

10,000 resamples of 2,000 patients in six groups: the worst group's mean, gap, SER and ES. The package computes the
intervals of a study (`patient_bootstrap.intervals`: studentized, simultaneous over all pairs of groups, with those of
the mean and of the difference of two groups). SciPy computes plain percentiles of the four; fairlearn those of the
smallest mean and the difference, from fewer resamples, whose time is scaled up. Memory is the peak of NumPy's and
Python's allocations by `tracemalloc`, in a call of its own.
"""

import argparse
import importlib.metadata
import os
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.machine import hardware
from kneefair_jax.fairness import patient_bootstrap
from kneefair_jax.runtime import atomic, run_directory

GROUPS = 6
STATISTICS = ("worst", "gap", "ser", "es")


def cohort(patients: int) -> tuple[np.ndarray, np.ndarray]:
    """Dice f64[patients] and group i64[patients] of a cohort whose groups differ in size and in mean."""
    rng = np.random.default_rng(0)
    group = rng.choice(GROUPS, patients, p=[0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    return np.clip(rng.normal(0.9 - 0.01 * group, 0.04), 0, 0.999), group


def package_intervals(scores: np.ndarray, group: np.ndarray, draws: int) -> np.ndarray:
    """The intervals of a study, f64[4, 2]."""
    strata = patient_bootstrap.stratify(scores[None, None], group, 1)
    intervals = patient_bootstrap.intervals(strata, np.random.default_rng(0), draws)
    assert intervals is not None
    return np.array([getattr(intervals.methods[0], name) for name in STATISTICS])


def scipy_intervals(scores: np.ndarray, group: np.ndarray, draws: int) -> np.ndarray:
    """`scipy.stats.bootstrap` of the groups' samples, vectorized, in batches of 100: f64[4, 2]."""

    def statistic(*samples: np.ndarray, axis: int) -> np.ndarray:
        means = np.stack([sample.mean(axis) for sample in samples], axis=-1)
        sizes = np.array([sample.shape[axis] for sample in samples])
        overall = means @ sizes / sizes.sum()
        values = patient_bootstrap.statistics(means, overall, len(samples))
        return np.stack([getattr(values, name) for name in STATISTICS])

    result = stats.bootstrap(
        [scores[group == g] for g in range(GROUPS)],
        statistic,
        n_resamples=draws,
        batch=100,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return np.stack(result.confidence_interval, axis=-1)


def fairlearn_intervals(scores: np.ndarray, group: np.ndarray, draws: int) -> np.ndarray:
    """`MetricFrame`'s intervals of the smallest mean and of the gap, f64[2, 2]."""
    from fairlearn.metrics import MetricFrame

    frame = MetricFrame(
        metrics=lambda truth, score: score.mean(),
        y_true=np.zeros_like(scores),
        y_pred=scores,
        sensitive_features=group,
        n_boot=draws,
        ci_quantiles=[0.025, 0.975],
        random_state=0,
    )
    return np.array([frame.group_min_ci(), frame.difference_ci(method="between_groups")])


def cost(
    method: Callable[..., np.ndarray],
    data: tuple[np.ndarray, np.ndarray],
    draws: int,
    reported_draws: int,
    rounds: int,
) -> dict[str, Any]:
    """Time and memory of one implementation.

    Args:
        method: `(scores, group, draws) -> intervals`.
        data: scores f64[P] and group i64[P].
        draws: resamples of each call.
        reported_draws: resamples to which the shortest time is scaled.
        rounds: timed calls.
    """
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        intervals = method(*data, draws)
        times.append(time.perf_counter() - start)
    tracemalloc.start()
    method(*data, draws)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "draws_run": draws,
        "seconds": min(times) * reported_draws / draws,
        "rounds": times,
        "peak_mib": peak / 2**20,
        "intervals": intervals.tolist(),
    }


def main() -> None:
    """Prints the table and writes it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "bootstrap.json")
    parser.add_argument("--patients", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--fairlearn_draws", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    data = cohort(options.patients)
    warnings.simplefilter("ignore")
    methods = {
        "kneefair_jax": (package_intervals, options.draws),
        "scipy": (scipy_intervals, options.draws),
        "fairlearn": (fairlearn_intervals, options.fairlearn_draws),
    }
    costs = {
        name: cost(method, data, draws, options.draws, options.rounds)
        for name, (method, draws) in methods.items()
    }
    for values in costs.values():
        values["relative_time"] = values["seconds"] / costs["kneefair_jax"]["seconds"]
    result = {
        "hardware": hardware(),
        "environment": run_directory.environment(),
        "versions": {name: importlib.metadata.version(name) for name in ("scipy", "fairlearn")},
        "load_average": os.getloadavg(),
        "patients": options.patients,
        "draws": options.draws,
        "statistics": STATISTICS,
        "costs": costs,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(options.out, result)
    for name, values in costs.items():
        print(
            f"{name:12s} {values['seconds']:8.2f} s ({values['draws_run']} draws run), "
            f"{values['relative_time']:6.1f} times the package's, {values['peak_mib']:6.0f} MiB"
        )


if __name__ == "__main__":
    main()
