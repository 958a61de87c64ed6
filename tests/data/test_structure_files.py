import numpy as np
import pytest

from kneefair_jax import anatomy
from kneefair_jax.data import structure_files
from kneefair_jax.data.mask_files import StructureFiles
from kneefair_jax.errors import InputError

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
    found = structure_files.find(tmp_path / "a", NAMES)
    assert found == StructureFiles({name: tmp_path / file for name, file in zip(NAMES, names, strict=True)})
    assert structure_files.files_of(found) == tuple(tmp_path / name for name in names)


def test_a_file_is_itself_and_so_is_what_is_not_there(tmp_path):
    touch(tmp_path, "a.npy", "a_tibia.npy")
    for name in ("a.npy", "b.npy", "c"):
        assert structure_files.find(tmp_path / name, NAMES) == tmp_path / name
        assert structure_files.files_of(tmp_path / name) == (tmp_path / name,)


def test_files_of_some_structures_alone_and_two_of_one_are_refused(tmp_path):
    touch(tmp_path, "a_tibia.npy")
    with pytest.raises(InputError, match=r"a_tibia.npy.*'right femur'; add"):
        structure_files.find(tmp_path / "a", NAMES)
    touch(tmp_path, "a/tibia.npy")
    with pytest.raises(InputError, match=r"2 files of 'tibia'.*leave one"):
        structure_files.find(tmp_path / "a", NAMES)


def test_files_of_whole_bones_take_the_place_of_overlap_classes(tmp_path):
    classes = anatomy.SCHEMES["knee_overlaps"]
    bones = anatomy.whole_bones(classes)
    touch(tmp_path, *(f"a_{name.replace(' ', '_')}.npy" for name in bones))
    touch(tmp_path, *(f"b_{name.replace(' ', '_')}.npy" for name in (*classes, bones[0])))
    assert tuple(structure_files.find(tmp_path / "a", classes).files) == bones
    assert tuple(structure_files.find(tmp_path / "b", classes).files) == classes
