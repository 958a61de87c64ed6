"""Measure false positives and power of the comparison of models in simulated cohorts.

    python benchmarks/calibration_comparison.py
    python benchmarks/calibration_comparison.py --table    # the rows of docs/statistics.md, from the stored results

Two models score the same patients: mean 0.9, SD 0.03 over patients, correlation 0.8 between the models. The second
model is better by 0.02 everywhere, which changes no gap. Group means fall evenly from the first group to the last. In
studies, six methods and a baseline are trained with the same seeds; a change of the gap has an SD of 0.004 over seeds.
"""

import argparse
import functools
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks.machine import hardware
from kneefair_jax.fairness import model_comparison, seed_intervals
from kneefair_jax.fairness.hypothesis_tests import holm
from kneefair_jax.runtime import atomic, run_directory

SD, CORRELATION, SHIFT = 0.03, 0.8, 0.02
SIZES = {2: (60, 30), 3: (60, 30, 15), 4: (40,) * 4, 6: (30,) * 6, 12: (20,) * 12}
METHODS, SD_OVER_SEEDS, REPAIRABLE = 6, 0.004, 0.017


class Condition(NamedTuple):
    """How the scores of two models are drawn.

    Attributes:
        groups: key of `SIZES`.
        gaps: true gap of the first and of the second model.
        skewed: log-normal in place of normal scores.
        noise: of the second model, as a multiple of the first one's, in the part that the models do not share.
    """

    groups: int
    gaps: tuple[float, float] = (0.0, 0.0)
    skewed: bool = False
    noise: float = 1.0

    @property
    def name(self) -> str:
        """`3 groups, gap 0.03 to 0.01, skewed`."""
        text = f"{self.groups} groups, gap {self.gaps[0]:g} to {self.gaps[1]:g}"
        return text + ", skewed" * self.skewed + ", noisier" * (self.noise > 1)


CONDITIONS = [
    Condition(groups, gaps, skewed, noise)
    for gaps, skewed, noise in (
        ((0.0, 0.0), False, 1.0),
        ((0.03, 0.03), False, 1.0),
        ((0.0, 0.0), True, 1.0),
        ((0.0, 0.0), False, 2.0),
        ((0.03, 0.01), False, 1.0),
        ((0.03, 0.0), False, 1.0),
        ((0.03, 0.0), False, 2.0),
    )
    for groups in SIZES
]
# True changes of the gap of each method, and the relative SD over seeds of the baseline and of each method.
STUDIES = {
    "no change": ([0.0] * METHODS, [1.0] * 7),
    "no change, one method with three times the SD": ([0.0] * METHODS, [1.0] * 6 + [3.0]),
    "no change, the baseline with three times the SD": ([0.0] * METHODS, [3.0] + [1.0] * 6),
    "one method repairs all": ([REPAIRABLE] + [0.0] * 5, [1.0] * 7),
    "all methods repair all": ([REPAIRABLE] * METHODS, [1.0] * 7),
}


