"""Reads PNG, JPEG and TIFF by Pillow, and restores what it drops: depth, TIFF's polarity and types, orientation tags.

Pillow reduces 16-bit PNG files with color or alpha to 8 bits, so this module decodes them. `tiff` reads TIFF files that
Pillow does not open, or reduces to 8 bits.
"""

import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from kneefair_jax.data.readers import limits, pixels, tiff
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

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# First row and column of each pass of Adam7, and the steps down and across (ISO/IEC 15948, 8.2).
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type


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
    head = _png_header(file)
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
            pixels = _read_deep_png(file, path, deep)
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


class _PngHeader(NamedTuple):
    """The content of the IHDR chunk of a PNG file.

    Attributes:
        width: pixels.
        height: pixels.
        depth: bits a sample.
        channels: samples a pixel.
        interlaced: whether by Adam7.
        palette: whether samples are indices.
    """

    width: int
    height: int
    depth: int
    channels: int
    interlaced: bool
    palette: bool


def _png_header(file: BinaryIO) -> _PngHeader | None:
    """Return a PNG file's header; None for another format."""
    file.seek(0)
    start = file.read(33)
    if len(start) < 33 or not start.startswith(_PNG_MAGIC) or start[12:16] != b"IHDR":
        return None
    width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", start[16:29])
    return _PngHeader(width, height, depth, _PNG_CHANNELS.get(color, 0), bool(interlace), color == 3)


def _read_deep_png(file: BinaryIO, path: Path, head: _PngHeader) -> np.ndarray:
    """Return u16[H, W] of gray with alpha, u16[H, W, 3] of color; transparency is dropped.

    Args:
        file: of 16 bits with 2, 3 or 4 channels.
        path: of the file, for the message.
        head: its header.

    Raises:
        InputError: it is damaged.
    """
    pixels = np.empty((head.height, head.width, head.channels), np.uint16)
    passes = _ADAM7 if head.interlaced else ((0, 0, 1, 1),)
    grids = [pixels[top::down, left::across] for top, left, down, across in passes]
    grids = [grid for grid in grids if grid.size]
    size = 2 * head.channels
    lengths = [len(grid) * (1 + grid.shape[1] * size) for grid in grids]
    packer = zlib.decompressobj()
    raw = packer.decompress(b"".join(_png_data(file)), sum(lengths))  # no more than the header promises
    if len(raw) != sum(lengths):
        raise InputError(f"{path}: unreadable file (truncated PNG); export or download it again")
    start = 0
    for grid, length in zip(grids, lengths, strict=True):
        rows = np.frombuffer(raw, np.uint8, length, start).reshape(len(grid), -1)
        grid[...] = _unfiltered(rows[:, 0], rows[:, 1:].reshape(*grid.shape[:2], size)).view(">u2")
        start += length
    return pixels[..., 0] if head.channels == 2 else pixels[..., :3]


def _png_data(file: BinaryIO) -> list[bytes]:
    """Return the IDAT chunks."""
    file.seek(0)
    content, offset, chunks = file.read(), len(_PNG_MAGIC), []
    while offset + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[offset : offset + 8])
        if kind == b"IDAT":
            chunks.append(content[offset + 8 : offset + 8 + length])
        offset += 12 + length
    return chunks


def _unfiltered(filters: np.ndarray, filtered: np.ndarray) -> np.ndarray:
    """Invert PNG's filters (ISO/IEC 15948, 9.2), one anti-diagonal of pixels at a time.

    A pixel depends on its left, upper and upper left neighbors, so the pixels of an anti-diagonal are independent.

    Args:
        filters: u8[H], 0 none, 1 sub, 2 up, 3 average, 4 Paeth.
        filtered: u8[H, W, bytes a pixel].
    """
    height, width, size = filtered.shape
    if filters.max(initial=0) > 4:
        raise ValueError("unknown PNG filter")
    out = np.zeros((height + 1, width + 1, size), np.int16)  # a row and a column of zeros come first
    kinds = filters[:, None]
    for diagonal in range(height + width - 1):
        rows = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        columns = diagonal - rows
        left, up, upper_left = out[rows + 1, columns], out[rows, columns + 1], out[rows, columns]
        estimate = left + up - upper_left
        to_left, to_up, to_upper_left = (abs(estimate - pixel) for pixel in (left, up, upper_left))
        is_left = (to_left <= to_up) & (to_left <= to_upper_left)
        paeth = np.where(is_left, left, np.where(to_up <= to_upper_left, up, upper_left))
        kind = kinds[rows]
        predicted = np.choose(kind, [np.zeros_like(left), left, up, (left + up) >> 1, paeth])
        out[rows + 1, columns + 1] = (filtered[rows, columns] + predicted) & 255
    return np.ascontiguousarray(out[1:, 1:].astype(np.uint8))
