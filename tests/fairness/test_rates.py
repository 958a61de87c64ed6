import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kneefair_jax.fairness import hypothesis_tests, rates
from kneefair_jax.fairness.rates import ALL_GROUPS, Tally

TALLY = st.integers(1, 60).flatmap(lambda n: st.builds(Tally, st.integers(0, n), st.just(n)))


@pytest.mark.parametrize("tally", [Tally(0, 1), Tally(0, 12), Tally(3, 12), Tally(12, 12), Tally(199, 400)])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_the_interval_of_a_rate_is_the_exact_one(tally, confidence):
    expected = stats.binomtest(tally.events, tally.patients).proportion_ci(confidence)
    assert rates.clopper_pearson(tally, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_no_failure_among_n_patients_allows_a_rate_above_zero():
    result = rates.rate(Tally(0, 10))
    assert (result.estimate, result.n) == (0.0, 10)
    assert result.interval == (0.0, pytest.approx(1 - 0.025 ** (1 / 10)))
    nobody = rates.rate(Tally(0, 0))
    assert (nobody.estimate, nobody.interval, nobody.n) == (None, None, 0)


def test_a_difference_worked_by_hand():
    result = rates.difference(Tally(6, 30), Tally(1, 20))
    low, high = stats.binomtest(6, 30).proportion_ci()
    other_low, other_high = stats.binomtest(1, 20).proportion_ci()
    assert result.estimate == pytest.approx(0.15)
    assert result.interval == pytest.approx(
        (
            0.15 - ((0.2 - low) ** 2 + (other_high - 0.05) ** 2) ** 0.5,
            0.15 + ((high - 0.2) ** 2 + (0.05 - other_low) ** 2) ** 0.5,
        )
    )
    assert result.p == pytest.approx(stats.fisher_exact([[6, 1], [24, 19]]).pvalue)
    wider = rates.difference(Tally(6, 30), Tally(1, 20), pairs=3)
    assert wider.interval[0] < result.interval[0] < result.interval[1] < wider.interval[1]
    certain = rates.difference(Tally(5, 5), Tally(0, 5))
    assert certain.estimate == 1 and certain.interval[1] == 1 and 0 < certain.interval[0] < 0.5


def test_one_failure_among_fifteen_against_none_among_thirty_gives_a_useful_interval():
    # Of means, the studentized bootstrap gave [0.000, 4.739] for such a gap.
    result = rates.difference(Tally(1, 15), Tally(0, 30))
    assert -0.12 < result.interval[0] < 0 and 0.25 < result.interval[1] < 0.35
    assert result.p == pytest.approx(1 / 3)


def test_tests_worked_by_hand():
    assert rates.fisher([Tally(3, 4), Tally(1, 4)]) == pytest.approx(34 / 70)  # Fisher's tea
    # 2 events in 3 groups of 2: both in one group has probability 1 / 15, one in each of two 4 / 15.
    assert rates.fisher([Tally(2, 2), Tally(0, 2), Tally(0, 2)]) == pytest.approx(3 / 15, abs=0.012)
    assert rates.fisher([Tally(1, 2), Tally(1, 2), Tally(0, 2)]) == 1
    assert rates.fisher([Tally(0, 5), Tally(0, 9)]) == rates.fisher([Tally(5, 5), Tally(9, 9)]) == 1


def test_the_test_of_more_groups_neither_depends_on_their_order_nor_on_luck():
    groups = [Tally(5, 40), Tally(0, 35), Tally(1, 60)]
    p = {rates.fisher(order) for order in itertools.permutations(groups)}
    assert len(p) == 1 and p.pop() < 0.05
    assert rates.fisher(groups, seed=1) == pytest.approx(rates.fisher(groups), abs=0.01)


@settings(max_examples=40)
@given(TALLY, TALLY)
def test_rates_differences_and_p_values_lie_in_their_range(first, second):
    result = rates.difference(first, second)
    low, high = result.interval
    assert -1 <= low <= result.estimate <= high <= 1 and low < high
    assert 0 < result.p <= 1
    negated = rates.difference(second, first)
    assert negated.interval == pytest.approx((-high, -low)) and negated.p == pytest.approx(result.p)
    for tally in (first, second):
        rate = rates.rate(tally)
        assert 0 <= rate.interval[0] <= rate.estimate <= rate.interval[1] <= 1


@settings(max_examples=15)
@given(st.lists(TALLY, min_size=2, max_size=4), st.randoms())
def test_names_and_order_of_groups_change_nothing(tallies, random):
    names = [f"g{k}" for k in range(len(tallies))]
    order = random.sample(range(len(tallies)), len(tallies))
    result = rates.compare(dict(zip(names, tallies, strict=True)))
    reference = rates.compare({f"other {names[k]}": tallies[k] for k in order})
    assert result.test == reference.test
    p = {frozenset((pair.first, pair.second)): pair.difference.p_adjusted for pair in result.pairs}
    rest = {
        frozenset((pair.first[6:], pair.second[6:])): pair.difference.p_adjusted for pair in reference.pairs
    }
    assert p == pytest.approx(rest)


def test_pairs_have_their_own_corrected_p():
    result = rates.compare({"a": Tally(12, 40), "b": Tally(1, 40), "c": Tally(2, 40)})
    assert [(pair.first, pair.second) for pair in result.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert result.test.estimate == pytest.approx(11 / 40) and result.test.n == 120 and result.test.p < 0.01
    raw = {pair.second + pair.first: pair.difference.p for pair in result.pairs}
    holm = hypothesis_tests.holm(raw)
    assert [pair.difference.p_adjusted for pair in result.pairs] == list(holm.values())
    assert holm["ba"] < 0.01 < 0.05 < holm["cb"]


def test_a_group_too_small_to_rank_is_tested_against_all_others():
    result = rates.compare({"a": Tally(1, 50), "b": Tally(0, 30)}, {"c": Tally(3, 4), "d": Tally(0, 2)})
    rest = rates.difference(Tally(3, 4), Tally(1, 82))
    assert result.unranked["c"] == rest and rest.p == pytest.approx(
        stats.fisher_exact([[3, 1], [1, 81]]).pvalue
    )
    assert result.test.n == 80 and len(result.pairs) == 1
    separate = rates.compare({}, {"c": Tally(3, 4)})
    assert (separate.test, separate.pairs, separate.unranked) == (None, (), {})


def test_one_family_holds_every_attribute_and_every_small_group():
    comparison = {
        "sex": rates.compare({"f": Tally(8, 40), "m": Tally(0, 45)}),
        "race": rates.compare({"A": Tally(5, 40), "B": Tally(3, 40)}, {"C": Tally(2, 3)}),
        "side": rates.compare({"l": Tally(9, 90)}),
    }
    family = rates.p_values(comparison)
    assert list(family) == [("sex", ALL_GROUPS), ("race", ALL_GROUPS), ("race", "C")]
    result = rates.adjust(comparison)
    sex = comparison["sex"].test.p
    assert result["sex"].test.p_adjusted == pytest.approx(3 * sex) and result["sex"].test.p == sex
    assert result["race"].unranked["C"].p_adjusted == pytest.approx(2 * family["race", "C"])
    assert result["race"].test.p_adjusted == family["race", ALL_GROUPS] and result["side"].test is None
    assert result["sex"].pairs[0].difference.p_adjusted == result["sex"].test.p_adjusted
    pairs = rates.compare({"a": Tally(12, 40), "b": Tally(1, 40), "c": Tally(2, 40)})
    combined = rates.adjust({"age": pairs, "sex": comparison["sex"]})["age"].pairs
    assert combined[0].difference.p_adjusted >= pairs.pairs[0].difference.p_adjusted


def test_a_patient_has_the_event_if_any_case_in_the_group_has_it():
    events = np.array([[0.0, np.nan], [1, np.nan], [0, 0], [np.nan, 1], [0, 0]])
    patients = np.array(["p", "p", "q", "q", "q"])
    result, rows = rates.merge_cases(events, patients, np.array([0, 0, 0, 0, 1]))
    np.testing.assert_array_equal(result, [[1, np.nan], [0, 1], [0, 0]])
    assert rows.tolist() == [0, 0, 1]
    assert rates.tallies(result[:, 1], rows, ("a", "b")) == {"a": Tally(1, 1), "b": Tally(0, 1)}


@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_the_test_keeps_its_level_and_the_interval_covers(rate):
    draw = np.random.default_rng(3)
    counts = draw.binomial([60, 15], rate, size=(300, 2)).tolist()
    result = [rates.difference(Tally(a, 60), Tally(b, 15)) for a, b in counts]
    assert np.mean([event.p <= 0.05 for event in result]) <= 0.065
    assert np.mean([event.interval[0] <= 0 <= event.interval[1] for event in result]) >= 0.95


@pytest.mark.parametrize("scale", [1, 300])
def test_tables_of_three_groups_at_any_size(scale):
    groups = [Tally(9 * scale, 100 * scale), Tally(11 * scale, 120 * scale), Tally(14 * scale, 110 * scale)]
    p = rates.fisher(groups, draws=4_999)
    table = np.array([[t.events for t in groups], [t.patients - t.events for t in groups]])
    # The exact test and that of chi squared agree for large tables.
    assert p == pytest.approx(stats.chi2_contingency(table).pvalue, abs=0.03)


def test_random_tables_are_scipy_s():
    rng = np.random.default_rng(0)
    for _ in range(12):  # with tables that are as probable as the observed one, but for rounding
        groups = [Tally(int(rng.binomial(n, 0.95)), n) for n in (298, 160, 42)]
        table = np.array(sorted((t.events, t.patients - t.events) for t in groups)).T
        method = stats.MonteCarloMethod(n_resamples=999, rng=np.random.default_rng(5))
        assert rates.fisher(groups, draws=999, seed=5) == stats.fisher_exact(table, method=method).pvalue


def test_an_estimate_shows_its_value_interval_and_p():
    estimate = rates.difference(Tally(8, 30), Tally(0, 30))
    assert repr(estimate).startswith("RateDifference(0.267 [0.")
    assert repr(estimate).endswith(f", n=60, p={estimate.p:.2g})")
    assert repr(rates.rate(Tally(0, 0))) == "Estimate(undefined, n=0)"
