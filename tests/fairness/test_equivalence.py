import numpy as np
import pytest
from scipy import stats

from kneefair_jax.fairness import equivalence
from kneefair_jax.fairness.simultaneous import Means


def normal(point, error, draws=40_000):
    """Means with a known standard error, their resamples normal."""
    point = np.array([point])
    drawn = point + error * np.random.default_rng(0).normal(size=(draws, *point.shape))
    return Means(point, np.full_like(point, error**2), drawn, np.full_like(drawn, error**2))


def test_the_interval_is_that_of_two_one_sided_tests():
    found = equivalence.tost(normal([0.9, 0.89], 0.01), np.array([50, 60]), 0.05, 50)
    half = stats.norm.ppf(0.95) * 0.01 * np.sqrt(2)
    assert found["intervals"][0] == pytest.approx([0.01 - half, 0.01 + half], abs=3e-4)
    assert found == {"delta": 0.05, "equivalent": True, "reason": None, "intervals": found["intervals"]}


@pytest.mark.parametrize(
    ("points", "sizes", "reason"),
    [
        ([0.9, 0.9], [50, 49], "the smallest group has 49; equality needs 50 patients in every group"),
        ([0.9, 0.9, 0.86], [50, 50, 50], "a pair's interval reaches beyond the margin"),
        ([0.9], [50], "fewer than two groups are ranked"),
    ],
)
def test_what_is_not_shown_to_be_equal(points, sizes, reason):
    found = equivalence.tost(normal(points, 0.01, 2000), np.array(sizes), 0.05, min(sizes))
    assert found["equivalent"] is False and found["reason"] == reason


def test_without_an_interval_nothing_is_shown():
    found = equivalence.tost(None, np.array([60, 60]), 0.05, 60)
    assert (found["equivalent"], found["reason"]) == (False, "a pair of groups has no interval")
    still = normal([0.9, 0.9], 0.01, 100)
    still = still._replace(squared=0 * still.squared)
    assert equivalence.tost(still, np.array([60, 60]), 0.05, 60)["intervals"] == [None]


def test_scores_that_do_not_vary_show_nothing():
    """A network that finds nothing has equal groups."""
    found = equivalence.tost(normal([0.0, 0.0], 0.0, 100), np.array([60, 60]), 0.05, 60)
    assert (
        found["equivalent"] is False and found["reason"] == "no group's scores vary, so they compare nothing"
    )


def test_each_pair_is_tested_at_the_full_level():
    """Intersection-union: a third group does not widen the first pair's interval."""
    two = equivalence.tost(normal([0.9, 0.89], 0.01), np.array([50, 50]), 0.05, 50)["intervals"][0]
    three = equivalence.tost(normal([0.9, 0.89, 0.9], 0.01), np.array([50] * 3), 0.05, 50)["intervals"][0]
    assert three == pytest.approx(two, abs=3e-4)


def test_a_group_too_small_to_be_ranked_leaves_nothing_shown():
    found = equivalence.tost(normal([0.9, 0.9], 0.01), np.array([120, 110]), 0.05, 9)
    assert found["equivalent"] is False
    assert found["reason"] == "the smallest group has 9; equality needs 50 patients in every group"
