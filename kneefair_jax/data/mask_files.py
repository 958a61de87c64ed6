"""Mask files of every kind -> label values: one image, a palette image, a DICOM-SEG, or one file a structure.

`readers.read_mask` gives the numbers of a file; here they get the meaning that palettes, segments' names and file
names give them.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.data import dicom_seg, layouts, palettes, readers
from kneefair_jax.data.readers import limits, suffixes
from kneefair_jax.errors import InputError

# Structure -> the values that stand for it in the files; names of what is no structure included.
Values = Mapping[str, Sequence[int]]
_SAME_SPACING = 0.01  # relative difference of spacings up to which files state the same


class StructureFiles(NamedTuple):
    """The mask of one case in several files, one a structure.

    Attributes:
        files: structure -> its file, whose pixels other than 0 are the structure's.
    """

    files: Mapping[str, Path]

    @property
    def name(self) -> str:
        """The name of the first file."""
        return next(iter(self.files.values())).name

    def __str__(self) -> str:
        """The first file and how many there are."""
        first, *others = map(str, self.files.values())
        return f"{first} and {len(others)} more" if others else first


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


class Mask(NamedTuple):
    """Label values and the pixel spacing of one case.

    Attributes:
        values: integers [H, W].
        spacing: f32[2], mm per pixel down and across as the header states it, NaN where it does not.
        orientation: what was applied to the stored pixels; None where the header states no orientation.
        notes: what is odd about the header or headers.
        spacing_kind: of `readers.Radiograph`; `unknown` where the header states no spacing.
        palette: of a palette image, its file and the indices in use; None for any other file.
    """

    values: np.ndarray
    spacing: np.ndarray
    orientation: readers.Orientation | None = None
    notes: tuple[str, ...] = ()
    spacing_kind: str = "unknown"
    palette: tuple[Path, np.ndarray] | None = None


def read(path: MaskSource, values: Values) -> Mask:
    """Reads the mask of one case.

    The segments of a DICOM-SEG and the files of `StructureFiles` get the first value of the structure that they name.

    Args:
        path: its file or files.
        values: structure -> values; empty where nobody named the structures.

    Raises:
        InputError: a file cannot be read, a segment's label is none of the structures, or files overlap.
    """
    if isinstance(path, MaskArray):
        return Mask(path.values, np.full(2, np.nan, np.float32))
    if isinstance(path, StructureFiles):
        return _joined(path, values)
    if is_dicom_seg(path):
        return _of_segments(path, values)
    index, spacing, orientation, notes, spacing_kind = readers.read_label_file(path)
    palette = palettes.read(path)
    if palette is None:
        return Mask(index, spacing, orientation, notes, spacing_kind)
    labels = palettes.labels(index, palette, _all(values), path)
    return Mask(labels, spacing, orientation, notes, spacing_kind, (path, np.unique(index)))


def segment_names(path: MaskSource) -> list[str]:
    """The labels of a DICOM-SEG's segments; none for any other file.

    Raises:
        InputError: the DICOM-SEG cannot be read.
    """
    if not isinstance(path, Path) or not is_dicom_seg(path):
        return []
    return [*dicom_seg.read(path).names.values()]


def check_palettes(paths: Sequence[MaskSource], values: Values, threads: int | None = None) -> None:
    """Requires that palette images of one folder mean the same by an index (`palettes.check`)."""
    files = [path for path in paths if isinstance(path, Path)]
    palettes.check(files, readers.read_mask, _all(values), threads)


def check_read_palettes(indices: Mapping[Path, np.ndarray], values: Values) -> None:
    """Requires the same of palette images that were read: `Mask.palette`; nothing is decoded again."""
    palettes.check([*indices], indices.__getitem__, _all(values))


def is_dicom_seg(path: Path) -> bool:
    """Whether a file is a DICOM segmentation object, by its name or its first bytes, and by its header."""
    known = suffixes.suffix_of(path.name)
    if not limits.is_present(path) or (known and known not in suffixes.DICOM):
        return False
    return (bool(known) or readers.has_dicom_magic(path)) and dicom_seg.is_segmentation(path)


def _all(values: Values) -> set[int]:
    return {number for numbers in values.values() for number in numbers}


def _of_segments(path: Path, values: Values) -> Mask:
    segment, names, spacing, grid, notes, spacing_kind = dicom_seg.read(path)
    if not values:
        raise InputError(
            f"{path}: a DICOM-SEG of {', '.join(names.values())}, and nobody named the structures; name them, in an "
            "audit with --labels femur=1 tibia=2 ..., in a folder with data.structures"
        )
    table = np.zeros(max(names, default=0) + 1, np.int64)
    present = np.unique(segment[segment > 0]).tolist()
    _require_overlap_classes([names[number] for number in present], values, path)
    for number in present:
        table[number] = values[_structure(names[number], names.values(), values, path)][0]
    orientation = grid or readers.NONE
    return Mask(orientation.apply(table[segment]), orientation.of_pair(spacing), grid, notes, spacing_kind)


def _structure(segment: str, segments: Collection[str], values: Values, path: Path) -> str:
    """Return the structure that a segment's label names, whatever its case: itself, or the union that it is a part of.

    Where the file has the overlap class of a union, the union is the whole bone: no other bone is a part of it.
    """
    plain = {_plain(name): name for name in values}
    wanted = _plain(segment)
    if wanted not in plain and wanted in anatomy.whole_bones(tuple(plain)):
        wanted = anatomy.class_beside(wanted)  # the bone overlaps no other in this file
    if wanted in plain:
        return plain[wanted]
    unions = [name for name in plain if wanted in _parts(name, _overlaps(segments))]
    if len(unions) != 1:
        raise InputError(
            f"{path}: the segment {segment!r} is none of the structures {', '.join(values)}; name them as the segments "
            f"are named (--labels of an audit, data.structures of a folder), such as {segment}=1, or export without it"
        )
    return plain[unions[0]]


def _require_overlap_classes(segments: Collection[str], values: Values, path: Path) -> None:
    """Require the overlap class of a structure in front, which would silently lack its pixels over the other bone."""
    plain = {_plain(name) for name in values}
    for overlap in sorted(_overlaps(segments) - plain):
        if (front := anatomy.OVERLAPS[overlap][0]) in plain:
            raise InputError(
                f"{path}: the {front} overlaps another bone, and the structures {', '.join(values)} hold no class "
                f"{overlap!r}; name it too, or 'whole {front}' in place of {front!r}"
            )


def _overlaps(segments: Collection[str]) -> set[str]:
    return {_plain(name) for name in segments} & anatomy.OVERLAPS.keys()


def _plain(name: str) -> str:
    return " ".join(name.lower().split())


def _parts(union: str, overlaps: set[str]) -> set[str]:
    """Return the classes of a union: of its alternatives with one of the overlap classes, or of all without any."""
    alternatives = anatomy.UNIONS.get(union, ())
    return set(chain(*([one for one in alternatives if not overlaps.isdisjoint(one)] or alternatives)))


def _joined(case: StructureFiles, values: Values) -> Mask:
    singles = {path: _single(path, structure, values) for structure, path in case.files.items()}
    _require_one_layout(singles)
    first = next(iter(singles.values()))
    joined = np.zeros(first.values.shape, np.int64)
    drawn: dict[int, tuple[str, Path]] = {}  # value -> what it was drawn as, and from which file
    notes: dict[str, None] = {}
    for structure, path in case.files.items():
        notes.update(dict.fromkeys(singles[path].notes))
        mask = singles[path].values
        if mask.shape != joined.shape:
            raise InputError(
                f"{path}: has {mask.shape[0]} x {mask.shape[1]} pixels, and {next(iter(case.files.values()))} has "
                f"{joined.shape[0]} x {joined.shape[1]}; export all structures of a case on one grid"
            )
        own = structure if structure in values else anatomy.class_beside(structure)
        covered = joined[mask]
        joined[mask] = values[own][0]
        for value in np.unique(covered[covered > 0]).tolist():
            overlap = anatomy.shared_class(structure, drawn[value][0])
            if overlap is None or overlap not in values:
                raise InputError(
                    f"{path}: overlaps {drawn[value][1]}, and a pixel has one structure; export structures "
                    "that do not overlap"
                )
            joined[mask] = np.where(covered == value, values[overlap][0], joined[mask])
            drawn[values[overlap][0]] = (overlap, path)
        drawn[values[own][0]] = (structure, path)
    stating = next((one for one in singles.values() if np.isfinite(one.spacing).all()), first)
    orientations = [one.orientation for one in singles.values() if one.orientation is not None]
    return Mask(joined, stating.spacing, next(iter(orientations), None), tuple(notes), stating.spacing_kind)


def _require_one_layout(singles: Mapping[Path, Mask]) -> None:
    """Require that the headers of a case's files agree in orientation and spacing."""
    for (path, one), (other_path, other) in combinations(singles.items(), 2):
        if layouts.relation(one.orientation, other.orientation) == layouts.OPEN:
            raise InputError(
                f"{other_path}: only one of the headers of this file and {path} states an orientation; export all "
                "structures of a case in one format, with one header"
            )
        both = np.stack([one.spacing, other.spacing])
        if np.isfinite(both).all() and not np.allclose(both[0], both[1], rtol=_SAME_SPACING):
            raise InputError(
                f"{other_path}: its header states a pixel of {other.spacing[0]:.4g} x {other.spacing[1]:.4g} mm, and "
                f"that of {path} {one.spacing[0]:.4g} x {one.spacing[1]:.4g} mm; correct the wrong header"
            )


def _single(path: Path, structure: str, values: Values) -> Mask:
    """Where the structure is, bool[H, W], and what the header states."""
    mask = read(path, {structure: values.get(structure, (1,))} if is_dicom_seg(path) else {})
    present = np.unique(mask.values[mask.values != 0])
    if present.size > 1:
        raise InputError(
            f"{path}: holds {present.size} values besides 0, and as one of several files of a case it is of the "
            f"structure {structure!r} alone; leave its values at 0 and one other"
        )
    return mask._replace(values=mask.values != 0)
