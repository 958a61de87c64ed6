import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from kneefair_jax.data import folder, store
from kneefair_jax.data.store import chunks
from kneefair_jax.errors import InputError
from tests import films
from tests.data import slow
from tests.data.slow import GRID, example, source

ROOT = Path(__file__).parents[3]


def rows_of(log):
    return [int(line.split()[0]) for line in log.read_text().splitlines()]


def is_running(process):
    """Whether it is there and no zombie."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


def assert_rows(cases, rows):
    assert len(cases) == len(rows)
    for place, row in enumerate(rows):
        for key, array in example(row).arrays().items():
            np.testing.assert_array_equal(cases[place][key], array)
            assert cases[place][key].dtype == array.dtype


@pytest.mark.parametrize("chunk", [5, 12, 64])
def test_record_k_is_row_k(tmp_path, chunk):
    assert_rows(store.prepare(source(), GRID, tmp_path, chunk=chunk), range(12))


def test_each_case_is_read_once_and_again_only_when_something_changes(tmp_path):
    log = tmp_path / "log"
    first = store.prepare(source(log=log), GRID, tmp_path / "s", chunk=5)
    again = store.prepare(source(log=log), GRID, tmp_path / "s")
    assert rows_of(log) == list(range(12)) and first.digest == again.digest
    store.prepare(source(log=log, size=3), GRID, tmp_path / "s")
    assert rows_of(log) == 2 * list(range(12))


def test_the_digest_is_of_the_pixels(tmp_path):
    a = store.prepare(source(), GRID, tmp_path / "a", chunk=5)
    b = store.prepare(source(other="settings"), GRID, tmp_path / "b")
    c = store.prepare(source(count=11), GRID, tmp_path / "c")
    assert a.digest == b.digest != c.digest
    whole = hashlib.sha256()
    for row in range(12):
        whole.update(
            hashlib.sha256(b"".join(array.tobytes() for array in example(row).arrays().values())).digest()
        )
    assert a.digest == whole.hexdigest()
    # Of the cases that are kept, whatever became of the others.
    d = store.prepare(source(count=12, broken=(11,)), GRID, tmp_path / "d", on_read_error="skip")
    assert d.digest == c.digest


def test_processes_write_the_same_store(tmp_path):
    stores = []
    for workers in (0, 2):
        log = tmp_path / f"log{workers}"
        given = source(40, broken=(7, 21), log=log)
        cases = store.prepare(
            given, GRID, tmp_path / f"{workers}", workers=workers, on_read_error="skip", chunk=4
        )
        assert_rows(cases, [row for row in range(40) if row not in (7, 21)])
        assert sorted(rows_of(log)) == list(range(40))
        stores.append(cases)
    assert stores[0].digest == stores[1].digest and stores[0].excluded == stores[1].excluded
    files = [sorted(p.name for p in (tmp_path / f"{n}").rglob("*") if p.is_file()) for n in (0, 2)]
    assert files[0] == files[1] and not any("partial" in name for name in files[0])


def test_films_of_a_folder_are_read_in_processes(tmp_path):
    root = films.folder(tmp_path / "films")
    config = {"root": root, "metadata": "metadata.csv", "structures": "disc,square", "attributes": ("sex",)}
    given = folder.source(
        {**config, "bins": {}, "split_column": "", "on_read_error": "stop"}, size=(16, 16), channels=1
    )
    one, other = (
        store.prepare(given, (16, 16, 1), tmp_path / f"{workers}", workers=workers, chunk=8)
        for workers in (0, 2)
    )
    assert len(one) == 24 and one.digest == other.digest


def test_what_is_not_portable_is_read_here(tmp_path):
    here = []

    def read(rows):
        here.append(os.getpid())
        return (example(row) for row in rows)

    store.prepare(source()._replace(read=read, portable=False), GRID, tmp_path, workers=2, chunk=6)
    assert here == [os.getpid()] * 2


def test_broken_cases_stop_it_and_leave_nothing(tmp_path):
    given = source(20, broken=range(3, 10))
    with pytest.raises(InputError) as error:
        store.prepare(given, GRID, tmp_path / "run" / "store", chunk=4)
    head, *lines, last = str(error.value).split("\n")
    assert head == "7 of 20 cases cannot be read:"
    assert last == "otherwise --config.data.on_read_error=skip excludes such cases"
    assert lines == [f"t.csv row {row + 2}: {row}.png: torn; mend it" for row in range(3, 8)]
    assert list(tmp_path.iterdir()) == []


def test_a_broken_case_of_one_source_leaves_nothing_of_the_other_but_what_was_there(tmp_path):
    parts = [(source(), GRID), (source(5, broken=(2,)), GRID)]
    with pytest.raises(InputError, match="1 of 5 cases"):
        store.prepare_all(parts, tmp_path / "s", store.Options())
    assert not (tmp_path / "s").exists()
    store.prepare(source(), GRID, tmp_path / "s")
    with pytest.raises(InputError, match="1 of 5 cases"):
        store.prepare_all(parts, tmp_path / "s", store.Options())
    assert len(list((tmp_path / "s" / "case_store").iterdir())) == 1


def test_broken_cases_are_skipped_and_listed(tmp_path):
    given = source(broken=(0, 6))
    cases = store.prepare(given, GRID, tmp_path, on_read_error="skip", chunk=4)
    kept = [row for row in range(12) if row not in (0, 6)]
    assert_rows(cases, kept)
    assert [case for case, _ in cases.excluded] == ["c0", "c6"]
    assert cases.excluded[1][1] == "t.csv row 8: 6.png: torn; mend it"
    again = store.prepare(given, GRID, tmp_path, on_read_error="skip")
    assert again.excluded == cases.excluded and len(again) == 10
    with pytest.raises(InputError, match="2 of 12 cases"):  # whatever an earlier start said
        store.prepare(given, GRID, tmp_path)
    assert_rows(store.prepare(given, GRID, tmp_path, on_read_error="skip"), kept)


def test_nothing_to_read_is_refused_even_with_skip(tmp_path):
    with pytest.raises(InputError, match="^12 of 12 cases cannot be read:\nt.csv row 2"):
        store.prepare(source(broken=range(12)), GRID, tmp_path / "s", on_read_error="skip", chunk=5)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"on_read_error": "ignore"}, "'ignore': give"),
        ({"workers": -1}, "workers=-1"),
        ({"beam": "--runner=X"}, "constraints-beam.txt"),
    ],
)
def test_options_are_checked_before_anything_is_written(tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        store.prepare(source(), GRID, tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


class Failing:
    """Records of which each raises."""

    def __init__(self, error):
        self.error = error

    def __getitem__(self, row):
        raise self.error


def test_a_record_that_cannot_be_read_is_named_even_by_an_error_without_a_text(tmp_path):
    with pytest.raises(InputError, match=r"record of case 'c1' cannot be read \(EOFError\)"):
        store.Cases(Failing(EOFError()), "", (), ["c0", "c1"], tmp_path)[1]


def test_a_machine_out_of_memory_is_no_damaged_record(tmp_path):
    with pytest.raises(MemoryError):
        store.Cases(Failing(MemoryError()), "", (), ["c0"], tmp_path)[0]


KILLED = """
import sys
from pathlib import Path
from kneefair_jax.data import store
from tests.data.slow import GRID, source
if __name__ == "__main__":
    given = source(24, seconds=0.05, log=sys.argv[2])
    store.prepare(given, GRID, Path(sys.argv[1]), workers=int(sys.argv[3]), chunk=2)
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_it_goes_on_where_it_was(tmp_path, workers):
    """SIGKILL: no handler, no `finally`."""
    log, directory = tmp_path / "log", tmp_path / "s"
    log.touch()
    command = [sys.executable, "-c", KILLED, str(directory), str(log), str(workers)]
    process = subprocess.Popen(command, cwd=ROOT)
    deadline = time.monotonic() + 60
    while len(rows_of(log)) < 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)  # reading processes end with their parent
    before = rows_of(log)
    assert 7 <= len(before) < 24
    assert not any(is_running(line.split()[1]) for line in log.read_text().splitlines())
    assert not list(directory.rglob(store.DIGEST_FILE))
    kept = len(list(directory.rglob("0*.npz")))
    assert kept >= 1
    cases = store.prepare(source(24, log=log), GRID, directory, chunk=2)
    assert_rows(cases, range(24))
    # Only what no finished chunk held is read again.
    assert len(rows_of(log)) - len(before) == 24 - 2 * kept
    assert not list(directory.rglob("*partial*"))
    straight = store.prepare(source(24), GRID, tmp_path / "straight")
    assert cases.digest == straight.digest


