"""The record of finished files in an output folder: after an interruption, the same command skips them.

A file is finished if its source (the code, the network, the options, the bytes of the file) is that of an earlier run,
and if its result (rows of `areas.csv`, mask, overlay) has the bytes that were written then. Every other file is
segmented again: a missing, outdated or damaged record costs time and never leaves a stale result.
"""

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kneefair_jax
from kneefair_jax.data.readers import limits
from kneefair_jax.data.source import files_sha256
from kneefair_jax.errors import InputError
from kneefair_jax.predict.areas import LinesByFile

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


class Record(LinesByFile):
    """The digests of finished files by `file_id`, in a hidden file of the output folder."""

    def __init__(self, folder: Path):
        super().__init__(folder / RECORD, _read(folder / RECORD))

    def __contains__(self, file: str) -> bool:
        return file in self._lines

    def is_finished(self, file: str, source: str | None, result: str | None) -> bool:
        """Return whether a file's result is that of its source; False where one of them is unknown."""
        return None not in (source, result) and self._lines.get(file) == _line(file, source, result)

    def is_of_source(self, file: str, source: str) -> bool:
        """Return whether a file's recorded result comes from this source."""
        return self._lines.get(file, "").startswith(f"{file},{source},")

    def add(self, file: str, source: str | None, result: str | None) -> None:
        """Record a finished file, unless its source or result cannot be read any more."""
        if source is not None and result is not None:
            self._append(file, _line(file, source, result))

    def discard(self, file: str) -> None:
        """Forget a file, if it is recorded; its line leaves the record when that is closed."""
        self._lines.pop(file, None)


def _line(file: str, source: str | None, result: str | None) -> str:
    return f"{file},{source},{result}\n"


def _read(path: Path) -> dict[str, str]:
    """Return the lines by `file_id`; lines that were cut off are dropped, and an unreadable file counts as empty."""
    try:
        *lines, _ = limits.read_bytes(path).decode(errors="replace").split("\n")  # the last line has no end
    except InputError:
        return {}
    rows = (line.split(",") for line in lines)
    return {row[0]: _line(*row) for row in rows if len(row) == _COLUMNS}
