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
    inside, most = [], []

    def work(number):
        for _ in range(50):
            with output_folder.exclusive_lock(tmp_path, "--out", wait=True):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most == [1] * 400 and not os.listdir(tmp_path)