def test_a_kill_while_packing_leaves_the_same_store(tmp_path):
    """TFDS takes the renamed folder for whole; its digest would be that of nothing."""
    first = store.prepare(source(), GRID, tmp_path)
    (digest,) = tmp_path.rglob(store.DIGEST_FILE)
    digest.unlink()
    stale = digest.parents[1] / f"incomplete.ABC_{digest.parent.name}"  # TFDS's name for it
    stale.mkdir()
    (stale / "half").touch()
    assert store.prepare(source(), GRID, tmp_path).digest == first.digest
    assert not stale.exists()


def test_an_error_that_is_no_input_error_keeps_what_was_read(tmp_path):
    log = tmp_path / "log"

    def failing(rows):
        if 8 in rows:
            raise RuntimeError("power cut")
        return source(log=log).read(rows)

    with pytest.raises(RuntimeError, match="power cut"):
        store.prepare(source()._replace(read=failing, portable=False), GRID, tmp_path, chunk=4)
    assert_rows(store.prepare(source(log=log), GRID, tmp_path, chunk=4), range(12))
    assert rows_of(log) == list(range(12))


def test_a_reading_process_that_dies_is_reported(tmp_path):
    with pytest.raises(InputError, match="one of the 2 reading processes was killed.*data.workers"):
        store.prepare(source()._replace(read=slow.suicidal), GRID, tmp_path, workers=2, chunk=4)
    assert_rows(store.prepare(source(), GRID, tmp_path, chunk=4), range(12))


