"""Measure macro scores where structures are missing, in simulated cohorts, for docs/statistics.md.

python -m benchmarks.missing_structures --cohorts 2000
"""

import argparse
from typing import NamedTuple

import numpy as np
from scipy import stats

from kneefair_jax.fairness.patient_table import standardized_means

MEANS = np.array([0.96, 0.95, 0.94, 0.88])
FIBULA = 3
SPREAD = 0.01  # between cases, and of the structures within one


class Condition(NamedTuple):
    """Two groups of cases with four structures.

    Attributes:
        sizes: cases of each.
        missing: share of cases without the fibula.
        gap: of the second group's mean scores, by structure.
        failures: share of cases of both groups in which a structure fails.
        linked: cases with all structures among cases that have the fibula alone or all others; None for no such views.
    """

    sizes: tuple[int, int] = (100, 60)
    missing: tuple[float, float] = (0.0, 0.5)
    gap: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    failures: float = 0.0
    linked: int | None = None


CONDITIONS = {
    "equal": Condition(),
    "equal, missing in both": Condition(missing=(0.5, 0.5)),
    "equal, 12 and 200 cases": Condition(sizes=(12, 200), missing=(0.0, 0.97)),
    "equal, 4 % fail": Condition(failures=0.04),
    "0.02 in all, 40 and 160 cases": Condition(sizes=(40, 160), missing=(0.0, 0.8), gap=(0.02,) * 4),
    "0.04 in the tibia": Condition(gap=(0.0, 0.04, 0.0, 0.0)),
    "0.04 in the fibula": Condition(gap=(0.0, 0.0, 0.0, 0.04)),
    "two views, linked by 1": Condition(missing=(0.3, 0.6), linked=1),
    "two views, linked by 3": Condition(missing=(0.3, 0.6), linked=3),
}


def draw(rng: np.random.Generator, condition: Condition) -> tuple[np.ndarray, np.ndarray]:
    """Return scores f64[N, 4], NaN where missing, and groups i64[N]."""
    group = np.repeat([0, 1], condition.sizes)
    number = len(group)
    scores = MEANS + rng.normal(0, SPREAD, (number, 1)) + rng.normal(0, SPREAD, (number, 4))
    scores -= group[:, None] * np.array(condition.gap)
    failed = rng.random(scores.shape) < condition.failures / 4
    scores = np.where(failed, rng.uniform(0, 0.3, scores.shape), scores)
    chosen = rng.random(number) < np.array(condition.missing)[group]
    if condition.linked is None:
        scores[chosen, FIBULA] = np.nan
        return scores, group
    complete = np.isin(np.arange(number), rng.choice(number, condition.linked, replace=False))
    scores[np.ix_(chosen & ~complete, range(FIBULA))] = np.nan
    scores[~chosen & ~complete, FIBULA] = np.nan
    return scores, group


def measure(condition: Condition, cohorts: int) -> dict[str, tuple[float, float]]:
    """Return the mean gap among cases without failures, and how often Welch's test rejects, by kind of macro score."""
    outcomes: dict[str, list[tuple[float, bool]]] = {"plain": [], "standardized": []}
    rng = np.random.default_rng(0)
    for _ in range(cohorts):
        scores, group = draw(rng, condition)
        sound = ~(scores < 0.5).any(1)
        for name, macro in (
            ("plain", np.nanmean(scores, axis=1)),
            ("standardized", standardized_means(scores, scores >= 0.5)),
        ):
            first, second = (macro[sound & (group == g)] for g in (0, 1))
            p = stats.ttest_ind(first, second, equal_var=False).pvalue
            outcomes[name].append((first.mean() - second.mean(), p < 0.05))
    return {name: tuple(np.mean(pairs, axis=0).tolist()) for name, pairs in outcomes.items()}


def main() -> None:
    """Print a line for each condition."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohorts", type=int, default=2000)
    cohorts = parser.parse_args().cohorts
    for name, condition in CONDITIONS.items():
        results = measure(condition, cohorts)
        print(
            name,
            *(f"{kind} {gap:+.4f}, {100 * share:.1f} %" for kind, (gap, share) in results.items()),
            sep=" | ",
        )


if __name__ == "__main__":
    main()
