"""Limits of one input file: a regular file, a stated size on disk and expanded, and pixels counted before decoding.

Every reader of images, masks and tables opens its files with `open_regular`, and compares the size that a header states
with `require_size` before it allocates memory. Decoding a file then takes a few times `MOST_BYTES` at most.
"""

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from kneefair_jax.errors import InputError

MOST_PIXELS = 50_000_000  # a whole-leg film has about 27 million
MOST_BYTES = 256 << 20  # of a file on disk, of what it expands to, and of its pixels as stored

_MOST = f"{MOST_BYTES >> 20} MiB"
_BLOCK = 1 << 20


class Decompressor(Protocol):
    """`zlib.decompressobj` and `lzma.LZMADecompressor`."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Return at most `max_length` bytes of expanded data."""


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading; a pipe or a device, which could block or never end, is refused.

    Raises:
        InputError: it cannot be opened, is no regular file, or has more than `MOST_BYTES`.
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
            raise InputError(f"{path}: not a file; give a path to a regular file, no pipe or device")
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
    """Return the rest of a stream, which may expand compressed data or grow meanwhile.

    Raises:
        InputError: that is more than `MOST_BYTES`.
    """
    content = io.BytesIO()
    while block := stream.read(_BLOCK):  # all at once, `gzip` would allocate the limit
        content.write(block)
        if content.tell() > MOST_BYTES:
            raise InputError(
                f"{path}: expands to more than {_MOST}; export the one image, without compression"
            )
    return content.getvalue()


def require_expandable(data: bytes, decompressor: Decompressor, path: Path) -> None:
    """Require that compressed data expand to at most `MOST_BYTES`; for libraries that expand without a limit.

    Raises:
        InputError: they expand to more.
    """
    if len(decompressor.decompress(data, MOST_BYTES + 1)) > MOST_BYTES:
        raise InputError(f"{path}: expands to more than {_MOST}; export the one image, without compression")


def require_bytes(count: int, path: Path) -> None:
    """Require at most `MOST_BYTES`.

    Raises:
        InputError: there are more.
    """
    if count > MOST_BYTES:
        raise InputError(f"{path}: {count / 2**20:.0f} MiB, more than {_MOST}; make it smaller, or split it")


def require_size(rows: int, columns: int, pixel_bytes: int, path: Path) -> None:
    """Require a size, as a header states it, that may be decoded.

    Args:
        rows: of the image.
        columns: of the image.
        pixel_bytes: bytes that a pixel has as stored.
        path: the file, for the message.

    Raises:
        InputError: there is no pixel, or more than `MOST_PIXELS` or `MOST_BYTES`.
    """
    if rows < 1 or columns < 1:
        raise InputError(f"{path}: its header states {rows} x {columns} pixels; export it again")
    if rows * columns > MOST_PIXELS:
        raise InputError(
            f"{path}: {rows} x {columns} pixels, more than {MOST_PIXELS // 10**6} million; make it smaller"
        )
    require_bytes(rows * columns * pixel_bytes, path)


def is_present(path: Path) -> bool:
    """Whether a path names anything but a folder; False, not an error, for a name that no file can have."""
    return os.path.lexists(path) and not os.path.isdir(path)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _cause(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
