import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneefair_jax.data.phantom.patients import cells, quotas, under_represented

SHARES = {"sex": {"female": 0.5, "male": 0.5}, "race": {"B": 0.15, "A": 0.85}}


def test_cells_by_hand():
    assert cells(SHARES) == pytest.approx(
        {("female", "B"): 0.075, ("female", "A"): 0.425, ("male", "B"): 0.075, ("male", "A"): 0.425}
    )


def test_quotas_by_hand():
    assert quotas(cells(SHARES), 40) == {
        ("female", "B"): 3,
        ("female", "A"): 17,
        ("male", "B"): 3,
        ("male", "A"): 17,
    }
    # 0.75 and 4.25 twice: the two spare patients go to the remainders of 0.75.
    assert list(quotas(cells(SHARES), 10).values()) == [1, 4, 1, 4]


@given(st.integers(1, 500), st.floats(0, 1))
def test_quotas_are_within_one_of_the_share(patients, share):
    shares = cells({"a": {"x": share, "y": 1 - share}, "b": {"u": 0.3, "v": 0.7}})
    counts = quotas(shares, patients)
    assert sum(counts.values()) == patients
    for cell, count in counts.items():
        assert abs(count - patients * shares[cell]) < 1 + 1e-6


def test_under_representation_by_hand():
    shares = {("A",): 0.6, ("B",): 0.4}
    # At 1 a twentieth of 0.4 is left beside 0.6: 0.02 of 0.62. At 0.5 it is 0.525 x 0.4 = 0.21 beside 0.6.
    full = under_represented(shares, ["g"], {"g=B": {"representation": 1.0}})
    half = under_represented(shares, ["g"], {"g=B": {"representation": 0.5}})
    assert full["B",] == pytest.approx(0.02 / 0.62) and half["B",] == pytest.approx(0.21 / 0.81)
    assert under_represented(shares, ["g"], {"g=B": {"noise": 1.0}}) == pytest.approx(shares)
