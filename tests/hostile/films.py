"""Phantom knees, drawn once, and DICOM and NIfTI files of them with any header."""

import functools
from pathlib import Path

import jax
import nibabel
import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from kneefair_jax.data.phantom import Bias, draw_case

SIZE = 64
MM = 140 / SIZE


@functools.cache
def _draw():
    return jax.jit(lambda key: draw_case(key, 0, Bias(), size=(SIZE, SIZE), fov_mm=140.0))


@functools.cache
def knee(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and label, u8[64, 64]."""
    case = _draw()(jax.random.key(300 + number))
    return np.asarray(case.image), np.asarray(case.label)


def bright(number: int = 0) -> np.ndarray:
    """u16[64, 64], 12 bits, bone bright."""
    return knee(number)[0].astype(np.uint16) * 16


def dataset(pixels: np.ndarray, photometric: str = "MONOCHROME2", bits: int = 12, **tags) -> pydicom.Dataset:
    made = pydicom.Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.Modality, made.PatientID = "CR", "P1"
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, photometric
    made.BitsAllocated, made.BitsStored, made.HighBit = 8 * pixels.itemsize, bits, bits - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelSpacing = [MM, MM]
    made.PixelData = np.ascontiguousarray(pixels).tobytes()
    made["PixelData"].VR = "OW"
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def dicom(path: Path, pixels: np.ndarray, photometric: str = "MONOCHROME2", bits: int = 12, **tags) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset(pixels, photometric, bits, **tags).save_as(path, enforce_file_format=True)
    return path


def nifti(path: Path, array: np.ndarray, axes: str = "LP", mm=MM, unit: str = "mm") -> Path:
    """Array [row, column] as displayed, stored so that columns run to the first letter and rows to the second.

    With the letters of the rows first (`PL`), x and y are exchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    down, across = np.broadcast_to(mm, 2)
    exchanged = axes[0] in "AP"
    x, y = (axes[1], axes[0]) if exchanged else (axes[0], axes[1])
    data, affine = array.T, np.diag([-across, -down, 1.0, 1.0])
    if x == "R":
        data = data[::-1]
        affine[0, [0, 3]] = across, -across * (array.shape[1] - 1)
    if y == "A":
        data = data[:, ::-1]
        affine[1, [1, 3]] = down, -down * (array.shape[0] - 1)
    if exchanged:
        data, affine = data.T, affine[:, [1, 0, 2, 3]]
    image = nibabel.Nifti1Image(np.ascontiguousarray(data[..., None]), affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


def table(path: Path, columns: str, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([columns, *rows]) + "\n")
    return path
