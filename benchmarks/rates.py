"""Measure the level of the exact tests and the coverage of the intervals of `kneefair_jax.fairness.rates`.

    python -m benchmarks.rates

Rates: every group fails with the same probability. Intervals of a difference are also measured where one group fails
more often. Means of groups that are too small to rank: normal or log-normal errors, the small group with the same or
twice the spread of the 120 other patients.
"""

import argparse
import json
from functools import cache

import numpy as np

from kneefair_jax.fairness import rates, small_groups
from kneefair_jax.fairness.rates import Tally

SIZES = ((30, 30), (60, 15), (200, 60), (100, 30, 12))
FAILURES = (0.01, 0.02, 0.05, 0.1)
MORE_FAILURES = 0.2
SMALL, REST = (3, 5, 9), 120


@cache
def _difference(first: Tally, second: Tally) -> tuple[float, float, float]:
    difference = rates.difference(first, second)
    assert difference.interval and difference.p is not None
    return *difference.interval, difference.p


@cache
def _p(groups: tuple[Tally, ...]) -> float:
    return rates.fisher(groups)


def of_rates(sizes: tuple[int, ...], rate: float, cohorts: int) -> dict[str, float]:
    """Return shares of cohorts: a true null rejected, intervals that cover a rate, no difference, a difference."""
    rng = np.random.default_rng([cohorts, *sizes])
    cohort_tallies = [
        tuple(map(Tally, row, sizes)) for row in rng.binomial(sizes, rate, (cohorts, len(sizes))).tolist()
    ]
    higher = rng.binomial(sizes[1], MORE_FAILURES, cohorts).tolist()
    smallest = [rates.clopper_pearson(groups[-1]) or (0.0, 1.0) for groups in cohort_tallies]
    null = [_difference(*groups[:2]) for groups in cohort_tallies]
    differences = [
        _difference(Tally(k, sizes[1]), groups[0]) for k, groups in zip(higher, cohort_tallies, strict=True)
    ]
    true = MORE_FAILURES - rate
    return {
        "rejected": float(np.mean([_p(groups) <= 0.05 for groups in cohort_tallies])),
        "rate_covered": float(np.mean([low <= rate <= high for low, high in smallest])),
        "no_difference_covered": float(np.mean([low <= 0 <= high for low, high, _ in null])),
        "difference_covered": float(np.mean([low <= true <= high for low, high, _ in differences])),
        "disagreed": float(np.mean([(p <= 0.05) == (low <= 0 <= high) for low, high, p in null])),
    }


def of_means(patients: int, wider: float, skewed: bool, cohorts: int, draws: int = 999) -> float:
    """Return the share of true nulls that the test of one small group against the rest rejects."""
    rng = np.random.default_rng([cohorts, patients, int(wider), int(skewed)])
    rejected = 0
    for start in range(0, cohorts, 50):  # cohorts of a batch share their permutations
        noise = rng.normal(size=(min(50, cohorts - start), patients + REST))
        errors = np.exp(0.8 * noise) - np.exp(0.32) if skewed else noise
        errors[:, :patients] *= wider
        result = small_groups.permutation_test(errors[:, :patients], errors[:, patients:], draws, start)
        assert result is not None
        rejected += int((result[0] <= 0.05).sum())
    return rejected / cohorts


def main() -> None:
    """Print one line of JSON for each setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", type=int, default=10_000)
    cohorts = parser.parse_args().cohorts
    for sizes in SIZES:
        for rate in FAILURES:
            print(json.dumps({"sizes": sizes, "rate": rate} | of_rates(sizes, rate, cohorts)), flush=True)
    for patients in SMALL:
        for wider in (1, 2):
            for skewed in (False, True):
                share = of_means(patients, wider, skewed, cohorts)
                about = {"patients": patients, "wider": wider, "skewed": skewed, "rejected": share}
                print(json.dumps(about), flush=True)


if __name__ == "__main__":
    main()
