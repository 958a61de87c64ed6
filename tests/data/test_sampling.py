import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kneefair_jax.data import sampling
from kneefair_jax.data.sampling import SAMPLERS, prefix_counts
from kneefair_jax.errors import InputError
from kneefair_jax.groups import Partition

# Rows of a table: 14 of group 0, 7 of 1, 3 of 2, 2 unknown; those of odd patients are not for training.
GROUP = np.array([0] * 14 + [1] * 7 + [2] * 3 + [-1] * 2, np.int32)
PARTITION = Partition(("race",), ("race=A", "race=B", "race=C"), GROUP)
PATIENT = np.array([f"p{row // 2:02d}" for row in range(len(GROUP))])
ROWS = np.arange(len(GROUP))


def take(name, count, *, rows=ROWS, partition=PARTITION, batch_size=8, seed=0):
    order = SAMPLERS[name](rows, partition, PATIENT, batch_size, seed)
    return np.array([order[k] for k in range(count)])


def by_group(rows, partition=PARTITION):
    """Cases of group 0, 1, ..., and of unknown group."""
    return np.bincount(partition.index[rows] % 4, minlength=4).tolist()


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_order_is_a_function_of_the_seed_and_the_place(name):
    order = SAMPLERS[name](ROWS, PARTITION, PATIENT, 8, 3)
    straight = take(name, 60, seed=3)
    np.testing.assert_array_equal([order[k] for k in reversed(range(60))], straight[::-1])
    assert (take(name, 60, seed=4) != straight).any()
    assert set(straight) <= set(ROWS)
    assert order[10**12] in ROWS


@pytest.mark.parametrize("name", SAMPLERS)
def test_only_training_rows_are_drawn(name):
    rows = ROWS[2::3]
    assert set(take(name, 100, rows=rows, batch_size=3)) <= set(rows)


@settings(max_examples=40)
@given(
    name=st.sampled_from(["shuffled", "proportional"]),
    group=st.lists(st.integers(-1, 4), min_size=2, max_size=24),
    batch_size=st.integers(1, 20),
    seed=st.integers(0, 5),
)
def test_each_case_once_an_epoch_whatever_the_batch(name, group, batch_size, seed):
    """The trap: samplers that never shuffle, or skip the end of an epoch."""
    partition = Partition(("race",), tuple("ABCDE"), np.array(group, np.int32))
    rows = np.arange(len(group))
    order = SAMPLERS[name](rows, partition, rows.astype(str), batch_size, seed)
    epochs = np.array([order[k] for k in range(3 * len(rows))]).reshape(3, -1)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), [rows] * 3)


@pytest.mark.parametrize("name", SAMPLERS)
def test_another_epoch_is_another_order(name):
    draws = take(name, 4 * len(ROWS)).reshape(4, -1)
    assert len({tuple(epoch) for epoch in draws}) == 4


@settings(max_examples=40)
@given(
    group=st.lists(st.integers(-1, 4), min_size=2, max_size=30),
    batch_size=st.integers(1, 20),
    seed=st.integers(0, 5),
)
def test_proportional_batches_mirror_the_training_proportions(group, batch_size, seed):
    partition = Partition(("race",), tuple("ABCDE"), np.array(group, np.int32))
    rows = np.arange(len(group))
    order = sampling.proportional(rows, partition, rows.astype(str), batch_size, seed)
    due = batch_size * np.bincount(np.array(group) + 1, minlength=6) / len(group)
    for step in range(8):
        batch = partition.index[[order[step * batch_size + place] for place in range(batch_size)]]
        counts = np.bincount(batch + 1, minlength=6)
        assert (counts >= np.floor(due - 1e-9)).all() and (counts <= np.ceil(due + 1e-9)).all()


def test_undersampled_cuts_patients_to_the_smallest_group():
    """Groups 0 to 2 have 7, 4 and 2 patients: row 20 of group 1 and rows 21 to 23 of 2 share a patient."""
    drawn = take("undersampled", 200)
    kept = np.unique(drawn)
    for group in range(3):
        rows = kept[GROUP[kept] == group]
        people = np.unique(PATIENT[rows])
        assert len(people) == 2
        # Of a patient who is kept, every case of the group is.
        assert set(rows) == set(np.flatnonzero(np.isin(PATIENT, people) & (group == GROUP)))
    assert (GROUP[kept] >= 0).all()
    np.testing.assert_array_equal(np.unique(drawn[: len(kept)]), kept)
    choices = {tuple(np.unique(take("undersampled", 40, seed=seed))) for seed in range(8)}
    assert len(choices) > 2


