"""Find files: all below a folder, and the mask of a case in one file or in one file per structure."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kneefair_jax import anatomy
from kneefair_jax.data import readers
from kneefair_jax.data.mask_files import MaskPath, StructureFiles
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError


class Listing(NamedTuple):
    """The files below a folder.

    Attributes:
        paths: of everything but folders, sorted: pipes, devices and broken links too, which their reader refuses.
        errors: one for each folder below that cannot be listed.
    """

    paths: list[Path]
    errors: list[InputError]


def list_files(folder: Path) -> Listing:
    """List the files of a folder and of those below it; links to folders are not followed, as they may form a loop."""
    errors: list[InputError] = []

    def record(error: OSError) -> None:
        cause = (error.strerror or "unknown cause").lower()
        errors.append(InputError(f"{error.filename}: folder cannot be listed ({cause}); permit reading it"))

    paths = [Path(parent, name) for parent, _, names in os.walk(folder, onerror=record) for name in names]
    return Listing(sorted(paths), errors)


def find_mask(path: Path, structures: Sequence[str]) -> MaskPath:
    """Return the mask of a case by the cell of its table: the file at `path`, or one file a structure.

    The cell `masks/a` stands for `masks/a_femur.png`, `masks/a-femur.npy` or `masks/a/femur.png`, one for each
    structure. Files of whole bones, which overlap, may stand in for those of overlap classes.

    Args:
        path: by the table.
        structures: in the files' names; spaces may be `_` or `-`.

    Returns:
        `path` itself where it is a file, or where there is no file of a structure.

    Raises:
        InputError: only some structures have a file, or one has two.
    """
    if limits.is_present(path) or path.name.lower().endswith(readers.SUFFIXES):
        return path
    if not any(_files_of_structure(path, structure) for structure in structures):
        structures = anatomy.scored_structures(structures)
    files: dict[str, Path] = {}
    for structure in structures:
        paths = _files_of_structure(path, structure)
        if len(paths) > 1:
            raise InputError(
                f"{path}: has {len(paths)} files of {structure!r}, {paths[0]} and {paths[1]}; leave one"
            )
        files |= dict.fromkeys([structure], paths[0]) if paths else {}
    if files and (missing := [name for name in structures if name not in files]):
        raise InputError(
            f"{path}: has one file a structure, such as {next(iter(files.values()))}, and none of {missing[0]!r}; add "
            "it (empty where the structure is absent)"
        )
    return StructureFiles(files) if files else path


def mask_paths(mask: MaskPath) -> tuple[Path, ...]:
    """Return all files of a case's mask."""
    return tuple(mask.files.values()) if isinstance(mask, StructureFiles) else (mask,)


def structure_stems(case: str, structure: str) -> list[str]:
    """Return the names, without suffix, that the file of a structure may have: `a_femur`, `a-femur`, `a/femur`.

    Args:
        case: the beginning of the name.
        structure: spaces may be `_` or `-` in the name.
    """
    endings = sorted({structure, structure.replace(" ", "_"), structure.replace(" ", "-")})
    return [f"{case}{mark}{ending}" for mark in "_-/" for ending in endings]


def _files_of_structure(path: Path, structure: str) -> list[Path]:
    stems = [path.parent / stem for stem in structure_stems(path.name, structure)]
    candidates = [stem.with_name(stem.name + suffix) for stem in stems for suffix in readers.SUFFIXES]
    return [candidate for candidate in candidates if limits.is_present(candidate)]
