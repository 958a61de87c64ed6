import threading

import numpy as np
import pytest

from kneefair_jax.data.store.cache import Kept


class Counted:
    """Ten cases of 100 bytes that count how often they are read."""

    def __init__(self):
        self.reads = [0] * 10

    def __len__(self):
        return 10

    def __getitem__(self, row):
        self.reads[row] += 1
        return {"image": np.full(60, row, np.uint8), "label": np.full(40, row, np.uint8)}


def test_each_case_is_read_once_while_there_is_room():
    counted = Counted()
    cases = Kept(counted, limit=350)
    assert len(cases) == 10
    for _ in range(3):
        for row in (4, 7, np.int64(2), 9, 0):
            assert (cases[row]["image"] == row).all() and (cases[row]["label"] == row).all()
    assert [counted.reads[row] for row in (4, 7, 2)] == [1, 1, 1]
    assert [counted.reads[row] for row in (9, 0)] == [6, 6]


def test_nobody_changes_a_case_that_is_kept():
    cases = Kept(Counted())
    with pytest.raises(ValueError, match="read-only"):
        cases[3]["image"][0] = 1


def test_a_case_that_two_read_at_once_takes_its_room_once():
    both = threading.Barrier(2, timeout=10)

    class Together(Counted):
        def __getitem__(self, row):
            if row == 0:
                both.wait()
            return super().__getitem__(row)

    counted = Together()
    cases = Kept(counted, limit=200)
    threads = [threading.Thread(target=cases.__getitem__, args=(0,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(2):
        assert (cases[1]["image"] == 1).all() and (cases[0]["image"] == 0).all()
    assert counted.reads[:2] == [2, 1]
