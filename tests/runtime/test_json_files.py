import os
import time

import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import json_files
from kneefair_jax.runtime.schema import Anything, Number, Table

ANY = Table(other_fields=Anything())


def test_a_value_that_fits_is_returned(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null]}')
    (tmp_path / "link.json").symlink_to(tmp_path / "a.json")
    assert json_files.read(tmp_path / "a.json", ANY, "") == {"a": [1, 2.5, None]}
    assert json_files.read(tmp_path / "link.json", ANY, "") == {"a": [1, 2.5, None]}


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
        json_files.read(path, ANY, "copy it again")
    message = str(refused.value)
    assert message.startswith(f"{path}") and message.endswith("copy it again") and "\n" not in message


def test_a_value_out_of_range_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1e308}')
    with pytest.raises(InputError, match=r"a\.json: a is 1e\+308"):
        json_files.read(tmp_path / "a.json", Table({"a": Number(0, 1)}), "")


def test_what_is_no_regular_file_and_what_is_large_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(10**12)
    start = time.monotonic()
    for name in ("pipe", "folder", "zero", "large", "absent"):
        with pytest.raises(InputError, match=name):
            json_files.read(tmp_path / name, ANY, "")
    assert time.monotonic() - start < 5
