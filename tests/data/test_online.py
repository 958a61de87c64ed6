"""An online cohort stores validation and test cases alone, and they are those of the cohort that stores all."""

import numpy as np
import pytest

from kneefair_jax.data import cohort_loader, online, store
from kneefair_jax.data.source import Online
from tests.training import study

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
    inputs = online.training_inputs([], online_cohort.source, online_cohort.cases)
    assert len(inputs) == 40 and inputs[3] == {"row": 3}
    stored = []
    assert online.training_inputs(stored, plain.source, plain.cases) is stored
    assert online.stored_source(plain.source, plain.cases) is plain.source
