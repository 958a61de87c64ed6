"""Reads TIFF at full depth by tifffile, for files that Pillow does not open, or reduces to 8 bits."""

import logging
import lzma
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kneefair_jax.data.readers import limits
from kneefair_jax.data.readers.pixels import refuse_color, refuse_lossy
from kneefair_jax.errors import InputError

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Compressions that may change values.
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
# Those that tifffile has without imagecodecs.
_DECOMPRESSORS: dict[int, Callable[[], limits.Decompressor]] = {
    8: zlib.decompressobj,
    32946: zlib.decompressobj,
    34925: lzma.LZMADecompressor,
}
_GRAY, _COLOR = ("MINISWHITE", "MINISBLACK"), ("RGB",)


def is_tiff(file: BinaryIO) -> bool:
    """Return whether a file begins like TIFF or BigTIFF."""
    file.seek(0)
    return file.read(4) in _MAGIC


def lossy_codec(compression: int) -> str | None:
    """Return the name of a compression that may change labels, by its code in TIFF; None for a lossless one."""
    name = _LOSSY.get(compression)
    return None if name is None else f"TIFF with {name} compression"


def read(file: BinaryIO, path: Path, mask: bool) -> tuple[np.ndarray, int]:
    """Return [H, W] of gray or [H, W, 3] of color, bone bright unless it is a mask, and the tag of the orientation.

    Transparency is dropped. The pixels are as stored: the orientation is not applied.

    Raises:
        InputError: the file has several images, too many pixels, a color space other than RGB, a mask in a lossy
            compression, or a depth or compression that tifffile does not decode.
    """
    with _opened(file) as tiff:
        if len(tiff.pages) > 1:
            raise InputError(f"{path}: holds several images; give one image per file")
        page = tiff.pages.first
        pixel_bytes = page.imagedepth * page.samplesperpixel * -(-page.bitspersample // 8)
        limits.require_size(page.imagelength, page.imagewidth, pixel_bytes, path)
        _require_expandable(page, file, path)
        turn = int(page.tags.valueof("Orientation", 1))
        # tifffile fills missing strips and tiles with zeros, and assumes MinIsWhite if the tag is missing.
        if len(page.dataoffsets) < math.prod(page.chunked) or not all(page.databytecounts):
            raise InputError(f"{path}: unreadable file (truncated TIFF); export or download it again")
        photometric = page.photometric.name if "PhotometricInterpretation" in page.tags else ""
        gray = photometric in _GRAY and page.samplesperpixel <= 2
        if mask and (codec := lossy_codec(int(page.compression))) is not None:
            refuse_lossy(path, codec)
        if mask and not gray:
            refuse_color(path, photometric)
        if not gray and (photometric not in _COLOR or page.samplesperpixel not in (3, 4)):
            raise InputError(
                f"{path}: TIFF of {page.bitspersample} bits in color ({photometric}) or with alpha; export it as "
                "16-bit gray"
            )
        try:
            pixels = page.asarray(maxworkers=1)
        except Exception as error:  # each codec raises its own errors
            if "imagecodecs" not in str(error):
                raise
            codec = page.compression.name  # "NONE" where samples are not whole bytes
            cause = "" if codec == "NONE" else f" with {codec} compression"
            remedy = "in 8 or 16 bits" if codec == "NONE" else "without compression in 8 or 16 bits"
            raise InputError(
                f"{path}: TIFF of {page.bitspersample} bits{cause}; export it {remedy}, or pip install imagecodecs"
            ) from error
        if page.samplesperpixel > 1:
            pixels = np.moveaxis(pixels, 0, -1) if page.planarconfig.name == "SEPARATE" else pixels
            pixels = pixels[..., 0] if gray else pixels[..., :3]
    if photometric == "MINISWHITE" and not mask:
        pixels = inverted(pixels)
    return pixels, turn


def _require_expandable(page: Any, file: BinaryIO, path: Path) -> None:
    """Require that the strips or tiles expand to sizes within the limits, which tifffile does not check."""
    limits.require_bytes(sum(page.databytecounts), path)  # several may refer to the same bytes
    decompressor = _DECOMPRESSORS.get(int(page.compression))
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if decompressor is not None:
            file.seek(offset)
            limits.require_expandable(file.read(count), decompressor(), path)


def inverted(pixels: np.ndarray) -> np.ndarray:
    """Return inverted pixels: within the range of 8 or 16 unsigned bits, otherwise negated."""
    if pixels.dtype.kind == "u" and pixels.itemsize <= 2:
        return np.invert(pixels)
    return -pixels.astype(np.float64)


def _opened(file: BinaryIO) -> Any:
    import tifffile

    # tifffile logs every unexpected tag of a damaged file; unreadable files raise an error in any case.
    tifffile.logger().setLevel(logging.CRITICAL)
    file.seek(0)
    return tifffile.TiffFile(file)
