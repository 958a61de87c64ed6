"""Reads PNG, JPEG and TIFF by Pillow, and restores what it drops: depth, TIFF's polarity and types, orientation tags.

`tiff` reads TIFF files that Pillow does not open, or reduces to 8 bits.
"""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from kneefair_jax.data.readers import limits, pixels, png, tiff
from kneefair_jax.data.readers.orientation import ORIENTATIONS
from kneefair_jax.data.readers.pixels import Radiograph
from kneefair_jax.errors import InputError

# Without this, Pillow detects the format by the file's first bytes, and starts Ghostscript for PostScript.
FORMATS = ("PNG", "JPEG", "TIFF")
# Modes with one number per pixel, as in masks; a palette index is a label.
LABEL_MODES = {"1", "L", "P", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
_TO_GRAY = {"1", "LA", "La"}
_TO_RGB = {"P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 259, 262, 339  # tags of TIFF
_MIN_IS_WHITE = 0
_ORIENTATION = 274  # tag of EXIF
_EXIF = {
    2: ORIENTATIONS["flip-lr"],
    3: ORIENTATIONS["rotate-180"],
    4: ORIENTATIONS["flip-ud"],
    5: ORIENTATIONS["transpose"],
    6: ORIENTATIONS["rotate-270"],
    7: ORIENTATIONS["anti-transpose"],
    8: ORIENTATIONS["rotate-90"],
}


def read(path: Path, mask: bool) -> Radiograph:
    """Decode an image, or a mask whose labels are the stored values; `orientation` is the turn of EXIF or TIFF.

    Raises:
        InputError: the file has several images, or a mask in color or in a lossy compression.
    """
    with limits.open_regular(path) as file:
        try:
            decoded = _by_pillow(file, path, mask)
        except UnidentifiedImageError:
            if not tiff.is_tiff(file):
                raise InputError(
                    f"{path}: unreadable file (no PNG, JPEG or TIFF); export or download it again"
                ) from None
            decoded = None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise InputError(
                f"{path}: more than {limits.MOST_PIXELS // 10**6} million pixels ({error}); make it smaller"
            ) from error
        if decoded is None:
            pixels, turn = tiff.read(file, path, mask)
            decoded = Radiograph(pixels, orientation=_EXIF.get(turn))
    return decoded


def _by_pillow(file: BinaryIO, path: Path, mask: bool) -> Radiograph | None:
    """Decode by Pillow; None for a TIFF whose bits Pillow drops."""
    head = png.header(file)
    if head is not None:
        limits.require_size(head.height, head.width, head.channels * -(-head.depth // 8), path)
    # Given a path, Pillow memory-maps an uncompressed TIFF with the width after its orientation tag.
    with Image.open(file, formats=FORMATS) as image:
        limits.require_size(image.height, image.width, len(image.getbands()), path)
        if getattr(image, "n_frames", 1) > 1:
            raise InputError(f"{path}: holds several images; give one image per file")
        if image.format == "TIFF" and image.mode not in LABEL_MODES and _depth(image) > 8:
            return None
        deep = head if head is not None and head.depth == 16 and head.channels > 1 else None
        if mask:  # Pillow opens 16-bit gray with alpha as RGBA
            _refuse_as_mask(image, path, gray=deep is not None and deep.channels == 2)
        # The value 1 counts as no orientation, since most writers set it by default.
        turn = _EXIF.get(int(image.getexif().get(_ORIENTATION, 1)))
        if deep is not None:
            pixels = png.read_deep(file, path, deep)
        else:
            pixels = _array(image, mask)
            if image.format == "TIFF":
                pixels = _as_tiff_states(pixels, image, mask)
                pixels = pixels if turn is None else turn.undo(pixels)  # Pillow turned them
            elif mask and head is not None and head.depth in (2, 4) and not head.palette:
                pixels = pixels // (255 // (2**head.depth - 1))  # Pillow stretches them to 8 bits
    return Radiograph(pixels, orientation=turn)


def _refuse_as_mask(image: Image.Image, path: Path, gray: bool) -> None:
    codec = "JPEG" if image.format == "JPEG" else None
    if image.format == "TIFF":
        codec = tiff.lossy_codec(int(image.tag_v2.get(_COMPRESSION, 1)))  # type: ignore[attr-defined]
    if codec is not None:
        pixels.refuse_lossy(path, codec)
    if image.mode not in LABEL_MODES | {"LA"} and not gray:
        pixels.refuse_color(path, image.mode)


def _array(image: Image.Image, mask: bool) -> np.ndarray:
    if mask:
        return np.array(image.getchannel(0) if image.mode == "LA" else image)
    target = "L" if image.mode in _TO_GRAY else "RGB" if image.mode in _TO_RGB else image.mode
    return np.array(image.convert(target) if target != image.mode else image)


def _as_tiff_states(pixels: np.ndarray, image: Any, mask: bool) -> np.ndarray:
    """Correct Pillow's handling of TIFF: number types, small depths, MinIsWhite."""
    depth = _depth(image)
    kind = image.tag_v2.get(_SAMPLE_FORMAT, (1,))
    signed = int(kind[0] if isinstance(kind, tuple) else kind) == 2
    if pixels.ndim == 3:
        return pixels
    if pixels.dtype == np.uint8 and depth == 8 and signed:
        pixels = pixels.view(np.int8)
    elif pixels.dtype == np.int32 and depth == 32 and not signed:
        pixels = pixels.view(np.uint32)
    white = image.tag_v2.get(_PHOTOMETRIC) == _MIN_IS_WHITE
    if white and depth <= 8 and mask:
        pixels = np.invert(pixels)  # Pillow inverted them; tifffile writes boolean arrays as MinIsWhite
    if white and depth > 8 and not mask:
        pixels = tiff.inverted(pixels)
    if mask and depth in (2, 4) and image.mode == "L":
        # Pillow stretches gray to 8 bits, but not palette indices.
        pixels = pixels // (255 // (2**depth - 1))
    return pixels


def _depth(image: Any) -> int:
    """Return the bits a sample of a TIFF."""
    bits = image.tag_v2.get(_BITS, (1,))
    return int(bits[0] if isinstance(bits, tuple) else bits)
