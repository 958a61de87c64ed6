import io
import os
import pickle
import time
import zipfile

import numpy as np
import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import checked_files
from kneefair_jax.runtime.schema import Anything, Number, Table

ANY = Table(other_fields=Anything())


def test_a_value_that_fits_is_returned(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null]}')
    (tmp_path / "link.json").symlink_to(tmp_path / "a.json")
    assert checked_files.read_json(tmp_path / "a.json", ANY, "") == {"a": [1, 2.5, None]}
    assert checked_files.read_json(tmp_path / "link.json", ANY, "") == {"a": [1, 2.5, None]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe{}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * 200_000,
        b'{"a":' * 200_000,
    ],
    ids=lambda content: repr(content[:20]),
)
def test_what_is_no_strict_json_is_one_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        checked_files.read_json(path, ANY, "copy it again")
    message = str(refused.value)
    assert message.startswith(f"{path}") and message.endswith("copy it again") and "\n" not in message


def test_a_value_out_of_range_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1e308}')
    with pytest.raises(InputError, match=r"a\.json: a is 1e\+308"):
        checked_files.read_json(tmp_path / "a.json", Table({"a": Number(0, 1)}), "")


def test_what_is_no_regular_file_and_what_is_large_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(10**12)
    start = time.monotonic()
    for name in ("pipe", "folder", "zero", "large", "absent"):
        with pytest.raises(InputError, match=name):
            checked_files.read_json(tmp_path / name, ANY, "")
    assert time.monotonic() - start < 5


class Planted:
    def __reduce__(self):
        return (open, ("was_loaded", "w"))


def test_arrays_come_back(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(3), b=np.ones(2))
    arrays = checked_files.read_npz(tmp_path / "a.npz", "", ("a", "b"))
    assert arrays["a"].tolist() == [0, 1, 2] and arrays["b"].tolist() == [1, 1]
    with pytest.raises(InputError, match="no array 'c'"):
        checked_files.read_npz(tmp_path / "a.npz", "", ("c",))


def test_what_is_damaged_or_pickled_is_one_line_and_is_not_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "objects.npz", a=np.array([Planted()]))
    (tmp_path / "was_loaded").unlink(missing_ok=True)
    np.savez(tmp_path / "cut.npz", a=np.arange(1000))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:2000])
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Planted()))
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "one.npy", np.arange(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    for name in ("objects", "cut", "pickle", "empty", "one", "pipe", "absent"):
        with pytest.raises(InputError, match=rf"{name}\.npz") as refused:
            checked_files.read_npz(tmp_path / f"{name}.npz", "evaluate again")
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "was_loaded").exists()


def test_what_expands_beyond_the_limit_is_refused_before_it_is_expanded(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10_000_000), b=np.zeros(3))
    assert os.path.getsize(tmp_path / "a.npz") < 100_000
    monkeypatch.setattr(checked_files.memory, "host_bytes", lambda: 140_000_000)
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(InputError, match=r"a\.npz cannot be read \(expands to 76 MiB, more than 66 MiB"):
        checked_files.read_npz(tmp_path / "a.npz", "evaluate again")


def test_an_array_that_is_larger_than_its_member_is_not_allocated(tmp_path, monkeypatch):
    header = io.BytesIO()
    about = {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)}
    np.lib.format.write_array_header_1_0(header, about)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(80))
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(InputError, match=r"a\.npy is cut off"):
        checked_files.read_npz(tmp_path / "a.npz", "evaluate again")
