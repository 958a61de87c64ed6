"""The benchmark of the bootstrap compares implementations that compute the same quantities."""

import numpy as np

from benchmarks import bootstrap
from kneefair_jax.fairness import patient_bootstrap


def test_intervals_of_both_implementations_hold_the_estimates():
    scores, group = bootstrap.cohort(600)
    means = np.array([scores[group == g].mean() for g in range(bootstrap.GROUPS)])
    estimates = patient_bootstrap.statistics(means, scores.mean(), bootstrap.GROUPS)
    package = bootstrap.package_intervals(scores, group, 400)
    scipy = bootstrap.scipy_intervals(scores, group, 400)
    for name, (low, high), plain in zip(bootstrap.STATISTICS, package, scipy, strict=True):
        assert low < getattr(estimates, name) < high
        # Simultaneous over all pairs of groups, so wider than plain percentiles.
        assert high - low > plain[1] - plain[0] > 0
    assert bootstrap.cost(lambda *_: np.zeros(1), (scores, group), 10, 20, 2)["draws_run"] == 10
