"""DICOM segmentation objects as masks: one picture, whose segments name their structures.

pydicom is enough to read them. PS3.3 of the DICOM standard defines the object (A.51) and its segments (C.8.20).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.data.readers import Orientation, dicom, functional_groups
from kneefair_jax.data.readers import spacing as spacings
from kneefair_jax.errors import InputError

_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
}
_GEOMETRY = {"PixelMeasuresSequence": "PixelSpacing", "PlaneOrientationSequence": "ImageOrientationPatient"}


class Segmentation(NamedTuple):
    """A mask and the names of its labels.

    Attributes:
        segment: i64[H, W], the number of each pixel's segment; 0 is none.
        names: segment number -> SegmentLabel, those without pixels included.
        spacing: f32[2], mm per pixel down and across of the stored array; NaN where the header does not state it.
        grid: what brings the stored array to the displayed space, None where the header states no orientation.
        notes: what is odd about the header.
        spacing_kind: of `readers.Radiograph`.
    """

    segment: np.ndarray
    names: dict[int, str]
    spacing: np.ndarray
    grid: Orientation | None
    notes: tuple[str, ...] = ()
    spacing_kind: str = "unknown"


def is_segmentation(path: Path) -> bool:
    """Whether a DICOM file is a segmentation object; False for what pydicom cannot read."""
    try:
        header = dicom.load(path, header=True)
    except Exception:  # the reader of DICOM images says what is wrong with the file
        return False
    return header.get("SOPClassUID") in _SOP_CLASSES


def read(path: Path) -> Segmentation:
    """Reads a segmentation of one picture, of the type BINARY or LABELMAP.

    Raises:
        InputError: the file is damaged, lossy, FRACTIONAL or a volume, its segments overlap, two have the same label,
            or its spacing is not plausible.
    """
    try:
        dataset = dicom.load(path)
        dicom.require_lossless(dataset, path)
        kind = dataset.get("SegmentationType")
        if kind not in ("BINARY", "LABELMAP"):
            raise InputError(
                f"{path}: a DICOM-SEG of the type {kind}, which holds no labels; export it as BINARY or LABELMAP"
            )
        names = {
            int(segment.SegmentNumber): str(segment.SegmentLabel).strip()
            for segment in dataset.SegmentSequence
        }
        dicom.require_size(dataset, path)
        frames = _frames(dataset)
        if kind == "LABELMAP":
            segment = _label_map(frames, path)
        else:
            segment, names = _joined(dataset, frames, names, path)
        stated, spacing_kind, notes = spacings.of_dicom(dataset, path)
        spacing = spacings.checked(stated, path)
        _require_one_geometry(dataset, path)
        grid, _ = dicom.geometry(dataset)
    except InputError:
        raise
    except Exception as error:  # a missing element, or pixels that cannot be decoded
        raise InputError(f"{path}: unreadable DICOM-SEG ({error}); export it again") from error
    names.pop(0, None)  # a label map may describe its background
    if unknown := sorted(set(np.unique(segment).tolist()) - {0, *names}):
        raise InputError(
            f"{path}: holds the segment number {unknown[0]}, which its header does not describe; export it again"
        )
    if len(set(names.values())) < len(names):
        raise InputError(f"{path}: two segments have the same label; export one segment a structure")
    return Segmentation(segment, names, spacing, grid, notes, spacing_kind)


def _frames(dataset: Any) -> np.ndarray:
    """Frames [F, H, W]."""
    frames = dataset.pixel_array
    return frames[None] if frames.ndim == 2 else frames


def _label_map(frames: np.ndarray, path: Path) -> np.ndarray:
    _require_one_picture(len(frames) > 1, path)
    return frames[0].astype(np.int64)


def _joined(
    dataset: Any, frames: np.ndarray, names: dict[int, str], path: Path
) -> tuple[np.ndarray, dict[int, str]]:
    """One binary frame a segment -> segment numbers, i64[H, W], and their names.

    Where two whole bones overlap, their pixels become segments of the classes of `anatomy.OVERLAPS`.
    """
    segment = np.zeros(frames.shape[1:], np.int64)
    classes = dict(names)
    numbers = list(_numbers(dataset, len(frames)))
    _require_one_picture(len(set(numbers)) < len(numbers), path)
    for number, frame in zip(numbers, frames, strict=True):
        covered = np.where(frame > 0, segment, 0)
        segment[frame > 0] = number
        for other in np.unique(covered[covered > 0]).tolist():
            overlap = anatomy.shared_class(names.get(other, ""), names.get(number, ""))
            if overlap is None:
                raise InputError(
                    f"{path}: the segments {classes.get(other)!r} and {names.get(number)!r} overlap, and a mask has "
                    "one structure a pixel; export segments that do not overlap"
                )
            of_both = 1 + max(*classes, *numbers)
            classes |= {
                other: anatomy.class_beside(names[other]),
                number: anatomy.class_beside(names[number]),
                of_both: overlap,
            }
            segment[covered == other] = of_both
    return segment, classes


def _numbers(dataset: Any, frames: int) -> Iterator[int]:
    """The segment number of each frame: stated by frame, or once for all."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [None]
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or [None] * frames
    for group in groups:
        stated = [
            one for one in (group, shared[0]) if one is not None and "SegmentIdentificationSequence" in one
        ]
        yield int(stated[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _require_one_picture(several: bool, path: Path) -> None:
    if several:
        raise InputError(f"{path}: a DICOM-SEG of several pictures; give one file for each radiograph")


def _require_one_geometry(dataset: Any, path: Path) -> None:
    for macro, name in _GEOMETRY.items():
        values = [item.get(name) for item in functional_groups.items(dataset, macro)]
        if any(value != values[0] for value in values):
            raise InputError(
                f"{path}: its frames state different values of {name}; export all segments on one grid"
            )
