import errno
import os

import pytest

from kneefair_jax.runtime import io_errors


def test_the_kernel_s_own_error():
    with pytest.raises(OSError) as caught, open("/dev/full", "w") as file:
        file.write("x")
        file.flush()
    assert io_errors.sentence(caught.value) == "no space left on device; make space"


def test_one_inside_a_library_s():
    try:
        try:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/run/x")
        except OSError as error:
            raise ValueError("cannot write") from error
    except ValueError as error:
        assert (
            io_errors.sentence(error) == "/run/x: read-only file system; give a --workdir that can be written"
        )


def test_one_that_is_told_in_words_alone():
    text = "RESOURCE_EXHAUSTED: Error writing: No space left on device [OS error 28]"
    assert io_errors.sentence(RuntimeError(text)) == "no space left on device; make space"


def test_anything_else_is_not_the_storage_s():
    assert io_errors.sentence(ValueError("no")) is None
    assert io_errors.sentence(FileNotFoundError(errno.ENOENT, "no", "x")) is None
