"""TIFF by tifffile, at full depth: what Pillow does not open, or reduces to 8 bits."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kneefair_jax.data.readers import labels
from kneefair_jax.errors import InputError

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Compressions that change values, at least with some settings.
_LOSSY = {
    6: "JPEG",
    7: "JPEG",
    22610: "JPEG XR",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    33007: "JPEG",
    34676: "SGI LogLuv",
    34677: "SGI LogLuv",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "JPEG",
    34934: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_GRAY, _COLOR = ("MINISWHITE", "MINISBLACK"), ("RGB",)


def is_tiff(path: Path) -> bool:
    """Whether a file begins like TIFF or BigTIFF."""
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def lossy_codec(compression: int) -> str | None:
    """Return the name of a compression that may change labels, by its code in TIFF; None for a lossless one."""
    name = _LOSSY.get(compression)
    return None if name is None else f"TIFF with {name} compression"


def size(path: Path) -> tuple[int, int]:
    """Return rows and columns as stored, by the header of the first image.

    Raises:
        DecompressionBombError: more pixels than Pillow opens.
    """
    with _opened(path) as tiff:
        page, most = tiff.pages.first, Image.MAX_IMAGE_PIXELS
        if most and page.imagedepth * page.imagelength * page.imagewidth > 2 * most:
            raise Image.DecompressionBombError(f"{page.imagelength} x {page.imagewidth} pixels")
        return page.imagelength, page.imagewidth


def read(path: Path, mask: bool) -> tuple[np.ndarray, int]:
    """Return [H, W] of gray or [H, W, 3] of color, bone bright unless it is a mask, and the tag of the orientation.

    Transparency is dropped. The pixels are as stored: the orientation is not applied.

    Raises:
        InputError: several images, a color space other than RGB, a mask in a lossy compression, or bits or a
            compression that tifffile does not decode.
    """
    size(path)
    with _opened(path) as tiff:
        if len(tiff.pages) > 1:
            raise InputError(f"{path}: holds several images; give one image per file")
        page = tiff.pages.first
        turn = int(page.tags.valueof("Orientation", 1))
        # tifffile fills missing strips and tiles with zeros, and takes MinIsWhite where the tag is lost.
        if len(page.dataoffsets) < math.prod(page.chunked) or not all(page.databytecounts):
            raise InputError(f"{path}: unreadable file (truncated TIFF); export or download it again")
        photometric = page.photometric.name if "PhotometricInterpretation" in page.tags else ""
        gray = photometric in _GRAY and page.samplesperpixel <= 2
        if mask and (codec := lossy_codec(int(page.compression))) is not None:
            labels.refuse_lossy(path, codec)
        if mask and not gray:
            labels.refuse_color(path, photometric)
        if not gray and (photometric not in _COLOR or page.samplesperpixel not in (3, 4)):
            raise InputError(
                f"{path}: TIFF of {page.bitspersample} bits in color ({photometric}) or with alpha; export it as "
                "16-bit gray"
            )
        try:
            pixels = page.asarray(maxworkers=1)
        except Exception as error:  # each codec has its own
            if "imagecodecs" not in str(error):
                raise
            cause, remedy = (
                f" with {page.compression.name} compression",
                "without compression in 8 or 16 bits",
            )
            if page.compression.name == "NONE":  # samples that fill no bytes
                cause, remedy = "", "in 8 or 16 bits"
            raise InputError(
                f"{path}: TIFF of {page.bitspersample} bits{cause}; export it {remedy}, or pip install imagecodecs"
            ) from error
        if page.samplesperpixel > 1:
            pixels = np.moveaxis(pixels, 0, -1) if page.planarconfig.name == "SEPARATE" else pixels
            pixels = pixels[..., 0] if gray else pixels[..., :3]
    if photometric == "MINISWHITE" and not mask:
        pixels = inverted(pixels)
    return pixels, turn


def inverted(pixels: np.ndarray) -> np.ndarray:
    """Return pixels in which a large value is small: of 8 and 16 unsigned bits in their range, else the opposite."""
    if pixels.dtype.kind == "u" and pixels.itemsize <= 2:
        return np.invert(pixels)
    return -pixels.astype(np.float64)


def _opened(path: Path) -> Any:
    import tifffile

    # It prints every odd tag of a damaged file; what cannot be read is an error anyway.
    tifffile.logger().setLevel(logging.CRITICAL)
    return tifffile.TiffFile(path)
