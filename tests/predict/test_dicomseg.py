"""Masks as DICOM-SEG lie as the same masks in NIfTI, for the readers of this package and for highdicom."""

import highdicom
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.uid import generate_uid

from kneefair_jax import anatomy
from kneefair_jax.audit import __main__ as audit
from kneefair_jax.data import mask_files
from kneefair_jax.errors import InputError
from kneefair_jax.predict import films, writers
from tests.hostile import masks
from tests.hostile.test_geometry import IOP

VALUES = {name: (label,) for label, name in enumerate(masks.NAMES, start=1)}
FRAMES = {
    "no frame": {},
    "frame": {"FrameOfReferenceUID": "1.2.3"},
    "complete frame": {"FrameOfReferenceUID": "1.2.3", "SliceThickness": 1},
}


def film(path, n=0, iop=None, **tags):
    image, _ = masks.phantoms()
    masks.film(path, np.ascontiguousarray(image[n][:50]))
    dataset = pydicom.dcmread(path)
    dataset.PixelSpacing = dataset.ImagerPixelSpacing = [2.0, 1.5]
    if iop is not None:
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = iop, [5, -7, 11]
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return films.read(path)


def mask_of(read, n=0):
    """A mask of the film as read, of no symmetry."""
    rows, columns = read.image.shape[:2]
    return masks.phantoms()[1][n][:rows, :columns]


