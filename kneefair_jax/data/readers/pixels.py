"""Arrays of pixels and labels: the contents of films and masks, number types, sizes, and what a mask must not be."""

from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from PIL import Image
from scipy.sparse import csr_array

from kneefair_jax.data.readers.limits import UNKNOWN_SPACING
from kneefair_jax.data.readers.orientation import NONE, Orientation
from kneefair_jax.errors import InputError


class Radiograph(NamedTuple):
    """The pixels of an image file, and what its header states about them.

    Attributes:
        pixels: [H, W] or [H, W, C], bone bright; as stored where a decoder returns them, and u8, u16 or f32 [H, W, C],
            C 1 or 3, in the displayed space where `read_radiograph` does.
        spacing: f32[2], mm per pixel down and across; NaN where the file does not state it.
        spacing_kind: `detector` (ImagerPixelSpacing), `calibrated` (PixelSpacing), `scanned`
            (NominalScannedPixelSpacing), `header` (NIfTI) or `unknown`.
        valid: bool[H, W], False where pixels are padding; None if all are valid.
        orientation: what displays the stored pixels, by affine, ImageOrientationPatient or the turn of EXIF or TIFF;
            None where the header states none.
        view: what would bring the patient's right to image left, by PatientOrientation. It is not applied: it states
            no position in space, and viewers, ITK and the masks drawn in them ignore it.
        notes: warnings on the header.
        laterality: the knee that a DICOM header states: R, L, B (both) or "".
        bilateral: whether a DICOM header states that the film shows both knees.
        bone_spacing: f32[2], the best estimate of the spacing in the plane of the bones; NaN where nothing is stated.
        bone_spacing_kind: `calibrated` (PixelSpacing with a calibration), `magnification` and `distances`
            (ImagerPixelSpacing over the magnification that the header states, or that its distances give), `header`
            (NIfTI); or what no measure of bones is: `detector`, `uncalibrated` (PixelSpacing alone), `scanned`,
            `unknown`.
    """

    pixels: np.ndarray
    spacing: np.ndarray = UNKNOWN_SPACING
    spacing_kind: str = "unknown"
    valid: np.ndarray | None = None
    orientation: Orientation | None = None
    view: Orientation = NONE
    notes: tuple[str, ...] = ()
    laterality: str = ""
    bilateral: bool = False
    bone_spacing: np.ndarray = UNKNOWN_SPACING
    bone_spacing_kind: str = "unknown"


class Mask(NamedTuple):
    """Label values and the pixel spacing of one case, in the displayed space where the header states an orientation.

    Attributes:
        values: integers [H, W].
        spacing: f32[2], mm per pixel down and across as the header states it, NaN where it does not.
        orientation: that was applied to the stored pixels; None where the header states none.
        notes: warnings on the header or headers.
        spacing_kind: of `Radiograph`.
        palette: the file and the indices in use of a palette image; None for any other file.
    """

    values: np.ndarray
    spacing: np.ndarray = UNKNOWN_SPACING
    orientation: Orientation | None = None
    notes: tuple[str, ...] = ()
    spacing_kind: str = "unknown"
    palette: tuple[Path, np.ndarray] | None = None


def to_native_dtype(pixels: np.ndarray, path: Path) -> np.ndarray:
    """Return pixels as u8, u16 or f32 in the machine's byte order: other numbers become f32, bool becomes 0 and 255.

    Raises:
        InputError: pixels are not numbers, NaN or infinite.
    """
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2:
        return pixels.astype(pixels.dtype.newbyteorder("="))
    if pixels.dtype.kind not in "iuf":
        raise InputError(f"{path}: holds pixels of type {pixels.dtype}; export them as numbers")
    with np.errstate(over="ignore"):
        floats = pixels.astype(np.float32)
    if not np.isfinite(floats).all():
        raise InputError(f"{path}: holds pixels that are NaN, infinite or beyond float32; export it again")
    return floats


def to_uint8(
    image: np.ndarray, window: tuple[float, float] = (0.5, 99.5), valid: np.ndarray | None = None
) -> np.ndarray:
    """Return an image in eight bits; an 8-bit image is returned unchanged.

    Detectors use different parts of their 10 to 16 bits, so a fixed window would make exposure an indicator of the
    site. The window has percentiles, since burnt-in letters and the collimator's edge are the extremes.

    Args:
        image: u8, u16 or f32 [H, W, C].
        window: percentiles of the image that become 0 and 255; values outside are clipped.
        valid: bool[H, W], False for padding, which the percentiles exclude; None if no pixel is padding.

    Returns:
        u8[H, W, C].
    """
    if image.dtype == np.uint8:
        return image
    values = image if valid is None else image[valid]
    low, high = np.percentile(values, window)
    if high <= low:  # nearly all pixels are equal
        low, high = values.min(), values.max()
    # The rest is in place, since this array has twice the bytes of a 16-bit film.
    scaled = image.astype(np.float32)
    scaled -= np.float32(low)
    scaled /= max(float(high) - float(low), 1e-12)
    np.clip(scaled, 0, 1, out=scaled)
    scaled *= 255
    return np.rint(scaled, out=scaled).astype(np.uint8)


