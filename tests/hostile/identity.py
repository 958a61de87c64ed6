"""Films whose headers say who the patient is, and a search of output files for what must not be in them."""

import base64
import gzip
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from PIL import Image
from pydicom.uid import generate_uid

from tests.data.test_readers import write_dicom

NAME, BIRTH, ACCESSION, PATIENT = "Plantedname^Zoe", "19370401", "ACC7731QX", "PID55XQ9"
IDENTITY = {
    "PatientName": NAME,
    "PatientBirthDate": BIRTH,
    "AccessionNumber": ACCESSION,
    "PatientID": PATIENT,
    "PatientSex": "F",
    "StudyID": "",
    "StudyDate": "",
    "StudyTime": "",
    "ReferringPhysicianName": "",
    "Modality": "DX",
}


def picture(i: int) -> tuple[np.ndarray, np.ndarray]:
    """u8[20, 24] film and mask: a disc's and a square's worth of two structures."""
    mask = np.zeros((20, 24), np.uint8)
    mask[4:9, 4 : 9 + i % 4] = 1
    mask[12:17, 12:20] = 2
    noise = np.random.default_rng(i).normal(80, 10, mask.shape)
    return np.clip(mask * 60 + noise, 0, 255).astype(np.uint8), mask


def dicom(path: Path, pixels: np.ndarray) -> Path:
    """A DICOM film with the identity in its header."""
    uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    write_dicom(path, pixels, "MONOCHROME2", PixelSpacing=[0.5, 0.5], **IDENTITY, **uids)
    return path


def nifti(path: Path, pixels: np.ndarray) -> Path:
    """A NIfTI film with the identity in its free text."""
    image = nibabel.Nifti1Image(pixels.T[..., None], np.diag([0.5, 0.5, 1.0, 1.0]))
    image.header["descrip"] = f"{NAME} {BIRTH}".encode()
    image.header["aux_file"] = ACCESSION.encode()
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def folder(root: Path) -> Path:
    """Twenty-four cases of twelve patients, DICOM and NIfTI by turns; the last case's film cannot be read."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    rows = []
    for i in range(24):
        image, mask = picture(i)
        if i % 2:
            film = nifti(root / f"images/c{i}.nii.gz", image)
            label = nifti(root / f"masks/c{i}.nii.gz", mask)
        else:
            film, label = dicom(root / f"images/c{i}.dcm", image), root / f"masks/c{i}.png"
            Image.fromarray(mask).save(label)
        paths = [path.relative_to(root).as_posix() for path in (film, label)]
        rows.append([f"c{i}", f"p{i // 2}", *paths, "fm"[i // 2 % 2]])
    (root / "images/broken.png").write_text("no picture")
    rows.append(["broken", "p0", "images/broken.png", rows[0][3], "f"])
    columns = ["case_id", "patient_id", "image", "mask", "sex"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "metadata.csv", index=False)
    return root


_BASE64 = re.compile(rb"(?<=;base64,)[A-Za-z0-9+/]+=*")


def leaks(folder: Path, secrets: list[str]) -> list[str]:
    """`FILE: SECRET` of every file below the folder whose name, bytes or unpacked bytes hold one of the secrets."""
    return [
        f"{path.relative_to(folder)}: {secret}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for content in [b"\n".join([path.name.encode(), *_unpacked(path)])]
        for secret in secrets
        if secret.encode() in content
    ]


def _unpacked(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    # Three letters such as Doe occur in base64 by chance, so embedded images are decoded.
    yield _BASE64.sub(b"", content)
    yield from (base64.b64decode(image) for image in _BASE64.findall(content))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    elif path.suffix == ".gz":
        yield gzip.decompress(content)
    elif path.suffix == ".parquet":
        yield pd.read_parquet(io.BytesIO(content)).to_csv().encode()
