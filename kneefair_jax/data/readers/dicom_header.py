"""Reads what a DICOM header states of a film: pixel spacing, orientation, and the knee that it shows.

Reference:
    PS3.3 of the DICOM standard. Multi-frame objects state attributes of all frames, or by frame (C.7.6.16).
    FrameLaterality (C.7.6.16.2.8) is of a frame, ImageLaterality (C.7.6.1, C.8.11) of an image and Laterality (C.7.3.1)
    of a series. They "shall be consistent", so inconsistent tags are ignored.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kneefair_jax.data.readers import orientation
from kneefair_jax.data.readers.limits import (
    MAX_MAGNIFICATION,
    SPACING_REMEDY,
    UNKNOWN_SPACING,
    exceeds_magnification,
    format_mm,
    require_spacing,
    same_spacing,
)
from kneefair_jax.data.readers.orientation import NONE, Orientation
from kneefair_jax.errors import InputError

# Field -> kind, in order of precedence: PixelSpacing may be calibrated on an object in the film.
_SPACINGS = {
    "ImagerPixelSpacing": "detector",
    "PixelSpacing": "calibrated",
    "NominalScannedPixelSpacing": "scanned",
}
SIDE_COLUMNS = ("side", "laterality")  # of tables, and attributes of groups
SIDES = {"R": "right", "L": "left"}
_CODES = {"R": "R", "RIGHT": "R", "L": "L", "LEFT": "L", "B": "B", "BOTH": "B", "BILATERAL": "B"}


def macro_items(dataset: Any, macro: str) -> list[Any]:
    """Return the first item of a macro: one item if all frames share it, else one for each frame that has it.

    Args:
        dataset: of the file; without functional groups it has no items.
        macro: keyword of the macro's sequence, such as `PlaneOrientationSequence`.
    """
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        first_items = [group.get(macro)[0] for group in dataset.get(groups) or () if group.get(macro)]
        if first_items:
            return first_items
    return []


def attribute(dataset: Any, macro: str, name: str) -> Any:
    """Return an attribute of the header, or else of the macro's first item; None if neither has it."""
    value = dataset.get(name)
    if _is_empty(value) and (items := macro_items(dataset, macro)):
        value = items[0].get(name)
    return None if _is_empty(value) else value


def _is_empty(value: Any) -> bool:
    return value is None or (hasattr(value, "__len__") and not len(value))


def spacing(dataset: Any, path: Path) -> tuple[np.ndarray, str, tuple[str, ...]]:
    """Return the spacing of a DICOM header, its kind, and notes on other fields that disagree or are unusable.

    The first field that is present is used. ImagerPixelSpacing is in the detector's plane, where a bone in front of it
    is magnified; neither it nor PixelSpacing is corrected for magnification.

    Raises:
        InputError: the first field is not one number or two within the plausible range.
    """
    field, mm, notes = "", UNKNOWN_SPACING, []
    for name in _SPACINGS:
        try:
            stated = _stated_spacing(dataset, name, path)
            field_mm = None if stated is None else require_spacing(stated, path, name)
        except InputError:
            if not field:
                raise
            notes.append(f"{name} is not a plausible spacing and is ignored; areas use {field}")
            continue
        if field_mm is None:
            continue
        if not field:
            field, mm = name, field_mm
        elif exceeds_magnification(field_mm, mm):
            notes.append(
                f"{field} {format_mm(mm)} and {name} {format_mm(field_mm)} disagree; areas use {field}"
            )
    return mm, _SPACINGS.get(field, "unknown"), tuple(notes)


def bone_spacing(dataset: Any, path: Path) -> tuple[np.ndarray, str]:
    """Return the best estimate of the spacing in the plane of the bones, f32[2], and its kind.

    Kinds are those of `Radiograph.bone_spacing_kind`. PixelSpacing is calibrated if PixelSpacingCalibrationType says
    so, or if it is smaller than ImagerPixelSpacing: without a calibration, both are equal (PS3.3, 10.7.1.3).
    Otherwise the spacing at the detector is divided by EstimatedRadiographicMagnificationFactor, or by the ratio of
    DistanceSourceToDetector to DistanceSourceToPatient.

    Raises:
        InputError: as `spacing`.
    """
    mm: dict[str, np.ndarray] = {}
    for name in _SPACINGS:
        try:
            stated = _stated_spacing(dataset, name, path)
            if stated is not None:
                mm[name] = require_spacing(stated, path, name)
        except InputError:
            continue  # `spacing` refuses or notes it
    imager, pixel = mm.get("ImagerPixelSpacing"), mm.get("PixelSpacing")
    if pixel is not None:
        has_type = bool(str(dataset.get("PixelSpacingCalibrationType") or "").strip())
        # A bone is larger on the detector, so that its own spacing is smaller.
        differs = imager is not None and not same_spacing(imager, pixel) and bool((pixel < imager).all())
        is_plausible = imager is None or not exceeds_magnification(imager, pixel)
        if is_plausible and (has_type or differs):
            return pixel, "calibrated"
    if imager is not None:
        factor = _number(dataset, "EstimatedRadiographicMagnificationFactor")
        if 1 < factor <= MAX_MAGNIFICATION:
            return imager / np.float32(factor), "magnification"
        detector, patient = (
            _number(dataset, name) for name in ("DistanceSourceToDetector", "DistanceSourceToPatient")
        )
        if 0 < patient < detector <= MAX_MAGNIFICATION * patient:
            return imager * np.float32(patient / detector), "distances"
        return imager, "detector"
    if pixel is not None:
        return pixel, "uncalibrated"
    scanned = mm.get("NominalScannedPixelSpacing")
    return (UNKNOWN_SPACING, "unknown") if scanned is None else (scanned, "scanned")


