import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kneefair_jax.data.quota import prefix_counts


@settings(max_examples=200, deadline=None)
@given(shares=st.lists(st.integers(1, 30), min_size=1, max_size=8), batch_size=st.integers(1, 20))
# Where the rule "a place to whoever is furthest behind" misses.
@example(shares=[4, 17, 20, 2, 17], batch_size=7)
# Where a tie of deadlines, or of deadlines that overlap the next job's time, must not go to the first.
@example(shares=[24, 30, 5, 23], batch_size=13)
@example(shares=[26, 7, 13, 27, 14], batch_size=6)
# Nearly equal shares: deadlines are alike for thousands of batches.
@example(shares=[33331, 33337, 33335], batch_size=8)
def test_every_batch_and_every_run_of_batches_is_within_one_of_its_due(shares, batch_size):
    counts = prefix_counts(shares, batch_size)
    total, batches = sum(shares), np.arange(len(counts))
    due = np.outer(batches * batch_size, shares)  # of `total`, exact
    assert (counts >= due // total).all() and (counts <= -(-due // total)).all()
    each = np.diff(counts, axis=0)
    assert (each.sum(1) == batch_size).all()
    assert (each >= due[1] // total).all() and (each <= -(-due[1] // total)).all()
    np.testing.assert_array_equal(counts[-1] * total, due[-1])


@pytest.mark.parametrize(
    ("shares", "batch_size", "batches"),
    [
        ((1, 1), 4, [[2, 2]]),
        ((1, 1), 3, [[2, 1], [1, 2]]),
        ((3, 1), 2, [[2, 0], [1, 1]]),  # by hand: 1.5 and .5 a batch; ties go to the first
        ((6, 3, 1), 10, [[6, 3, 1]]),
    ],
)
def test_by_hand(shares, batch_size, batches):
    assert np.diff(prefix_counts(shares, batch_size), axis=0).tolist() == batches
