"""One-line descriptions of errors of full, read-only or failing disks, also if a library wraps the system's error."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

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


def describe(error: BaseException, option: str) -> str | None:
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
