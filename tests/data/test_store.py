import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from kneefair_jax.data import store
from kneefair_jax.data.source import Example, Source
from kneefair_jax.errors import InputError

GRID = (5, 4, 2)


def example(row):
    rng = np.random.default_rng(row)
    return Example(
        rng.integers(0, 255, GRID).astype(np.uint8),
        rng.integers(0, 3, GRID[:2]).astype(np.uint8),
        np.array([0.5, row], np.float32),
    )


def source(count=12, calls=None, **settings):
    def examples():
        if calls is not None:
            calls.append("written")
        return (example(row) for row in range(count))

    cases = pd.DataFrame({"case_id": [f"c{row}" for row in range(count)]})
    return Source(cases, ("a", "b"), {"kind": "test", "count": count, **settings}, examples)


def test_record_k_is_row_k(tmp_path):
    cases = store.prepare(source(), GRID, tmp_path)
    assert len(cases) == 12
    for row in (0, 11, 5):
        for key, array in example(row)._asdict().items():
            np.testing.assert_array_equal(cases[row][key], array)
            assert cases[row][key].dtype == array.dtype


def test_reused_when_unchanged_and_rebuilt_otherwise(tmp_path):
    calls = []
    first = store.prepare(source(calls=calls), GRID, tmp_path)
    again = store.prepare(source(calls=calls), GRID, tmp_path)
    assert calls == ["written"] and first.digest == again.digest
    store.prepare(source(calls=calls, size=3), GRID, tmp_path)
    assert calls == ["written", "written"]


def test_the_digest_is_of_the_pixels(tmp_path):
    a = store.prepare(source(), GRID, tmp_path / "a")
    b = store.prepare(source(other="settings"), GRID, tmp_path / "b")
    c = store.prepare(source(count=11), GRID, tmp_path / "c")
    assert a.digest == b.digest != c.digest


def test_pixels_are_checked_without_writing_and_only_when_they_will_be_read(tmp_path):
    def check():
        raise InputError("row 3: broken")

    broken = source()._replace(check=check)
    with pytest.raises(InputError, match="row 3"):
        store.check(broken, GRID, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    store.prepare(source(), GRID, tmp_path / "store")
    store.check(broken, GRID, tmp_path / "store")


def test_a_kill_before_the_digest_is_written_leaves_the_same_store(tmp_path):
    """TFDS takes the renamed folder for whole; its digest would be that of nothing."""
    first = store.prepare(source(), GRID, tmp_path)
    (digest,) = tmp_path.rglob(store.DIGEST_FILE)
    digest.unlink()
    assert store.prepare(source(), GRID, tmp_path).digest == first.digest


def test_an_interrupted_preparation_is_not_taken_for_whole(tmp_path):
    def broken():
        yield example(0)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        store.prepare(source()._replace(examples=broken), GRID, tmp_path)
    assert len(store.prepare(source(), GRID, tmp_path)) == 12


def test_no_tensorflow():
    code = "import sys; from kneefair_jax.data import store; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
