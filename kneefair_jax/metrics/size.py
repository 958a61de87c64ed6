"""The effect of an equal boundary error on structures of unequal size, on the host by NumPy and SciPy.

A contour that is off by one millimeter costs a small bone more Dice than a large one. So a group with smaller bones has
lower scores although its contours are as good; `fairness.reference_ser` separates this effect from the rest.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from kneefair_jax.metrics.label_maps import check_labels


def boundary_errors(
    truth: np.ndarray, structures: int, spacing: ArrayLike, distance_mm: float
) -> dict[str, np.ndarray]:
    """Return the errors of one case if every contour were off by the same distance everywhere.

    Each true structure is dilated and eroded by a disc of radius d; the truth is scored against both, and the two
    errors are averaged. A pixel that the new contour crosses counts in part, by its center's distance from the
    contour, so that the score of a bone does not depend on the size of its pixels. As for `surface_distances`, the
    image's border is no surface, so erosion does not start there.

    Args:
        truth: integers [H, W], background as 0 and structures as 1..S; void pixels as 0.
        structures: S.
        spacing: mm per pixel down and across; if either is unknown (not finite), d is one pixel.
        distance_mm: d; NaN, if it is unknown, stands for one pixel.

    Returns:
        `dice` and `iou`: errors 1 - S, f64[S] each in [0, 1]; NaN where the structure is absent.

    Raises:
        ValueError: the truth is not [H, W] or holds another label (`label_maps.check_labels`), or a spacing is not
            positive.

    Example:
        >>> truth = np.zeros((16, 16), np.uint8)
        >>> truth[3:13, 3:13] = 1  # 100 pixels; dilated 140 and most of the corners, eroded 64
        >>> boundary_errors(truth, 1, (0.5, 0.5), distance_mm=0.5)["dice"].round(4)
        array([0.1979])
    """
    spacing = np.asarray(spacing, float)
    if truth.ndim != 2 or spacing.shape != (2,) or (spacing <= 0).any():
        raise ValueError(f"give [H,W] and two positive numbers, mm per pixel: {truth.shape}, {spacing}")
    check_labels(structures, truth=truth)
    if not np.isfinite(spacing).all() or np.isnan(distance_mm):
        spacing, distance_mm = np.ones(2), 1.0
    margin = np.floor(distance_mm / spacing).astype(int) + 2
    errors = np.full((structures, 2), np.nan)
    for s, box in enumerate(ndimage.find_objects(truth, structures)):
        if box is not None:
            padded_box = tuple(
                slice(max(side.start - pad, 0), side.stop + pad)
                for side, pad in zip(box, margin, strict=True)
            )
            errors[s] = _offset_errors(truth[padded_box] == s + 1, spacing, distance_mm)
    return dict(zip(("dice", "iou"), errors.T, strict=True))


def _offset_errors(mask: np.ndarray, spacing: np.ndarray, distance: float) -> tuple[float, float]:
    """Return the mean error in Dice and in IoU of a mask dilated and eroded by a distance."""
    if mask.all():  # it fills the image and has no surface
        return 0.0, 0.0
    true = float(mask.sum())
    dilated = true + np.clip(1 - _share_beyond(~mask, spacing, distance), 0, 1).sum()
    eroded = np.clip(_share_beyond(mask, spacing, distance), 0, 1).sum()
    # One mask contains the other: their intersection is the smaller one, their union the larger one.
    dice = 2 * true / (true + dilated), 2 * eroded / (true + eroded)
    iou = true / dilated, eroded / true
    return 1 - sum(dice) / 2, 1 - sum(iou) / 2


def _share_beyond(mask: np.ndarray, spacing: np.ndarray, distance: float) -> np.ndarray:
    """Return the share of each pixel of a mask that is further than a distance from its edge, f64[pixels].

    At most 0 if the contour at that distance excludes the pixel, at least 1 if it contains the pixel.
    """
    from_edge, nearest = ndimage.distance_transform_edt(mask, spacing, return_indices=True)
    steps = np.abs(nearest - np.indices(mask.shape)).max(0)[mask]
    share: np.ndarray = (from_edge[mask] - distance) * steps / from_edge[mask]
    return share
