"""Reads NIfTI images, [x, y] or [x, y, z] with one slice, with their affine and units."""

import contextlib
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kneefair_jax.data.readers import limits, orientation
from kneefair_jax.data.readers.dicom import brief
from kneefair_jax.data.readers.pixels import Radiograph
from kneefair_jax.errors import InputError

_MM = {"mm": (1.0, "mm"), "meter": (1000.0, "meters"), "micron": (0.001, "micrometers")}


def read(path: Path, mask: bool) -> Radiograph:
    """Decode a file, in the same way for images and masks.

    Raises:
        InputError: the file is a volume, or its spacing is implausible.
    """
    del mask
    with opened(path) as image:
        shape = image.shape
        axes = _require_plane(shape, path)
        limits.require_size(shape[axes[1]], shape[axes[0]], image.get_data_dtype().itemsize, path)
        stored = np.asanyarray(image.dataobj).reshape([shape[axis] for axis in axes]).T
    mm, kind, notes = _spacing(image, axes, path)
    grid = _grid(image, axes)
    qform = image.header.get_qform(coded=True)[0]
    if grid is not None and qform is not None and orientation.of_affine(qform, *axes) != grid:
        notes.append("qform and sform state different orientations; the sform is used")
    return Radiograph(
        stored, mm, kind, orientation=grid, notes=tuple(notes), bone_spacing=mm, bone_spacing_kind=kind
    )


def header_spacing(path: Path) -> tuple[np.ndarray, str]:
    """Return f32[2], mm per pixel down and across of the displayed image, and its kind; NaN where it is unknown.

    Raises:
        InputError: as for `read`.
    """
    with opened(path) as image:
        axes = _require_plane(image.shape, path)
        mm, kind, _ = _spacing(image, axes, path)
        return (_grid(image, axes) or orientation.NONE).of_pair(mm), kind


def _require_plane(shape: tuple[int, ...], path: Path) -> tuple[int, int]:
    axes = plane(shape)
    if axes is None:
        raise InputError(f"{path}: a volume of shape {shape}; give one image, [x, y] or [x, y, 1]")
    return axes


def _grid(image: Any, axes: tuple[int, int]) -> orientation.Orientation | None:
    return None if has_no_orientation(image) else orientation.of_affine(image.affine, *axes)


def _spacing(image: Any, axes: tuple[int, int], path: Path) -> tuple[np.ndarray, str, list[str]]:
    """Return f32[2], mm per pixel down and across as stored, NaN without a unit; their kind; and notes."""
    across, down = (float(image.header.get_zooms()[axis]) for axis in axes)
    mm, unit = _MM.get(image.header.get_xyzt_units()[0], (None, ""))
    if mm is not None:
        return limits.require_spacing((down * mm, across * mm), path, f"pixdim in {unit}", unit), "header", []
    notes = []
    if (across, down) != (1, 1):
        notes.append(f"the header states no unit, so its pixel size of {down:.4g} x {across:.4g} is not used")
    return limits.UNKNOWN_SPACING, "unknown", notes


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file as nibabel's image, whose pixels can be read in the block; the file is not memory-mapped.

    Raises:
        InputError: it cannot be opened, or its decompressed size is too large.
    """
    import nibabel

    with limits.open_regular(path) as file:
        try:
            stream: Any = file
            if path.name.lower().endswith(".gz"):
                stream = io.BytesIO(limits.read(gzip.GzipFile(fileobj=file), path))  # type: ignore[arg-type]
            start = stream.read(4)
            stream.seek(0)
            is_nifti2 = 540 in (int.from_bytes(start, "little"), int.from_bytes(start, "big"))  # sizeof_hdr
            image_class: Any = nibabel.Nifti2Image if is_nifti2 else nibabel.Nifti1Image
            image = image_class.from_file_map(image_class.make_file_map({"image": stream}), mmap=False)
        except InputError:
            raise
        except Exception as error:  # of gzip and of nibabel
            raise InputError(
                f"{path}: unreadable file ({brief(error, path)}); export or download it again"
            ) from error
        yield image


def plane(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the axes of columns and rows: the first two, or those with more than one voxel; None for a volume."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    extra = [axis for axis in range(2, len(shape)) if shape[axis] > 1]
    if len(shape) < 2 or (extra and (len(shape) > 3 or 1 not in shape[:2])):
        return None
    if not extra:
        return 0, 1
    return (1, 2) if shape[0] == 1 else (0, 2)


def has_no_orientation(image: Any) -> bool:
    """Return whether a header states no orientation: both codes are 0, or the affine is the identity without a unit.

    Scripts save an array without a position in space as `Nifti1Image(array, numpy.eye(4))`. A film of exactly 1 mm in
    RAS+ order that states its unit has the stated orientation.
    """
    header = image.header
    if not int(header["sform_code"]) and not int(header["qform_code"]):
        return True
    return header.get_xyzt_units()[0] == "unknown" and np.array_equal(image.affine, np.eye(4))
