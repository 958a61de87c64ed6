"""Writes the drafted table and the links to films; nothing that a command reads, and no file of a user, is replaced."""

import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, output_folder, written_files

KIND = "init"  # of `written_files`: the list of the links that a later call may delete
_FOLDERS = ("images", "masks")


class Output(NamedTuple):
    """Where a draft is written, and what it must not replace.

    Attributes:
        folder: of the films and masks.
        table: the file of the table.
        link_dir: folder of the links; None without links.
        inputs: option -> file that the command reads (`--table`, `--key`).
        overwrite: whether an earlier table and its links may be replaced.
    """

    folder: Path
    table: Path
    link_dir: Path | None
    inputs: Mapping[str, Path]
    overwrite: bool


def require_writable(output: Output, *, dry_run: bool) -> None:
    """Refuse outputs that are inputs, that exist, or that cannot be written, before any file is read.

    Args:
        output: where to write.
        dry_run: whether outputs may exist, because nothing is written.

    Raises:
        InputError: with the option and the remedy.
    """
    folder, table, link_dir = output.folder, output.table, output.link_dir
    if not folder.is_dir():
        raise InputError(f"DIR {folder}: no such folder; give the folder of the films and masks")
    for option, path in output.inputs.items():
        if _is_same(path, table):
            raise InputError(f"--out {table}: is the file of {option}; give another --out")
    atomic.require_regular(table)
    if _is_other_file(table) and table.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"--out {table}: is a file of DIR and no .csv; give another --out")
    if not (output.overwrite or dry_run):
        _require_no_table(table)
    output_folder.require_writable(table.parent, "--out")
    if link_dir is None:
        return
    if link_dir.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"--link-dir {link_dir}: is inside DIR; give a folder outside it")
    if folder.resolve().is_relative_to(link_dir.resolve()):
        raise InputError(f"--link-dir {link_dir}: contains DIR; give a folder beside it")
    output_folder.require_writable(link_dir, "--link-dir")
    _require_regular_links(link_dir)
    if not (output.overwrite or dry_run):
        _require_empty(link_dir)


def write(output: Output, text: str, links: Mapping[Path, Path], sources: Iterable[Path]) -> None:
    """Write the links and the table under locks; a failure leaves neither.

    Args:
        output: where to write.
        text: of the table.
        links: path below `link_dir` -> path below `folder`.
        sources: the files of `folder`, relative to it.

    Raises:
        InputError: an output is a source, or a file that this command did not write, or appeared during the scan.
    """
    protected = {(output.folder / path).resolve() for path in sources}
    protected |= {path.resolve() for path in output.inputs.values()}
    if _is_other_file(output.table) and output.table.resolve() in protected:
        raise InputError(f"--out {output.table}: is one of the files of DIR; give another --out")
    table, link_dir = output.table, output.link_dir
    with contextlib.ExitStack() as stack:
        if link_dir is None or link_dir.resolve() != table.parent.resolve():
            stack.enter_context(output_folder.exclusive_lock(table.parent, "--out"))
        if link_dir is not None:
            _require_regular_links(link_dir)
            stage = stack.enter_context(
                written_files.replacement(link_dir, KIND, "--link-dir", overwrite=output.overwrite)
            )
            _write_links(output, link_dir, stage, links, protected)
        with atomic.replacement(table) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
            if not output.overwrite:
                _require_no_table(table)


def _write_links(
    output: Output, link_dir: Path, stage: Path, links: Mapping[Path, Path], protected: set[Path]
) -> None:
    """Write the links to `stage`, whose files replace those of an earlier call in `link_dir`."""
    _require_regular_links(link_dir)
    if not output.overwrite:
        _require_empty(link_dir)
        _require_no_table(output.table)
    earlier = written_files.earlier(link_dir, KIND)
    manifest = written_files.manifest(KIND)
    replaced = {path.as_posix() for path in links} | {*earlier, manifest}
    if count := sum((link_dir / name).resolve() in protected for name in replaced):
        raise InputError(
            f"--link-dir {link_dir}: {count} of its files are read by this command; give another folder"
        )
    unlisted = [path for path in links if (link_dir / path).exists() and path.as_posix() not in earlier]
    if unlisted:
        raise InputError(
            f"--link-dir {link_dir}: {len(unlisted)} files, such as {unlisted[0]}, have names of links but are in no "
            "list of links; move them, or give another folder"
        )
    for target, source in links.items():
        (stage / target).parent.mkdir(exist_ok=True)
        _link(output.folder / source, stage / target)


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy it to another file system; a symbolic link would repeat a path that identifies a patient."""
    with contextlib.suppress(OSError):
        os.link(source.resolve(), target)
        return
    shutil.copyfile(source, target)


def _require_regular_links(link_dir: Path) -> None:
    output_folder.require_regular_files(link_dir, (*_FOLDERS, written_files.manifest(KIND)))


def _require_empty(link_dir: Path) -> None:
    contents = link_dir.iterdir() if link_dir.is_dir() else ()
    if any(path.name != ".lock" and not atomic.TEMPORARY_NAME.match(path.name) for path in contents):
        raise InputError(f"--link-dir {link_dir}: is not empty; give an empty folder, or --overwrite")


def _require_no_table(table: Path) -> None:
    if table.exists():
        raise InputError(f"--out {table}: this file exists; give --overwrite to replace it, or another --out")


def _is_other_file(table: Path) -> bool:
    """Return whether a file exists that cannot be an earlier table, such as a film."""
    return table.exists() and table.suffix.lower() != ".csv"


def _is_same(first: Path, second: Path) -> bool:
    """Return whether two paths lead to one file: by links too, and on file systems that ignore case."""
    if first.exists() and second.exists():
        return os.path.samefile(first, second)
    return first.resolve() == second.resolve()
