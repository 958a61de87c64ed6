import errno
import os

import pytest

from kneefair_jax.runtime import io_errors


def test_the_kernel_s_own_error():
    with pytest.raises(OSError) as caught, open("/dev/full", "w") as file:
        file.write("x")
        file.flush()
    assert io_errors.describe(caught.value, "--out") == "no space left on device; free space on the disk"


def test_one_inside_a_library_s():
    try:
        try:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/run/x")
        except OSError as error:
            raise ValueError("cannot write") from error
    except ValueError as error:
        assert (
            io_errors.describe(error, "--out")
            == "/run/x: read-only file system; give a folder that can be written as --out"
        )


def test_one_that_is_told_in_words_alone():
    text = "RESOURCE_EXHAUSTED: Error writing: No space left on device [OS error 28]"
    assert (
        io_errors.describe(RuntimeError(text), "--out") == "no space left on device; free space on the disk"
    )


def test_anything_else_is_not_the_storage_s():
    assert io_errors.describe(ValueError("no"), "--out") is None
    assert io_errors.describe(FileNotFoundError(errno.ENOENT, "no", "x"), "--out") is None


def test_a_temporary_file_is_named_by_its_folder(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / ".part-0123-a.png"))
    assert io_errors.describe(full, "--out").startswith(f"{tmp_path}: no space left")


def test_a_folder_that_was_deleted_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "gone" / "areas.csv").write_text("x")
    assert io_errors.describe(caught.value, "--out").startswith(f"{tmp_path / 'gone'}: ")


def test_an_error_without_a_file_gets_its_path(tmp_path):
    with pytest.raises(OSError) as caught, io_errors.add_path(tmp_path / "a"), open("/dev/full", "w") as file:
        os.write(file.fileno(), b"x")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "a")
