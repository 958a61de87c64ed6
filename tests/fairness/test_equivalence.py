import numpy as np
import pytest
from scipy import stats

from kneefair_jax.fairness import equivalence, two_part


def group(mean, patients, spread=0.02, failures=0):
    """A symmetric sample with exactly this mean and standard deviation, besides the failures."""
    quantiles = stats.norm.ppf((np.arange(patients) + 0.5) / patients)
    values = mean + spread * quantiles / quantiles.std(ddof=1)
    values[:failures] = 0
    return two_part.scores(values, values < 0.5, 0.0, 1.0)


def test_the_interval_is_that_of_two_one_sided_tests_and_of_unobserved_failures():
    result = equivalence.tost([group(0.9, 300), group(0.89, 400)], 0.05)
    errors = [0.02 / np.sqrt(300) * stats.t.ppf(0.95, 299), 0.02 / np.sqrt(400) * stats.t.ppf(0.95, 399)]
    # Clopper-Pearson's upper limits of 0 of 300 and 0 of 400, one-sided at 5 %.
    failing = [0.9 * (1 - 0.05 ** (1 / 300)), 0.89 * (1 - 0.05 ** (1 / 400))]
    low = 0.01 - np.sqrt(errors[0] ** 2 + failing[0] ** 2 + errors[1] ** 2)
    high = 0.01 + np.sqrt(errors[0] ** 2 + errors[1] ** 2 + failing[1] ** 2)
    assert result["intervals"][0] == pytest.approx([low, high], abs=1e-6)
    assert result == {"delta": 0.05, "equivalent": True, "reason": None, "intervals": result["intervals"]}


@pytest.mark.parametrize(
    ("groups", "unranked", "reason"),
    [
        ([group(0.9, 60), group(0.9, 60)], 0, "margin"),  # 5 % of either could fail unseen
        ([group(0.9, 400), group(0.9, 400), group(0.86, 400)], 0, "margin"),
        ([group(0.9, 400), group(0.9, 400, failures=8)], 0, "margin"),
        ([group(0.9, 400)], 0, "two groups"),
        ([group(0.9, 400), group(0.9, 400)], 1, "too small"),
        ([group(0.9, 400, 0.0), group(0.9, 400, 0.0)], 0, "vary"),
    ],
)
def test_what_is_not_shown_to_be_equal(groups, unranked, reason):
    result = equivalence.tost(groups, 0.02, unranked)
    assert result["equivalent"] is False and reason in result["reason"]


def test_each_pair_is_tested_at_the_full_level():
    """Intersection-union: a third group does not widen the first pair's interval."""
    groups = [group(0.9, 300), group(0.89, 300), group(0.9, 300)]
    two, three = (equivalence.tost(groups[:count], 0.05)["intervals"][0] for count in (2, 3))
    assert two == three


def test_failures_at_the_edge_of_the_margin_are_rarely_called_equivalent():
    """100 patients a group, one with 2.1 % failures, a true difference of 0.02: TOST of means accepted 13 to 16 %."""
    rng, accepted = np.random.default_rng(0), 0
    for _ in range(400):
        values = rng.beta(38, 2, (2, 100))
        values[1, rng.random(100) < 0.02 / 0.95] = 0
        groups = [two_part.scores(row, row < 0.5, 0.0, 1.0) for row in values]
        accepted += equivalence.tost(groups, 0.02)["equivalent"]
    assert accepted / 400 <= 0.065


def test_distances_cannot_be_shown_to_be_equal():
    distance = two_part.scores(np.linspace(1, 2, 300), np.zeros(300, bool), None, 0.0)
    result = equivalence.tost([distance, distance], 5.0)
    assert result["equivalent"] is False and "distance" in result["reason"]
