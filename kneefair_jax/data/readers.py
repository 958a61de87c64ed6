"""Image and mask files -> arrays: PNG, JPEG, TIFF, NPY, DICOM and NIfTI.

Arrays are indexed [row, column], the way a viewer shows the film. Every error is an `InputError` that names
the file and the remedy.
"""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.sparse import csr_array

from kneefair_jax.errors import InputError

# Pixels as stored, and mm per pixel (row, column) as the header states it, or None.
_Raw = tuple[np.ndarray, Any]

# Pillow modes that hold one number per pixel: what a mask may be. A palette index is a label.
_LABEL_MODES = {"1", "L", "P", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
# Pillow would take the file's first bytes for what they are, whatever its name: PostScript would start Ghostscript.
PILLOW_FORMATS = ("PNG", "JPEG", "TIFF")
_TO_GREY = {"1", "LA", "La"}
_TO_RGB = {"P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


def read_image(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads an image in its own number type.

    PNG, JPEG and TIFF state a print density, not the size of a detector's pixel, so their spacing is unknown.
    DICOM MONOCHROME1 is inverted, so that bone is bright in every file. NIfTI is stored [x, y] and is
    transposed to [row, column]; the flips in its affine are ignored, as they are for its mask.
    ImagerPixelSpacing is in the detector's plane, where a bone that lies before it is magnified; neither it nor
    PixelSpacing is corrected for that here.

    Returns:
        pixels, u8, u16 or f32 [H, W, C] with C 1 or 3 (what is neither u8 nor u16 becomes f32; transparency
        is dropped), and spacing f32[2], mm per pixel down and across, NaN where the file does not say.

    Raises:
        InputError: unreadable file, not a single image, pixels that are not numbers, or a spacing of zero.
    """
    path = Path(path)
    pixels, stated = _read(path, mask=False)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise InputError(
            f"{path}: holds an array of shape {pixels.shape}; give one image, grey [row, column] or colour "
            "[row, column, 3]"
        )
    return _native(pixels, path), _spacing(stated, path)


def read_mask(path: str | Path) -> np.ndarray:
    """Reads a label mask without changing a label.

    Returns:
        u8 or i64 [H, W], the labels as the file holds them (MONOCHROME1 is not inverted here).

    Raises:
        InputError: unreadable file, JPEG, colour, more than one image, or values that are not integers.
    """
    path = Path(path)
    return _labels(_read(path, mask=True)[0], path)


def read_mask_with_spacing(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """`read_mask`, and f32[2], mm per pixel down and across as the mask's header states it, NaN where it does not."""
    path = Path(path)
    labels, stated = _read(path, mask=True)
    return _labels(labels, path), _spacing(stated, path)


def _labels(labels: np.ndarray, path: Path) -> np.ndarray:
    if labels.ndim == 3 and labels.shape[2] == 1:
        labels = labels[..., 0]
    if labels.ndim != 2 or not labels.size:
        raise InputError(
            f"{path}: a mask is one label per pixel, and this holds an array of shape {labels.shape}; "
            "export the labels 0, 1, 2, ... as one grey image"
        )
    if labels.dtype == np.uint8 or labels.dtype == bool:
        return labels.astype(np.uint8)
    if labels.dtype.kind not in "iuf" or not (np.isfinite(labels) & (labels == np.rint(labels))).all():
        raise InputError(
            f"{path}: holds values that are not integers; export the labels 0, 1, 2, ... without "
            "interpolation or scaling"
        )
    return labels.astype(np.int64)


def to_uint8(image: np.ndarray, window: tuple[float, float] = (0.5, 99.5)) -> np.ndarray:
    """Brings an image to eight bits; one that has them is kept as it is.

    Detectors use different parts of their 10 to 16 bits, so a fixed window would make exposure a sign of the
    site. Percentiles rather than the extremes: burnt-in letters and the collimator's edge are the extremes.

    Args:
        image: u8, u16 or f32 [H, W, C].
        window: percentiles of the image that become 0 and 255; what lies outside is clipped.

    Returns:
        u8[H, W, C].
    """
    if image.dtype == np.uint8:
        return image
    low, high = np.percentile(image, window)
    if high <= low:  # nearly all pixels are alike
        low, high = image.min(), image.max()
    unit = (image.astype(np.float32) - np.float32(low)) / max(float(high) - float(low), 1e-12)
    return np.rint(255 * np.clip(unit, 0, 1)).astype(np.uint8)


def to_grey(image: np.ndarray) -> np.ndarray:
    """u8[H, W, 1 or 3] -> u8[H, W, 1]; of colours, their luma (ITU-R 601-2)."""
    return image if image.shape[2] == 1 else np.asarray(Image.fromarray(image).convert("L"))[..., None]


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes u8[H, W, C] to `size` (rows, columns) by Pillow's linear filter, which widens when it reduces.

    So it does not alias; Pillow's box filter would shift edges by up to half a pixel at uneven ratios.
    """
    if image.shape[:2] == tuple(size):
        return image
    bands = [Image.fromarray(band) for band in np.moveaxis(image, 2, 0)]
    height, width = size
    resized = [band.resize((width, height), Image.Resampling.BILINEAR) for band in bands]
    return np.stack([np.asarray(band) for band in resized], axis=2)


def resize_label(label: np.ndarray, size: tuple[int, int], classes: int) -> np.ndarray:
    """Resizes labels: each new pixel takes the label that covers the largest part of it.

    Nearest-neighbour sampling would drop thin structures (a fibula, a joint space) at random.

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
    """The likeliest class of every pixel, probabilities being interpolated linearly.

    Contours are smooth so, where enlarged labels would have steps. One class is enlarged at a time: a film of 20
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
        if plane.max() < 1 / classes:  # so it is the likeliest nowhere, between pixels neither
            continue
        fine = np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
        better = fine > best
        np.maximum(best, fine, out=best)
        np.putmask(labels, better, value)
    return labels


def _overlaps(new: int, old: int) -> csr_array:
    """i32[new, old], the length that new pixel i shares with old pixel j, in 1/(new old) of the whole."""
    i, j = np.arange(new, dtype=np.int32)[:, None], np.arange(old, dtype=np.int32)
    shared = np.minimum((i + 1) * old, (j + 1) * new) - np.maximum(i * old, j * new)
    return csr_array(np.maximum(shared, 0))


def _read(path: Path, *, mask: bool) -> _Raw:
    if path.exists() and not path.is_file():  # a pipe would block whoever opens it
        raise InputError(f"{path}: not a file; give a path to an image file")
    try:
        return _reader(path)(path, mask)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; correct its path") from error
    except Exception as error:  # each library has its own errors for a damaged file
        raise InputError(f"{path}: unreadable file ({_brief(error)}); export or download it again") from error


def _brief(error: Exception) -> str:
    """The first sentence of what a library says, in a line that leaves room for the remedy."""
    return textwrap.shorten(str(error).partition(". ")[0], 100, placeholder=" ...") or type(error).__name__


def _reader(path: Path) -> Callable[[Path, bool], _Raw]:
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return _read_nifti
    reader = _READERS.get(path.suffix.lower())
    if reader is None and has_dicom_magic(path):
        return _read_dicom
    if reader is None:
        raise InputError(
            f"{path}: unreadable file (unknown format); convert it to PNG, JPEG, TIFF, NPY, DICOM or NIfTI"
        )
    return reader


def has_dicom_magic(path: Path) -> bool:
    """Archives such as OAI's name DICOM files without an extension, or by a UID with dots."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _read_pillow(path: Path, mask: bool) -> _Raw:
    with Image.open(path, formats=PILLOW_FORMATS) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise InputError(f"{path}: holds several images; give one image per file")
        if not mask:
            target = "L" if image.mode in _TO_GREY else "RGB" if image.mode in _TO_RGB else image.mode
            return np.array(image.convert(target) if target != image.mode else image), None
        if image.format == "JPEG":
            raise InputError(
                f"{path}: JPEG is lossy and changes labels along every contour; export the mask as PNG"
            )
        if image.mode not in _LABEL_MODES:
            raise InputError(
                f"{path}: a mask in colour ({image.mode}); export the labels 0, 1, 2, ... as one grey image"
            )
        return np.array(image), None


def _read_npy(path: Path, mask: bool) -> _Raw:
    return np.load(path, allow_pickle=False), None


def _read_dicom(path: Path, mask: bool) -> _Raw:
    import pydicom

    dataset = pydicom.dcmread(path)
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise InputError(f"{path}: a DICOM file without an image; leave it out")
    if "SegmentSequence" in dataset:  # frames are segments by name, which `mask_files` reads
        raise InputError(f"{path}: a DICOM segmentation, not a radiograph; give it as a mask")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise InputError(f"{path}: holds several frames; give one image per file")
    photometric = dataset.get("PhotometricInterpretation")
    if photometric == "PALETTE COLOR":
        raise InputError(f"{path}: DICOM with a colour palette; export it as MONOCHROME2 or RGB")
    pixels = _decoded(dataset, path)
    if photometric == "MONOCHROME1" and not mask:
        pixels = _inverted(_native(pixels, path), dataset.BitsStored)
    # The detector's own spacing first: PixelSpacing may have been calibrated on an object in the film.
    stated = [dataset.get(name) for name in ("ImagerPixelSpacing", "PixelSpacing")]
    return pixels, next((value for value in stated if value is not None and np.size(value)), None)


def _decoded(dataset: Any, path: Path) -> np.ndarray:
    from pydicom.pixels import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        return pixel_array(dataset)
    except Exception as error:
        if not syntax.is_compressed:
            raise
        raise InputError(
            f"{path}: unreadable file (compressed DICOM, {syntax.name}: {_brief(error)}); "
            "pip install 'kneefair_jax[dicom]', or export it uncompressed"
        ) from error


def _inverted(pixels: np.ndarray, bits: int) -> np.ndarray:
    if pixels.dtype == np.float32:
        return -pixels
    return pixels.dtype.type(2**bits - 1) - pixels


def _read_nifti(path: Path, mask: bool) -> _Raw:
    import nibabel

    image: Any = nibabel.load(path)
    pixels = np.asanyarray(image.dataobj)
    while pixels.ndim > 2 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim != 2:
        raise InputError(f"{path}: a volume of shape {pixels.shape}; give one image, [x, y] or [x, y, 1]")
    across, down = image.header.get_zooms()[:2]
    return pixels.T, (down, across)


_READERS: dict[str, Callable[[Path, bool], _Raw]] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff"), _read_pillow),
    **dict.fromkeys((".dcm", ".dicom"), _read_dicom),
    ".npy": _read_npy,
}
SUFFIXES = (".nii.gz", ".nii", *_READERS)  # of the files that are known by their names


def _native(pixels: np.ndarray, path: Path) -> np.ndarray:
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2:
        return pixels.astype(pixels.dtype.newbyteorder("="))
    if pixels.dtype.kind not in "iuf":
        raise InputError(f"{path}: holds pixels of type {pixels.dtype}; export them as numbers")
    with np.errstate(over="ignore"):
        native = pixels.astype(np.float32)
    if not np.isfinite(native).all():
        raise InputError(f"{path}: holds pixels that are NaN, infinite or beyond float32; export it again")
    return native


def _spacing(stated: Any, path: Path) -> np.ndarray:
    if stated is None:
        return np.full(2, np.nan, np.float32)
    spacing = np.array(np.broadcast_to(np.array(stated, np.float32), 2))
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise InputError(
            f"{path}: the header's pixel spacing is {spacing.tolist()} mm; correct it, or "
            "delete it if it is unknown"
        )
    return spacing
