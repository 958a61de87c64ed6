import pytest

from kneefair_jax.runtime import cache_directory


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_is_made_for_the_user_alone(home, tmp_path, monkeypatch):
    folder = cache_directory.user_cache("x")
    assert folder == home / "kneefair_jax/x"
    for path in (folder, folder.parent, home):
        assert path.stat().st_mode & 0o777 == 0o700
    assert cache_directory.user_cache("x") == folder
    for value in ("", "relative"):  # which the specification ignores
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache_directory.user_cache("x") == tmp_path / "home/.cache/kneefair_jax/x"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
@pytest.mark.parametrize("name", [".", "kneefair_jax", "kneefair_jax/x"])
def test_where_others_can_write_it_is_not_used(home, name, mode):
    folder = cache_directory.user_cache("x")
    (home / name).chmod(mode)
    assert cache_directory.user_cache("x") is None
    (home / name).chmod(0o700)
    assert cache_directory.user_cache("x") == folder


def test_somebody_else_s_folder_or_a_link_is_not_used(home, tmp_path, monkeypatch):
    folder = cache_directory.user_cache("x")
    monkeypatch.setattr(cache_directory.os, "geteuid", lambda: 4242)
    assert cache_directory.user_cache("x") is None
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    folder.rmdir()
    folder.symlink_to(tmp_path)
    assert cache_directory.user_cache("x") is None


def test_where_none_can_be_made_there_is_none(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file/cache"))
    assert cache_directory.user_cache("x") is None
