import shutil
from pathlib import Path

import pytest

from kneefair_jax.data.draft import output
from kneefair_jax.data.draft.output import Output
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import written_files

LINKS = {Path("images/abcdefgh-1.png"): Path("a.png"), Path("masks/abcdefgh-1.png"): Path("a_mask.png")}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "knees").mkdir()
    for path in LINKS.values():
        (tmp_path / "knees" / path).write_text(path.name)
    return tmp_path / "knees"


def target(folder, *, table=None, links=None, overwrite=False, inputs=None):
    return Output(folder, table or (links or folder) / "metadata.csv", links, inputs or {}, overwrite)


def write(result, links=LINKS):
    output.require_writable(result, dry_run=False)
    output.write(result, "case_id\n", links if result.link_dir else {}, LINKS.values())


def contents(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_later_call_replaces_its_own_links_and_no_other_file(folder, tmp_path):
    links = tmp_path / "links"
    write(target(folder, links=links))
    users = ["images/patients-1.txt", "masks/controls-01_left.png", "notes.txt"]
    for name in users:
        (links / name).write_text("a user's")
    later = {Path("images/ijklmnop-1.png"): Path("a.png")}
    write(target(folder, links=links, overwrite=True), later)
    manifest = written_files.manifest(output.KIND)
    assert contents(links) == sorted([*users, "images/ijklmnop-1.png", "metadata.csv", manifest])
    assert contents(folder) == ["a.png", "a_mask.png"]
    (links / "images/abcdefgh-1.png").write_text("a user's")
    with pytest.raises(InputError, match=r"--link-dir .*1 files, .*move them"):
        write(target(folder, links=links, overwrite=True))
    assert (links / "images/abcdefgh-1.png").read_text() == "a user's"


@pytest.mark.parametrize("name", ["knees/links", "", "knees"])
def test_folders_inside_each_other_are_refused(folder, tmp_path, name):
    with pytest.raises(InputError, match=r"--link-dir .*(inside|contains) DIR; give"):
        write(target(folder, links=tmp_path / name, overwrite=True))
    assert contents(folder) == ["a.png", "a_mask.png"]


def test_links_of_folders_are_not_followed(folder, tmp_path):
    links, elsewhere = tmp_path / "links", tmp_path / "elsewhere"
    write(target(folder, links=links))
    shutil.move(links / "images", elsewhere)
    (links / "images").symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"images is a symbolic link.*remove it"):
        write(target(folder, links=links, overwrite=True))
    assert contents(elsewhere) == ["abcdefgh-1.png"]


def test_a_film_that_leads_to_an_earlier_link_is_kept(folder, tmp_path):
    links = tmp_path / "links"
    write(target(folder, links=links))
    (folder / "a.png").unlink()
    (folder / "a.png").symlink_to(links / "images/abcdefgh-1.png")
    with pytest.raises(InputError, match=r"--link-dir .*read by this command; give"):
        write(target(folder, links=links, overwrite=True), {Path("images/ijklmnop-1.png"): Path("a.png")})
    assert (folder / "a.png").read_text() == "a.png"


@pytest.mark.parametrize("option", ["--table", "--key"])
@pytest.mark.parametrize("kind", ["path", "hard link", "absent"])
def test_a_table_is_not_written_to_an_input(folder, tmp_path, option, kind):
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    if kind != "absent":
        path.write_text("secret")
    if kind == "hard link":
        out.hardlink_to(path)
    else:
        out = tmp_path / "knees/../in.csv"
    with pytest.raises(InputError, match=rf"--out .*{option}; give another --out") as error:
        write(target(folder, table=out, overwrite=True, inputs={option: path}))
    assert "--overwrite" not in str(error.value)
    assert kind == "absent" or path.read_text() == "secret"


def test_a_table_does_not_replace_a_film(folder, tmp_path):
    with pytest.raises(InputError, match=r"--out .*is a file of DIR"):
        write(target(folder, table=folder / "a.png", overwrite=True))
    shutil.move(folder / "a.png", tmp_path / "a.png")
    (folder / "a.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"--out .*is one of the files of DIR"):
        write(target(folder, table=tmp_path / "a.png", overwrite=True))
    assert (tmp_path / "a.png").read_text() == "a.png"


@pytest.mark.parametrize("has_links", [False, True])
def test_a_table_that_appears_during_the_scan_is_kept(folder, tmp_path, has_links):
    links = tmp_path / "links" if has_links else None
    result = target(folder, table=tmp_path / "metadata.csv", links=links)
    output.require_writable(result, dry_run=False)
    (tmp_path / "metadata.csv").write_text("a user's")
    with pytest.raises(InputError, match=r"--out .*exists; give --overwrite"):
        output.write(result, "case_id\n", LINKS if has_links else {}, LINKS.values())
    assert (tmp_path / "metadata.csv").read_text() == "a user's"
    assert not has_links or contents(links) == []
