import numpy as np
import pytest

from benchmarks import planning
from kneefair_jax.fairness import power


def test_a_group_has_the_stated_mean_spread_and_failures():
    one = planning.group(np.random.default_rng(0), 20_000, 0.05, lower=0.02)
    assert one.center == pytest.approx(0.93, abs=1e-3)
    assert one.error * np.sqrt(one.freedom + 1) == pytest.approx(0.03, rel=0.03)
    assert one.failed / one.n == pytest.approx(0.05, abs=0.005)


def test_the_power_is_near_what_was_asked_and_little_without_patients():
    needed = power.patients_needed(0.05, planning.SD, 0.02, span=planning.MEAN)
    shares = planning.simulated(needed, 150)
    assert all(0.68 <= share <= 0.95 for share in shares.values())
    few = power.PatientsNeeded(**{**vars(needed), "mean": 4, "failures": 20, "equivalence": 30})
    assert max(planning.simulated(few, 60).values()) < 0.6
