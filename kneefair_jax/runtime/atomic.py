"""Write files atomically: a reader sees the old file or the new one, never a part of one.

Folders that other users can write to may contain traps, such as a symbolic link that leads out of the folder, or a pipe
that blocks its opener. Temporary names are therefore random and created exclusively, and only regular files are
replaced or appended to.

`describe_storage_error` turns the error of a full, read-only or failing disk into one line, also where a library wraps
the system's error.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import preemption

_REMEDY = {
    errno.ENOSPC: "free space on the disk",
    errno.EDQUOT: "free space within your quota",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "give a folder that can be written as {option}",
    errno.EACCES: "give a folder that can be written as {option}, and inputs that can be read",
    errno.EPERM: "give a folder that can be written as {option}, and inputs that can be read",
    errno.EIO: "check the disk",
    errno.ENXIO: "check the disk",
    errno.ENODEV: "check the disk",
    errno.ESTALE: "check the network file system",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs, which have too many files open",
}

# TensorStore, Arrow and Riegeli state the system's message of these errors as text only.
_TEXT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_SUFFIX_LENGTH = 32  # characters of the file's name in the temporary name, which keeps the ending
TEMPORARY_NAME = re.compile(r"\.part-[0-9a-f]{16}-")
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


@contextlib.contextmanager
def replacement(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Yield a new, empty file beside `path` to write to; it replaces `path` if the block succeeds.

    Args:
        path: the file; its folder exists.
        sync: whether to write the bytes to the disk before the renaming, for files that must survive a power cut.

    Yields:
        The path of the temporary file, with the ending of `path`. It is deleted if the block raises.

    Raises:
        InputError: `path` exists and is not a regular file.
        OSError: with `path` as its file name if the writing library states none.
    """
    require_regular(path)
    temporary = path.with_name(f".part-{secrets.token_hex(8)}-{path.name[-_SUFFIX_LENGTH:]}")
    try:
        with add_path(path):
            os.close(
                os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            )  # O_EXCL follows no link
            yield temporary
            if sync:
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # it would hide the original error
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def staging_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder inside `folder` for a set of files; after the block they replace the files in `folder`.

    Signals are held during the renaming. A process that is killed at that moment leaves a part of the new set;
    `written_files.replacement` lists the files beforehand, so that the same command replaces the entire set.

    Args:
        folder: an existing folder whose lock the caller holds (`output_folder.exclusive_lock`).

    Yields:
        The path of the temporary folder. If the block raises, it is deleted and `folder` stays as it was.

    Raises:
        InputError: one of the paths in `folder` exists and is not a regular file.
        OSError: with `folder` as its file name if the system states none.
    """
    stage = folder / f".part-{secrets.token_hex(8)}-files"
    try:
        with add_path(folder):
            stage.mkdir()
            yield stage
            files = [path.relative_to(stage) for path in sorted(stage.rglob("*")) if path.is_file()]
            for path in files:
                require_regular(folder / path)
            with preemption.hold_signals():
                for path in files:
                    (folder / path).parent.mkdir(exist_ok=True)
                    (stage / path).replace(folder / path)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write bytes atomically; see `replacement`.

    Returns:
        `path`.
    """
    with replacement(path) as temporary:
        temporary.write_bytes(content)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write text atomically in UTF-8, with unchanged line ends; see `replacement`.

    Returns:
        `path`.
    """
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> Path:
    """Write a JSON value atomically, with sorted keys.

    Args:
        path: the file; its folder exists.
        value: dicts, lists, strings, numbers, booleans and None.

    Returns:
        `path`.

    Raises:
        ValueError: a number is NaN or infinite; JSON has no such numbers.
    """
    return write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def open_in_place(path: Path, mode: str) -> IO[str]:
    """Open a file to modify in place: a lock ("r+") or a log ("a"). The file is created if absent, never truncated.

    Raises:
        InputError: `path` exists and is not a regular file.
    """
    require_regular(path)
    access = {"a": os.O_WRONLY | os.O_APPEND, "r+": os.O_RDWR}[mode]
    # If another file takes the place meanwhile: follow no link, and do not wait for a pipe.
    descriptor = os.open(path, access | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    file = os.fdopen(descriptor, mode, encoding="utf-8", newline="")
    try:
        _require_regular(path, os.fstat(descriptor).st_mode)
    except InputError:
        file.close()
        raise
    return file


def require_regular(path: Path) -> None:
    """Refuse a path that exists and is not a regular file.

    Raises:
        InputError: with the kind of file.
    """
    with contextlib.suppress(FileNotFoundError):
        _require_regular(path, path.lstat().st_mode)


def _require_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is {file_kind(mode)}, not a regular file; remove it to write this file")


def file_kind(mode: int) -> str:
    """Return the kind of file that a mode states, with its article."""
    return next((name for test, name in _KINDS if test(mode)), "a device")


def describe_storage_error(error: BaseException, option: str) -> str | None:
    """Return the path, the error and the remedy; None if the storage did not cause the error.

    Args:
        error: any exception; its causes are searched too.
        option: the flag of the output folder, for the remedy.
    """
    for cause in _chain(error):
        path = cause.filename if isinstance(cause, OSError) else None
        path = Path(path) if isinstance(path, str) else None
        place = f"{_target(path)}: " if path else ""
        for number, remedy in _REMEDY.items():
            has_number = isinstance(cause, OSError) and cause.errno == number
            if has_number or (number in _TEXT_ERRORS and os.strerror(number) in str(cause)):
                return f"{place}{os.strerror(number).lower()}; {remedy.format(option=option)}"
        if path and isinstance(cause, FileNotFoundError) and not path.parent.is_dir():
            return f"{path.parent}: this folder does not exist or was deleted during the run; restore it"
    return None


@contextlib.contextmanager
def add_path(path: Path) -> Iterator[None]:
    """Add the path to an OSError of the block that names no file, such as those of `os.write` and of libraries."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def is_storage_error(error: OSError) -> bool:
    """Return whether an error of writing one file would also occur with every other file of the folder."""
    return error.errno in _REMEDY


def _target(path: Path) -> Path:
    """Return the folder of a temporary file or folder, whose name means nothing to a user; any other path unchanged."""
    depth = next((depth for depth, part in enumerate(path.parts) if part.startswith(".part-")), None)
    return path if depth is None else Path(*path.parts[:depth])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    visited: set[int] = set()
    while error is not None and id(error) not in visited:
        visited.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