@pytest.mark.parametrize("seed", range(4))
def test_undersampling_what_is_undersampled_changes_nothing(seed):
    once = sampling.undersample(ROWS, PARTITION, PATIENT, 8, seed)
    for other in (seed, seed + 1):
        np.testing.assert_array_equal(sampling.undersample(once, PARTITION, PATIENT, 8, other), once)
    drawn = take("undersampled", len(once), seed=seed)
    np.testing.assert_array_equal(np.sort(drawn), np.sort(once))


def test_undersampled_must_leave_a_batch():
    with pytest.raises(InputError, match="undersampled to 2 patients a group, 1[01] training cases"):
        take("undersampled", 1, batch_size=16)


def test_oversampled_draws_each_group_alike_and_its_cases_alike():
    drawn = take("oversampled", 6000)
    counts = by_group(drawn)
    assert counts[3] == 0
    # 2,000 expected, standard deviation 37; a case of group 2: 667, standard deviation 24.
    assert np.abs(np.array(counts[:3]) - 2000).max() < 150
    assert np.abs(np.bincount(drawn)[21:24] - 667).max() < 100
    assert len(np.unique(drawn)) == 24


@pytest.mark.parametrize(("batch_size", "shares"), [(6, {2}), (8, {2, 3}), (3, {1})])
def test_equal_share_gives_each_group_its_part_of_every_batch(batch_size, shares):
    batches = take("equal_share", 21 * batch_size, batch_size=batch_size).reshape(21, batch_size)
    counts = np.array([by_group(batch) for batch in batches])
    assert set(counts[:, :3].ravel()) == shares
    assert (counts[:, 3] == 0).all()
    # Over three batches, every group has had its turn.
    assert (counts[:, :3].reshape(7, 3, 3).sum(1) == batch_size).all()


def test_equal_share_goes_through_a_group_before_it_repeats_a_case():
    drawn = take("equal_share", 21 * 6, batch_size=6)
    for group, size in enumerate([14, 7, 3]):
        rows = drawn[GROUP[drawn] == group]
        passes = rows.reshape(42 // size, size)
        np.testing.assert_array_equal(np.sort(passes, axis=1), [np.flatnonzero(group == GROUP)] * len(passes))
        assert len({tuple(one) for one in passes}) > 1


def test_equal_share_pairs_cases_anew_each_time():
    """Two groups of one size must not be in one order for ever."""
    partition = Partition(("sex",), ("f", "m"), np.repeat([0, 1], 6).astype(np.int32))
    rows = np.arange(12)
    order = sampling.equal_share(rows, partition, rows.astype(str), 2, 0)
    pairs = {tuple(sorted((order[2 * step], order[2 * step + 1]))) for step in range(24)}
    assert len(pairs) > 10


def test_a_group_without_a_training_case():
    rows = ROWS[:21]  # none of group 2
    assert by_group(take("equal_share", 8, rows=rows)) == [4, 4, 0, 0]
    assert np.abs(np.array(by_group(take("oversampled", 400, rows=rows))[:2]) - 200).max() < 50
    assert by_group(take("proportional", 6, rows=rows, batch_size=6)) == [4, 2, 0, 0]
    with pytest.raises(InputError, match="sampler.name=.*no training case has race=C"):
        take("undersampled", 1, rows=rows)


def test_unknown_groups_alone():
    nobody = Partition(("race",), (), np.full(len(GROUP), -1, np.int32))
    for name in sampling.BALANCING:
        with pytest.raises(InputError, match="race is missing for every training case"):
            take(name, 1, partition=nobody)
    for name in set(SAMPLERS) - sampling.BALANCING:
        np.testing.assert_array_equal(np.sort(take(name, len(ROWS), partition=nobody)), ROWS)


def test_equal_share_needs_a_place_for_each_group():
    with pytest.raises(InputError, match="batch_size=2: equal_share needs a case of each of the 3 groups"):
        take("equal_share", 1, batch_size=2)


@settings(max_examples=200)
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
