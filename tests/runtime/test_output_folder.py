import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import output_folder


def test_only_what_is_written_is_searched_and_the_folder_itself_may_be_a_link(tmp_path):
    real = tmp_path / "real"
    (real / "report/pages").mkdir(parents=True)
    (real / "report/pages/a.html").touch()
    (real / "films").symlink_to(tmp_path)
    (tmp_path / "run").symlink_to(real)
    output_folder.require_regular_files(tmp_path / "run", ("report", "*.csv"))
    output_folder.require_regular_files(tmp_path / "none", ("report",))
    (real / "report/pages/b.html").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"pages/b\.html is a symbolic link"):
        output_folder.require_regular_files(tmp_path / "run", ("report", "*.csv"))
    (real / "report/pages/b.html").unlink()
    os.mkfifo(real / "cohort.csv")
    with pytest.raises(InputError, match=r"cohort\.csv is a pipe"):
        output_folder.require_regular_files(tmp_path / "run", ("report", "*.csv"))


def _locked(folder, results):
    try:
        with output_folder.exclusive_lock(folder, "--out"):
            results.put("locked")
    except InputError as error:
        results.put(str(error))


def test_one_process_at_a_time(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    for expected in ("another process is at work", "locked"):
        with output_folder.exclusive_lock(tmp_path / "out", "--out"):
            process = context.Process(target=_locked, args=(tmp_path / "out", results))
            if expected != "locked":
                process.start()
                assert expected in results.get() and process.join() is None
        if expected == "locked":
            process.start()
            assert results.get() == "locked" and process.join() is None


def test_the_lock_file_is_deleted_and_keeps_threads_apart_meanwhile(tmp_path):
    holders, counts = [], []

    def work(number):
        for _ in range(50):
            with output_folder.exclusive_lock(tmp_path, "--out", wait=True):
                holders.append(number)
                counts.append(len(holders))
                holders.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert counts == [1] * 400 and not os.listdir(tmp_path)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_cache_folder_is_created_for_the_user_alone(home, tmp_path, monkeypatch):
    folder = output_folder.user_cache("x")
    assert folder == home / "kneefair_jax/x"
    for path in (folder, folder.parent, home):
        assert path.stat().st_mode & 0o777 == 0o700
    assert output_folder.user_cache("x") == folder
    for value in ("", "relative"):  # which the specification ignores
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert output_folder.user_cache("x") == tmp_path / "home/.cache/kneefair_jax/x"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
@pytest.mark.parametrize("name", [".", "kneefair_jax", "kneefair_jax/x"])
def test_where_others_can_write_it_is_not_used(home, name, mode):
    folder = output_folder.user_cache("x")
    (home / name).chmod(mode)
    assert output_folder.user_cache("x") is None
    (home / name).chmod(0o700)
    assert output_folder.user_cache("x") == folder


def test_somebody_else_s_folder_or_a_link_is_not_used(home, tmp_path, monkeypatch):
    folder = output_folder.user_cache("x")
    monkeypatch.setattr(output_folder.os, "geteuid", lambda: 4242)
    assert output_folder.user_cache("x") is None
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    folder.rmdir()
    folder.symlink_to(tmp_path)
    assert output_folder.user_cache("x") is None


def test_without_a_writable_place_there_is_no_user_cache(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file/cache"))
    assert output_folder.user_cache("x") is None
