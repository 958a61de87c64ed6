"""The folders that a command writes to: outputs, and the user's cache.

Output folders are free of links and pipes, writable, and locked by one process at a time. Only the user can write to
the cache, as programs are run from it.
"""

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
from kneefair_jax.runtime import atomic

APPLICATION = "kneefair_jax"  # name of the cache folder


def require_regular_files(folder: Path, names: Sequence[str]) -> None:
    """Refuse a folder in which a file that the command writes or reads is a link, a pipe or a device.

    The folder itself may be a symbolic link, because the user named it; its content may come from other users.

    Args:
        folder: the folder of the results; it need not exist.
        names: glob patterns of the command's files; folders are searched recursively.

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
                f"{path} is {atomic.file_kind(mode)}; results are only written to regular files and folders: "
                "remove it, or give another folder"
            )
    except FileNotFoundError:
        pass  # another process deleted it meanwhile


def create(folder: Path, option: str) -> None:
    """Create a folder and its parents if they do not exist.

    Args:
        folder: the folder of the results.
        option: the flag that names it, for the message.

    Raises:
        InputError: it is a file or below one, a broken link, or its name is too long.
        OSError: the disk is full or read-only.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if atomic.is_storage_error(error):
            raise
        raise InputError(f"{option} {folder}: {error}; give a folder that can be written") from error


def require_writable(folder: Path, option: str) -> None:
    """Refuse a folder that cannot be written or created, before minutes of work; nothing is written.

    Args:
        folder: the folder of the results; it need not exist.
        option: the flag that names it, for the message.

    Raises:
        InputError: it is a file, below one, or a broken link, or its name is too long.
        OSError: the file system is read-only, or permission is missing.
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
            f"{option} {folder}: {existing.name} is a file, or a link that does not lead to a folder; give a folder"
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
    """Lock a folder by the file `.lock` against other processes; the lock ends with the process.

    Args:
        folder: the folder, created if absent.
        option: the flag that names it, for the message.
        subfolders: subfolders in which temporary files of killed processes are deleted, as in the folder itself.
        wait: whether to wait for another process, which holds the lock only while it writes.
        on_wait: called if another process holds the lock and `wait` is True.

    Raises:
        InputError: another process holds the lock and `wait` is False, or `.lock` is no regular file.
    """
    lock = folder / ".lock"
    while (file := _lock_file(lock, option, wait, on_wait)) is None:
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


def _lock_file(path: Path, option: str, wait: bool, on_wait: Callable[[], None]) -> IO[str] | None:
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


def user_cache(name: str) -> Path | None:
    """Return `$XDG_CACHE_HOME/kneefair_jax/NAME`, by default below `~/.cache`, created for this user alone.

    Returns:
        None if no such folder is safe: it cannot be created, belongs to another user, is a symbolic link, or others
        can write to it.

    Reference:
        XDG Base Directory Specification 0.8: relative paths in the variable are ignored.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or ".")
    try:
        if not home.is_absolute():
            home = Path.home() / ".cache"
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        folders = (home / APPLICATION, home / APPLICATION / name)
        for folder in folders:
            folder.mkdir(mode=0o700, exist_ok=True)
        is_safe = _is_protected(home) and all(_is_private(folder) for folder in folders)
    except (OSError, RuntimeError):  # no home, no room, no permission
        return None
    return folders[-1] if is_safe else None


def _is_private(folder: Path) -> bool:
    """Return whether it is a folder, not a link, of this user, and no other user can write to it."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _is_protected(parent: Path) -> bool:
    """Return whether no other user can rename files in a folder: it is this user's or root's, and closed or sticky."""
    status = parent.stat()
    is_closed = not status.st_mode & 0o022 or bool(status.st_mode & stat.S_ISVTX)
    return is_closed and status.st_uid in (0, os.geteuid())
