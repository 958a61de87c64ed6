"""Image and mask files -> arrays in the displayed space (`orientation`), by the decoder of each format."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kneefair_jax.data.readers import dicom, limits, nifti, pillow
from kneefair_jax.data.readers.orientation import NONE
from kneefair_jax.data.readers.pixels import Mask, Radiograph, to_labels, to_native_dtype
from kneefair_jax.errors import InputError

# The endings of file names that state a format, in lower case.
NIFTI_SUFFIXES = (".nii.gz", ".nii")
NPY_SUFFIXES = (".npy",)
PALETTE_SUFFIXES = (".png", ".tif", ".tiff")  # of formats that may have a palette
JPEG_SUFFIXES = (".jpg", ".jpeg")
DICOM_SUFFIXES = (".dcm", ".dicom")
SUFFIXES = (*NIFTI_SUFFIXES, *NPY_SUFFIXES, *PALETTE_SUFFIXES, *JPEG_SUFFIXES, *DICOM_SUFFIXES)

_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


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
    orientation = decoded.orientation or NONE
    return decoded._replace(
        pixels=orientation.apply(to_native_dtype(pixels, path)),
        spacing=orientation.of_pair(decoded.spacing),
        bone_spacing=orientation.of_pair(decoded.bone_spacing),
        valid=None if decoded.valid is None else orientation.apply(decoded.valid),
    )


def read_image(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels and the spacing of `read_radiograph`."""
    film = read_radiograph(path)
    return film.pixels, film.spacing


def read_label_file(path: str | Path) -> Mask:
    """Read a label mask without changing a label (MONOCHROME1 and MinIsWhite are not inverted here).

    Raises:
        InputError: the file is unreadable, lossy, in color, holds several images, or values that are not integers.
    """
    path = Path(path)
    film = _read(path, mask=True)
    orientation = film.orientation or NONE
    values, spacing = orientation.apply(to_labels(film.pixels, path)), orientation.of_pair(film.spacing)
    return Mask(values, spacing, film.orientation, film.notes, film.spacing_kind)


def read_mask(path: str | Path) -> np.ndarray:
    """Return the values of `read_label_file`, u8 or i64 [H, W]."""
    return read_label_file(path).values


def has_dicom_magic(path: Path) -> bool:
    """Return whether a file is DICOM by its content (`dicom.is_dicom`); False if it cannot be opened."""
    try:
        return dicom.is_dicom(path)
    except (InputError, OSError):
        return False


def suffix_of(name: str) -> str:
    """Return the ending of `SUFFIXES` that a file's name has, in any case of letters; "" if it has none."""
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")


def _read(path: Path, *, mask: bool) -> Radiograph:
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


def _reader(path: Path) -> Callable[[Path, bool], Radiograph]:
    reader = READERS.get(suffix_of(path.name))
    if reader is None and dicom.is_dicom(path):
        return dicom.read
    if reader is None:
        raise InputError(
            f"{path}: unreadable file (unknown format); convert it to PNG, JPEG, TIFF, NPY, DICOM or NIfTI"
        )
    return reader


def _read_npy(path: Path, mask: bool) -> Radiograph:
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
        return Radiograph(np.load(file, allow_pickle=False))


# By the ending of the name. `mask_files` decodes DICOM-SEG and palettes.
READERS: dict[str, Callable[[Path, bool], Radiograph]] = {
    **dict.fromkeys(NIFTI_SUFFIXES, nifti.read),
    **dict.fromkeys(NPY_SUFFIXES, _read_npy),
    **dict.fromkeys((*PALETTE_SUFFIXES, *JPEG_SUFFIXES), pillow.read),
    **dict.fromkeys(DICOM_SUFFIXES, dicom.read),
}
