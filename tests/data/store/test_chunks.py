"""Processes that read chunks are shielded from Ctrl-C from their first moment on."""

import ast
import pickle
import re
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

import kneefair_jax
from kneefair_jax.data.store import chunks, store
from kneefair_jax.errors import InputError
from tests.data.slow import GRID, source


@pytest.mark.linux
def test_a_process_that_starts_meanwhile_blocks_interrupts_alone():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    with chunks._without_interrupts():
        status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True)
    assert int(re.search(r"SigBlk:\s*(\w+)", status.stdout)[1], 16) == 1 << (signal.SIGINT - 1)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == before


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_value_comes_back(tmp_path):
    digest = chunks.write_pickle(tmp_path / "a.pickle", {"rows": [1, 2]})
    assert len(digest) == 64 and chunks.read_pickle(tmp_path / "a.pickle", digest) == {"rows": [1, 2]}


def test_a_pickle_that_was_replaced_is_not_run(tmp_path):
    digest = chunks.write_pickle(tmp_path / "a.pickle", [1])
    (tmp_path / "a.pickle").write_bytes(pickle.dumps(Touch(tmp_path / "touched")))
    with pytest.raises(InputError, match=r"a\.pickle.*config\.data\.store"):
        chunks.read_pickle(tmp_path / "a.pickle", digest)
    assert not (tmp_path / "touched").exists()


def test_the_reading_of_a_source_is_loaded_through_the_check_alone():
    files = Path(kneefair_jax.__file__).parent.rglob("*.py")
    with_pickle = [
        path.name
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "loads" and ast.unparse(node.value) == "pickle"
    ]
    assert with_pickle == ["chunks.py"]


def test_the_scratch_folder_of_beam_is_private(tmp_path, monkeypatch):
    modes = []

    def read_cases(read, rows, folder, *_):
        modes.append(folder.stat().st_mode & 0o777)
        raise InterruptedError

    fake = types.SimpleNamespace(ReadCases=read_cases, options=lambda flags: None)
    monkeypatch.setitem(sys.modules, "kneefair_jax.data.store.beam", fake)
    monkeypatch.setattr(sys.modules["kneefair_jax.data.store"], "beam", fake, raising=False)
    with pytest.raises(InterruptedError):
        store.prepare(source(4), GRID, tmp_path / "s", beam="--runner=DirectRunner")
    assert modes == [0o700]
