"""The list of files of a result in its output folder: what a later result may delete, and nothing else.

A command that writes a set of files refuses a folder that holds an earlier set, unless `--overwrite` is given. The
later set then replaces the earlier one: a file of the earlier set that the later one lacks is deleted. A file that no
list names is a user's and stays.
"""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, checked_files
from kneefair_jax.runtime.schema import ListOf, Table, Text

_LIST = Table({"files": ListOf(Text(4096, non_empty=True), 0, 1_000_000)})


def manifest(kind: str) -> str:
    """Return the name of the list of a kind of result, such as `audit`; each kind in a folder has one."""
    return f".written-{kind}.json"


def earlier(folder: Path, kind: str) -> list[str]:
    """Return the files of an earlier result that are still in its folder, as relative paths with slashes.

    Raises:
        InputError: the list is damaged, or names a file outside of the folder.
    """
    path = folder / manifest(kind)
    if not path.is_file():
        return []
    names = checked_files.read_json(path, _LIST, "delete it, and the earlier result")["files"]
    if outside := [name for name in names if not _is_inside(name)]:
        raise InputError(f"{path}: {outside[0]!r} is no file below this folder; delete the list")
    return [name for name in names if _is_plain(folder, name)]


def require_new(
    folder: Path, kind: str, option: str, *, overwrite: bool, results: Sequence[str] = ()
) -> None:
    """Refuse a folder that holds an earlier result, before any work.

    Args:
        folder: the output folder; it need not exist.
        kind: of result.
        option: the flag that names the folder, for the message.
        overwrite: whether the earlier result may be replaced.
        results: files that show a result even without its list.

    Raises:
        InputError: it does; the message counts its files and says how to replace them.
    """
    if overwrite:
        return
    files = earlier(folder, kind) or [name for name in results if (folder / name).exists()]
    if files:
        count = f"{len(files)} files, such as {files[0]}" if len(files) > 1 else files[0]
        raise InputError(
            f"{option} {folder} holds the result of an earlier {kind} ({count}); add --overwrite to replace it, "
            f"or give another {option}"
        )


def write_manifest(folder: Path, kind: str, files: Iterable[str | Path] | None = None) -> None:
    """Write the list of a result's files.

    Args:
        folder: that holds the files.
        kind: of result.
        files: relative paths; None lists all files in the folder.
    """
    if files is None:
        files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    names = sorted({PurePosixPath(name).as_posix() for name in files} - {manifest(kind)})
    atomic.write_json(folder / manifest(kind), {"files": names})


def delete(folder: Path, names: Iterable[str]) -> None:
    """Delete files, and the folders that are empty then.

    Args:
        folder: the output folder, which stays.
        names: of `earlier`.
    """
    for name in names:
        (folder / name).unlink(missing_ok=True)
        for parent in list(PurePosixPath(name).parents)[:-1]:
            with contextlib.suppress(OSError):  # it holds other files
                (folder / parent).rmdir()


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _is_plain(folder: Path, name: str) -> bool:
    """Return whether a file exists, and neither it nor a folder above it, below `folder`, is a link."""
    path = folder / name
    parents = [folder / parent for parent in list(PurePosixPath(name).parents)[:-1]]
    return path.is_file() and not any(place.is_symlink() for place in (path, *parents))
