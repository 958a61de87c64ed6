"""Distances between predicted and true surfaces, per case and structure, in mm; on the host, by NumPy and SciPy.

A structure's surface is its pixels with a neighbour up, down, left or right that is not of the structure. Beyond the
image's border there is no neighbour, so where the image cuts a structure off, that is no surface.

A structure that is absent from both prediction and truth scores NaN, to be left out of means with its count shown;
one that is absent from one alone scores the image's diagonal (distances) and 0 (NSD).
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import KDTree

# Spacings are stored as f32: five pixels of 0.2 mm are 1.00000001 mm, which is within 1 mm.
_ROUNDING = 1e-6


def surface_distances(
    prediction: np.ndarray, truth: np.ndarray, structures: int, spacing: ArrayLike, tolerance_mm: float = 1.0
) -> dict[str, np.ndarray]:
    """HD95, ASSD and NSD of one case.

    With d(p, T) the distance from a surface pixel p of the prediction to the nearest of the true surface T, between
    pixel centres, and d(t, P) likewise:

    * `hd95_mm`: the larger of the 95th percentiles of d(p, T) over P and of d(t, P) over T (Huttenlocher et al. 1993,
      whose Hausdorff distance has the maximum in the percentile's place); percentiles interpolate linearly.
    * `assd_mm`: average symmetric surface distance, the mean of all d(p, T) and d(t, P) together (Heimann et al. 2009).
    * `nsd`: normalised surface distance, the share of all d(p, T) and d(t, P) together that are at most the tolerance
      (Nikolov et al. 2021, counted in pixels of surface).

    A structure that fills the whole image has no surface: it scores 0 mm, 0 mm and 1 against another that does, and
    against anything else as though absent.

    Args:
        prediction: integers [H, W], structures as 1..S.
        truth: integers [H, W].
        structures: S.
        spacing: mm per pixel down and across; where either is unknown (not finite), all scores are NaN.
        tolerance_mm: how far apart surfaces may be that count as the same.

    Returns:
        `hd95_mm`, `assd_mm` (mm) and `nsd` (in [0, 1]), f64[S] each.

    Raises:
        ValueError: the shapes differ, or a spacing is not positive.

    Example:
        >>> truth = np.zeros((8, 8), np.uint8)
        >>> truth[2:5, 2:5] = 1
        >>> scores = surface_distances(np.roll(truth, 1, axis=1), truth, structures=1, spacing=(0.5, 0.5))
        >>> {name: values.tolist() for name, values in scores.items()}
        {'hd95_mm': [0.5], 'assd_mm': [0.25], 'nsd': [1.0]}
    """
    if prediction.shape != truth.shape or prediction.ndim != 2:
        raise ValueError(f"prediction and truth must both be [H,W]: {prediction.shape}, {truth.shape}")
    spacing = np.asarray(spacing, float)
    if spacing.shape != (2,) or (spacing <= 0).any():
        raise ValueError(f"spacing must be two positive numbers, mm per pixel down and across: {spacing}")
    rows = np.full((structures, 3), np.nan)
    if np.isfinite(spacing).all():
        predicted_edge, true_edge = _edge(prediction), _edge(truth)
        diagonal = math.hypot(*(truth.shape * spacing))
        for s in range(structures):
            p, t = prediction == s + 1, truth == s + 1
            if p.any() or t.any():
                predicted = np.argwhere(p & predicted_edge) * spacing
                true = np.argwhere(t & true_edge) * spacing
                if np.array_equal(p, t):
                    rows[s] = 0, 0, 1
                elif len(predicted) and len(true):
                    rows[s] = _between(predicted, true, tolerance_mm)
                else:
                    rows[s] = diagonal, diagonal, 0
    return dict(zip(("hd95_mm", "assd_mm", "nsd"), rows.T, strict=True))


def _edge(label: np.ndarray) -> np.ndarray:
    """Pixels with another label up, down, left or right, bool[H, W]: the surfaces of all structures at once."""
    edge = np.zeros(label.shape, bool)
    down, across = label[1:] != label[:-1], label[:, 1:] != label[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    return edge


def _between(p: np.ndarray, t: np.ndarray, tolerance_mm: float) -> tuple[float, float, float]:
    """HD95, ASSD and NSD of surfaces given as points in mm, f64[N, 2] and f64[M, 2]."""
    there, back = KDTree(t).query(p)[0], KDTree(p).query(t)[0]
    both = np.concatenate([there, back])
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return hd95, both.mean(), (both <= tolerance_mm * (1 + _ROUNDING)).mean()
