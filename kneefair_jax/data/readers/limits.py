"""Checks limits of an input file: a regular file, its size on disk and expanded, its pixels, their spacing in mm.

Every reader of images, masks and tables opens its files with `open_regular`, and checks the size in a header with
`require_size` before it allocates memory. Decoding a file then takes at most a few times `MOST_BYTES`.
"""

import contextlib
import io
import math
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

import numpy as np

from kneefair_jax.errors import InputError

MOST_PIXELS = 50_000_000  # a whole-leg film has about 27 million
MOST_BYTES = 256 << 20  # of a file on disk, of what it expands to, and of its pixels as stored
SMALLEST_MM, LARGEST_MM = 0.01, 5.0  # micrographs are finer, thumbnails of a whole leg coarser
# Statements of one spacing differ by up to this share, as headers are rounded: 0.14 mm for 0.1388 mm.
SPACING_RTOL = 0.01
# A larger ratio of two spacings is not the magnification of a bone by projection.
MAX_MAGNIFICATION = 1.5
SPACING_REMEDY = "correct it, or delete it if it is unknown"
UNKNOWN_SPACING: np.ndarray = np.full(2, np.nan, np.float32)
UNKNOWN_SPACING.flags.writeable = False

_MOST = f"{MOST_BYTES >> 20} MiB"
_BLOCK = 1 << 20
_UNITS = ("micrometers", "mm", "meters")


class Decompressor(Protocol):
    """`zlib.decompressobj` and `lzma.LZMADecompressor`."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Return at most `max_length` bytes of expanded data."""


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading; pipes and devices, which could block or never end, are refused.

    Raises:
        InputError: it cannot be opened, is not a regular file, or has more than `MOST_BYTES`.
    """
    try:
        stream = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - closed below
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; correct its path") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: not a file but a folder; give a path to a file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(
            f"{path}: cannot be opened ({_cause(error)}); correct its path, or permit reading it"
        ) from error
    with stream as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: not a file; give a path to a regular file, not a pipe or device")
        require_bytes(status.st_size, path)
        yield file


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        InputError: as `open_regular`; or it cannot be read.
    """
    with open_regular(path) as file:
        try:
            return read(file, path)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read ({_cause(error)}); copy or download it again"
            ) from error


def read(stream: IO[bytes], path: Path) -> bytes:
    """Return the rest of a stream, which may decompress data or grow during reading.

    Raises:
        InputError: it has more than `MOST_BYTES`.
    """
    content = io.BytesIO()
    while block := stream.read(_BLOCK):  # a single read would make `gzip` allocate the limit
        content.write(block)
        if content.tell() > MOST_BYTES:
            raise InputError(
                f"{path}: expands to more than {_MOST}; export the one image, without compression"
            )
    return content.getvalue()


def require_expandable(data: bytes, decompressor: Decompressor, path: Path) -> None:
    """Require that compressed data expand to at most `MOST_BYTES`, for libraries that decompress without a limit.

    Raises:
        InputError: the data expand to more.
    """
    if len(decompressor.decompress(data, MOST_BYTES + 1)) > MOST_BYTES:
        raise InputError(f"{path}: expands to more than {_MOST}; export the one image, without compression")


def require_bytes(count: int, path: Path) -> None:
    """Require at most `MOST_BYTES`.

    Raises:
        InputError: `count` is larger.
    """
    if count > MOST_BYTES:
        raise InputError(f"{path}: {count / 2**20:.0f} MiB, more than {_MOST}; make it smaller, or split it")


def require_size(rows: int, columns: int, pixel_bytes: int, path: Path) -> None:
    """Require that a header's size is within the limits.

    Args:
        rows: of the image.
        columns: of the image.
        pixel_bytes: bytes of a stored pixel.
        path: the file, for the message.

    Raises:
        InputError: the image has no pixel, or more than `MOST_PIXELS` or `MOST_BYTES`.
    """
    if rows < 1 or columns < 1:
        raise InputError(f"{path}: its header states {rows} x {columns} pixels; export it again")
    if rows * columns > MOST_PIXELS:
        raise InputError(
            f"{path}: {rows} x {columns} pixels, more than {MOST_PIXELS // 10**6} million; make it smaller"
        )
    require_bytes(rows * columns * pixel_bytes, path)


def require_spacing(spacing: Any, path: Path, name: str = "", unit: str = "mm") -> np.ndarray:
    """Return a header's spacing as f32[2], mm per pixel down and across.

    Args:
        spacing: one number or two, in mm.
        path: the file, for the message.
        name: of the header's field, for the message.
        unit: of the field, one of `_UNITS`, for the message.

    Raises:
        InputError: the spacing is not one number or two, or not between 0.01 and 5 mm.
    """
    try:
        values = [float(value) for value in np.ravel(np.asarray(spacing, dtype=object))]
    except (TypeError, ValueError):
        values = []
    field = f"the header's spacing ({name})" if name else "the header's spacing"
    if len(values) not in (1, 2):
        raise InputError(f"{path}: {field} is {spacing!r}, not two numbers in mm; {SPACING_REMEDY}")
    if not _plausible(values):
        raise InputError(
            f"{path}: {field} is {format_mm(values)}, not between {SMALLEST_MM} and {LARGEST_MM:g} mm"
            f"{_wrong_unit(values, unit)}; {SPACING_REMEDY}"
        )
    return np.array(np.broadcast_to(np.array(values, np.float32), 2))


def _plausible(values: Sequence[float]) -> bool:
    return all(SMALLEST_MM <= np.float32(value) <= LARGEST_MM for value in values)


def _wrong_unit(values: Sequence[float], unit: str) -> str:
    """Return a hint if another unit would make a spacing in mm plausible; else ""."""
    stated_index = _UNITS.index(unit)
    for number, actual in enumerate(_UNITS):
        if abs(number - stated_index) == 1 and _plausible(
            [value * 1000.0 ** (number - stated_index) for value in values]
        ):
            return f" ({actual} labeled as {unit}? correct the unit)"
    return ""


def same_spacing(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether two spacings, f32[2], are one but for rounding (`SPACING_RTOL`); False where one is unknown."""
    return np.allclose(first, second, rtol=SPACING_RTOL)


def exceeds_magnification(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether two spacings, f32[2], differ by more than `MAX_MAGNIFICATION`; False where one is unknown."""
    ratio = np.abs(np.log(np.asarray(first, float) / second)).max()
    return bool(ratio > math.log(MAX_MAGNIFICATION))


def format_mm(spacing: Iterable[float]) -> str:
    """Return a spacing as text: `0.2 x 0.15 mm`."""
    return " x ".join(f"{value:.5g}" for value in spacing) + " mm"


def is_present(path: Path) -> bool:
    """Return whether something other than a folder is at a path; False, not an error, for an invalid name."""
    return os.path.lexists(path) and not os.path.isdir(path)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _cause(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
