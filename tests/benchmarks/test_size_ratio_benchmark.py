import pytest

from benchmarks import size_ratio


@pytest.mark.parametrize("ratio", [1.0, 2.0])
def test_intervals_cover_the_true_ratio_whichever_group_is_worse(ratio):
    assert 0.9 <= size_ratio.coverage((60, 20), 0.6, ratio, 300) <= 0.99
