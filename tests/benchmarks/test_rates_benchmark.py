"""The benchmark's shares are those of its cohorts."""

from benchmarks import rates


def test_shares_lie_where_exact_methods_put_them():
    shares = rates.of_rates((60, 15), 0.1, 200)
    assert shares["rejected"] <= 0.065 and shares["rate_covered"] >= 0.93
    assert shares["no_difference_covered"] >= 0.93 and shares["difference_covered"] >= 0.93
    assert 0 <= rates.of_means(5, 1, False, 50, draws=99) <= 0.2
