from pathlib import Path

import pytest

from kneefair_jax.data.draft import pairing, scan
from kneefair_jax.data.draft.scan import File, Tags


def film(path, uid="", patient=""):
    return File(Path(path), scan.FILM, Tags(patient_id=patient), uid)


def mask(path, references=(), patient=""):
    return File(Path(path), scan.MASK, Tags(patient_id=patient), references=frozenset(references))


def pairs(*files, structures=()):
    result = pairing.pair(files, structures)
    return {str(path): str(partner.path) for path, partner in result.masks.items()}


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/a.dcm", "masks/a.nii.gz"),
        ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"),
        ("p1/a.dcm", "p1/a_mask.png"),
        ("dicom/p1/s2/a.dcm", "masks/a.png"),
        ("dicom/vendor/p1/a.dcm", "masks/p1/a_seg.png"),
        ("p1/film.dcm", "p1/drawn.png"),
        ("A.PNG", "masks/a-label.PNG"),
    ],
)
def test_names_and_folders(image, label):
    other = [film("elsewhere/x.dcm"), mask("otherwise/y.png")]
    assert pairs(film(image), mask(label), *other) == {image: label}


@pytest.mark.parametrize(
    "files",
    [
        [film("p1/left.dcm"), mask("p2/masks/left.png")],
        [film("p1/a.dcm"), film("p2/a.dcm"), mask("masks/a.png")],
        [film("images/a.dcm"), mask("masks/a.png"), mask("masks/a.nii.gz")],
        [film("p1/a.dcm"), film("p1/b.dcm"), mask("p1/c.png")],
        [film("a.dcm", patient="1"), mask("a_mask.dcm", patient="2")],
        [film("a.dcm", "1.2"), film("b.dcm", "1.3"), mask("s.dcm", ["1.2", "1.3"])],
        [film("a.dcm", "1.2"), mask("s.dcm", ["1.2"]), mask("t.dcm", ["1.2"])],
    ],
)
def test_doubtful_pairs_stay_apart(files):
    assert not pairs(*files)


def test_a_reference_precedes_names():
    files = [film("a.dcm", "1.2"), film("b.dcm", "1.3"), mask("a_seg.dcm", ["1.3"]), mask("b_seg.png")]
    assert pairs(*files) == {"b.dcm": "a_seg.dcm"}


def test_one_file_for_each_structure_is_one_mask():
    files = [film("images/a.png"), film("images/b.png")]
    files += [mask(f"masks/{name}.png") for name in ("a_femur", "a-tibia", "b/femur", "b/tibia", "c_femur")]
    assert pairs(*files, structures=("femur", "tibia")) == {
        "images/a.png": "masks/a",
        "images/b.png": "masks/b",
    }


def test_masks_of_another_patient_and_without_film_are_counted():
    files = [film("a.dcm", patient="1"), mask("a_mask.dcm", patient="2"), mask("b_mask.png")]
    result = pairing.pair(files)
    assert (result.conflicts, result.unused) == (1, 2)