def test_two_that_prepare_one_source_do_it_once(tmp_path):
    log, said = tmp_path / "log", []
    folder = tmp_path / "s" / "case_store" / store.fingerprint(source(), GRID)
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = threading.Thread(
            target=lambda: store.prepare(source(log=log), GRID, tmp_path / "s", say=said.append)
        )
        waiting.start()
        time.sleep(0.3)
        assert not log.exists() and "waiting for another process" in said[0]
    waiting.join(30)
    assert rows_of(log) == list(range(12))


@pytest.mark.parametrize("first", store.ON_READ_ERROR)
def test_a_refused_store_stays_available_to_other_processes(tmp_path, first):
    log, said, second = tmp_path / "log", [], {"stop": "skip", "skip": "stop"}[first]
    parts = [(source(3), GRID), (source(12, broken=(11,), seconds=0.03, log=log), GRID)]
    done = {}

    def prepare(on_read_error):
        try:
            options = store.Options(on_read_error=on_read_error, say=said.append)
            done[on_read_error] = store.prepare_all(parts, tmp_path / "s", options)
        except Exception as error:
            done[on_read_error] = error

    threads = [threading.Thread(target=prepare, args=(on_read_error,)) for on_read_error in (first, second)]
    threads[0].start()
    while threads[0].is_alive() and not log.exists():
        time.sleep(0.01)
    threads[1].start()
    for thread in threads:
        thread.join(30)
    assert "waiting for another process" in said[0]
    assert isinstance(done["stop"], store.UnreadableCasesError)
    for cases, count in zip(done["skip"], (3, 11), strict=True):
        assert_rows(cases, range(count))
    assert [
        len(cases) for cases in store.prepare_all(parts, tmp_path / "s", store.Options(on_read_error="skip"))
    ] == [3, 11]
    assert len(rows_of(log)) == (24 if first == "stop" else 12)


def test_a_refusal_keeps_what_was_read_of_another_source(tmp_path):
    log = tmp_path / "log"

    def failing(rows):
        if 8 in rows:
            raise RuntimeError("power cut")
        return source(log=log).read(rows)

    with pytest.raises(RuntimeError, match="power cut"):
        store.prepare(source()._replace(read=failing, portable=False), GRID, tmp_path, chunk=4)
    with pytest.raises(InputError, match="1 of 5 cases"):
        store.prepare_all([(source(5, broken=(2,)), GRID), (source(), GRID)], tmp_path, store.Options())
    assert_rows(store.prepare(source(log=log), GRID, tmp_path, chunk=4), range(12))
    assert rows_of(log) == list(range(12))


def test_progress_is_reported_when_preparation_takes_long(tmp_path, monkeypatch, capsys):
    said = []
    store.prepare(source(), GRID, tmp_path / "a", say=said.append, chunk=3)
    assert said == []
    monkeypatch.setattr(chunks.progress, "PATIENCE", 0.0)
    store.prepare(source(seconds=0.01), GRID, tmp_path / "b", say=said.append, chunk=3)
    assert [line.split(",")[0] for line in said] == [f"preparing: {n}/12 cases" for n in (3, 6, 9, 12)]
    assert all("cases/s, 0m00s left" in line for line in said[:-1]) and said[-1].endswith("cases/s")
    packed = [line for line in capsys.readouterr().err.splitlines() if "packing" in line]
    assert [f"{n}/12" in line for n, line in enumerate(packed, start=1)] == [True] * 12


def test_the_content_file_is_what_the_readme_says(tmp_path):
    store.prepare(source(broken=(1,)), GRID, tmp_path, on_read_error="skip")
    (path,) = tmp_path.rglob(store.DIGEST_FILE)
    content = json.loads(path.read_text())
    assert content["cases"] == 11 and content["broken"][0][0] == "c1"


SCRIPT = """
import sys
from pathlib import Path
import jax
from kneefair_jax.data import store
from tests.data import slow
if __name__ == "__main__":
    given = slow.source()._replace(read=slow.reading_process)
    store.prepare(given, slow.GRID, Path(sys.argv[1]), workers=2, chunk=4)
"""


@pytest.mark.slow
def test_reading_processes_import_no_jax_though_the_script_does(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "s")]
    subprocess.run(command, env=environment, check=True)


def test_no_tensorflow():
    code = "import sys; from kneefair_jax.data import store; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