def _number(dataset: Any, name: str) -> float:
    """Return a field as a number; NaN if it is absent or no number."""
    try:
        return float(dataset.get(name))
    except (TypeError, ValueError):
        return float("nan")


def _stated_spacing(dataset: Any, name: str, path: Path) -> Any:
    """Return a field's value, of the header or of its Pixel Measures; None if it is absent or empty."""
    try:
        stated = attribute(dataset, "PixelMeasuresSequence", name)
    except Exception as error:  # pydicom converts the text here, and raises several errors for words
        cause = " ".join(str(error).split())[:100]
        raise InputError(
            f"{path}: the header's spacing ({name}) is not two numbers in mm ({cause}); {SPACING_REMEDY}"
        ) from error
    return stated if stated is None or isinstance(stated, str) or not np.ndim(stated) else list(stated)


def geometry(dataset: Any) -> tuple[Orientation | None, Orientation]:
    """Return `orientation` and `view` of `Radiograph`, by ImageOrientationPatient, or else by PatientOrientation."""
    if (cosines := directions(dataset)) is not None:
        grid = orientation.of_directions(cosines)
        if grid is not None:
            return grid, NONE
    return None, _letters(dataset) or NONE


def _letters(dataset: Any) -> Orientation | None:
    """Return the orientation by PatientOrientation, None if it states none."""
    letters = dataset.get("PatientOrientation") or ()
    return orientation.of_letters([letters] if isinstance(letters, str) else list(letters))


def directions(dataset: Any) -> list[float] | None:
    """Return ImageOrientationPatient, None if it is absent or not six numbers."""
    return _numbers(dataset, "PlaneOrientationSequence", "ImageOrientationPatient", 6)


def position(dataset: Any) -> list[float]:
    """Return ImagePositionPatient, the origin if it is absent or not three numbers."""
    return _numbers(dataset, "PlanePositionSequence", "ImagePositionPatient", 3) or [0.0, 0.0, 0.0]


def _numbers(dataset: Any, macro: str, name: str, count: int) -> list[float] | None:
    try:
        values = [float(value) for value in attribute(dataset, macro, name) or ()]
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


class Laterality(NamedTuple):
    """The laterality of a header.

    Attributes:
        side: R, L, B (both knees), or "" if the tags are absent or contradict each other.
        bilateral: whether the film shows both knees, by the tags or by a description.
        notes: warnings on the tags.
    """

    side: str = ""
    bilateral: bool = False
    notes: tuple[str, ...] = ()


def laterality(dataset: Any) -> Laterality:
    """Return the laterality of a DICOM header.

    A study of both knees has films of one knee too, so StudyDescription is used only if no tag states a side.
    """
    tags = {
        "FrameLaterality": attribute(dataset, "FrameAnatomySequence", "FrameLaterality"),
        "ImageLaterality": dataset.get("ImageLaterality"),
        "Laterality": dataset.get("Laterality"),
    }
    codes = {name: code for name, value in tags.items() if (code := parse_side(value))}
    side = next(iter(codes.values()), "")
    notes = []
    oriented = geometry(dataset)[0] is not None or _letters(dataset) is not None
    if len(set(codes.values())) > 1:
        side = ""
        contradiction = " and ".join(f"{name} {code}" for name, code in codes.items())
        notes.append(f"{contradiction} contradict each other, so the header states no side")
    if str(dataset.get("FieldOfViewHorizontalFlip") or "").strip().upper() == "YES" and not oriented:
        notes.append(
            "FieldOfViewHorizontalFlip is YES and PatientOrientation states no direction, so right and left of the "
            "film are not known"
        )
    bilateral = "B" in codes.values() or _is_bilateral(dataset, "SeriesDescription")
    if not codes:
        bilateral = bilateral or _is_bilateral(dataset, "StudyDescription")
    return Laterality(side, bilateral, tuple(notes))


def parse_side(text: Any) -> str:
    """Return R, L or B for a code or a word in any case of letters; "" for any other text."""
    return _CODES.get(str(text or "").strip().upper(), "")


def contradiction(header_side: str, source_side: str, source: str) -> str:
    """Return a note if a film's header states one knee and another source the opposite one; else "".

    Args:
        header_side: R, L, B or "".
        source_side: the same, by the other source.
        source: name of the other source, for the note.
    """
    if {header_side, source_side} != set(SIDES):
        return ""
    return (
        f"the header states the {SIDES[header_side]} knee, and {source} the {SIDES[source_side]} knee; correct the "
        "wrong one"
    )


def _is_bilateral(dataset: Any, name: str) -> bool:
    """Return whether a description has the word bilateral: `KNEES, BILATERAL; AP`, `XR_KNEE_BILATERAL`."""
    return bool(re.search(r"(?<![a-z])bilateral(?![a-z])", str(dataset.get(name) or "").lower()))
