import threading

import numpy as np
import pytest

from kneefair_jax.data import cohort_loader, pipeline, store
from kneefair_jax.data.pipeline import CachedCases
from kneefair_jax.data.source import Online
from tests.training import study


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
    cases = CachedCases(counted, limit=350)
    assert len(cases) == 10
    for _ in range(3):
        for row in (4, 7, np.int64(2), 9, 0):
            assert (cases[row]["image"] == row).all() and (cases[row]["label"] == row).all()
    assert [counted.reads[row] for row in (4, 7, 2)] == [1, 1, 1]
    assert [counted.reads[row] for row in (9, 0)] == [6, 6]


def test_a_cached_case_is_read_only():
    cases = CachedCases(Counted())
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
    cases = CachedCases(counted, limit=200)
    threads = [threading.Thread(target=cases.__getitem__, args=(0,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(2):
        assert (cases[1]["image"] == 1).all() and (cases[0]["image"] == 0).all()
    assert counted.reads[:2] == [2, 1]


ONLINE = Online(lambda cases: {"row": np.arange(len(cases))}, lambda stage, seed, step, batch: batch)


def cohort(is_online):
    plain = study.cohort()
    return plain._replace(source=plain.source._replace(online=ONLINE)) if is_online else plain


def prepare(is_online, folder):
    return cohort_loader.prepare(study.config().data, 0, cohort(is_online), None, folder, store.Options())[0]


def test_stored_cases_are_those_of_the_stored_cohort(tmp_path):
    some, everything = prepare(True, tmp_path), prepare(False, tmp_path)
    assert len(some.cases) == len(everything.cases) == 40
    scored = np.concatenate([some.cohort.rows("validation"), some.cohort.rows("test")])
    assert len(scored) == 16
    for row in scored:
        for name in ("image", "label", "spacing"):
            np.testing.assert_array_equal(some.cases[row][name], everything.cases[row][name])
    with pytest.raises(KeyError):
        some.cases[some.cohort.rows("train")[0]]
    assert some.cases.digest != everything.cases.digest


def test_a_batch_holds_inputs_in_place_of_training_cases():
    online_cohort, plain = cohort(True), cohort(False)
    inputs = pipeline.training_inputs([], online_cohort.source, online_cohort.cases)
    assert len(inputs) == 40 and inputs[3] == {"row": 3}
    stored = []
    assert pipeline.training_inputs(stored, plain.source, plain.cases) is stored
    assert pipeline.stored_source(plain.source, plain.cases) is plain.source
