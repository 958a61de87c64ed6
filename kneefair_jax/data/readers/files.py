"""Image and mask files -> arrays in the displayed space (`orientation`), by the decoder of each format."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kneefair_jax.data.readers import dicom, limits, nifti, pillow, spacing
from kneefair_jax.data.readers.orientation import NONE, Orientation
from kneefair_jax.data.readers.pixels import Decoded, to_labels, to_native_dtype
from kneefair_jax.errors import InputError

# The endings of file names that state a format, in lower case.
NIFTI_SUFFIXES = (".nii.gz", ".nii")
NPY_SUFFIXES = (".npy",)
PALETTE_SUFFIXES = (".png", ".tif", ".tiff")  # of formats that may have a palette
JPEG_SUFFIXES = (".jpg", ".jpeg")
DICOM_SUFFIXES = (".dcm", ".dicom")
SUFFIXES = (*NIFTI_SUFFIXES, *NPY_SUFFIXES, *PALETTE_SUFFIXES, *JPEG_SUFFIXES, *DICOM_SUFFIXES)

_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Radiograph(NamedTuple):
    """An image file as read.

    Attributes:
        pixels: u8, u16 or f32 [H, W, C], C 1 or 3, bone bright, in the displayed space.
        spacing: f32[2], mm per pixel down and across; NaN where the file does not state it.
        spacing_kind: `detector` (ImagerPixelSpacing), `calibrated` (PixelSpacing), `scanned`
            (NominalScannedPixelSpacing), `header` (NIfTI) or `unknown`.
        valid: bool[H, W], False where pixels are padding; None if all are valid.
        orientation: what was applied to the stored pixels, by affine, ImageOrientationPatient or EXIF; None where the
            header states none.
        view: what would bring the patient's right to image left, by PatientOrientation. It is not applied: it states
            no position in space, and viewers, ITK and the masks drawn in them ignore it.
        notes: warnings on the header.
        laterality: the knee that a DICOM header states: R, L, B (both) or "".
        bilateral: whether a DICOM header states that the film shows both knees.
    """

    pixels: np.ndarray
    spacing: np.ndarray
    spacing_kind: str = "unknown"
    valid: np.ndarray | None = None
    orientation: Orientation | None = None
    view: Orientation = NONE
    notes: tuple[str, ...] = ()
    laterality: str = ""
    bilateral: bool = False


class LabelFile(NamedTuple):
    """A mask file as read.

    Attributes:
        labels: u8 or i64 [H, W], in the displayed space where the header states an orientation, else as stored.
        spacing: f32[2], mm per pixel down and across; NaN where the file does not state it.
        orientation: what was applied to the stored pixels; None where the header states no orientation.
        notes: warnings on the header.
        spacing_kind: as for `Radiograph`.
    """

    labels: np.ndarray
    spacing: np.ndarray
    orientation: Orientation | None = None
    notes: tuple[str, ...] = ()
    spacing_kind: str = "unknown"


def read_radiograph(path: str | Path) -> Radiograph:
    """Read an image in its own number type, and what its header states about it.

    PNG, JPEG and TIFF state a print density, not the size of a detector's pixel, so their spacing is unknown, as is
    that of a NIfTI file without a unit. Padding gets the darkest value of the image.

    Raises:
        InputError: the file is unreadable, does not hold a single image of numbers, or has an implausible spacing.
    """
    path = Path(path)
    decoded = _read(path, mask=False)
    pixels = decoded.pixels
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise InputError(
            f"{path}: holds an array of shape {pixels.shape}; give one image, gray [row, column] or color "
            "[row, column, 3]"
        )
    orientation = decoded.grid or NONE
    return Radiograph(
        orientation.apply(to_native_dtype(pixels, path)),
        orientation.of_pair(spacing.checked(decoded.spacing, path)),
        decoded.spacing_kind,
        None if decoded.valid is None else orientation.apply(decoded.valid),
        decoded.grid,
        decoded.view,
        decoded.notes,
        decoded.laterality,
        decoded.bilateral,
    )


def read_image(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels and the spacing of `read_radiograph`."""
    film = read_radiograph(path)
    return film.pixels, film.spacing


def read_label_file(path: str | Path) -> LabelFile:
    """Read a label mask without changing a label (MONOCHROME1 and MinIsWhite are not inverted here).

    Raises:
        InputError: the file is unreadable, lossy, in color, holds several images, or values that are not integers.
    """
    path = Path(path)
    decoded = _read(path, mask=True)
    orientation = decoded.grid or NONE
    return LabelFile(
        orientation.apply(to_labels(decoded.pixels, path)),
        orientation.of_pair(spacing.checked(decoded.spacing, path)),
        decoded.grid,
        decoded.notes,
        decoded.spacing_kind,
    )


def read_mask(path: str | Path) -> np.ndarray:
    """Return the labels of `read_label_file`, u8 or i64 [H, W]."""
    return read_label_file(path).labels


def has_dicom_magic(path: Path) -> bool:
    """Return whether a file is DICOM by its content (`dicom.is_dicom`); False if it cannot be opened."""
    try:
        return dicom.is_dicom(path)
    except (InputError, OSError):
        return False


def suffix_of(name: str) -> str:
    """Return the ending of `SUFFIXES` that a file's name has, in any case of letters; "" if it has none."""
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")


def _read(path: Path, *, mask: bool) -> Decoded:
    try:
        return _reader(path)(path, mask)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path}: too large for this machine's memory; make it smaller") from error
    except Exception as error:  # each library raises its own errors for a damaged file
        raise InputError(
            f"{path}: unreadable file ({dicom.brief(error, path)}); export or download it again"
        ) from error


def _reader(path: Path) -> Callable[[Path, bool], Decoded]:
    reader = READERS.get(suffix_of(path.name))
    if reader is None and dicom.is_dicom(path):
        return dicom.read
    if reader is None:
        raise InputError(
            f"{path}: unreadable file (unknown format); convert it to PNG, JPEG, TIFF, NPY, DICOM or NIfTI"
        )
    return reader


def _read_npy(path: Path, mask: bool) -> Decoded:
    """Decode an NPY file without mapping it, since a truncated mapped file would end the process.

    Raises:
        InputError: it holds Python objects, something other than an image, or too large an image.
        ValueError: it is not an NPY file, or is damaged.
    """
    del mask
    with limits.open_regular(path) as file:
        version = np.lib.format.read_magic(file)
        if version not in _NPY_HEADERS:  # only structured arrays have another
            raise ValueError(f"NPY version {version}")
        shape, _, dtype = _NPY_HEADERS[version](file)
        if dtype.hasobject:
            raise InputError(
                f"{path}: unreadable file (Python objects, never loaded); save an array of numbers"
            )
        if len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (3,)):
            raise InputError(
                f"{path}: holds an array of shape {shape}; give one image, gray [row, column] or color [row, column, 3]"
            )
        limits.require_size(shape[0], shape[1], dtype.itemsize * (shape[2] if shape[2:] else 1), path)
        file.seek(0)
        return Decoded(np.load(file, allow_pickle=False))


# By the ending of the name. `mask_files` decodes DICOM-SEG and palettes.
READERS: dict[str, Callable[[Path, bool], Decoded]] = {
    **dict.fromkeys(NIFTI_SUFFIXES, nifti.read),
    **dict.fromkeys(NPY_SUFFIXES, _read_npy),
    **dict.fromkeys((*PALETTE_SUFFIXES, *JPEG_SUFFIXES), pillow.read),
    **dict.fromkeys(DICOM_SUFFIXES, dicom.read),
}
