"""The list of a result's files: refusal to overwrite, and deletion of stale files only."""

import json
import shutil
from pathlib import Path

import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import written_files


def write(folder, names, text="", *, overwrite=False, inputs=()):
    """Write a result of some files."""
    with written_files.replacement(folder, "audit", "--out", overwrite=overwrite, inputs=inputs) as stage:
        for name in names:
            (stage / name).parent.mkdir(exist_ok=True)
            (stage / name).write_text(text)


def content(folder):
    """The text of each file in a folder, except the list of files and temporary files."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name: (folder / name).read_text() for name in names if not name.startswith(".")}


@pytest.fixture
def result(tmp_path):
    """A result of two files, beside a user's file."""
    write(tmp_path, ["report.json", "2-b/report.json"], "{}")
    (tmp_path / "notes.txt").write_text("mine")
    return tmp_path


def test_an_earlier_result_is_refused_with_the_remedy(result):
    with pytest.raises(InputError, match=r"--out .*2 files.*--overwrite"):
        written_files.require_new(result, "audit", "--out", overwrite=False)
    written_files.require_new(result, "audit", "--out", overwrite=True)
    written_files.require_new(result, "check", "--out", overwrite=False)
    written_files.require_new(result / "new", "audit", "--out", overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_no_result_lists_is_never_replaced(result, overwrite):
    with pytest.raises(InputError, match=r"notes\.txt .*another --out"):
        written_files.require_new(result, "audit", "--out", ["notes.txt"], overwrite=overwrite)
    with pytest.raises(InputError, match=r"notes\.txt .*another --out"):
        write(result, ["report.json", "notes.txt"], overwrite=overwrite)
    assert content(result) == {"report.json": "{}", "2-b/report.json": "{}", "notes.txt": "mine"}


@pytest.mark.parametrize("name", ["report.json", "2-b/report.json"])
def test_an_input_is_neither_replaced_nor_deleted(result, name):
    (result / "link").symlink_to(name)
    for source in (result / name, result / "link"):
        with pytest.raises(InputError, match=rf"{name} is an input.*another --out"):
            write(result, ["report.json"], overwrite=True, inputs=[source])
    assert content(result)[name] == "{}"
    write(result, ["report.json"], overwrite=True, inputs=[result, result / "absent", result / "notes.txt"])


def test_a_result_written_while_the_command_worked_is_refused(tmp_path):
    written_files.require_new(tmp_path, "audit", "--out", overwrite=False)
    write(tmp_path, ["report.json"], "first")  # by another process
    with pytest.raises(InputError, match=r"report\.json.*--overwrite"):
        write(tmp_path, ["report.json"], "second")
    assert content(tmp_path) == {"report.json": "first"}


def test_the_later_result_replaces_the_earlier_one(result):
    write(result, ["report.json", "cases.csv"], "new", overwrite=True)
    assert content(result) == {"report.json": "new", "cases.csv": "new", "notes.txt": "mine"}
    assert written_files.earlier(result, "audit") == ["cases.csv", "report.json"]
    written_files.write_json(result, "audit", "hardware.json", 1)
    assert written_files.earlier(result, "audit") == ["cases.csv", "hardware.json", "report.json"]


def test_all_files_of_a_killed_process_are_listed_and_replaced_by_the_next(tmp_path, monkeypatch):
    """A kill before each renaming and deletion in turn."""

    class KilledError(BaseException):
        """In place of SIGKILL."""

    old, new = dict.fromkeys(["a", "b", "2-b/c"], "old"), dict.fromkeys(["a", "d"], "new")
    changes = []

    def kill_at(step, patch):
        changes.clear()
        patch.setattr(shutil, "rmtree", lambda path, **_: None)  # a killed process deletes nothing
        for name in ("replace", "unlink"):
            real = getattr(Path, name)

            def change(*arguments, real=real, **options):
                changes.append(arguments)
                if len(changes) >= step:
                    raise KilledError
                return real(*arguments, **options)

            patch.setattr(Path, name, change)

    states = []
    for step in range(1, 20):
        folder = tmp_path / str(step)
        write(folder, old, "old")
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            kill_at(step, patch)
            write(folder, new, "new", overwrite=True)
        states.append(content(folder))
        assert set(written_files.earlier(folder, "audit")) == set(states[-1])
        if states[-1] == new:
            break
        write(folder, new, "new", overwrite=True)
        assert content(folder) == new and not (folder / "2-b").exists()
    assert states[0] == old and states[-1] == new and len({str(state) for state in states}) > 4


def test_only_listed_files_are_deleted(result):
    assert written_files.earlier(result, "audit") == ["2-b/report.json", "report.json"]
    written_files.delete(result, ["2-b/report.json"])
    assert sorted(path.name for path in result.iterdir()) == [
        ".written-audit.json",
        "notes.txt",
        "report.json",
    ]
    assert written_files.earlier(result, "audit") == ["report.json"]


@pytest.mark.parametrize("name", ["../notes.txt", "/etc/passwd", "a/../../b", "a\0"])
def test_a_list_that_leads_out_of_the_folder_is_refused(result, name):
    (result / written_files.manifest("audit")).write_text(json.dumps({"files": [name]}))
    with pytest.raises(InputError, match="delete"):
        written_files.earlier(result, "audit")


def test_files_behind_links_are_not_listed(result, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "a").write_text("")
    (result / "link").symlink_to(other)
    (result / "file").symlink_to(other / "a")
    text = json.dumps({"files": ["link/a", "file", "report.json"]})
    (result / written_files.manifest("audit")).write_text(text)
    assert written_files.earlier(result, "audit") == ["report.json"]
