"""A folder as a clinic exports it: DICOM films with names and dates, masks, and a table of patients."""

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SIZE = (24, 20)  # rows, columns


@dataclass(frozen=True)
class Patient:
    patient_id: str
    name: str
    birth: str
    accession: str
    sex: str
    address: str = "Lindenweg 12"

    @property
    def secrets(self):
        parts = self.name.replace("^", " ").replace("-", " ").split()
        dates = (self.birth, f"{self.birth[:4]}-{self.birth[4:6]}-{self.birth[6:]}")
        return [self.patient_id, *parts, *dates, self.accession, self.address, self.address.replace(" ", "")]


PATIENTS = [
    Patient("0007-4411", "Müller^Anneliese", "19610417", "ACC90017", "F"),
    Patient("0008-5523", "O'Brien^Seán", "19311105", "ACC90018", "M"),
    Patient("KH-93012", "Nguyen^Thi Hoa", "19750830", "ACC90019", "F"),
    Patient("KH-93077", "Sørensen^Lars", "19480229", "ACC90020", "M"),
]


def film(path: Path, patient: Patient, *, study="20210512", side="L", view="AP", uid="", **tags):
    """Write a film; `tags` replace those of the header, and None deletes one."""
    rng = np.random.default_rng(len(str(path)))
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    values = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",
        "SOPInstanceUID": uid or generate_uid(),
        "PatientID": patient.patient_id,
        "PatientName": patient.name,
        "PatientBirthDate": patient.birth,
        "PatientSex": patient.sex,
        "PatientAddress": patient.address,
        "AccessionNumber": patient.accession,
        "StudyDate": study,
        "InstitutionName": "Elisabethkrankenhaus",
        "InstitutionAddress": "Domplatz 3",
        "ReferringPhysicianName": "Hausarzt^Karla",
        "Manufacturer": "Carestream",
        "ImageLaterality": side,
        "ViewPosition": view,
        "ImagerPixelSpacing": [0.2, 0.15],
        "SpecificCharacterSet": "ISO_IR 192",
        "Modality": "DX",
        "Rows": SIZE[0],
        "Columns": SIZE[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelData": rng.integers(0, 4000, SIZE).astype(np.uint16).tobytes(),
    }
    for name, value in (values | tags).items():
        if value is not None:
            setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return dataset


def mask(path: Path):
    """Write a mask of two structures, without orientation, as many labeling tools do."""
    array = np.zeros(SIZE, np.uint8)
    array[3:10, 4:12], array[12:20, 5:14] = 1, 2
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array.T, np.eye(4))
    image.header.set_sform(None, 0)
    image.header.set_qform(None, 0)
    nibabel.save(image, path)


def folder(root: Path) -> Path:
    """Write two films of each patient in a tree of vendors; the paths identify nobody."""
    for number, patient in enumerate(PATIENTS):
        vendor = f"vendor{number % 2}/study{number}"
        for side in "LR":
            film(root / f"dicom/{vendor}/f{number}{side}.dcm", patient, side=side)
            mask(root / f"masks/{vendor}/f{number}{side}_mask.nii.gz")
    return root
