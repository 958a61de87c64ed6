r"""How fast is the bootstrap of five summaries of six groups, beside SciPy's and fairlearn's?

    python benchmarks/bootstrap.py    (with fairlearn installed)

10,000 draws of 2,000 patients with one case each; worst group, gap, SD, SER and ES of every draw. Ours are
the report's intervals: studentised, at once over all pairs of groups, with the rank tests beside them. SciPy's are
plain percentiles; fairlearn's are those of min and max, difference and ratio of a resample, from fewer draws, whose
time is scaled up. Memory is the peak of NumPy's and Python's allocations by `tracemalloc`, in a run of its own.
"""

import argparse
import importlib.metadata
import os
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import hardware
from kneefair_jax import groups
from kneefair_jax.fairness import inference, summaries
from kneefair_jax.fairness.patient_table import MACRO, Column
from kneefair_jax.runtime import atomic, run_directory

GROUPS = 6


def five(means: np.ndarray, overall: np.ndarray) -> np.ndarray:
    """f[..., G], f[...] -> f[5, ...]."""
    one = [getattr(summaries, name)(means) for name in ("worst", "gap", "sd", "ser")]
    return np.stack([*one, summaries.es(means, overall)])


def ours(scores: np.ndarray, group: np.ndarray, draws: int) -> np.ndarray:
    """The intervals of a report, f64[5, 2]: studentised, simultaneous over pairs; rank tests are among the work."""
    found = inference.describe(
        scores[:, None],
        np.arange(len(scores)),
        group,
        [f"g{g}" for g in range(GROUPS)],
        [Column("dice", MACRO)],
        [0],
        inference.Settings(minimum=1, draws=draws, permutations=1, delta={}),
    )[0]
    return np.array([found[name]["interval"] for name in ("worst", "gap", "sd", "ser", "es")])


def scipy(scores: np.ndarray, group: np.ndarray, draws: int) -> np.ndarray:
    """`scipy.stats.bootstrap` of the groups' samples, vectorised, in batches of 100."""

    def statistic(*samples: np.ndarray, axis: int) -> np.ndarray:
        means = np.stack([sample.mean(axis) for sample in samples], axis=-1)
        sizes = np.array([sample.shape[axis] for sample in samples])
        return five(means, means @ sizes / sizes.sum())

    samples = [scores[group == g] for g in range(GROUPS)]
    options = {"n_resamples": draws, "batch": 100, "method": "percentile", "vectorized": True}
    found = stats.bootstrap(samples, statistic, rng=np.random.default_rng(0), **options)
    return np.stack(found.confidence_interval, axis=-1)


def fairlearn(scores: np.ndarray, group: np.ndarray, draws: int) -> np.ndarray:
    """`MetricFrame`'s: by group, the smallest, the difference and the ratio; f64[2, 2], the worst error and the gap."""
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
    worst = [1 - end for end in frame.group_min_ci()[::-1]]
    return np.array([worst, frame.difference_ci(method="between_groups")])


def cost(
    way: Callable[..., np.ndarray], data: tuple[np.ndarray, np.ndarray], draws: int, full: int, rounds: int
) -> dict[str, Any]:
    """Seconds of `full` draws, from runs of `draws`, the shortest of some; peak memory of one."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        intervals = way(*data, draws)
        times.append(time.perf_counter() - start)
    tracemalloc.start()
    way(*data, draws)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "draws_run": draws,
        "seconds": min(times) * full / draws,
        "rounds": times,
        "peak_mib": peak / 2**20,
        "intervals": intervals.tolist(),
    }


def main() -> None:
    """Prints what it finds and writes it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "bootstrap.json")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--scipy_draws", type=int, default=10_000)
    parser.add_argument("--fairlearn_draws", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    group = rng.choice(GROUPS, options.cases, p=[0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    assert groups.membership(group, GROUPS).any(0).all()
    data = np.clip(rng.normal(0.9 - 0.01 * group, 0.04), 0, 0.999), group
    warnings.simplefilter("ignore")
    runs = {"ours": (ours, options.draws), "scipy": (scipy, options.scipy_draws)}
    runs["fairlearn"] = fairlearn, options.fairlearn_draws
    found = {
        name: cost(way, data, draws, options.draws, options.rounds) for name, (way, draws) in runs.items()
    }
    result = {
        "hardware": hardware(),
        "environment": run_directory.environment(),
        "versions": {name: importlib.metadata.version(name) for name in ("scipy", "fairlearn")},
        "load_average": os.getloadavg(),
        "cases": options.cases,
        "draws": options.draws,
        "summaries": ["worst", "gap", "sd", "ser", "es"],
        "found": found,
        "times_as_long_as_ours": {
            name: values["seconds"] / found["ours"]["seconds"] for name, values in found.items()
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(options.out, result)
    for name, values in found.items():
        ratio = result["times_as_long_as_ours"][name]
        print(
            f"{name:10s} {values['seconds']:8.2f} s ({values['draws_run']} draws run), {ratio:6.1f} times as long"
            f" as ours, {values['peak_mib']:6.0f} MiB"
        )


if __name__ == "__main__":
    main()
