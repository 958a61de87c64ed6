"""Distances between predicted and true surfaces, per case and structure, in mm; on the host, by NumPy and SciPy.

A structure's surface is its pixels with a neighbour up, down, left or right that is not of the structure. Beyond the
image's border there is no neighbour, so where the image cuts a structure off, that is no surface.

A structure that is absent from both prediction and truth scores NaN, to be left out of means with its count shown;
one that is absent from one alone scores the image's diagonal (distances) and 0 (NSD).

Away from the border MONAI agrees, to f32 (`get_mask_edges` without `use_subvoxels`, `symmetric=True`): its percentiles
are of each direction, interpolated, and its pixels count alike. Where others differ (MONAI 1.6, surface-distance 0.1;
`benchmarks/surface_parity.py` finds the largest differences, and `tests/metrics/test_surface_disagreements.py` has an
example of each, worked out by hand):

* The image's border is surface to both. Bones that leave the picture then agree where nobody drew a contour.
* A structure absent from one alone: MONAI's HD95 is NaN, which its means leave out, and its ASSD infinite; to
  surface-distance both are infinite. Here they are the diagonal: a missed bone costs something, and means exist.
* Absent from both: surface-distance's HD95 is infinite; NaN to MONAI, as here.
* surface-distance 0.1 ends with an AttributeError (`np.Inf`) under NumPy 2 wherever a mask is empty.
* Its surface consists of the corners of pixels, each weighted by the length of contour there: distances are those of
  outlines half a pixel further out, shorter between two single pixels. Its percentile does not interpolate, and its
  average is two averages, one for each direction.
* A distance of exactly the tolerance: with 0.1 or 0.2 mm in f32 it exceeds 1 mm in surface-distance; here it is within.
* An unknown spacing (NaN): MONAI ends with a ValueError.

All take a spacing in the order of the array's axes, down and across; DICOM's PixelSpacing is that too, while NIfTI's
zooms and SimpleITK's spacing begin across.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import KDTree

from kneefair_jax.metrics.label_range import check_labels

# Spacings are stored as f32: five pixels of 0.2 mm are 1.00000001 mm, which is within 1 mm.
_ROUNDING = 1e-6

# Cases whose surfaces share a tree. More are no faster: a larger tree no longer fits the cache.
_TOGETHER = 8


def surface_distances(
    prediction: np.ndarray, truth: np.ndarray, structures: int, spacing: ArrayLike, tolerance_mm: float = 1.0
) -> dict[str, np.ndarray]:
    """HD95, ASSD and NSD of one case, or of many of one size; many are shared out over threads.

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
        prediction: integers [..., H, W], background as 0 and structures as 1..S; void pixels as 0 in both masks.
        truth: integers [..., H, W].
        structures: S.
        spacing: f[..., 2], mm per pixel down and across, of each case or of all; where either is unknown (not finite),
            all scores are NaN.
        tolerance_mm: how far apart surfaces may be that count as the same.

    Returns:
        `hd95_mm`, `assd_mm` (mm) and `nsd` (in [0, 1]), f64[..., S] each.

    Raises:
        ValueError: the shapes differ, a mask holds another label (`label_range.check_labels`), or a spacing is not
            positive.

    Example:
        >>> truth = np.zeros((8, 8), np.uint8)
        >>> truth[2:5, 2:5] = 1
        >>> scores = surface_distances(np.roll(truth, 1, axis=1), truth, structures=1, spacing=(0.5, 0.5))
        >>> {name: values.tolist() for name, values in scores.items()}
        {'hd95_mm': [0.5], 'assd_mm': [0.25], 'nsd': [1.0]}
    """
    if prediction.shape != truth.shape or truth.ndim < 2:
        raise ValueError(f"prediction and truth must both be [..., H, W]: {prediction.shape}, {truth.shape}")
    check_labels(structures, prediction=prediction, truth=truth)
    *many, height, width = truth.shape
    spacing = np.asarray(spacing, float)
    if spacing.ndim < 1 or spacing.shape[-1] != 2 or (spacing <= 0).any():
        raise ValueError(f"spacing must be two positive numbers, mm per pixel down and across: {spacing}")
    spacing = np.broadcast_to(spacing, (*many, 2)).reshape(-1, 2)
    predicted, true = (mask.reshape(-1, height, width) for mask in (prediction, truth))
    known = np.isfinite(spacing).all(1)
    scores = np.full((len(spacing), structures, 3), np.nan)

    def fill(rows: np.ndarray) -> None:
        scores[rows] = _measure(predicted[rows], true[rows], structures, spacing[rows], tolerance_mm)

    rows = np.flatnonzero(known)
    parts = np.split(rows, range(_TOGETHER, len(rows), _TOGETHER))
    if len(parts) > 1:
        with ThreadPoolExecutor() as pool:
            list(pool.map(fill, parts))
    elif len(rows):
        fill(rows)
    scores = scores.reshape(*many, structures, 3)
    return {name: scores[..., k] for k, name in enumerate(("hd95_mm", "assd_mm", "nsd"))}


class _Surfaces(NamedTuple):
    """Surface pixels of the S structures of N cases.

    Attributes:
        owner: i64[K], which surface a pixel is of: case x S + structure.
        place: f64[K, 3], mm down, mm across, and where the surface lies on an axis that keeps all apart.
        size: i64[N S], pixels of each surface.
        full: bool[N S], where a structure fills the image, and so has none.
    """

    owner: np.ndarray
    place: np.ndarray
    size: np.ndarray
    full: np.ndarray


def _measure(
    prediction: np.ndarray, truth: np.ndarray, structures: int, spacing: np.ndarray, tolerance_mm: float
) -> np.ndarray:
    """HD95, ASSD and NSD of N cases of known spacing, f64[N, S, 3]."""
    diagonal = np.hypot(*(spacing * truth.shape[1:]).T)
    p, t = (_surfaces(label, structures, spacing, 2 * diagonal.max()) for label in (prediction, truth))
    far = np.repeat(diagonal, structures)
    absent = (p.size + t.size == 0) & ~p.full & ~t.full
    neither = np.where(absent, np.nan, np.where(p.full & t.full, 0.0, far))
    scores = np.stack([neither, neither, np.where(p.full & t.full, 1.0, 0 * neither)], axis=-1)
    both = (p.size > 0) & (t.size > 0)
    if both.any():
        there, back = _distances(p, t, both), _distances(t, p, both)
        hd95 = np.maximum(_percentiles(*there, len(both), 0.95), _percentiles(*back, len(both), 0.95))
        owner, distance = (np.concatenate(ends) for ends in zip(there, back, strict=True))
        within = distance <= tolerance_mm * (1 + _ROUNDING)
        pooled = [np.bincount(owner, values, len(both)) for values in (distance, within)]
        scores[both] = np.stack([hd95, *(pooled / np.maximum(p.size + t.size, 1))], axis=-1)[both]
    return scores.reshape(len(truth), structures, 3)


def _surfaces(label: np.ndarray, structures: int, spacing: np.ndarray, apart: float) -> _Surfaces:
    # Pixels with another label beside them: the surfaces of all structures at once.
    edge = np.zeros(label.shape, bool)
    down, across = label[:, 1:] != label[:, :-1], label[:, :, 1:] != label[:, :, :-1]
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge &= label > 0
    pixel = np.flatnonzero(edge)
    case, y, x = np.unravel_index(pixel, label.shape)
    owner = case * structures + label.reshape(-1)[pixel].astype(np.int64) - 1
    place = np.stack([y * spacing[case, 0], x * spacing[case, 1], owner * apart], axis=-1)
    size = np.bincount(owner, minlength=len(label) * structures)
    first = label[:, 0, 0, None] == np.arange(1, structures + 1)
    return _Surfaces(owner, place, size, first.reshape(-1) & (size == 0))


def _distances(origin: _Surfaces, target: _Surfaces, both: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From every pixel of one side to the nearest of the same surface of the other: owners and mm, each [K]."""
    # Another surface is further away than any pixel of the same, so that one tree serves them all.
    tree = KDTree(target.place, leafsize=32, compact_nodes=False, balanced_tree=False)
    asked = both[origin.owner]
    return origin.owner[asked], tree.query(origin.place[asked])[0]


def _percentiles(owner: np.ndarray, values: np.ndarray, owners: int, share: float) -> np.ndarray:
    """The percentile of each owner's values, interpolated linearly; f64[owners], anything for who has none."""
    values = values[np.lexsort((values, owner))]
    size = np.bincount(owner, minlength=owners)
    place = np.maximum(size - 1, 0) * share
    below = np.minimum(np.cumsum(size) - size + place.astype(np.int64), len(values) - 1)
    above = np.minimum(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place % 1)
