"""The list of a result's files: refusal to overwrite, and deletion of stale files only."""

import json

import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import written_files


@pytest.fixture
def result(tmp_path):
    """A result of two files, beside a user's file."""
    (tmp_path / "2-b").mkdir()
    for name in ("report.json", "2-b/report.json"):
        (tmp_path / name).write_text("{}")
    written_files.write_manifest(tmp_path, "audit")
    (tmp_path / "notes.txt").write_text("mine")
    return tmp_path


def test_an_earlier_result_is_refused_with_the_remedy(result):
    with pytest.raises(InputError, match=r"--out .*2 files.*--overwrite"):
        written_files.require_new(result, "audit", "--out", overwrite=False)
    written_files.require_new(result, "audit", "--out", overwrite=True)
    written_files.require_new(result, "check", "--out", overwrite=False)
    written_files.require_new(result / "new", "audit", "--out", overwrite=False)


def test_a_result_without_a_list_is_refused_by_its_file(tmp_path):
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(InputError, match=r"report\.json.*--overwrite"):
        written_files.require_new(tmp_path, "audit", "--out", overwrite=False, results=("report.json",))


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
