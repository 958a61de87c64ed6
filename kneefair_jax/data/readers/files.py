"""Image and mask files -> arrays in the displayed space (`orientation`), by the decoder of each format."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kneefair_jax.data.readers import dicom, labels, nifti, npy, pillow, spacing, suffixes
from kneefair_jax.data.readers.decoded import NONE, Decoded, Orientation
from kneefair_jax.data.readers.pixels import native
from kneefair_jax.errors import InputError


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
        notes: what is odd about the header.
        laterality: which knee a DICOM header states: R, L, B (both) or "".
        bilateral: whether a DICOM header states that both knees are shown.
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
        notes: what is odd about the header.
        spacing_kind: as of `Radiograph`.
    """

    labels: np.ndarray
    spacing: np.ndarray
    orientation: Orientation | None = None
    notes: tuple[str, ...] = ()
    spacing_kind: str = "unknown"


def read_radiograph(path: str | Path) -> Radiograph:
    """Read an image in its own number type, and all that its header states about it.

    PNG, JPEG and TIFF state a print density, not the size of a detector's pixel, so their spacing is unknown; so is
    that of a NIfTI file whose unit is unknown. Padding has the darkest value of the picture.

    Raises:
        InputError: unreadable file, not a single image, pixels that are not numbers, or a spacing that is not
            plausible.
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
        orientation.apply(native(pixels, path)),
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
        InputError: unreadable file, lossy compression, color, more than one image, or values that are not integers.
    """
    path = Path(path)
    decoded = _read(path, mask=True)
    orientation = decoded.grid or NONE
    return LabelFile(
        orientation.apply(labels.checked(decoded.pixels, path)),
        orientation.of_pair(spacing.checked(decoded.spacing, path)),
        decoded.grid,
        decoded.notes,
        decoded.spacing_kind,
    )


def read_mask(path: str | Path) -> np.ndarray:
    """Return the labels of `read_label_file`, u8 or i64 [H, W]."""
    return read_label_file(path).labels


def has_dicom_magic(path: Path) -> bool:
    """Whether a file is DICOM by its content (`dicom.is_dicom`); False where it cannot be opened."""
    try:
        return dicom.is_dicom(path)
    except (InputError, OSError):
        return False


def _read(path: Path, *, mask: bool) -> Decoded:
    try:
        return _reader(path)(path, mask)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path}: too large for this machine's memory; make it smaller") from error
    except Exception as error:  # each library has its own errors for a damaged file
        raise InputError(
            f"{path}: unreadable file ({dicom.brief(error, path)}); export or download it again"
        ) from error


def _reader(path: Path) -> Callable[[Path, bool], Decoded]:
    reader = READERS.get(suffixes.suffix_of(path.name))
    if reader is None and dicom.is_dicom(path):
        return dicom.read
    if reader is None:
        raise InputError(
            f"{path}: unreadable file (unknown format); convert it to PNG, JPEG, TIFF, NPY, DICOM or NIfTI"
        )
    return reader


# By the ending of the name. A mask of another kind (DICOM-SEG, a palette) is decoded where its format is.
READERS: dict[str, Callable[[Path, bool], Decoded]] = {
    **dict.fromkeys(suffixes.NIFTI, nifti.read),
    **dict.fromkeys(suffixes.NPY, npy.read),
    **dict.fromkeys((*suffixes.PALETTE, *suffixes.JPEG), pillow.read),
    **dict.fromkeys(suffixes.DICOM, dicom.read),
}
