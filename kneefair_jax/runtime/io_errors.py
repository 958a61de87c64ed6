"""Describe the fault of a full, read-only or failing disk in one line.

Libraries wrap the system's error in errors of their own.
"""

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

_IN_TEXTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def describe(error: BaseException, option: str) -> str | None:
    """Return what happened, where, and the remedy; None where the storage did not cause the error.

    Args:
        error: any exception; those that caused it are searched too.
        option: the flag of the output folder, for the remedy.
    """
    for cause in _chain(error):
        path = cause.filename if isinstance(cause, OSError) else None
        # A name that says nothing to a person: the temporary file beside the one that is written.
        path = Path(path) if isinstance(path, str) else None
        where = f"{_final(path)}: " if path else ""
        for number, remedy in _REMEDY.items():
            known = isinstance(cause, OSError) and cause.errno == number
            # TensorStore, Arrow and Riegeli put the system's words into texts.
            if known or (number in _IN_TEXTS and os.strerror(number) in str(cause)):
                return f"{where}{os.strerror(number).lower()}; {remedy.format(option=option)}"
        if path and isinstance(cause, FileNotFoundError) and not path.parent.is_dir():
            return f"{path.parent}: this folder does not exist or was deleted during the run; restore it"
    return None


@contextlib.contextmanager
def add_path(path: Path) -> Iterator[None]:
    """Add the path to an OSError in the block that names no file, as of `os.write` and of libraries."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def is_storage_error(error: OSError) -> bool:
    """Return whether an error of writing one file would meet every other file of the folder too."""
    return error.errno in _REMEDY


def _final(path: Path) -> Path:
    """Return the folder of a temporary file or folder, any other path as it is."""
    temporary = [number for number, part in enumerate(path.parts) if part.startswith(".part-")]
    return Path(*path.parts[: temporary[0]]) if temporary else path


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
