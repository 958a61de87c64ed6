"""Which file belongs to which case: by the file's name, or by the paths of a table."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kneefair_jax.errors import InputError

# What `data.readers` knows by its name. JPEG masks are found, so that the reader can say why it refuses them.
SUFFIXES = (
    *(".nii.gz", ".nii", ".npy", ".png", ".tif", ".tiff"),
    *(".dcm", ".dicom", ".jpg", ".jpeg"),
)


class Found(NamedTuple):
    """Files of a folder.

    Attributes:
        of: case id -> its file, for those cases that have one.
        extra: files that belong to no case.
    """

    of: dict[str, Path]
    extra: list[Path]


def find(folder: Path, cases: Sequence[str], option: str) -> Found:
    """The files of cases by name, in the folder and those below it: `a.nii.gz` or `x/a.png` is of case `a`.

    A case id with a slash, `x/a`, is the file's whole path below the folder. Files of other formats are passed over.

    Args:
        folder: where to look.
        cases: case ids.
        option: what gave the folder, for the messages.

    Raises:
        InputError: there is no such folder, no image in it, or two files for one case.
    """
    by_name: dict[str, list[Path]] = {}
    for path in sorted(_require(folder, option).rglob("*")):
        stem = stem_of(path.name)
        if stem is not None and path.is_file():
            names = {stem, (path.parent.relative_to(folder) / stem).as_posix()}
            for name in names:
                by_name.setdefault(name, []).append(path)
    if not by_name:
        raise InputError(f"{option} {folder}: no image files in it ({', '.join(SUFFIXES)})")
    for case in cases:
        if len(several := by_name.get(case, [])) > 1:
            raise InputError(
                f"{option} {folder}: case {case!r} has {len(several)} files, {several[0]} and {several[1]}; leave one, "
                "or give the folder that holds one for each case"
            )
    found = {case: by_name[case][0] for case in cases if case in by_name}
    taken = set(found.values())
    return Found(found, sorted({path for paths in by_name.values() for path in paths} - taken))


def listed(
    folder: Path,
    paths: Mapping[str, str],
    rows: Sequence[int],
    option: str,
    table: Path,
    *,
    beside: bool = True,
) -> Found:
    """The files of cases by a table's paths, relative to the folder; those that are there.

    Args:
        folder: where they must be.
        paths: case id -> its path, "" if the table has none.
        rows: of these cases in the table, for the messages.
        option: what gave the folder, for the messages.
        table: the table.
        beside: whether its paths may also be relative to where the table is, as `data.folder` reads them.

    Raises:
        InputError: there is no such folder, or a path that exists leads out of it.
    """
    root = _require(folder, option).resolve()
    found = {}
    for row, (case, name) in zip(rows, paths.items(), strict=True):
        if not name:
            continue
        path, other = folder / name, table.parent / name
        if path.is_file() and _is_below(path, folder):
            found[case] = path
        # Where the table's own masks are elsewhere, those of another reader were asked for.
        elif beside and other.is_file() and other.parent.resolve().is_relative_to(root):
            found[case] = other
        elif path.is_file():
            raise InputError(
                f"{table} row {row}: {name} leads out of {option} {folder}; write a path below that folder, or give "
                f"the folder that holds the file as {option}"
            )
    return Found(found, [])


def linked_outside(folder: Path, found: Mapping[str, Path]) -> list[str]:
    """The cases whose file is reached through a symbolic link that leads out of the folder."""
    root = folder.resolve()
    return [case for case, path in found.items() if not path.resolve().is_relative_to(root)]


def _is_below(path: Path, folder: Path) -> bool:
    """By what is written, whatever links there are."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def stem_of(name: str) -> str | None:
    """A file's name without its format's suffix; None for a file of another format."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and not name.startswith("."):
            return name[: -len(suffix)]
    return None


def _require(folder: Path, option: str) -> Path:
    if not folder.is_dir():
        raise InputError(f"{option} {folder}: no such folder; correct the path")
    return folder
