from pathlib import Path

import pytest

from kneefair_jax.data.oai import masks
from kneefair_jax.data.oai.films import Film
from kneefair_jax.errors import InputError


def film(patient, barcode, visit="00"):
    return Film(f"{patient}_{visit}m_{barcode}", patient, visit, barcode, Path("001"))


ONE, TWO, THREE = (
    film("9000001", "00000011"),
    film("9000002", "00000022"),
    film("9000002", "00000033", "12"),
)


def put(folder, *names):
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize(
    "name",
    [
        "9000001_00m_00000011.nii.gz",
        "9000001_00M_00000011.PNG",
        "00000011.nii",
        "016600000011.png",
        "16600000011.npy",
        "9000001.tif",
    ],
)
def test_names_that_a_mask_may_have(tmp_path, name):
    put(tmp_path, name, "notes.txt", ".hidden.png")
    assert masks.pair([ONE], tmp_path) == ([ONE._replace(mask=tmp_path / name)], [], [])


def test_what_is_left_without_a_mask(tmp_path):
    put(tmp_path, "9000002.png", "00000011.png", "9000009.png")
    paired, left_out, unused = masks.pair([ONE, TWO, THREE, film("9000003", "00000044")], tmp_path)
    assert [one.mask.name for one in paired] == ["00000011.png"]
    several = "its mask goes by the ID of a patient with several films"
    assert left_out == [
        (TWO.name, several),
        (THREE.name, several),
        ("9000003_00m_00000044", "no mask in data.masks"),
    ]
    assert unused == [("2 masks", "fit no film in use")]
    put(tmp_path, "00000022.png")  # the film's own name goes before the patient's
    paired, _, _ = masks.pair([TWO, THREE], tmp_path)
    assert [one.mask.name for one in paired] == ["00000022.png"]


def test_no_mask_fits(tmp_path):
    with pytest.raises(InputError, match="the folder has none"):
        masks.pair([ONE], tmp_path)
    put(tmp_path, "knee1.png")
    message = r"9000001_00m_00000011.nii.gz, 00000011.nii.gz, .*9000001.nii.gz.*the folder has 'knee1.png'"
    with pytest.raises(InputError, match=message):
        masks.pair([ONE], tmp_path)


def test_two_masks_of_one_name(tmp_path):
    put(tmp_path, "00000011.png", "00000011.nii.gz")
    with pytest.raises(InputError, match="masks of the same name; keep one"):
        masks.pair([ONE], tmp_path)


def test_a_preview_beside_a_mask_is_no_mask(tmp_path):
    put(tmp_path, "00000011.png", "00000011.jpg", "9000002.JPEG")
    assert list(masks.by_name(tmp_path).values()) == [tmp_path / "00000011.png"]
