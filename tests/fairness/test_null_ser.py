import numpy as np
import pytest

from kneefair_jax.fairness import null_ser
from kneefair_jax.fairness.over_patients import means, resample, squared_errors
from kneefair_jax.fairness.simultaneous import Means


def errors(scores, sizes, draws=4000):
    values = 1 - scores[None]
    return Means(
        means(values, sizes),
        squared_errors(values, sizes),
        *resample(values, sizes, np.random.default_rng(0), draws),
    )


def test_the_number_of_methods():
    """60 and 15 patients, IoU SD .03, mean .92: 95th percentile 1.24."""
    sizes = np.array([60, 15])
    found = [
        null_ser.percentile(errors(np.random.default_rng(seed).normal(0.92, 0.03, 75), sizes), sizes)
        for seed in range(20)
    ]
    assert np.mean(found) == pytest.approx(1.24, abs=0.02)


def test_a_true_gap_does_not_move_it():
    """The groups are drawn about a common mean, so only where that lies matters."""
    rng, sizes = np.random.default_rng(0), np.array([40, 40])
    scores = rng.normal(0.9, 0.03, 80)
    apart = scores + np.repeat([0.03, -0.03], sizes)
    equal = null_ser.percentile(errors(scores, sizes), sizes)
    assert null_ser.percentile(errors(apart, sizes), sizes) == pytest.approx(equal, rel=1e-9)


def test_errors_that_reach_0_have_none():
    scores, sizes = np.random.default_rng(0).normal(0.999, 0.03, 20), np.array([10, 10])
    assert null_ser.percentile(errors(scores, sizes), sizes) is None
    perfect = np.ones(20)
    assert null_ser.percentile(errors(perfect, sizes), sizes) is None
