import os

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import generate_uid

from kneefair_jax.data.draft import scan
from kneefair_jax.errors import InputError
from tests.cli import clinic

PATIENT = clinic.PATIENTS[0]


def tags(tmp_path, **changes):
    clinic.film(tmp_path / "a.dcm", PATIENT, **changes)
    (file,) = scan.read(tmp_path).files
    return file.tags


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"PatientSex": "O"}, "sex", "other"),
        ({"PatientSex": "1"}, "sex", ""),
        ({"PatientAge": "065Y"}, "age", "65"),
        ({"PatientAge": "018M"}, "age", "1"),
        ({"PatientBirthDate": None}, "age", ""),
        ({"PatientBirthDate": "19000101"}, "age", ""),
        ({"view": "", "SeriesDescription": "XR_KNEE_LAT"}, "view", "lateral"),
        ({"view": "", "SeriesDescription": "Knee AP and lateral"}, "view", ""),
        ({"view": "", "SeriesDescription": "Skyline Müller"}, "view", "axial"),
        ({"side": "B"}, "side", "both"),
        ({"ImagerPixelSpacing": None, "PixelSpacing": [0.3, 0.3]}, "spacing", "0.3"),
        ({"ImagerPixelSpacing": None, "PixelSpacing": [0.3, 0.3]}, "spacing_kind", "calibrated"),
        ({"ImagerPixelSpacing": [200, 150]}, "spacing", ""),
        ({"ImageOrientationPatient": [0, 0, -1, 1, 0, 0]}, "spacing", "0.15x0.2"),
    ],
)
def test_tags_become_attributes(tmp_path, changes, name, value):
    assert getattr(tags(tmp_path, **changes), name) == value


def test_a_segmentation_names_its_film(tmp_path):
    uid = generate_uid()
    clinic.film(tmp_path / "a.dcm", PATIENT, uid=uid)
    reference, series, segment = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    reference.ReferencedSOPInstanceUID = uid
    series.ReferencedInstanceSequence = [reference]
    segment.SegmentLabel = "femur"
    clinic.film(
        tmp_path / "b.dcm",
        PATIENT,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4",
        ReferencedSeriesSequence=[series],
        SegmentSequence=[segment],
    )
    film, mask = scan.read(tmp_path).files
    assert (film.role, mask.role) == (scan.FILM, scan.MASK)
    assert (
        mask.references == {uid}
        and mask.segments == ("femur",)
        and mask.tags.patient_id == PATIENT.patient_id
    )


def test_identifiers_are_collected_at_any_depth_without_warnings(tmp_path, recwarn):
    request = pydicom.Dataset()
    request.RequestedProcedureID = "ORDER5511"
    clinic.film(
        tmp_path / "a.dcm",
        PATIENT,
        OtherPatientIDs=["OLD-4711", "OLD-4712"],
        RequestAttributesSequence=[request],
        StudyID="1",
    )
    data = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "b.dcm").write_bytes(data.replace(b"19610417", b"1961/417"))  # no date: pydicom would warn
    (tmp_path / "c.dcm").write_bytes(data.replace(b"0.2\\0.15", b"0,2\\0,15"))  # pydicom raises an error
    result = scan.read(tmp_path)
    assert [file.tags.spacing for file in result.files] == ["0.2x0.15", "0.2x0.15", ""]
    found = result.identifiers
    for text in ("ORDER5511", "old4712", "Hausarzt", "Domplatz 3", "Anneliese", *PATIENT.secrets):
        assert found.found_in(text), text
    assert not found.found_in("film_1.dcm") and not recwarn.list


def test_every_text_of_a_header_is_collected(tmp_path):
    item, nested = pydicom.Dataset(), pydicom.Dataset()
    nested.private_block(0x0011, "ACME", create=True).add_new(1, "PN", "Brzezinski^Zbigniew")
    nested.private_block(0x0013, "ACME", create=True).add_new(1, "UN", b"Wohnort Quedlinburg\0")
    item.private_block(0x0011, "ACME", create=True).add_new(2, "SQ", [nested])
    item.private_block(0x0011, "ACME", create=True).add_new(3, "LO", "HIDDEN-4712")
    item.private_block(0x0011, "ACME", create=True).add_new(4, "IS", "8812345")
    item.PerformedProcedureStepID = "PPS998877"
    changes = {
        "PatientComments": "MRN 0471177, knee pain left, Frau Kowalczyk",
        "StudyDescription": "XR Knee AP Podolski",
        "StationName": "ROOM-KREUZBERG",
        "RequestAttributesSequence": [item],
    }
    clinic.film(tmp_path / "a.dcm", PATIENT, **changes)
    found = scan.read(tmp_path).identifiers
    texts = ["Brzezinski", "Zbigniew", "quedlinburg", "4712", "hidden4712", "8812345", "pps998877", "998877"]
    texts += ["0471177", "471177", "Kowalczyk", "Podolski", "kreuzberg"]
    for text in texts:
        assert found.found_in(f"images/{text}.dcm"), text
    for text in ("knee_left_ap_1.dcm", "Carestream", "ACME_1.png", "DX", "femur", "monochrome2", "vendor/x"):
        assert not found.found_in(text), text


def test_other_files_are_counted_by_reason(tmp_path):
    clinic.film(tmp_path / "films/a.dcm", PATIENT)
    clinic.film(tmp_path / "films/b", PATIENT, NumberOfFrames=3)
    clinic.film(tmp_path / "films/report.dcm", PATIENT, Rows=None, Columns=None, PixelData=None)
    (tmp_path / "films/broken.dcm").write_bytes(b"\0" * 200)
    (tmp_path / "films/.hidden.png").write_bytes(b"")
    (tmp_path / "films/DICOMDIR").write_bytes(b"")
    (tmp_path / "films/a\nb.png").write_bytes(b"")
    os.mkfifo(tmp_path / "films/pipe.png")
    (tmp_path / "films/notes.txt").write_text("x")
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "masks/a.jpg")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "other.png")
    result = scan.read(tmp_path, "films", "masks")
    assert [str(file.path) for file in result.files] == ["films/a.dcm"]
    assert sorted(result.excluded.values()) == [1, 1, 1, 1, 1, 1, 1, 1, 2]
    assert result.excluded["unreadable headers"] == 1
    with pytest.raises(InputError, match=r"--images .*no such folder"):
        scan.read(tmp_path, "film")
