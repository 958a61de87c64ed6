"""What an equal error at the boundary costs structures of unequal size; on the host, by NumPy and SciPy.

A contour that is off by a millimetre costs a small bone more Dice than a large one. So a group of smaller bones scores
worse although its contours are as good; `fairness.size_expected` takes that apart from the rest.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

# Spacings are stored as f32: five pixels of 0.2 mm are 1.00000001 mm, which is within 1 mm.
_ROUNDING = 1e-6


def boundary_errors(
    truth: np.ndarray, structures: int, spacing: ArrayLike, distance_mm: float
) -> dict[str, np.ndarray]:
    """The errors of one case if every contour were off by the same distance everywhere.

    Each true structure is dilated and eroded by a disc of radius d, the distance but at least one pixel; the truth is
    scored against both, and the two errors are averaged. Distances are exact and between pixel centres, so a radius
    acts in the steps that the grid has. As for `surface_distances`, the image's border is no surface: nothing is
    eroded from there.

    Args:
        truth: integers [H, W], structures as 1..S.
        structures: S.
        spacing: mm per pixel down and across; where either is unknown (not finite), d is one pixel.
        distance_mm: how far contours are off; NaN where that is unknown, for one pixel.

    Returns:
        `dice` and `iou`: errors 1 - S, f64[S] each in [0, 1]; NaN where the structure is absent.

    Raises:
        ValueError: the truth is not [H, W], or a spacing is not positive.

    Example:
        >>> truth = np.zeros((16, 16), np.uint8)
        >>> truth[3:13, 3:13] = 1  # 100 pixels, 140 with one more all round, 64 with one less
        >>> boundary_errors(truth, 1, (0.5, 0.5), distance_mm=0.3)["dice"].round(4)
        array([0.1931])
    """
    spacing = np.asarray(spacing, float)
    if truth.ndim != 2 or spacing.shape != (2,) or (spacing <= 0).any():
        raise ValueError(f"give [H,W] and two positive numbers, mm per pixel: {truth.shape}, {spacing}")
    if not np.isfinite(spacing).all():
        spacing, distance_mm = np.ones(2), math.nan
    pixel = float(spacing.max())
    radius = (pixel if math.isnan(distance_mm) else max(distance_mm, pixel)) * (1 + _ROUNDING)
    margin = np.floor(radius / spacing).astype(int) + 1
    errors = np.full((structures, 2), np.nan)
    for s, box in enumerate(ndimage.find_objects(truth, structures)):
        if box is not None:
            wider = tuple(
                slice(max(side.start - more, 0), side.stop + more)
                for side, more in zip(box, margin, strict=True)
            )
            errors[s] = _off_by(truth[wider] == s + 1, spacing, radius)
    return dict(zip(("dice", "iou"), errors.T, strict=True))


def _off_by(mask: np.ndarray, spacing: np.ndarray, radius: float) -> tuple[float, float]:
    """Mean error by Dice and by IoU of a mask, dilated and eroded."""
    if mask.all():  # it fills the image, and has no surface
        return 0.0, 0.0
    true = mask.sum()
    dilated = (ndimage.distance_transform_edt(~mask, spacing) <= radius).sum()
    eroded = (ndimage.distance_transform_edt(mask, spacing) > radius).sum()
    # One contains the other: their intersection is the smaller, their union the larger.
    dice = 2 * true / (true + dilated), 2 * eroded / (true + eroded)
    iou = true / dilated, eroded / true
    return 1 - sum(dice) / 2, 1 - sum(iou) / 2
