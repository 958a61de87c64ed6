"""The mask of a case in several files, one a structure, by what the column `mask` of a folder's table says.

The cell `masks/a` stands for `masks/a_femur.png`, `masks/a-femur.npy` or `masks/a/femur.png`, one for each structure.
"""

from collections.abc import Sequence
from pathlib import Path

from kneefair_jax import anatomy
from kneefair_jax.data import readers
from kneefair_jax.data.mask_files import MaskPath, StructureFiles
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError


def find(path: Path, structures: Sequence[str]) -> MaskPath:
    """The files of a case, one a structure; the path itself where it is a file, or where there are no such files.

    Args:
        path: what the table says.
        structures: that the files are called by; spaces may be `_` or `-`. In place of overlap classes there may be
            files of whole bones, which overlap.

    Raises:
        InputError: there are files of some structures alone, or two of one.
    """
    if limits.is_present(path) or path.name.lower().endswith(readers.SUFFIXES):
        return path
    if not any(_of_structure(path, structure) for structure in structures):
        structures = anatomy.scored_structures(structures)  # of overlap classes, files of whole bones
    files: dict[str, Path] = {}
    for structure in structures:
        own = _of_structure(path, structure)
        if len(own) > 1:
            raise InputError(
                f"{path}: has {len(own)} files of {structure!r}, {own[0]} and {own[1]}; leave one"
            )
        files |= dict.fromkeys([structure], own[0]) if own else {}
    if files and (missing := [name for name in structures if name not in files]):
        raise InputError(
            f"{path}: has one file a structure, such as {next(iter(files.values()))}, and none of {missing[0]!r}; add "
            "it (empty where the structure is absent)"
        )
    return StructureFiles(files) if files else path


def files_of(mask: MaskPath) -> tuple[Path, ...]:
    """All files of a case's mask."""
    return tuple(mask.files.values()) if isinstance(mask, StructureFiles) else (mask,)


def _of_structure(path: Path, structure: str) -> list[Path]:
    endings = sorted({structure, structure.replace(" ", "_"), structure.replace(" ", "-")})
    stems = [path.parent / f"{path.name}{mark}{ending}" for mark in "_-" for ending in endings]
    stems += [path / ending for ending in endings]
    candidates = [stem.with_name(stem.name + suffix) for stem in stems for suffix in readers.SUFFIXES]
    return [candidate for candidate in candidates if limits.is_present(candidate)]
