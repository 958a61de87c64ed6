"""Reads 16-bit PNG files with color or alpha at full depth; Pillow reduces them to 8 bits."""

import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from kneefair_jax.errors import InputError

_MAGIC = b"\x89PNG\r\n\x1a\n"
# First row and column of each pass of Adam7, and the steps down and across (ISO/IEC 15948, 8.2).
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type


class Header(NamedTuple):
    """The content of the IHDR chunk.

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


def header(file: BinaryIO) -> Header | None:
    """Return a PNG file's header; None for another format."""
    file.seek(0)
    start = file.read(33)
    if len(start) < 33 or not start.startswith(_MAGIC) or start[12:16] != b"IHDR":
        return None
    width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", start[16:29])
    return Header(width, height, depth, _CHANNELS.get(color, 0), bool(interlace), color == 3)


def read_deep(file: BinaryIO, path: Path, head: Header) -> np.ndarray:
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
    raw = packer.decompress(b"".join(_data(file)), sum(lengths))  # no more than the header promises
    if len(raw) != sum(lengths):
        raise InputError(f"{path}: unreadable file (truncated PNG); export or download it again")
    start = 0
    for grid, length in zip(grids, lengths, strict=True):
        rows = np.frombuffer(raw, np.uint8, length, start).reshape(len(grid), -1)
        grid[...] = _unfiltered(rows[:, 0], rows[:, 1:].reshape(*grid.shape[:2], size)).view(">u2")
        start += length
    return pixels[..., 0] if head.channels == 2 else pixels[..., :3]


def _data(file: BinaryIO) -> list[bytes]:
    """Return the IDAT chunks."""
    file.seek(0)
    content, offset, chunks = file.read(), len(_MAGIC), []
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