@pytest.mark.parametrize("tags", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("iop", [*IOP.values(), [-1, 0, 0, 0, 0, 1]], ids=[*IOP, "turned by 180"])
@pytest.mark.parametrize("anonymous", [False, True])
def test_a_dicom_seg_lies_as_the_nifti_mask(tmp_path, iop, tags, anonymous):
    read = film(tmp_path / "film.dcm", iop=iop, **tags)
    mask = mask_of(read)
    write = writers.ANONYMOUS["dicomseg"] if anonymous else writers.FORMATS["dicomseg"][1]
    write(tmp_path / "seg.dcm", mask, read, masks.NAMES)
    writers.nifti(tmp_path / "mask.nii.gz", mask, read, masks.NAMES)
    ours, nifti = (mask_files.read(tmp_path / name, VALUES) for name in ("seg.dcm", "mask.nii.gz"))
    assert (ours.orientation is not None) == (iop is not None)
    np.testing.assert_array_equal(ours.values, read.to_displayed(mask))
    np.testing.assert_array_equal(nifti.values, ours.values)
    np.testing.assert_allclose(nifti.spacing, ours.spacing, rtol=1e-6)
    complete = iop is not None and "SliceThickness" in tags and not anonymous
    assert ("FrameOfReferenceUID" in pydicom.dcmread(tmp_path / "seg.dcm")) == complete


@pytest.mark.parametrize("tags", [{"PixelSpacing": None}, FRAMES["complete frame"]])
def test_highdicom_reads_the_stored_mask(tmp_path, tags):
    """highdicom does not open a segmentation that states PixelSpacing without SliceThickness."""
    read = film(tmp_path / "film.dcm", iop=[-1, 0, 0, 0, 0, 1], **tags)
    writers.dicom_seg(tmp_path / "seg.dcm", mask_of(read), read, masks.NAMES)
    uid = pydicom.dcmread(tmp_path / "film.dcm").SOPInstanceUID
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    frames = seg.get_pixels_by_source_instance([uid], combine_segments=True)
    np.testing.assert_array_equal(frames[0], read.to_stored(mask_of(read)))


def test_a_film_without_a_birth_date_is_refused_with_the_remedy(tmp_path):
    read = film(tmp_path / "film.dcm")
    dataset = pydicom.dcmread(tmp_path / "film.dcm")
    del dataset.PatientBirthDate, dataset.StudyInstanceUID
    dataset.save_as(tmp_path / "film.dcm")
    with pytest.raises(InputError) as error:
        writers.dicom_seg(tmp_path / "seg.dcm", mask_of(read), read, masks.NAMES)
    message = str(error.value)
    assert (
        "Patient's Birth Date (PatientBirthDate), Study Instance UID (StudyInstanceUID); add --anonymous"
        in message
    )
    writers.ANONYMOUS["dicomseg"](tmp_path / "seg.dcm", mask_of(read), read, masks.NAMES)
    made = mask_files.read(tmp_path / "seg.dcm", VALUES)
    np.testing.assert_array_equal(made.values, read.to_displayed(mask_of(read)))


def test_directions_of_many_digits_and_directions_that_are_none(tmp_path):
    oblique = [-np.cos(0.3), -np.sin(0.3), 0, 0, 0, 1]
    for iop, oriented in ((oblique, True), ([1, 0, 0, 1, 0, 0], False)):
        read = film(tmp_path / "film.dcm", iop=[f"{value:.12f}" for value in iop], **FRAMES["complete frame"])
        mask = mask_of(read)
        writers.dicom_seg(tmp_path / "seg.dcm", mask, read, masks.NAMES)
        made = mask_files.read(tmp_path / "seg.dcm", VALUES)
        assert (made.orientation is not None) is oriented
        np.testing.assert_array_equal(made.values, read.to_displayed(mask))


def test_an_audit_of_dicom_seg_against_nifti_is_perfect(tmp_path):
    for n in range(8):
        frame = {"FrameOfReferenceUID": generate_uid()} if n % 3 else {}
        read = film(tmp_path / f"films/c{n:02d}.dcm", n, iop=[*IOP.values()][n % len(IOP)], **frame)
        for kind in ("nifti", "dicomseg"):
            end, write = writers.FORMATS[kind]
            writers.write_file(write, tmp_path / kind / f"c{n:02d}{end}", mask_of(read, n), read, masks.NAMES)
    metadata = masks.table(tmp_path, 8)
    given = ["--truth", tmp_path / "nifti", "--pred", tmp_path / "dicomseg", "--metadata", metadata]
    given += ["--out", tmp_path / "out", "--labels", "knee", "--attributes", "sex", "--draws", "50"]
    assert audit.main([str(word) for word in given]) == 0
    cases = pd.read_parquet(tmp_path / "out/cases.parquet")
    assert len(cases) and (cases["dice"] == 1).all()


def test_a_dicom_seg_has_overlapping_segments(tmp_path):
    read = film(tmp_path / "film.dcm", iop=[-1, 0, 0, 0, 0, 1], **FRAMES["complete frame"])
    rows, columns = np.indices(read.image.shape[:2])
    bones = {
        "whole femur": rows < 30,
        "whole tibia": np.zeros(rows.shape, bool),
        "whole fibula": columns > 20,
        "whole patella": (rows > 20) & (columns < 25),
    }
    write_seg = writers.FORMATS["dicomseg"][1]
    written = writers.write_bones(write_seg, tmp_path / "outlines" / "seg.dcm", bones, read)
    present = [name for name in bones if name != "whole tibia"]
    file = tmp_path / "outlines" / "seg.dcm"
    assert written == {name: (number, file) for number, name in enumerate(present, start=1)}
    seg = highdicom.seg.segread(file)
    uid = pydicom.dcmread(tmp_path / "film.dcm").SOPInstanceUID
    frames = seg.get_pixels_by_source_instance([uid])
    assert frames.shape == (1, *rows.shape, 3) and seg.SegmentsOverlap == "YES"
    for number, name in enumerate(present):
        np.testing.assert_array_equal(frames[0, ..., number] == 1, read.to_stored(bones[name]))
        assert seg.SegmentSequence[number].SegmentLabel == name
    assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Femur"
    # Read back as classes; the tibia, which overlaps nothing, is called by its class, too.
    classes = {name: (label,) for label, name in enumerate(anatomy.SCHEMES["knee_overlaps"], start=1)}
    with pytest.raises(InputError, match="overlap"):  # femur and fibula do, as no bones of a knee
        mask_files.read(file, classes)
    bones["whole fibula"] = np.zeros(rows.shape, bool)
    bones["whole tibia"] = rows > 40
    bones["whole patella"] &= ~bones["whole tibia"]
    writers.write_bones(write_seg, file, bones, read)
    label = mask_files.read(file, classes).values
    for name, mask in bones.items():
        (members,) = anatomy.membership([*classes], [name])
        np.testing.assert_array_equal(members[label], read.to_displayed(mask), err_msg=name)
    assert set(np.unique(label)) == {0, 1, 2, 4, 5}
    assert mask_files.segment_names(file) == ["femur", "whole tibia", "patella", "femur and patella"]
    empty = {name: np.zeros(rows.shape, bool) for name in bones}
    assert writers.write_bones(write_seg, tmp_path / "empty.dcm", empty, read) == {}
    assert not (tmp_path / "empty.dcm").exists()
