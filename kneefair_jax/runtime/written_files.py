"""The list of files of a result in its output folder: what a later result may delete, and nothing else.

A command that writes a set of files refuses a folder that holds an earlier set, unless `--overwrite` is given. The
later set then replaces the earlier one: a file of the earlier set that the later one lacks is deleted. A file that no
list names is a user's: it stays, and a result that would replace it is refused, as is one that would replace its own
input.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, checked_files, output_folder, preemption
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
    folder: Path,
    kind: str,
    option: str,
    targets: Iterable[str] = (),
    *,
    overwrite: bool,
    inputs: Sequence[Path] = (),
) -> None:
    """Refuse a folder in which a result would replace an earlier result, a user's file or an input.

    Args:
        folder: the output folder; it need not exist.
        kind: of result.
        option: the flag that names the folder, for the message.
        targets: files of the new result, as relative paths with slashes.
        overwrite: whether the earlier result may be replaced.
        inputs: files and folders that the command reads.

    Raises:
        InputError: it would; the message names a file and the remedy.
    """
    files = earlier(folder, kind)
    noun = kind.partition("-")[0]  # exports of each name are a kind, `export-model`
    targets = sorted(set(targets))
    sources = [path for path in inputs if path.is_file()]
    for name in dict.fromkeys((*targets, *files)):
        path = folder / name
        if path.is_file() and any(path.samefile(source) for source in sources):
            raise InputError(f"{path} is an input, which the {noun} would replace; give another {option}")
    for name in targets:
        if name not in files and os.path.lexists(folder / name):
            raise InputError(
                f"{folder / name} exists, and no earlier {noun} lists it as its own; give another {option}, or move "
                "the file"
            )
    if files and not overwrite:
        count = f"{len(files)} files, such as {files[0]}" if len(files) > 1 else files[0]
        raise InputError(
            f"{option} {folder} holds the result of an earlier {noun} ({count}); add --overwrite to replace it, "
            f"or give another {option}"
        )


@contextlib.contextmanager
def replacement(
    folder: Path, kind: str, option: str, *, overwrite: bool, inputs: Sequence[Path] = ()
) -> Iterator[Path]:
    """Yield a new folder for the files of a result; after the block they replace the earlier result in `folder`.

    The block waits for another process that writes to the folder. While files are renamed and deleted, the list names
    the files of both results, so that a later command finds all files of a process that was killed.

    Args:
        folder: the output folder, created if absent.
        kind: of result.
        option: the flag that names the folder, for messages.
        overwrite: whether an earlier result may be replaced.
        inputs: files and folders that the command reads.

    Yields:
        The path of the temporary folder. If the block raises, it is deleted and `folder` stays as it was.

    Raises:
        InputError: see `require_new`, which the block repeats under the folder's lock.
        OSError: with `folder` as its file name if the system states none.
    """
    with output_folder.exclusive_lock(folder, option, wait=True), contextlib.ExitStack() as stack:
        stage = stack.enter_context(atomic.staging_folder(folder))
        yield stage
        names = {path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file()}
        require_new(folder, kind, option, names, overwrite=overwrite, inputs=inputs)
        files = earlier(folder, kind)
        with preemption.hold_signals():
            _write_manifest(folder, kind, names.union(files))
            stack.close()
            delete(folder, set(files).difference(names))
            _write_manifest(folder, kind, names)


def write_json(folder: Path, kind: str, name: str, value: Any) -> Path:
    """Add a JSON file to a result, or replace it.

    Args:
        folder: that holds the result.
        kind: of result.
        name: of the file; the caller has refused a user's file of this name (`require_new`).
        value: as for `atomic.write_json`.

    Returns:
        The path of the file.
    """
    _write_manifest(folder, kind, {*earlier(folder, kind), name})
    return atomic.write_json(folder / name, value)


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


def _write_manifest(folder: Path, kind: str, names: Iterable[str]) -> None:
    atomic.write_json(folder / manifest(kind), {"files": sorted(names)})


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _is_plain(folder: Path, name: str) -> bool:
    """Return whether a file exists, and neither it nor a folder above it, below `folder`, is a link."""
    path = folder / name
    parents = [folder / parent for parent in list(PurePosixPath(name).parents)[:-1]]
    return path.is_file() and not any(place.is_symlink() for place in (path, *parents))