def to_gray(image: np.ndarray) -> np.ndarray:
    """Convert u8[H, W, 1 or 3] to u8[H, W, 1]; colors become their luma (ITU-R 601-2)."""
    return image if image.shape[2] == 1 else np.asarray(Image.fromarray(image).convert("L"))[..., None]


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize u8[H, W, C] to `size` (rows, columns) by Pillow's linear filter, which widens when it reduces.

    The wider filter avoids aliasing. Pillow's box filter would shift edges by up to half a pixel at uneven ratios.

    Each of Pillow's two passes rounds to eight bits. Rows are resized first with every version of Pillow: 13
    chooses the order by the sizes, which changes up to a quarter of the pixels by one level.
    """
    if image.shape[:2] == tuple(size):
        return image
    bands = [Image.fromarray(band) for band in np.moveaxis(image, 2, 0)]
    height, width = size
    widened = [band.resize((width, band.height), Image.Resampling.BILINEAR) for band in bands]
    resized = [band.resize((width, height), Image.Resampling.BILINEAR) for band in widened]
    return np.stack([np.asarray(band) for band in resized], axis=2)


def resize_label(label: np.ndarray, size: tuple[int, int], classes: int) -> np.ndarray:
    """Resize labels: each new pixel takes the label that covers the largest part of it.

    Nearest-neighbor sampling would drop thin structures (a fibula, a joint space) at random.

    Args:
        label: u8[H, W] of values below `classes`.
        size: rows, columns.
        classes: number of labels, background included.

    Returns:
        u8[size]; the lower label wins a tie.
    """
    if label.shape == tuple(size):
        return label
    down, across = (_overlaps(new, old) for new, old in zip(size, label.shape, strict=True))
    areas = [(across @ (down @ (label == value).astype(np.int32)).T).T for value in range(classes)]
    return np.argmax(areas, axis=0).astype(np.uint8)


def labels_at(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the most probable class of every pixel at a larger size, by linear interpolation of the probabilities.

    Contours become smooth, where enlarged labels would have steps. Classes are enlarged one by one: a film of 20
    million pixels times all classes would be 400 MB.

    Args:
        probabilities: f32[h, w, C].
        size: rows and columns, (H, W).

    Returns:
        u8[H, W]; the lower class wins a tie.
    """
    classes = probabilities.shape[2]
    height, width = size
    best = np.zeros(size, np.float32)
    labels = np.zeros(size, np.uint8)
    for value in range(classes):
        plane = np.ascontiguousarray(probabilities[..., value], np.float32)
        if plane.max() < 1 / classes:  # it is then the most probable class nowhere, not even between pixels
            continue
        fine = np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
        better = fine > best
        np.maximum(best, fine, out=best)
        np.putmask(labels, better, value)
    return labels


def _overlaps(new: int, old: int) -> csr_array:
    """Return i32[new, old], the overlap of new pixel i with old pixel j, in units of 1 / (new * old) of the length."""
    i, j = np.arange(new, dtype=np.int32)[:, None], np.arange(old, dtype=np.int32)
    shared = np.minimum((i + 1) * old, (j + 1) * new) - np.maximum(i * old, j * new)
    return csr_array(np.maximum(shared, 0))


def refuse_color(path: Path, color_space: str) -> NoReturn:
    """Raise the error for a mask in color.

    Args:
        path: the file.
        color_space: for the message.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"{path}: a mask in color ({color_space}); export the labels 0, 1, 2, ... as one gray image"
    )


def refuse_lossy(path: Path, codec: str) -> NoReturn:
    """Raise the error for a mask whose compression may have changed its labels.

    Args:
        path: the file.
        codec: name of the compression, for the message.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"{path}: {codec} may be lossy and change labels along every contour; export the mask as PNG or with lossless "
        "compression"
    )


def to_labels(labels: np.ndarray, path: Path) -> np.ndarray:
    """Return the labels of a mask as u8 or i64 [H, W].

    Raises:
        InputError: the array does not hold one integer per pixel.
    """
    if labels.ndim == 3 and labels.shape[2] == 1:
        labels = labels[..., 0]
    if labels.ndim != 2 or not labels.size:
        raise InputError(
            f"{path}: a mask is one label per pixel, and this holds an array of shape {labels.shape}; "
            "export the labels 0, 1, 2, ... as one gray image"
        )
    if labels.dtype == np.uint8 or labels.dtype == bool:
        return labels.astype(np.uint8)
    if labels.dtype.kind not in "iuf" or not (np.isfinite(labels) & (labels == np.rint(labels))).all():
        raise InputError(
            f"{path}: holds values that are not integers; export the labels 0, 1, 2, ... without "
            "interpolation or scaling"
        )
    return labels.astype(np.int64)
