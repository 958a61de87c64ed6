"""A cache folder of the user's own: what is run from it, such as compiled programs, nobody else can have put there."""

import os
import stat
from pathlib import Path

APPLICATION = "kneefair_jax"


def user_cache(name: str) -> Path | None:
    """Return `$XDG_CACHE_HOME/kneefair_jax/NAME`, by default below `~/.cache`, made readable by this user alone.

    Returns:
        None where there is no such folder that is safe: it cannot be made, belongs to somebody else, is a symbolic
        link, or others may write to it.

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
        safe = _cannot_be_renamed(home) and all(_is_private(folder) for folder in folders)
    except (OSError, RuntimeError):  # no home, no room, no permission
        return None
    return folders[-1] if safe else None


def _is_private(folder: Path) -> bool:
    """Whether it is a real folder of this user's that nobody else can write to."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _cannot_be_renamed(parent: Path) -> bool:
    """Whether others cannot replace what lies in a folder: it is this user's or root's, and closed or sticky."""
    status = parent.stat()
    closed = not status.st_mode & 0o022 or bool(status.st_mode & stat.S_ISVTX)
    return closed and status.st_uid in (0, os.geteuid())
