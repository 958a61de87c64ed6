"""The folder that a command writes to: nothing in it leads elsewhere, and one process at a time works in it."""

import contextlib
import errno
import fcntl
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, io_errors


def require_regular_files(folder: Path, names: Sequence[str]) -> None:
    """Refuse a folder in which something that the command writes or reads is a link, a pipe or a device.

    The folder itself may be a symbolic link: the user named it. What lies in it may be somebody else's.

    Args:
        folder: of the results; it need not exist.
        names: glob patterns of what the command writes there; folders are searched with all that lies below.

    Raises:
        InputError: with the first path that is neither a regular file nor a folder.
    """
    if not folder.is_dir():
        return
    for pattern in names:
        for path in sorted(folder.glob(pattern)):
            _require_plain(path)


def _require_plain(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
                if entry.is_symlink() or not entry.is_file(follow_symlinks=False):
                    _require_plain(Path(entry.path))
        elif not stat.S_ISREG(mode):
            raise InputError(
                f"{path} is {atomic.file_kind(mode)}; results are written to regular files and folders alone: "
                "remove it, or give another folder"
            )
    except FileNotFoundError:
        pass  # another process deleted it meanwhile


def create(folder: Path, option: str) -> None:
    """Make a folder and those above it, if need be.

    Args:
        folder: of the results.
        option: the flag that gave it, for the message.

    Raises:
        InputError: it is a file or below one, a link that leads nowhere, or its name is too long.
        OSError: the disk is full or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if io_errors.is_storage_error(error):
            raise
        raise InputError(f"{option} {folder}: {error}; give a folder that can be written") from error


def require_writable(folder: Path, option: str) -> None:
    """Refuse a folder that cannot be written, or be made, before work of minutes; no byte is written.

    Args:
        folder: of the results; it need not exist.
        option: the flag that gave it, for the message.

    Raises:
        InputError: it is a file, below one, or a link that leads nowhere, or its name is too long.
        OSError: the file system is read-only, or permission is lacking.
    """
    path = folder.absolute()
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        try:
            path.lstat()
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise InputError(
                f"{option} {folder.name[:32]}...: this name is too long; give a shorter one"
            ) from error
    existing = next(parent for parent in (path, *path.parents) if os.path.lexists(parent))
    if not existing.is_dir():
        raise InputError(
            f"{option} {folder}: {existing.name} is a file, or a link that leads to no folder; give a folder"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        read_only = os.statvfs(existing).f_flag & os.ST_RDONLY
        number = errno.EROFS if read_only else errno.EACCES
        raise OSError(number, os.strerror(number), str(folder))


@contextlib.contextmanager
def exclusive_lock(
    folder: Path,
    option: str,
    subfolders: Sequence[str] = (),
    *,
    wait: bool = False,
    on_wait: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Keep other processes out of a folder by the file `.lock`; the lock ends with the process, however that ends.

    Args:
        folder: made if need be.
        option: the flag that gave it, for the message.
        subfolders: where, beside the folder itself, temporary files of killed processes are deleted.
        wait: whether to wait for another process, which holds the lock only while it writes.
        on_wait: called if another process holds the lock and `wait` is True.

    Raises:
        InputError: another process holds the lock and `wait` is False, or `.lock` is no regular file.
    """
    lock = folder / ".lock"
    while (file := _locked(lock, option, wait, on_wait)) is None:
        pass
    with file:
        stale = [folder.glob(".part-*"), *((folder / name).rglob(".part-*") for name in subfolders)]
        for path in itertools.chain.from_iterable(stale):
            if atomic.TEMPORARY_NAME.match(path.name):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()


def _locked(path: Path, option: str, wait: bool, on_wait: Callable[[], None]) -> IO[str] | None:
    """Return the open file that holds the lock, or None if the process that held it deleted the file or its folder."""
    create(path.parent, option)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(atomic.open_in_place(path, "r+"))
            _lock(file, path, option, wait, on_wait)
            is_current = os.path.samefile(file.fileno(), path)
        except FileNotFoundError:
            is_current = False
        if is_current:
            stack.pop_all()
        return file if is_current else None


def _lock(file: IO[str], path: Path, option: str, wait: bool, on_wait: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):  # a file system without locks
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not wait:
                raise InputError(
                    f"another process is at work in {path.parent}; wait for it, stop it, or give another {option}"
                ) from error
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
