"""What is below a folder, whatever cannot be listed or is no file."""

import os

import numpy as np
import pytest
from PIL import Image

from kneefair_jax import anatomy
from kneefair_jax.audit import files
from kneefair_jax.data import file_lookup
from kneefair_jax.data.mask_files import StructureFiles
from kneefair_jax.errors import InputError
from kneefair_jax.predict import inputs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two films, a folder that nobody may list, a loop, a pipe, and links to a missing and to a linked file."""
    films = tmp_path / "films"
    for name in ("a.png", "sub/b.png", "shut/c.png"):
        (films / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(20, dtype=np.uint8)).save(films / name)
    (films / "loop").symlink_to(".")
    (films / "d.png").symlink_to("absent")
    (films / "e.png").symlink_to("e.png")
    os.mkfifo(films / "f.png")
    os.mkfifo(films / "pipe")
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return films


def test_every_path_once_and_an_error_for_a_folder_that_is_shut(folder):
    paths, errors = file_lookup.list_files(folder)
    names = ["a.png", "d.png", "e.png", "f.png", "loop", "pipe", "sub/b.png"]
    assert [path.relative_to(folder).as_posix() for path in paths] == [
        name for name in names if name != "loop"
    ]
    (error,) = errors
    assert "shut" in str(error) and "permission denied" in str(error)


def test_predict_names_what_it_cannot_read(folder, tmp_path):
    items = list(inputs.find([str(folder)], tmp_path / "out"))
    (error,) = [item for item in items if isinstance(item, InputError)]
    assert "shut" in str(error)
    # Links and pipes that are named as films are left to the reader, which refuses them.
    assert [item.name for item in items if isinstance(item, inputs.Input)] == ["a", "d", "e", "f", "sub/b"]


def test_names_that_no_file_can_have_are_left_to_the_reader(tmp_path):
    given = [str(tmp_path / ("a" * 300 + ".png")), "a/" * 3000, "a\0.png"]
    assert [str(item.path) for item in inputs.find(given, tmp_path / "out")] == [
        text.rstrip("/") for text in given
    ]


def test_an_audit_refuses_a_folder_that_is_shut(folder):
    with pytest.raises(InputError, match="shut"):
        files.find(folder, ["a", "b"], "--truth")


def test_an_audit_gives_links_and_pipes_to_the_reader(folder, monkeypatch):
    monkeypatch.undo()
    result = files.find(folder, ["a", "b", "c", "d", "f"], "--truth")
    assert sorted(result.by_case) == ["a", "b", "c", "d", "f"]
    assert files.cases_linked_outside(folder, {"e": folder / "e.png", "d": folder / "d.png"}) == []


def test_paths_of_a_table_that_no_file_can_have_are_absent(folder, tmp_path):
    names = {"a": "a.png", "b": "a" * 300 + ".png", "f": "f.png"}
    result = files.find_by_paths(folder, names, [2, 3, 4], "--truth", tmp_path / "metadata.csv")
    assert sorted(result) == ["a", "f"]


NAMES = ("right femur", "tibia")


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / name, np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize(
    "names",
    [
        ("a_right_femur.npy", "a_tibia.npy"),
        ("a-right-femur.npy", "a-tibia.npy"),
        ("a/right femur.npy", "a/tibia.npy"),
    ],
)
def test_files_are_found_by_structure(tmp_path, names):
    touch(tmp_path, *names, "b_tibia.npy")
    found = file_lookup.find_mask(tmp_path / "a", NAMES)
    assert found == StructureFiles({name: tmp_path / file for name, file in zip(NAMES, names, strict=True)})
    assert file_lookup.mask_paths(found) == tuple(tmp_path / name for name in names)


def test_a_file_is_itself_and_so_is_what_is_not_there(tmp_path):
    touch(tmp_path, "a.npy", "a_tibia.npy")
    for name in ("a.npy", "b.npy", "c"):
        assert file_lookup.find_mask(tmp_path / name, NAMES) == tmp_path / name
        assert file_lookup.mask_paths(tmp_path / name) == (tmp_path / name,)


def test_files_of_some_structures_alone_and_two_of_one_are_refused(tmp_path):
    touch(tmp_path, "a_tibia.npy")
    with pytest.raises(InputError, match=r"a_tibia.npy.*'right femur'; add"):
        file_lookup.find_mask(tmp_path / "a", NAMES)
    touch(tmp_path, "a/tibia.npy")
    with pytest.raises(InputError, match=r"2 files of 'tibia'.*leave one"):
        file_lookup.find_mask(tmp_path / "a", NAMES)


def test_files_of_whole_bones_take_the_place_of_overlap_classes(tmp_path):
    classes = anatomy.SCHEMES["knee_overlaps"]
    bones = anatomy.whole_bones(classes)
    touch(tmp_path, *(f"a_{name.replace(' ', '_')}.npy" for name in bones))
    touch(tmp_path, *(f"b_{name.replace(' ', '_')}.npy" for name in (*classes, bones[0])))
    assert tuple(file_lookup.find_mask(tmp_path / "a", classes).files) == bones
    assert tuple(file_lookup.find_mask(tmp_path / "b", classes).files) == classes
