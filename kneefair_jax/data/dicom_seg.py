"""Reads DICOM segmentation objects of one image, whose segments name their structures, with pydicom.

PS3.3 of the DICOM standard defines the object (A.51) and its segments (C.8.20).
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.data.readers import Orientation, dicom, dicom_header
from kneefair_jax.errors import InputError

_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
}
_GEOMETRY = {"PixelMeasuresSequence": "PixelSpacing", "PlaneOrientationSequence": "ImageOrientationPatient"}


class Segmentation(NamedTuple):
    """A mask and the names of its labels.

    Attributes:
        segment: i64[H, W], the number of each pixel's segment; 0 for none.
        names: segment number -> SegmentLabel, including segments without pixels.
        spacing: f32[2], mm per pixel down and across of the stored array; NaN where the header does not state it.
        grid: the orientation of the stored array in the displayed space, None where the header states none.
        notes: warnings on the header.
        spacing_kind: of `readers.Radiograph`.
    """

    segment: np.ndarray
    names: dict[int, str]
    spacing: np.ndarray
    grid: Orientation | None
    notes: tuple[str, ...] = ()
    spacing_kind: str = "unknown"


def is_segmentation(path: Path) -> bool:
    """Return whether a DICOM file is a segmentation object; False for files that pydicom cannot read."""
    try:
        header = dicom.load(path, header=True)
    except Exception:  # the reader of DICOM images reports the fault of the file
        return False
    return is_segmentation_header(header)


def is_segmentation_header(header: Any) -> bool:
    """Return whether a header is of a segmentation object."""
    return header.get("SOPClassUID") in _SOP_CLASSES


def read(path: Path) -> Segmentation:
    """Read a segmentation of one image, of the type BINARY or LABELMAP.

    Raises:
        InputError: the file is damaged, lossy, FRACTIONAL or a volume, its segments overlap, two have the same label,
            or its spacing is implausible.
    """
    try:
        dataset = dicom.load(path)
        dicom.require_lossless(dataset, path)
        kind = dataset.get("SegmentationType")
        if kind not in ("BINARY", "LABELMAP"):
            raise InputError(
                f"{path}: a DICOM-SEG of the type {kind}, which has no labels; export it as BINARY or LABELMAP"
            )
        names = {
            int(segment.SegmentNumber): str(segment.SegmentLabel).strip()
            for segment in dataset.SegmentSequence
        }
        dicom.require_size(dataset, path)
        frames: np.ndarray = dataset.pixel_array
        frames = frames[None] if frames.ndim == 2 else frames  # [F, H, W]
        if kind == "LABELMAP":
            _require_one_picture(len(frames) > 1, path)
            segment = frames[0].astype(np.int64)
        else:
            segment, names = _join_frames(dataset, frames, names, path)
        spacing, spacing_kind, notes = dicom_header.spacing(dataset, path)
        _require_one_geometry(dataset, path)
        grid, _ = dicom_header.geometry(dataset)
    except InputError:
        raise
    except Exception as error:  # a missing element, or pixels that cannot be decoded
        raise InputError(f"{path}: unreadable DICOM-SEG ({error}); export it again") from error
    names.pop(0, None)  # a label map may describe its background
    if unknown := sorted(set(np.unique(segment).tolist()) - {0, *names}):
        raise InputError(
            f"{path}: contains the segment number {unknown[0]}, which its header does not describe; export it again"
        )
    if len(set(names.values())) < len(names):
        raise InputError(f"{path}: two segments have the same label; export one segment a structure")
    return Segmentation(segment, names, spacing, grid, notes, spacing_kind)


def _join_frames(
    dataset: Any, frames: np.ndarray, names: dict[int, str], path: Path
) -> tuple[np.ndarray, dict[int, str]]:
    """Join one binary frame a segment into segment numbers, i64[H, W], and their names.

    Where two whole bones overlap, their pixels become segments of the classes of `anatomy.OVERLAPS`.
    """
    numbers = list(_segment_numbers(dataset, len(frames)))
    _require_one_picture(len(set(numbers)) < len(numbers), path)
    labels = [names.get(number, "") for number in numbers]

    def refusal(first: int, second: int) -> InputError:
        return InputError(
            f"{path}: the segments {labels[first]!r} and {labels[second]!r} overlap, and a mask has one structure a "
            "pixel; export segments that do not overlap"
        )

    joined, overlaps = join_masks(frames > 0, labels, anatomy.OVERLAPS, refusal)
    classes = dict(names)
    for overlap in overlaps:
        for index in (overlap.first, overlap.second):
            classes[numbers[index]] = anatomy.class_beside(labels[index])
    overlap_numbers = [1 + max(*classes, *numbers) + k for k in range(len(overlaps))]
    classes |= {number: overlap.name for number, overlap in zip(overlap_numbers, overlaps, strict=True)}
    return np.array([0, *numbers, *overlap_numbers], np.int64)[joined], classes


class Overlap(NamedTuple):
    """The class of the pixels that two masks share.

    Attributes:
        name: of the class, in `anatomy.OVERLAPS`.
        first: index of the mask below.
        second: index of the mask above.
    """

    name: str
    first: int
    second: int


def join_masks(
    masks: Sequence[np.ndarray] | np.ndarray,
    names: Sequence[str],
    overlap_classes: Collection[str],
    refusal: Callable[[int, int], InputError],
) -> tuple[np.ndarray, list[Overlap]]:
    """Join masks of one structure each into one array.

    Args:
        masks: N arrays, bool[H, W].
        names: of their structures.
        overlap_classes: those of `anatomy.OVERLAPS` that two whole bones may share.
        refusal: indices of two masks that overlap otherwise -> the error.

    Returns:
        i64[H, W], 0 where no mask is, k + 1 for mask k, N + 1 + k for the k-th overlap; and the overlaps.

    Raises:
        InputError: by `refusal`.
    """
    joined = np.zeros(masks[0].shape, np.int64)
    overlaps: list[Overlap] = []
    for index, mask in enumerate(masks):
        covered = np.where(mask, joined, 0)
        joined[mask] = index + 1
        for value in np.unique(covered[covered > 0]).tolist():
            if value > len(masks):
                raise refusal(overlaps[value - len(masks) - 1].second, index)
            shared = anatomy.shared_class(names[value - 1], names[index])
            if shared is None or shared not in overlap_classes:
                raise refusal(value - 1, index)
            overlaps.append(Overlap(shared, value - 1, index))
            joined[covered == value] = len(masks) + len(overlaps)
    return joined, overlaps


def _segment_numbers(dataset: Any, frames: int) -> Iterator[int]:
    """Yield the segment number of each frame, stated by frame or once for all frames."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [None]
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or [None] * frames
    for frame_group in groups:
        candidates = [group for group in (frame_group, shared[0]) if group is not None]
        identified = next(group for group in candidates if "SegmentIdentificationSequence" in group)
        yield int(identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _require_one_picture(several: bool, path: Path) -> None:
    if several:
        raise InputError(f"{path}: a DICOM-SEG of several images; give one file for each radiograph")


def _require_one_geometry(dataset: Any, path: Path) -> None:
    for macro, name in _GEOMETRY.items():
        values = [item.get(name) for item in dicom_header.macro_items(dataset, macro)]
        if any(value != values[0] for value in values):
            raise InputError(
                f"{path}: its frames have different values of {name}; export all segments on one grid"
            )
