"""Which pixel spacings are millimeters of the bones, and which are refused.

A bone in front of the detector is magnified on it, by 5 to 20 %. With the spacing at the detector, a site that places
its patients farther from the detector would have larger knees, so this spacing is refused.

Kinds are those of `data.readers.Radiograph.bone_spacing_kind`.
"""

from typing import NamedTuple

import numpy as np

from kneefair_jax.errors import InputError

DRAWN = "drawn"  # of phantoms
# Kinds in the plane of the bones; a table of the user or an option states the last two.
IN_BONES = ("calibrated", "magnification", "distances", DRAWN, "table", "stated")
AT_DETECTOR = {
    "detector": "the spacing is that of the detector (ImagerPixelSpacing), where bones are magnified",
    "scanned": "the spacing is that of the scanned film (NominalScannedPixelSpacing), where bones are magnified",
    "header": "the header of a NIfTI file does not state whether its spacing is that of the detector, where bones are "
    "magnified",
    "uncalibrated": "the header's PixelSpacing states no calibration, so it may be that of the detector, where bones "
    "are magnified",
}
_REMEDY = "state the magnification (--magnification, or a column of this name), or the spacing in the table"
UNKNOWN = "the pixel spacing is unknown: state it (column spacing_mm of the table of cases)"
NO_MAGNIFICATION = (
    "states the spacing in the plane of the bones, so that no magnification applies; leave one of the two"
)
LARGEST_MAGNIFICATION = 1.5  # as `data.readers.limits.MAX_MAGNIFICATION`


class BoneSpacing(NamedTuple):
    """The pixel spacing of a film in the plane of the bones.

    Attributes:
        mm: mm of a pixel down and across, None if nothing is known of it.
        kind: where it comes from; `detector, magnification stated` where a stated magnification corrects it.
        refusal: why `mm` is not the size of a pixel in the plane of the bones; "" if it is.
    """

    mm: tuple[float, float] | None
    kind: str
    refusal: str


def check_magnification(magnification: float, source: str) -> float:
    """Return a magnification, or NaN where none is stated.

    Raises:
        InputError: it is not between 1 and 1.5; the message names its source, an option or a cell.
    """
    if not np.isnan(magnification) and not 1 <= magnification <= LARGEST_MAGNIFICATION:
        raise InputError(f"{source} {magnification:g}: give a number from 1 to {LARGEST_MAGNIFICATION:g}")
    return magnification


def bone_spacing(spacing: np.ndarray, kind: str, magnification: float = float("nan")) -> BoneSpacing:
    """Return the spacing in the plane of the bones, or why it is not known.

    Args:
        spacing: f[2], mm per pixel down and across; NaN where unknown.
        kind: of the spacing.
        magnification: of the bones on the detector, as the user states it; NaN if nothing is stated.

    Raises:
        InputError: the magnification is not between 1 and 1.5.
    """
    check_magnification(magnification, "magnification")
    if not np.isfinite(spacing).all():
        return BoneSpacing(None, "unknown", UNKNOWN)
    down, across = (float(mm) for mm in spacing)
    if kind in IN_BONES:
        return BoneSpacing((down, across), kind, "")
    if np.isfinite(magnification):
        return BoneSpacing(
            (down / magnification, across / magnification), f"{kind}, magnification stated", ""
        )
    return BoneSpacing(
        (down, across), kind, f"{AT_DETECTOR.get(kind, f'spacing of the kind {kind}')}: {_REMEDY}"
    )