def scores(condition: Condition, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both models' scores, f[P] each, and the patients' groups, i[P]."""
    sizes = SIZES[condition.groups]
    index = np.repeat(np.arange(len(sizes)), sizes)
    noise = rng.normal(size=(3, len(index)))
    if condition.skewed:
        noise = (np.exp(0.8 * noise) - np.exp(0.32)) / np.sqrt(np.exp(1.28) - np.exp(0.64))
    place = index / (len(sizes) - 1)
    shared, *method_effects = (
        0.9 + SD * np.sqrt(CORRELATION) * noise[0],
        *(SD * np.sqrt(1 - CORRELATION) * noise[1:]),
    )
    first = shared + method_effects[0] - condition.gaps[0] * place
    second = shared + condition.noise * method_effects[1] - condition.gaps[1] * place + SHIFT
    return first, second, index


def models(condition: Condition, cohorts: int, swaps: int) -> dict[str, Any]:
    """The share of cohorts in which the gap is called narrower or wider, and its interval covers the change."""
    start = time.perf_counter()
    rng = np.random.default_rng(CONDITIONS.index(condition))
    counts = dict.fromkeys(("narrower", "wider", "covered", "disagree"), 0)
    change = condition.gaps[1] - condition.gaps[0]
    for seed in range(cohorts):
        first, second, index = scores(condition, rng)
        result = model_comparison.compare_gaps(first, second, index, np.arange(len(index)), swaps, seed)
        assert result.interval is not None and result.p is not None
        low, high = result.interval
        rejected = result.p <= model_comparison.LEVEL
        counts["narrower"] += rejected and result.value < 0
        counts["wider"] += rejected and result.value > 0
        counts["covered"] += low <= change <= high
        counts["disagree"] += rejected != (low > 0 or high < 0)
    shares = {name: count / cohorts for name, count in counts.items()}
    return {"cohorts": cohorts, "swaps": swaps, "seconds": time.perf_counter() - start} | shares


def study(name: str, seeds: int, studies: int, own_error: bool) -> dict[str, float]:
    """The share of studies in which the first method, any method and the last are claimed to change the gap.

    Args:
        name: of `STUDIES`.
        seeds: of each method.
        studies: simulated.
        own_error: whether each method has the standard error of its own changes alone, as in a paired t-test.
    """
    changes, spread = (np.array(part) for part in STUDIES[name])
    rng = np.random.default_rng(seeds)
    scale = SD_OVER_SEEDS / np.sqrt(2) * spread
    claimed = np.zeros((studies, METHODS), bool)
    for k in range(studies):
        values = rng.normal(0, scale[:, None], (METHODS + 1, seeds))
        values[1:] += changes[:, None]
        claimed[k] = claims(values, own_error)
    return {
        "first": float(claimed[:, 0].mean()),
        "any": float(claimed.any(1).mean()),
        "last": float(claimed[:, -1].mean()),
    }


def claims(values: np.ndarray, own_error: bool = False) -> list[bool]:
    """Whether each method is claimed to change a statistic: f[methods + 1, seeds], the baseline first."""
    errors, freedom, _ = seed_intervals.pooled_errors(values)
    shared = [None if own_error else (float(error), freedom) for error in errors]
    p = holm(
        {
            m: seed_intervals.p_value(values[m + 1] - values[0], shared=pooled)
            for m, pooled in enumerate(shared)
        }
    )
    return [(p[m] or 0) <= model_comparison.LEVEL for m in range(len(shared))]


def selected_pair(groups: int, seeds: int, studies: int) -> dict[str, float]:
    """What a pair of groups selected by the baseline, and each method's own max - min, show where nothing changes.

    All methods have the same true group means, which are equal; a change of a pair has an SD of `SD_OVER_SEEDS`.

    Returns:
        The mean change and the share of studies with any claim, of the pair and of the gap.
    """
    rng = np.random.default_rng(groups)
    shape = (studies, METHODS + 1, seeds, groups)
    means = rng.normal(0, SD_OVER_SEEDS / 2, shape)
    order = means[:, 0].mean(1).argsort(-1)
    best, worst = (order[:, None, None, end, None] for end in (-1, 0))
    pair = (np.take_along_axis(means, best, -1) - np.take_along_axis(means, worst, -1))[..., 0]
    result = {}
    for name, values in (("pair", pair), ("gap", np.ptp(means, axis=-1))):
        result[f"change of {name}"] = float((values[:, 1:] - values[:, :1]).mean())
        result[f"any, {name}"] = float(np.mean([any(claims(study_values)) for study_values in values]))
    return result


def title(condition: Condition) -> str:
    """What the table calls it: `exchangeable, gap 0.03`."""
    first, second = condition.gaps
    if first == second and condition.noise == 1:
        text = f"exchangeable, gap {first:g}" if first else "exchangeable, no gap"
    else:
        text = "no gap" if first == second == 0 else f"gap {first:g} to {second:g}"
    return text + ", skewed" * condition.skewed + ", twice the noise" * (condition.noise > 1)


def rows(results: dict[str, Any]) -> list[str]:
    """The rows of the tables of models and of studies in docs/statistics.md, in %."""
    models_rows = []
    for condition in CONDITIONS:
        cell = results["models"][condition.name]
        shares = " | ".join(f"{100 * cell[key]:.1f}" for key in ("narrower", "wider", "covered"))
        models_rows.append(f"| {title(condition)} | {condition.groups} | {cell['cohorts']:,} | {shares} |")
    studies_rows = []
    for name in STUDIES:
        cells = [
            results["studies"][f"{name}, {seeds} seeds, {error} error"]
            for seeds in (3, 5)
            for error in ("shared", "own")
        ]
        pairs = " | ".join(f"{100 * cell['first']:.1f} / {100 * cell['any']:.1f}" for cell in cells)
        studies_rows.append(f"| {name} | {pairs} |")
    return [*models_rows, "", *studies_rows]


def main() -> None:
    """Print the shares and write them as JSON; conditions that are not run again keep their numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).parent / "results" / "calibration_comparison.json"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--cohorts", type=int, default=2000)
    parser.add_argument("--swaps", type=int, default=199)
    parser.add_argument("--studies", type=int, default=4000)
    parser.add_argument("--only", nargs="+", default=[""], help="conditions whose name contains one of these")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--table", action="store_true", help="print the stored results as rows of Markdown")
    options = parser.parse_args()
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    results = {"models": {}, "studies": {}, "selected_pairs": {}} | results
    if options.table:
        print(*rows(results), sep="\n")
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "hardware": hardware(),
        "environment": run_directory.environment(),
        "load_average": os.getloadavg(),
    }
    for name in STUDIES if any(part in "studies" for part in options.only) else ():
        for seeds in (3, 5):
            for own_error in (False, True):
                key = f"{name}, {seeds} seeds, {'own' if own_error else 'shared'} error"
                results["studies"][key] = study(name, seeds, options.studies, own_error)
                print(key, results["studies"][key], flush=True)
    if any(part in "studies" for part in options.only):
        for groups in (3, 6):
            key = f"no change, {groups} groups, 3 seeds"
            results["selected_pairs"][key] = selected_pair(groups, 3, options.studies)
            print(key, results["selected_pairs"][key], flush=True)
    chosen = [one for one in CONDITIONS if any(part in one.name for part in options.only)]
    run = functools.partial(models, cohorts=options.cohorts, swaps=options.swaps)
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
        for condition, shares in zip(chosen, pool.map(run, chosen), strict=True):
            results["models"][condition.name] = shares
            print(condition.name, shares, flush=True)
            atomic.write_json(options.out, results | about)
    atomic.write_json(options.out, results | about)


if __name__ == "__main__":
    main()
