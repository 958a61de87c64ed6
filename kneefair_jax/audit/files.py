"""Which file belongs to which case: by the file's name, or by the paths of a table."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kneefair_jax import anatomy
from kneefair_jax.data import file_lookup
from kneefair_jax.data.mask_files import MaskPath, StructureFiles
from kneefair_jax.data.readers import SUFFIXES, limits
from kneefair_jax.errors import InputError


class Found(NamedTuple):
    """Files of a folder.

    Attributes:
        of: case id -> its file, or its files by structure, for those cases that have any.
        extra: files that belong to no case.
    """

    of: dict[str, MaskPath]
    extra: list[Path]


def find(folder: Path, cases: Sequence[str], option: str, structures: Sequence[str] = ()) -> Found:
    """The files of cases by name, in the folder and those below it: `a.nii.gz` or `x/a.png` is of case `a`.

    A case id with a slash, `x/a`, is the file's whole path below the folder. Files of other formats are passed over.
    A case without a file of its name may have one for each structure: `a_femur.png` or `a/femur.png`.

    Args:
        folder: where to look.
        cases: case ids.
        option: what gave the folder, for the messages.
        structures: that files of one structure are called by.

    Raises:
        InputError: there is no such folder, one below it cannot be listed, there is no image in it, two files for one
            case, or files of some structures alone.
    """
    by_name: dict[str, list[Path]] = {}
    paths, errors = file_lookup.list_files(_require(folder, option))
    if errors:
        raise errors[0]
    for path in paths:
        stem = stem_of(path.name)
        if stem is not None:
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
    found: dict[str, MaskPath] = {case: by_name[case][0] for case in cases if case in by_name}
    taken = {path for path in found.values() if isinstance(path, Path)}
    scored = anatomy.scored_structures(structures)
    for case in cases:
        if case in found:
            continue
        # Of overlap classes there may be one file a whole bone.
        own = _by_structure(case, structures, by_name, option) or _by_structure(case, scored, by_name, option)
        if own:
            found[case] = own
            taken |= set(own.files.values())
    if not found:
        _refuse_other_names(folder, cases, option, structures, by_name)
    return Found(found, sorted({path for paths in by_name.values() for path in paths} - taken))


def _by_structure(
    case: str, structures: Sequence[str], by_name: Mapping[str, list[Path]], option: str
) -> StructureFiles | None:
    """The files of a case, one a structure; None where there is none."""
    result: dict[str, Path] = {}
    for structure in structures:
        endings = {structure, structure.replace(" ", "_"), structure.replace(" ", "-")}
        names = [f"{case}{mark}{ending}" for ending in sorted(endings) for mark in "_-/"]
        paths = sorted({path for name in names for path in by_name.get(name, ())})
        if len(paths) > 1:
            raise InputError(
                f"{option}: case {case!r} has {len(paths)} files of {structure!r}, {paths[0]} and {paths[1]}; leave one"
            )
        if paths:
            result[structure] = paths[0]
    if result and (missing := [name for name in structures if name not in result]):
        raise InputError(
            f"{option}: case {case!r} has one file a structure, such as {next(iter(result.values()))}, and none of "
            f"{missing[0]!r}; add it (empty where the structure is absent), or name in --labels the structures that "
            "every case has"
        )
    return StructureFiles(result) if result else None


def _refuse_other_names(
    folder: Path,
    cases: Sequence[str],
    option: str,
    structures: Sequence[str],
    by_name: Mapping[str, list[Path]],
) -> None:
    """Says how files of one structure are called, where files' names begin with case ids and go on."""
    for case in cases:
        several = sorted(name for name in by_name if name.startswith((f"{case}_", f"{case}-", f"{case}/")))
        if len(several) > 1:
            named = f"--labels names {', '.join(structures)}" if structures else "--labels names no structure"
            raise InputError(
                f"{option} {folder}: no file has a case id as its name, and {len(several)} begin with {case!r}, such "
                f"as {by_name[several[0]][0]} and {by_name[several[1]][0]}; if each holds one structure, name them "
                f"CASE_STRUCTURE, such as {case}_femur.png, by the structures of --labels ({named}); else name "
                "one file by the case id alone"
            )


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
    root = _real(_require(folder, option))
    found: dict[str, MaskPath] = {}
    for row, (case, name) in zip(rows, paths.items(), strict=True):
        if not name:
            continue
        path, other = folder / name, table.parent / name
        if limits.is_present(path) and _is_below(path, folder):
            found[case] = path
        # Where the table's own masks are elsewhere, those of another reader were asked for.
        elif beside and limits.is_present(other) and _real(other.parent).is_relative_to(root):
            found[case] = other
        elif limits.is_present(path):
            raise InputError(
                f"{table} row {row}: {name} leads out of {option} {folder}; write a path below that folder, or give "
                f"the folder that holds the file as {option}"
            )
    return Found(found, [])


def linked_outside(folder: Path, found: Mapping[str, MaskPath]) -> list[str]:
    """The cases with a file that is reached through a symbolic link that leads out of the folder."""
    root = _real(folder)

    def is_inside(path: Path) -> bool:
        return _real(path).is_relative_to(root)

    return [
        case
        for case, path in found.items()
        if not all(map(is_inside, path.files.values() if isinstance(path, StructureFiles) else [path]))
    ]


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # `Path.resolve` raises where links form a loop


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
    if not os.path.isdir(folder):
        raise InputError(f"{option} {folder}: no such folder; correct the path")
    return folder
