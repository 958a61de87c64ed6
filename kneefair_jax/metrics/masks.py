"""All scores of one pair of masks of any size, on the host, without compilation."""

import numpy as np
from numpy.typing import ArrayLike

from kneefair_jax.metrics.label_maps import confusion_matrix
from kneefair_jax.metrics.surface import surface_distances


def mask_scores(
    prediction: np.ndarray, truth: np.ndarray, structures: int, spacing: ArrayLike
) -> dict[str, np.ndarray]:
    """Return overlap, surface distances and areas of one case.

    Args:
        prediction: integers [H, W], background as 0 and structures as 1..S; void pixels as 0 in both masks.
        truth: integers [H, W].
        structures: S.
        spacing: mm per pixel down and across; NaN where it is unknown.

    Returns:
        `dice`, `iou`, `hd95_mm`, `assd_mm`, `nsd`, `true_area_mm2`, `pred_area_mm2`, f64[S] each: those of
        `surface_distances`; overlaps are NaN where a structure is in neither mask, areas where the spacing is unknown.

    Raises:
        ValueError: the shapes differ, a mask holds another label (`label_maps.check_labels`), or a spacing is not
            positive.

    Example:
        >>> truth = np.array([[1, 1, 0, 0]], np.uint8)
        >>> scores = mask_scores(np.roll(truth, 1), truth, structures=1, spacing=(1.0, 2.0))
        >>> scores["dice"].tolist(), scores["true_area_mm2"].tolist()
        ([0.5], [4.0])
    """
    # First, because it checks shapes, labels and spacings for all scores.
    distances = surface_distances(prediction, truth, structures, spacing)
    counts = confusion_matrix(truth, prediction, structures)
    intersection, in_truth, in_prediction = np.diag(counts)[1:], counts.sum(1)[1:], counts.sum(0)[1:]
    pixel_mm2 = float(np.asarray(spacing, float).prod())
    return {
        "dice": _ratio(2 * intersection, in_truth + in_prediction),
        "iou": _ratio(intersection, in_truth + in_prediction - intersection),
        **distances,
        "true_area_mm2": in_truth * pixel_mm2,
        "pred_area_mm2": in_prediction * pixel_mm2,
    }


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(b > 0, a / np.maximum(b, 1), np.nan)
