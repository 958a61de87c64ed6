"""The record of finished files in an output folder: the same command skips them after an interruption.

A file is finished where its source (the code, the network, the options, the bytes of the file) is that of an earlier
run, and where its result (rows of `areas.csv`, mask, overlay) still has the bytes that were written then. Every other
file is segmented again: a record that is missing, old or damaged costs time and never leaves a stale result.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import kneefair_jax
from kneefair_jax.data.readers import limits
from kneefair_jax.data.source import files_sha256
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, io_errors

RECORD = ".resume.csv"
_COLUMNS = 3
_PACKAGE = Path(kneefair_jax.__file__).parent
_LIBRARIES = ("jax", "jaxlib", "numpy", "pillow")  # which compute, read and resize


@functools.cache
def code_digest(package: Path = _PACKAGE) -> str:
    """Return the SHA-256 of a package's Python sources and of the versions of libraries, in hex digits.

    The version of the package alone would miss a change between two releases. The sources are read once a process.

    Args:
        package: the folder of the package.

    Raises:
        InputError: a source cannot be read.
    """
    sources = sorted(package.rglob("*.py"))
    names = [path.relative_to(package).as_posix() for path in sources]
    versions = [importlib.metadata.version(name) for name in _LIBRARIES]
    text = json.dumps([names, files_sha256(sources), versions])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def source_digest(path: Path, conditions: Sequence[Any]) -> str | None:
    """Return the SHA-256 of what determines a result, in hex digits; None where the file cannot be read.

    Args:
        path: of the file, whose bytes are read.
        conditions: JSON values: the network's digest and the options.
    """
    try:
        content = files_sha256([path])
    except InputError:  # the reader reports it
        return None
    text = json.dumps([code_digest(), content, *conditions])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def result_digest(rows: Sequence[Sequence[str]], paths: Sequence[Path]) -> str | None:
    """Return the SHA-256 of rows and written files, in hex digits; None where a file is missing or cannot be read."""
    text = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    try:
        return hashlib.sha256(f"{text}{files_sha256(paths)}".encode()).hexdigest()
    except InputError:
        return None


class Record:
    """The digests of finished files by `file_id`, in a hidden file; the folder's lock must be held.

    A line is appended for each finished file, so that a process that is killed loses none. Opening and closing the
    record leaves the latest line of each file alone.
    """

    def __init__(self, folder: Path):
        self._path = folder / RECORD
        self._digests = _read(self._path)
        self._write()
        self._lines = atomic.open_in_place(self._path, "a")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._write()

    def __contains__(self, file: str) -> bool:
        return file in self._digests

    def is_finished(self, file: str, source: str | None, result: str | None) -> bool:
        """Return whether a file's result is that of its source; False where one of them is unknown."""
        return None not in (source, result) and self._digests.get(file) == (source, result)

    def add(self, file: str, source: str | None, result: str | None) -> None:
        """Record a finished file; one whose source or result cannot be read any more is not recorded."""
        if source is not None and result is not None:
            self._digests[file] = source, result
            with io_errors.add_path(self._path):
                os.write(self._lines.fileno(), _line(file, source, result).encode())

    def discard(self, file: str) -> None:
        """Forget a file, if it is recorded; its line leaves the record when that is closed."""
        self._digests.pop(file, None)

    def _write(self) -> None:
        lines = (_line(file, *digests) for file, digests in self._digests.items())
        atomic.write_text(self._path, "".join(lines))


def _line(file: str, source: str, result: str) -> str:
    return f"{file},{source},{result}\n"


def _read(path: Path) -> dict[str, tuple[str, str]]:
    """Return the digests by `file_id`; lines that are cut off are left out, and a file that cannot be read is empty."""
    try:
        *lines, _ = limits.read_bytes(path).decode(errors="replace").split("\n")  # the last line has no end
    except InputError:
        return {}
    rows = (line.split(",") for line in lines)
    return {row[0]: (row[1], row[2]) for row in rows if len(row) == _COLUMNS}
