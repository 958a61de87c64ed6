import os
import stat

import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic.replacing(path) as temporary:
        assert temporary.parent == tmp_path and temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.nii.gz"]
    with atomic.replacing(path, sync=True) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["a.nii.gz"]


def test_permissions_are_those_of_a_new_file_and_text_is_as_given(tmp_path):
    before = os.umask(0o027)
    try:
        atomic.write_text(tmp_path / "a", "é\r\n")
    finally:
        os.umask(before)
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
