import os

import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import memory


def test_cores_are_those_of_the_affinity():
    assert 1 <= memory.core_count() <= os.cpu_count()


def test_more_memory_than_there_is_is_refused(monkeypatch):
    assert memory.host_bytes() > 2**28 and memory.device_bytes() > 2**28
    monkeypatch.setattr(memory, "host_bytes", lambda: 2**30)
    memory.require(2**30, "x", "y")
    with pytest.raises(InputError, match="x: this needs about 1.5 GiB of memory, and 1 GiB are available; y"):
        memory.require(3 * 2**29, "x", "y")
