"""Finds mask files, and reads every kind as label values: an image, a palette image, a DICOM-SEG, a file a structure.

`readers.read_mask` returns the numbers in a file; this module interprets them by palettes, segments' names and file
names.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.data import dicom_seg, palettes, readers
from kneefair_jax.data.readers import Mask, limits, orientation
from kneefair_jax.errors import InputError

# Structure, background or void -> its values in the files.
Values = Mapping[str, Sequence[int]]


class StructureFiles(NamedTuple):
    """The mask of one case in several files, one a structure.

    Attributes:
        files: structure -> its file, whose nonzero pixels belong to the structure.
    """

    files: Mapping[str, Path]

    @property
    def name(self) -> str:
        """Return the name of the first file."""
        return next(iter(self.files.values())).name

    def __str__(self) -> str:
        """Return the first file and the number of further files."""
        paths = [*map(str, self.files.values())]
        return f"{paths[0]} and {len(paths) - 1} more" if len(paths) > 1 else paths[0]


class MaskArray(NamedTuple):
    """The mask of one case in memory.

    Attributes:
        name: what messages call it.
        values: integers [H, W].
    """

    name: str
    values: np.ndarray

    def __str__(self) -> str:
        """The name, for messages."""
        return self.name


type MaskPath = Path | StructureFiles
type MaskSource = MaskPath | MaskArray


def read(path: MaskSource, values: Values) -> Mask:
    """Read the mask of one case.

    The segments of a DICOM-SEG and the files of `StructureFiles` get the first value of the structure that they name.

    Args:
        path: its file, files or array.
        values: structure -> values; empty if the user did not name the structures.

    Raises:
        InputError: a file is unreadable, a segment's label is none of the structures, or files overlap.
    """
    if isinstance(path, MaskArray):
        return Mask(path.values)
    if isinstance(path, StructureFiles):
        return _read_structure_files(path, values)
    if is_dicom_seg(path):
        return _read_dicom_seg(path, values)
    mask, palette = readers.read_label_file(path), palettes.read(path)
    if palette is None:
        return mask
    labels = palettes.labels(mask.values, palette, _all_values(values), path)
    return mask._replace(values=labels, palette=(path, np.unique(mask.values)))


def segment_names(path: MaskSource) -> list[str]:
    """Return the labels of a DICOM-SEG's segments; an empty list for any other file.

    Raises:
        InputError: the DICOM-SEG cannot be read.
    """
    if not isinstance(path, Path) or not is_dicom_seg(path):
        return []
    return [*dicom_seg.read(path).names.values()]


def check_palettes(paths: Sequence[MaskSource], values: Values, threads: int | None = None) -> None:
    """Require that an index has the same meaning in all palette images of one folder (`palettes.check`)."""
    files = [path for path in paths if isinstance(path, Path)]
    palettes.check(files, readers.read_mask, _all_values(values), threads)


def check_read_palettes(indices: Mapping[Path, np.ndarray], values: Values) -> None:
    """Require the same of palette images that were read, by `Mask.palette`; nothing is decoded again."""
    palettes.check([*indices], indices.__getitem__, _all_values(values))


def is_dicom_seg(path: Path) -> bool:
    """Return whether a file is a DICOM segmentation object, by its name or its first bytes, and by its header."""
    suffix = readers.suffix_of(path.name)
    if not limits.is_present(path) or (suffix and suffix not in readers.DICOM_SUFFIXES):
        return False
    return (bool(suffix) or readers.has_dicom_magic(path)) and dicom_seg.is_segmentation(path)


def _all_values(values: Values) -> set[int]:
    return {number for numbers in values.values() for number in numbers}


def _read_dicom_seg(path: Path, values: Values) -> Mask:
    segment, names, spacing, grid, notes, spacing_kind = dicom_seg.read(path)
    if not values:
        raise InputError(
            f"{path}: a DICOM-SEG of {', '.join(names.values())} needs the names of the structures; give them in an "
            "audit with --labels femur=1 tibia=2 ..., in a folder with data.structures"
        )
    table = np.zeros(max(names, default=0) + 1, np.int64)
    present = np.unique(segment[segment > 0]).tolist()
    _require_overlap_classes([names[number] for number in present], values, path)
    for number in present:
        table[number] = values[_structure_of(names[number], names.values(), values, path)][0]
    orientation = grid or readers.NONE
    return Mask(orientation.apply(table[segment]), orientation.of_pair(spacing), grid, notes, spacing_kind)


def _structure_of(segment: str, segments: Collection[str], values: Values, path: Path) -> str:
    """Return the structure that a segment's label names, in any case of letters, or the union that contains it.

    If the file has the overlap class of a union, the union is the whole bone, which contains no other bone.
    """
    structures = {_plain(name): name for name in values}
    name = _plain(segment)
    if name not in structures and name in anatomy.whole_bones(tuple(structures)):
        name = anatomy.class_beside(name)  # the bone overlaps no other in this file
    if name in structures:
        return structures[name]
    unions = [union for union in structures if name in _classes_of_union(union, _overlap_classes(segments))]
    if len(unions) != 1:
        raise InputError(
            f"{path}: the segment {segment!r} is none of the structures {', '.join(values)}; name them as the segments "
            f"are named (--labels of an audit, data.structures of a folder), such as {segment}=1, or export without it"
        )
    return structures[unions[0]]


def _require_overlap_classes(segments: Collection[str], values: Values, path: Path) -> None:
    """Require the overlap class of a structure in front, which would otherwise lack its pixels over the other bone."""
    structures = {_plain(name) for name in values}
    for overlap in sorted(_overlap_classes(segments) - structures):
        if (front := anatomy.OVERLAPS[overlap][0]) in structures:
            raise InputError(
                f"{path}: the {front} overlaps another bone, and the structures {', '.join(values)} have no class "
                f"{overlap!r}; name it too, or 'whole {front}' in place of {front!r}"
            )


def _overlap_classes(segments: Collection[str]) -> set[str]:
    return {_plain(name) for name in segments} & anatomy.OVERLAPS.keys()


def _plain(name: str) -> str:
    return " ".join(name.lower().split())


def _classes_of_union(union: str, overlaps: set[str]) -> set[str]:
    """Return the classes of a union: of its alternatives that have one of the overlap classes, or else of all."""
    alternatives = anatomy.UNIONS.get(union, ())
    overlapping = [classes for classes in alternatives if not overlaps.isdisjoint(classes)]
    return set(chain(*(overlapping or alternatives)))


def _read_structure_files(case: StructureFiles, values: Values) -> Mask:
    for (first, path), (second, other_path) in combinations(case.files.items(), 2):
        if path == other_path:
            raise InputError(
                f"{path}: is the file of {first!r} and of {second!r}; rename one of the structures"
            )
    masks = {path: _read_structure_file(path, structure, values) for structure, path in case.files.items()}
    _require_one_layout(masks)
    structures, paths = [*case.files], [*masks]
    first_mask = next(iter(masks.values()))
    for path, mask in masks.items():
        if mask.values.shape != first_mask.values.shape:
            raise InputError(
                f"{path}: has {mask.values.shape[0]} x {mask.values.shape[1]} pixels, and {paths[0]} has "
                f"{first_mask.values.shape[0]} x {first_mask.values.shape[1]}; export all structures of a case on one "
                "grid"
            )

    def refusal(first: int, second: int) -> InputError:
        return InputError(
            f"{paths[second]}: overlaps {paths[first]}, and a pixel has one structure; export structures that do not "
            "overlap"
        )

    joined, overlaps = dicom_seg.join_masks(
        [mask.values for mask in masks.values()], structures, values, refusal
    )
    names = [name if name in values else anatomy.class_beside(name) for name in structures]
    names += [overlap.name for overlap in overlaps]
    labels = np.array([0, *(values[name][0] for name in names)], np.int64)[joined]
    with_spacing = (mask for mask in masks.values() if np.isfinite(mask.spacing).all())
    spacing_mask = next(with_spacing, first_mask)
    orientations = (mask.orientation for mask in masks.values() if mask.orientation is not None)
    notes = dict.fromkeys(chain(*(mask.notes for mask in masks.values())))
    return Mask(
        labels, spacing_mask.spacing, next(orientations, None), tuple(notes), spacing_mask.spacing_kind
    )


def _require_one_layout(masks: Mapping[Path, Mask]) -> None:
    """Require that the headers of a case's files agree in orientation and spacing."""
    for (path, mask), (other_path, other) in combinations(masks.items(), 2):
        if orientation.relation(mask.orientation, other.orientation) == orientation.OPEN:
            raise InputError(
                f"{other_path}: only one of the headers of this file and {path} states an orientation; export all "
                "structures of a case in one format, with one header"
            )
        spacings = np.stack([mask.spacing, other.spacing])
        if np.isfinite(spacings).all() and not limits.same_spacing(*spacings):
            raise InputError(
                f"{other_path}: its header states a pixel of {other.spacing[0]:.4g} x {other.spacing[1]:.4g} mm, and "
                f"that of {path} {mask.spacing[0]:.4g} x {mask.spacing[1]:.4g} mm; correct the wrong header"
            )


def _read_structure_file(path: Path, structure: str, values: Values) -> Mask:
    """Return a mask of one structure, whose values are bool[H, W]."""
    mask = read(path, {structure: values.get(structure, (1,))} if is_dicom_seg(path) else {})
    present = np.unique(mask.values[mask.values != 0])
    if present.size > 1:
        raise InputError(
            f"{path}: contains {present.size} values besides 0, but is the file of one structure, {structure!r}; "
            "export it with 0 and one other value"
        )
    return mask._replace(values=mask.values != 0)


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


def cases_linked_outside(folder: Path, files: Mapping[str, MaskSource]) -> list[str]:
    """Return the cases with a file that is reached through a symbolic link out of the folder."""
    is_inside = inside(folder)
    return [
        case
        for case, source in files.items()
        if not isinstance(source, MaskArray) and not all(map(is_inside, mask_paths(source)))
    ]


def inside(folder: Path) -> Callable[[Path], bool]:
    """Return a test of whether a path is in the folder after all symbolic links."""
    root = os.path.realpath(folder)  # `Path.resolve` raises where links form a loop
    return lambda path: Path(os.path.realpath(path)).is_relative_to(root)
