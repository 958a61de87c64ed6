"""Write files that appear whole or not at all: a reader finds the old file or the new one, never half of one.

Folders that others can write to may hold traps: a symbolic link that leads out of the folder, a pipe that blocks
whoever opens it. Temporary names are therefore random and created exclusively, and nothing but a regular file is
replaced or appended to.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import io_errors, preemption

_TAIL = 32  # characters of the file's name that the temporary name keeps: its ending says the format
TEMPORARY_NAME = re.compile(r"\.part-[0-9a-f]{16}-")
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


@contextlib.contextmanager
def replacement(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Yield a new, empty file beside `path` to write to; it takes the place of `path` when the block ends well.

    Args:
        path: the file; its folder exists.
        sync: whether its bytes are on the disk before it gets its name, for files that must survive a power cut.

    Yields:
        The path of the temporary file, with the ending of `path`. It is deleted if the block raises.

    Raises:
        InputError: something other than a regular file lies at `path`.
        OSError: with `path` as its file name, where the library that wrote states none.
    """
    require_regular(path)
    temporary = path.with_name(f".part-{secrets.token_hex(8)}-{path.name[-_TAIL:]}")
    try:
        with io_errors.add_path(path):
            os.close(
                os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            )  # O_EXCL follows no link
            yield temporary
            if sync:
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # which would hide the error that led here
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def staging_folder(folder: Path, optional: Iterable[str] = ()) -> Iterator[Path]:
    """Yield a new folder inside `folder` to write a set of files to; once all are written, they replace those there.

    Signals are held back while files are renamed. A process that is killed then leaves a part of the new set; the
    same command replaces the whole set.

    Args:
        folder: exists; its lock is held (`output_folder.exclusive_lock`).
        optional: relative paths of files that are deleted from `folder` where the new set lacks them.

    Yields:
        The path of the temporary folder. If the block raises, it is deleted and `folder` stays as it was.

    Raises:
        InputError: something other than a regular file lies where one is to be written.
        OSError: with `folder` as its file name, where the system states none.
    """
    stage = folder / f".part-{secrets.token_hex(8)}-files"
    try:
        with io_errors.add_path(folder):
            stage.mkdir()
            yield stage
            files = [path.relative_to(stage) for path in sorted(stage.rglob("*")) if path.is_file()]
            for path in files:
                require_regular(folder / path)
            with preemption.hold_signals():
                for path in files:
                    (folder / path).parent.mkdir(exist_ok=True)
                    (stage / path).replace(folder / path)
                for path in set(map(Path, optional)).difference(files):
                    (folder / path).unlink(missing_ok=True)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write bytes; see `replacing`.

    Returns:
        `path`.
    """
    with replacement(path) as temporary:
        temporary.write_bytes(content)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write text in UTF-8, line ends as they are; see `replacing`.

    Returns:
        `path`.
    """
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> Path:
    """Write a JSON value with sorted keys.

    Args:
        path: the file; its folder exists.
        value: of dicts, lists, strings, numbers, booleans and None.

    Returns:
        `path`.

    Raises:
        ValueError: a number is NaN or infinite, which JSON lacks.
    """
    return write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def open_in_place(path: Path, mode: str) -> IO[str]:
    """Open a file that is not replaced but kept: a lock ("r+") or a log ("a"); made if absent, never truncated.

    Raises:
        InputError: something other than a regular file lies there.
    """
    require_regular(path)
    access = {"a": os.O_WRONLY | os.O_APPEND, "r+": os.O_RDWR}[mode]
    # Whatever took the file's place since: no link is followed, and no pipe is waited for.
    descriptor = os.open(path, access | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    file = os.fdopen(descriptor, mode, encoding="utf-8", newline="")
    try:
        _require_regular(path, os.fstat(descriptor).st_mode)
    except InputError:
        file.close()
        raise
    return file


def require_regular(path: Path) -> None:
    """Refuse a path where something other than a regular file lies.

    Raises:
        InputError: with what lies there.
    """
    with contextlib.suppress(FileNotFoundError):
        _require_regular(path, path.lstat().st_mode)


def _require_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is {file_kind(mode)}, where a file is to be written; remove it")


def file_kind(mode: int) -> str:
    """What a file's mode says that it is, with its article."""
    return next((name for test, name in _KINDS if test(mode)), "a device")
