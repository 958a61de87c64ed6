"""Geometry of DICOM-SEG: the functional groups that state it, and the checks that films get too."""

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from kneefair_jax.data import mask_files, readers
from kneefair_jax.errors import InputError
from kneefair_jax.predict import dicomseg
from tests.hostile import masks
from tests.hostile.films import dicom as write_film

VALUES = {"femur": (1,), "tibia": (2,)}
TURNED = [-1, 0, 0, 0, 0, 1]  # columns run to the patient's right, rows to the head


@pytest.fixture
def mask():
    drawn = np.zeros((masks.SIZE, masks.SIZE - 3), np.uint8)
    drawn[3:20, 5:30], drawn[25:50, 5:20] = 1, 2
    return drawn


def segmentation(folder, mask, edit):
    """A DICOM-SEG whose geometry a test edits: file, shared group, groups by frame."""
    path = folder / "seg.dcm"
    dicomseg.make(masks.film(folder / "film.dcm", mask * 40), mask, masks.NAMES).save_as(path)
    dataset = pydicom.dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    edit(shared, dataset.PerFrameFunctionalGroupsSequence)
    dataset.save_as(path)
    return path


def macro(group, name, **values):
    item = pydicom.Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    setattr(group, name, [item])


@pytest.mark.parametrize("spacing", [[200, 200], [0, 0], [0.2, 0.2, 0.2], [0.2, float("nan")]])
@pytest.mark.parametrize("shared", [True, False])
def test_a_spacing_that_no_film_may_have_is_refused(tmp_path, mask, spacing, shared):
    def edit(group, frames):
        for one in [group] if shared else frames:
            macro(one, "PixelMeasuresSequence", PixelSpacing=spacing)

    path = segmentation(tmp_path, mask, edit)
    with pytest.raises(InputError, match=r"seg\.dcm.*PixelSpacing.*correct it"):
        mask_files.read(path, VALUES)


def test_a_lossy_transfer_syntax_is_refused(tmp_path, mask):
    path = segmentation(tmp_path, mask, lambda *_: None)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([dataset.PixelData])
    dataset.save_as(path)
    with pytest.raises(InputError, match=r"seg\.dcm: DICOM in the transfer syntax JPEG.*may be lossy"):
        mask_files.read(path, VALUES)


def test_one_number_is_the_spacing_both_ways_as_of_films(tmp_path, mask):
    path = segmentation(
        tmp_path, mask, lambda shared, _: macro(shared, "PixelMeasuresSequence", PixelSpacing="0.2")
    )
    np.testing.assert_allclose(mask_files.read(path, VALUES).spacing, [0.2, 0.2], rtol=1e-6)


@pytest.mark.parametrize("place", ["shared", "by frame"])
def test_geometry_of_shared_and_of_frame_groups(tmp_path, mask, place):
    def edit(shared, frames):
        for group in [shared] if place == "shared" else frames:
            macro(group, "PixelMeasuresSequence", PixelSpacing=[0.3, 0.2])
            macro(group, "PlaneOrientationSequence", ImageOrientationPatient=TURNED)

    read = mask_files.read(segmentation(tmp_path, mask, edit), VALUES)
    assert read.orientation is not None
    np.testing.assert_array_equal(read.values, mask[::-1, ::-1])
    np.testing.assert_allclose(read.spacing, [0.3, 0.2], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "keyword", "values"),
    [
        ("PlaneOrientationSequence", "ImageOrientationPatient", (TURNED, [1, 0, 0, 0, 0, -1])),
        ("PixelMeasuresSequence", "PixelSpacing", ([0.2, 0.2], [0.3, 0.3])),
    ],
)
def test_frames_that_contradict_each_other_are_refused(tmp_path, mask, name, keyword, values):
    def edit(shared, frames):
        shared.pop(name, None)
        for group, value in zip(frames, values, strict=True):
            macro(group, name, **{keyword: value})

    path = segmentation(tmp_path, mask, edit)
    with pytest.raises(InputError, match=rf"seg\.dcm.*{keyword}.*one grid"):
        mask_files.read(path, VALUES)


def test_the_film_s_reader_takes_the_orientation_of_functional_groups(tmp_path):
    pixels = np.arange(400, dtype=np.uint16).reshape(20, 20)
    path = write_film(tmp_path / "film.dcm", pixels)
    dataset, group = pydicom.dcmread(path), pydicom.Dataset()
    macro(group, "PlaneOrientationSequence", ImageOrientationPatient=TURNED)
    dataset.PerFrameFunctionalGroupsSequence = [group]
    dataset.save_as(path)
    np.testing.assert_array_equal(readers.read_image(path)[0][..., 0], pixels[::-1, ::-1])


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_preamble(tmp_path, mask, implicit):
    def bare(path):
        dataset = pydicom.Dataset()
        dataset.update({element.tag: element for element in pydicom.dcmread(path)})
        dataset.save_as(path, implicit_vr=implicit, little_endian=True)
        return path

    film = bare(masks.film(tmp_path / "film.dcm", mask * 40))
    for anonymous in (False, True):
        dicomseg.make(film, mask, masks.NAMES, anonymous=anonymous).save_as(tmp_path / "seg.dcm")
        for path in (tmp_path / "seg.dcm", bare(tmp_path / "seg.dcm")):
            np.testing.assert_array_equal(mask_files.read(path, VALUES).values, mask)
