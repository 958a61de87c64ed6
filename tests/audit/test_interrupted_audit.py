"""Signals, full disks and a second process at chosen moments of an audit: its files are replaced together or not."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kneefair_jax import audit
from kneefair_jax.audit import result, scoring
from kneefair_jax.audit.__main__ import main
from kneefair_jax.errors import InputError
from kneefair_jax.report import page
from kneefair_jax.runtime import output_folder
from tests.audit import folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return folder.write(tmp_path_factory.mktemp("masks"))


@pytest.fixture
def argv(root, tmp_path):
    return words(root, tmp_path / "out")


def words(root, out):
    folders = [
        f"--{name}={root / path}"
        for name, path in (("truth", "truth"), ("pred", "pred"), ("metadata", "metadata.csv"))
    ]
    return [
        *folders,
        "--labels",
        "femur=1",
        "tibia=2",
        "--draws",
        "100",
        "--overwrite",
        "--out",
        str(out),
        "--attributes",
        "sex",
    ]


@pytest.fixture(scope="module")
def results(root, tmp_path_factory):
    """The folders of an audit by two attributes and by one."""
    first, second = (tmp_path_factory.mktemp("audit") / "out" for _ in range(2))
    assert main([*words(root, first), "race"]) == 0
    assert main(words(root, second)) == 0
    return first, second


def content(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
@pytest.mark.parametrize("place", ["scores", "files"])
def test_a_signal_leaves_the_results_of_the_audit_before(
    results, argv, tmp_path, monkeypatch, capsys, number, status, place
):
    out = tmp_path / "out"
    before = content(shutil.copytree(results[0], out))
    with monkeypatch.context() as patch:
        module, name = (scoring, "table") if place == "scores" else (page, "page")
        real = getattr(module, name)

        def stop(*arguments, **options):
            signal.raise_signal(number)
            return real(*arguments, **options)

        patch.setattr(module, name, stop)
        capsys.readouterr()
        assert main(argv) == status
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert content(out) == before
    assert main(argv) == 0
    assert content(out) == content(results[1])


def test_a_signal_between_two_renames_leaves_the_whole_new_set(results, argv, tmp_path, monkeypatch, capsys):
    real, renamed = Path.replace, []

    def replace(path, target):
        if Path(target).parent == tmp_path / "out":
            renamed.append(target)
            if len(renamed) == 2:
                signal.raise_signal(signal.SIGINT)
        return real(path, target)

    shutil.copytree(results[0], tmp_path / "out")
    monkeypatch.setattr(Path, "replace", replace)
    capsys.readouterr()
    assert main(argv) == 130
    assert len(capsys.readouterr().err.splitlines()) == 1 and len(renamed) > 2
    assert content(tmp_path / "out") == content(results[1])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_failing_disk_replaces_no_file(results, argv, tmp_path, monkeypatch, capsys, number):
    out = tmp_path / "out"
    before = content(shutil.copytree(results[0], out))
    capsys.readouterr()

    def fail(self, path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pandas.DataFrame.to_parquet", fail)  # the last file of all
    assert main(argv) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {out}: {os.strerror(number).lower()}")
    assert content(out) == before


@pytest.mark.parametrize(("flags", "number"), [(os.ST_RDONLY, errno.EROFS), (0, errno.EACCES)])
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(argv, monkeypatch, capsys, flags, number):
    monkeypatch.setattr(scoring, "score_cases", None)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=flags))
    assert main(argv) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {argv[argv.index('--out') + 1]}: {os.strerror(number).lower()}")


def test_one_that_writes_is_waited_for(tmp_path):
    code = (
        "import pathlib, sys, time; from kneefair_jax.runtime import output_folder\n"
        "out = pathlib.Path(sys.argv[1])\n"
        "with output_folder.exclusive_lock(out, '--out'):\n"
        "    print('locked', flush=True); time.sleep(0.3); (out / 'a').touch()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"locked\n"
    with output_folder.exclusive_lock(tmp_path, "--out", wait=True):
        assert (tmp_path / "a").exists()
    process.communicate()


@pytest.fixture
def scores(tmp_path, monkeypatch):
    """The arguments of an audit of a table of scores, `cases.csv` of the working folder."""
    rows = folder.rows_of(dice=lambda i: str(0.9 - 0.001 * i))
    folder.write_table(tmp_path / "cases.csv", rows)
    monkeypatch.chdir(tmp_path)
    return ["--scores", "cases.csv", "--attributes", "sex", "--draws", "40"]


@pytest.mark.parametrize("name", ["cases.csv", "index.html"])
@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_a_user_s_file_is_never_replaced(scores, tmp_path, capsys, name, more):
    (tmp_path / "index.html").write_text("mine")
    if name == "index.html":
        shutil.move(tmp_path / "cases.csv", tmp_path / "scores.csv")
        scores[1] = "scores.csv"
    before = content(tmp_path)
    assert main([*scores, "--out", ".", *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {name} ") and "another --out" in line
    assert content(tmp_path) == before


def test_a_user_s_file_in_a_model_s_folder_is_refused_before_the_work(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scoring, "score_cases", None)
    mine = tmp_path / "out" / "2-b" / "report.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert main([*words(root, tmp_path / "out"), "--pred", f"b={root / 'truth'}"]) == 2
    assert "2-b/report.json exists" in capsys.readouterr().err and mine.read_text() == "mine"


def test_an_earlier_audit_s_table_is_not_replaced_by_the_audit_of_it(scores, tmp_path, capsys):
    assert main([*scores, "--out", "out"]) == 0
    before = content(tmp_path)
    scores[1] = "out/cases.csv"
    for more in ((), ("--overwrite",)):
        capsys.readouterr()
        assert main([*scores, "--out", "out", *more]) == 2
        assert "out/cases.csv is an input" in capsys.readouterr().err
    result = audit.table("out/cases.csv", ["sex"], settings=audit.Settings(draws=40))
    with pytest.raises(InputError, match=r"cases\.csv is an input.*another --out"):
        result.write("out")
    assert content(tmp_path) == before


def test_of_two_audits_at_once_the_second_is_refused(scores, tmp_path, monkeypatch, capsys):
    real = result.audit

    def audit_twice(*arguments, **options):
        monkeypatch.setattr(result, "audit", real)
        assert main([*scores, "--out", "out", "--title", "first"]) == 0
        return real(*arguments, **options)

    monkeypatch.setattr(result, "audit", audit_twice)
    assert main([*scores, "--out", "out", "--title", "second"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert "first" in (tmp_path / "out" / "index.html").read_text()
