import numpy as np
import pytest
from pydicom.dataset import Dataset

from kneefair_jax.data import readers
from kneefair_jax.data.readers import dicom_header
from tests.hostile import films

FILM = np.arange(320, dtype=np.uint16).reshape(16, 20)


def enhanced(side):
    frame, group = Dataset(), Dataset()
    frame.FrameLaterality = side
    group.FrameAnatomySequence = [frame]
    return {"SharedFunctionalGroupsSequence": [group]}


@pytest.mark.parametrize(
    ("tags", "side", "bilateral"),
    [
        ({}, "", False),
        ({"Laterality": "R"}, "R", False),
        ({"ImageLaterality": "L"}, "L", False),
        ({"ImageLaterality": "L", "Laterality": "L"}, "L", False),
        ({"ImageLaterality": "B"}, "B", True),
        ({"ImageLaterality": "U"}, "", False),
        ({"Laterality": ""}, "", False),
        ({"Laterality": "RIGHT"}, "R", False),
        (enhanced("R"), "R", False),
        (enhanced("L") | {"Laterality": "L"}, "L", False),
        ({"SeriesDescription": "Bilateral PA Fixed Flexion Knee"}, "", True),
        ({"StudyDescription": "XR_KNEE_BILATERAL"}, "", True),
        ({"SeriesDescription": "KNEES, BILATERAL; AP"}, "", True),
        ({"SeriesDescription": "Knee-bilateral"}, "", True),
        ({"SeriesDescription": "XR KNEE (BILATERAL)/AP"}, "", True),
        ({"StudyDescription": "bilateral2v"}, "", True),
        ({"SeriesDescription": "bilaterally symmetric"}, "", False),
        ({"SeriesDescription": "nonbilateral"}, "", False),
        ({"SeriesDescription": "bilateral", "ImageLaterality": "R"}, "R", True),
        (
            {"StudyDescription": "bilateral knees", "ImageLaterality": "R"},
            "R",
            False,
        ),  # of a study of two films
    ],
)
def test_the_side_that_tags_state(tmp_path, tags, side, bilateral):
    film = readers.read_radiograph(films.dicom(tmp_path / "film.dcm", FILM, **tags))
    assert (film.laterality, film.bilateral, film.notes) == (side, bilateral, ())


@pytest.mark.parametrize("other", ["L", "B"])
def test_tags_that_contradict_each_other_state_no_side(tmp_path, other):
    path = films.dicom(tmp_path / "film.dcm", FILM, ImageLaterality=other, Laterality="R")
    film = readers.read_radiograph(path)
    (note,) = film.notes
    assert film.laterality == "" and f"ImageLaterality {other}" in note and "Laterality R" in note


@pytest.mark.parametrize(
    ("tags", "notes"),
    [
        ({}, 1),
        ({"PatientOrientation": ["L", "F"]}, 0),
        ({"PatientOrientation": ["R", "F"]}, 0),
        ({"PatientOrientation": ["", ""]}, 1),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, 0),
    ],
)
def test_a_horizontal_flip_without_an_orientation_is_a_note(tmp_path, tags, notes):
    for flip, expected in (("YES", notes), ("NO", 0)):
        path = films.dicom(
            tmp_path / f"{flip}.dcm",
            FILM,
            FieldOfViewHorizontalFlip=flip,
            FieldOfViewRotation=0,
            **tags,
        )
        found = [note for note in readers.read_radiograph(path).notes if "FieldOfViewHorizontalFlip" in note]
        assert len(found) == expected


@pytest.mark.parametrize(
    ("side", "other", "odd"),
    [
        ("R", "L", True),
        ("L", "R", True),
        ("R", "R", False),
        ("", "L", False),
        ("B", "L", False),
        ("", "", False),
    ],
)
def test_only_one_knee_against_the_other_is_a_contradiction(side, other, odd):
    assert bool(dicom_header.contradiction(side, other, "the table")) == odd


@pytest.mark.parametrize(
    ("tags", "kind", "spacing"),
    [
        ({"ImagerPixelSpacing": [0.2, 0.15]}, "detector", (0.2, 0.15)),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.2, 0.2]}, "detector", (0.2, 0.2)),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.18, 0.18]}, "calibrated", (0.18, 0.18)),
        (
            {"PixelSpacing": [0.18, 0.18], "PixelSpacingCalibrationType": "FIDUCIAL"},
            "calibrated",
            (0.18, 0.18),
        ),
        ({"PixelSpacing": [0.18, 0.18]}, "uncalibrated", (0.18, 0.18)),
        # Rounded to other digits, or larger than at the detector, it is no calibration.
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.199, 0.199]}, "detector", (0.2, 0.2)),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.25, 0.25]}, "detector", (0.2, 0.2)),
        (
            {"ImagerPixelSpacing": [0.22, 0.11], "EstimatedRadiographicMagnificationFactor": "1.1"},
            "magnification",
            (0.2, 0.1),
        ),
        (
            {
                "ImagerPixelSpacing": [0.22, 0.22],
                "DistanceSourceToDetector": "1100",
                "DistanceSourceToPatient": "1000",
            },
            "distances",
            (0.2, 0.2),
        ),
        (
            {
                "ImagerPixelSpacing": [0.22, 0.22],
                "DistanceSourceToDetector": "1000",
                "DistanceSourceToPatient": "1100",
            },
            "detector",
            (0.22, 0.22),
        ),
        (
            {"ImagerPixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": "15"},
            "detector",
            (0.2, 0.2),
        ),
        # A factor of three is no magnification, so the two fields contradict each other.
        ({"ImagerPixelSpacing": [0.6, 0.6], "PixelSpacing": [0.2, 0.2]}, "detector", (0.6, 0.6)),
        ({"NominalScannedPixelSpacing": [0.1, 0.1]}, "scanned", (0.1, 0.1)),
    ],
)
def test_the_spacing_in_the_plane_of_the_bones(tmp_path, tags, kind, spacing):
    film = readers.read_radiograph(film_of(tmp_path, tags))
    assert film.bone_spacing_kind == kind
    assert film.bone_spacing == pytest.approx(spacing, rel=1e-5)


def test_an_unknown_spacing_of_bones(tmp_path):
    film = readers.read_radiograph(film_of(tmp_path, {}))
    assert film.bone_spacing_kind == "unknown"
    assert np.isnan(film.bone_spacing).all()


def film_of(folder, tags):
    """Write a film that states the spacings of `tags` alone."""
    dataset = films.dataset(FILM, "MONOCHROME2", 12)
    del dataset.PixelSpacing
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(folder / "film.dcm", enforce_file_format=True)
    return folder / "film.dcm"
