"""Preparation by Apache Beam, in its own environment: `make test-beam`."""

from functools import partial

import numpy as np
import pytest

from kneefair_jax.data import store
from kneefair_jax.errors import InputError
from tests.data.slow import GRID, example, source

pytestmark = [
    pytest.mark.beam,
    pytest.mark.filterwarnings("default"),  # what Beam and its libraries warn of is theirs to mend
]
DIRECT = "--runner=DirectRunner"
TWO = f"{DIRECT} --direct_num_workers=2 --direct_running_mode=multi_processing"


@pytest.mark.parametrize("flags", [DIRECT, TWO])
def test_the_store_is_that_of_a_preparation_without_beam(tmp_path, flags):
    given = source(45, broken=(4, 30))
    plain = store.prepare(given, GRID, tmp_path / "plain", on_read_error="skip")
    beam = store.prepare(given, GRID, tmp_path / "beam", on_read_error="skip", beam=flags, chunk=4)
    assert beam.digest == plain.digest and beam.excluded == plain.excluded
    kept = [row for row in range(45) if row not in (4, 30)]
    assert len(beam) == len(kept)
    for place, row in enumerate(kept):
        for key, array in example(row).arrays().items():
            np.testing.assert_array_equal(beam[place][key], array)
    # And it serves a start without Beam.
    again = store.prepare(
        source(45, broken=(4, 30), seconds=9.0), GRID, tmp_path / "beam", on_read_error="skip"
    )
    assert again.digest == plain.digest
    names = [sorted(path.name for path in (tmp_path / one).rglob("*")) for one in ("plain", "beam")]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ((4, 5), "^2 of 20 cases cannot be read.*\nt.csv row 6: 4.png: torn.*\n.* 5.png"),
        (range(20), "^none of 20 cases can be read:\nt.csv row 2: 0.png: torn"),
    ],
)
def test_broken_cases_stop_it_and_leave_nothing(tmp_path, broken, words):
    with pytest.raises(InputError, match=words):
        store.prepare(source(20, broken=broken), GRID, tmp_path / "s", beam=DIRECT, chunk=4)
    assert not (tmp_path / "s").exists()


def test_a_job_is_small_however_much_the_source_holds(tmp_path):
    """A request to start a job may have 10 MB; a folder of 100,000 films is more."""
    import apache_beam

    from kneefair_jax.data.store import beam

    given = source()
    heavy = given._replace(read=partial(_read_with, np.random.default_rng(0).bytes(2**20), given.read))
    pipeline = apache_beam.Pipeline()
    _ = pipeline | beam.ReadCases(heavy.read, 12, tmp_path, 4)
    assert len(pipeline.to_runner_api().SerializeToString()) < 2**18
    cases = store.prepare(heavy, GRID, tmp_path / "s", beam=DIRECT)
    assert cases.digest == store.prepare(given, GRID, tmp_path / "plain").digest


def _read_with(weight, read, rows):
    del weight
    return read(rows)


def test_many_records_in_several_shards_keep_their_order(tmp_path, monkeypatch):
    from tensorflow_datasets.core.utils import shard_utils

    monkeypatch.setattr(shard_utils.ShardConfig, "get_number_shards", lambda self, **_: 3)
    cases = store.prepare(source(50), GRID, tmp_path, beam=DIRECT, chunk=7)
    assert len(list(tmp_path.rglob("*.array_record-*"))) == 3
    assert [cases[row]["spacing"][1] for row in range(50)] == list(range(50))


def test_cases_that_only_this_process_can_read_are_refused(tmp_path):
    with pytest.raises(InputError, match="leave data.beam empty"):
        store.prepare(source()._replace(portable=False), GRID, tmp_path / "s", beam=DIRECT)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("flags", ["--runner=NoSuchRunner", "--runner='DirectRunner"])
def test_flags_are_checked_before_anything_is_written(tmp_path, flags):
    with pytest.raises(InputError, match="config.data.beam="):
        store.prepare(source(), GRID, tmp_path / "s", beam=flags)
    assert not (tmp_path / "s").exists()
