"""Pixel spacing as headers state it: checked numbers, and the kind of distance that they are."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kneefair_jax.data.readers import functional_groups
from kneefair_jax.errors import InputError

SMALLEST_MM, LARGEST_MM = 0.01, 5.0  # a micrograph is finer, a thumbnail of a whole leg coarser
_REMEDY = "correct it, or delete it if it is unknown"
_UNITS = ("micrometers", "mm", "meters")
_DISAGREE = 1.5  # the magnification of a bone before the detector is smaller
# In order of precedence: PixelSpacing may have been calibrated on an object in the film.
_TAGS = {
    "ImagerPixelSpacing": "detector",
    "PixelSpacing": "calibrated",
    "NominalScannedPixelSpacing": "scanned",
}


def checked(stated: Any, path: Path, name: str = "", unit: str = "mm") -> np.ndarray:
    """Return f32[2], mm per pixel down and across; NaN where nothing is stated.

    Args:
        stated: one number or two, in mm, or None.
        path: the file, for the message.
        name: of the header's field, for the message.
        unit: of the field, one of `_UNITS`, for the message.

    Raises:
        InputError: it is not one number or two, or not between 0.01 and 5 mm.
    """
    if stated is None:
        return np.full(2, np.nan, np.float32)
    try:
        values = [float(value) for value in np.ravel(np.asarray(stated, dtype=object))]
    except (TypeError, ValueError):
        values = []
    field = f"the header's spacing ({name})" if name else "the header's spacing"
    if len(values) not in (1, 2):
        raise InputError(f"{path}: {field} is {stated!r}, not two numbers in mm; {_REMEDY}")
    if not _plausible(values):
        raise InputError(
            f"{path}: {field} is {_text(values)} mm, not between {SMALLEST_MM} and {LARGEST_MM:g} mm"
            f"{_wrong_unit(values, unit)}; {_REMEDY}"
        )
    return np.array(np.broadcast_to(np.array(values, np.float32), 2))


def of_dicom(dataset: Any, path: Path) -> tuple[np.ndarray | None, str, tuple[str, ...]]:
    """Return the spacing of a DICOM header, its kind, and notes on other fields that disagree or cannot be used.

    The first field that is present is used. ImagerPixelSpacing is in the detector's plane, where a bone that lies
    before it is magnified; neither it nor PixelSpacing is corrected for that here.

    Raises:
        InputError: the field that is used is not one number or two within the plausible range.
    """
    used, spacing, notes = "", None, []
    for name in _TAGS:
        try:
            value = _value(dataset, name, path)
            stated = None if value is None else checked(value, path, name)
        except InputError:
            if spacing is None:
                raise
            notes.append(f"{name} is not a plausible spacing and is ignored; areas are by {used}")
            continue
        if spacing is None:
            used, spacing = name, stated
        elif stated is not None and np.abs(np.log(stated / spacing)).max() > math.log(_DISAGREE):
            notes.append(
                f"{used} {_text(spacing)} mm and {name} {_text(stated)} mm disagree; areas are by {used}"
            )
    return spacing, _TAGS[used] if spacing is not None else "unknown", tuple(notes)


def _value(dataset: Any, name: str, path: Path) -> Any:
    """A field's value, of the header or of its Pixel Measures; None where it is absent or empty."""
    try:
        value = functional_groups.value(dataset, "PixelMeasuresSequence", name)
    except (
        Exception
    ) as error:  # pydicom converts the text now, and raises several errors for what is no number
        what = " ".join(str(error).split())[:100]
        raise InputError(
            f"{path}: the header's spacing ({name}) is not two numbers in mm ({what}); {_REMEDY}"
        ) from error
    return value if value is None or isinstance(value, str) or not np.ndim(value) else list(value)


def _plausible(values: Sequence[float]) -> bool:
    return all(SMALLEST_MM <= np.float32(value) <= LARGEST_MM for value in values)


def _wrong_unit(values: Sequence[float], unit: str) -> str:
    """The hint that another unit would make a spacing in mm plausible; "" where none would."""
    stated = _UNITS.index(unit)
    for number, actual in enumerate(_UNITS):
        if abs(number - stated) == 1 and _plausible(
            [value * 1000.0 ** (number - stated) for value in values]
        ):
            return f" ({actual} labeled as {unit}? correct the unit)"
    return ""


def _text(spacing: Iterable[float]) -> str:
    return " x ".join(f"{value:.5g}" for value in spacing)
