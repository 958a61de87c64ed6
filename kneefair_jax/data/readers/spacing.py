"""Reads the pixel spacing of headers: checked numbers, and the kind of distance."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kneefair_jax.data.readers import functional_groups
from kneefair_jax.errors import InputError

SMALLEST_MM, LARGEST_MM = 0.01, 5.0  # micrographs are finer, thumbnails of a whole leg coarser
_REMEDY = "correct it, or delete it if it is unknown"
_UNITS = ("micrometers", "mm", "meters")
_MAX_RATIO = 1.5  # exceeds the magnification of a bone by projection
# In order of precedence: PixelSpacing may be calibrated on an object in the film.
_TAGS = {
    "ImagerPixelSpacing": "detector",
    "PixelSpacing": "calibrated",
    "NominalScannedPixelSpacing": "scanned",
}


def checked(spacing: Any, path: Path, name: str = "", unit: str = "mm") -> np.ndarray:
    """Return f32[2], mm per pixel down and across; NaN for None.

    Args:
        spacing: one number or two, in mm, or None.
        path: the file, for the message.
        name: of the header's field, for the message.
        unit: of the field, one of `_UNITS`, for the message.

    Raises:
        InputError: the spacing is not one number or two, or not between 0.01 and 5 mm.
    """
    if spacing is None:
        return np.full(2, np.nan, np.float32)
    try:
        values = [float(value) for value in np.ravel(np.asarray(spacing, dtype=object))]
    except (TypeError, ValueError):
        values = []
    field = f"the header's spacing ({name})" if name else "the header's spacing"
    if len(values) not in (1, 2):
        raise InputError(f"{path}: {field} is {spacing!r}, not two numbers in mm; {_REMEDY}")
    if not _plausible(values):
        raise InputError(
            f"{path}: {field} is {_format(values)} mm, not between {SMALLEST_MM} and {LARGEST_MM:g} mm"
            f"{_wrong_unit(values, unit)}; {_REMEDY}"
        )
    return np.array(np.broadcast_to(np.array(values, np.float32), 2))


def of_dicom(dataset: Any, path: Path) -> tuple[np.ndarray | None, str, tuple[str, ...]]:
    """Return the spacing of a DICOM header, its kind, and notes on other fields that disagree or are unusable.

    The first field that is present is used. ImagerPixelSpacing is in the detector's plane, where a bone in front of it
    is magnified; neither it nor PixelSpacing is corrected for magnification.

    Raises:
        InputError: the first field is not one number or two within the plausible range.
    """
    field, spacing, notes = "", None, []
    for name in _TAGS:
        try:
            value = _value(dataset, name, path)
            field_spacing = None if value is None else checked(value, path, name)
        except InputError:
            if spacing is None:
                raise
            notes.append(f"{name} is not a plausible spacing and is ignored; areas use {field}")
            continue
        if spacing is None:
            field, spacing = name, field_spacing
        elif field_spacing is not None and np.abs(np.log(field_spacing / spacing)).max() > math.log(
            _MAX_RATIO
        ):
            notes.append(
                f"{field} {_format(spacing)} mm and {name} {_format(field_spacing)} mm disagree; areas use {field}"
            )
    return spacing, _TAGS[field] if spacing is not None else "unknown", tuple(notes)


def _value(dataset: Any, name: str, path: Path) -> Any:
    """Return a field's value, of the header or of its Pixel Measures; None if it is absent or empty."""
    try:
        value = functional_groups.value(dataset, "PixelMeasuresSequence", name)
    except (
        Exception
    ) as error:  # pydicom converts the text here, and raises several errors for other text than numbers
        cause = " ".join(str(error).split())[:100]
        raise InputError(
            f"{path}: the header's spacing ({name}) is not two numbers in mm ({cause}); {_REMEDY}"
        ) from error
    return value if value is None or isinstance(value, str) or not np.ndim(value) else list(value)


def _plausible(values: Sequence[float]) -> bool:
    return all(SMALLEST_MM <= np.float32(value) <= LARGEST_MM for value in values)


def _wrong_unit(values: Sequence[float], unit: str) -> str:
    """Return a hint if another unit would make a spacing in mm plausible; else ""."""
    stated_index = _UNITS.index(unit)
    for number, actual in enumerate(_UNITS):
        if abs(number - stated_index) == 1 and _plausible(
            [value * 1000.0 ** (number - stated_index) for value in values]
        ):
            return f" ({actual} labeled as {unit}? correct the unit)"
    return ""


def _format(spacing: Iterable[float]) -> str:
    return " x ".join(f"{value:.5g}" for value in spacing)
