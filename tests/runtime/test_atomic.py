import errno
import os
import signal
import stat
from pathlib import Path

import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, output_folder, preemption


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic.replacement(path) as temporary:
        assert temporary.parent == tmp_path and temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.nii.gz"]
    with atomic.replacement(path, sync=True) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["a.nii.gz"]


def write_set(folder, text):
    with output_folder.exclusive_lock(folder, "--out"), atomic.staging_folder(folder) as stage:
        (stage / "sub").mkdir()
        for name in ("a", "b", "sub/c"):
            (stage / name).write_text(text)


def read_set(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_text() for path in paths}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_held_back_until_the_whole_set_is_there(tmp_path, monkeypatch, number):
    real = Path.replace
    write_set(tmp_path, "old")

    def replace(path, target):
        if target.name == "b":
            signal.raise_signal(number)
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with preemption.handle_signals(), pytest.raises((KeyboardInterrupt, preemption.Preempted)):
        write_set(tmp_path, "new")
    assert read_set(tmp_path) == {"a": "new", "b": "new", "sub/c": "new"}


def test_permissions_are_those_of_a_new_file_and_text_is_unchanged(tmp_path):
    mask = os.umask(0o027)
    try:
        atomic.write_text(tmp_path / "a", "é\r\n")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert (tmp_path / "a").read_bytes() == "é\r\n".encode()


def test_a_name_of_the_greatest_length(tmp_path):
    path = tmp_path / f"{'x' * 251}.png"
    assert atomic.write_bytes(path, b"1").read_bytes() == b"1"


@pytest.mark.parametrize("write", [atomic.write_text, lambda path, _: atomic.open_in_place(path, "a")])
def test_what_is_no_regular_file_is_left_alone(tmp_path, write):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "link").symlink_to("precious")
    (tmp_path / "dangling").symlink_to("new")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    names = {"link": "symbolic link", "dangling": "symbolic link", "folder": "folder", "pipe": "pipe"}
    for name, kind in names.items():
        with pytest.raises(InputError, match=f"{name} is a {kind}"):
            write(tmp_path / name, "text")
    with pytest.raises(InputError, match="a device"):
        atomic.require_regular(atomic.Path("/dev/null"))
    assert sorted(os.listdir(tmp_path)) == ["dangling", "folder", "link", "pipe", "precious"]
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_link_that_appears_after_the_check_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "log").symlink_to("precious")
    monkeypatch.setattr(atomic, "require_regular", lambda path: None)
    with pytest.raises(OSError, match="symbolic"):
        atomic.open_in_place(tmp_path / "log", "a")
    atomic.write_text(tmp_path / "log", "new")
    assert (tmp_path / "precious").read_text() == "precious" and not (tmp_path / "log").is_symlink()


def test_a_log_grows_and_a_lock_is_not_emptied(tmp_path):
    (tmp_path / "log").write_text("a\n")
    with atomic.open_in_place(tmp_path / "log", "a") as file:
        file.write("b\n")
    with atomic.open_in_place(tmp_path / "log", "r+"):
        pass
    assert (tmp_path / "log").read_text() == "a\nb\n"
    with atomic.open_in_place(tmp_path / "new", "r+"):
        assert (tmp_path / "new").exists()


@pytest.mark.linux
def test_the_kernel_s_own_error():
    with pytest.raises(OSError) as caught, open("/dev/full", "w") as file:
        file.write("x")
        file.flush()
    assert (
        atomic.describe_storage_error(caught.value, "--out")
        == "no space left on device; free space on the disk"
    )


def test_one_inside_a_library_s():
    try:
        try:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/run/x")
        except OSError as error:
            raise ValueError("cannot write") from error
    except ValueError as error:
        assert (
            atomic.describe_storage_error(error, "--out")
            == "/run/x: read-only file system; give a folder that can be written as --out"
        )


def test_a_storage_error_is_recognized_by_its_message():
    text = "RESOURCE_EXHAUSTED: Error writing: No space left on device [OS error 28]"
    assert (
        atomic.describe_storage_error(RuntimeError(text), "--out")
        == "no space left on device; free space on the disk"
    )


def test_anything_else_is_not_the_storage_s():
    assert atomic.describe_storage_error(ValueError("no"), "--out") is None
    assert atomic.describe_storage_error(FileNotFoundError(errno.ENOENT, "no", "x"), "--out") is None


def test_a_temporary_file_is_named_by_its_folder(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / ".part-0123-a.png"))
    assert atomic.describe_storage_error(full, "--out").startswith(f"{tmp_path}: no space left")


def test_a_folder_that_was_deleted_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "gone" / "areas.csv").write_text("x")
    assert atomic.describe_storage_error(caught.value, "--out").startswith(f"{tmp_path / 'gone'}: ")


@pytest.mark.linux
def test_an_error_without_a_file_gets_its_path(tmp_path):
    with pytest.raises(OSError) as caught, atomic.add_path(tmp_path / "a"), open("/dev/full", "w") as file:
        os.write(file.fileno(), b"x")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "a")
