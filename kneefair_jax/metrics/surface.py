"""Distances between predicted and true surfaces, per case and structure, in mm, on the host by NumPy and SciPy.

A structure's surface is its pixels with a neighbor above, below, left or right that belongs to another label. The
image's border is not a neighbor, so the border where the image crops a structure is no surface.

A structure that is absent from both prediction and truth scores NaN: means exclude it, and reports show the count. One
that is absent from one of the two scores the image's diagonal (distances) and 0 (NSD).

Away from the border MONAI agrees to f32 (`get_mask_edges` without `use_subvoxels`, `symmetric=True`): it interpolates
the percentile of each direction and gives all pixels equal weight. Other definitions differ (MONAI 1.6,
surface-distance 0.1; `benchmarks/surface_parity.py` finds the largest differences, and
`tests/metrics/test_surface.py` has an example of each by hand):

* Both count the image's border as surface. Bones that the image crops then agree where no contour was drawn.
* A structure absent from one mask: MONAI's HD95 is NaN, which its means exclude, and its ASSD infinite; in
  surface-distance both are infinite. Here they are the diagonal, so that a missed bone is penalized and means exist.
* Absent from both masks: surface-distance's HD95 is infinite; it is NaN in MONAI and here.
* surface-distance 0.1 raises an AttributeError (`np.Inf`) under NumPy 2 for an empty mask.
* Its surface consists of the corners of pixels, each weighted by the length of contour there: distances are those of
  outlines half a pixel further out, shorter between two single pixels. Its percentile does not interpolate, and its
  average is the mean of two averages, one for each direction.
* A distance equal to the tolerance: at 0.1 or 0.2 mm in f32 it exceeds 1 mm in surface-distance; here it is within.
* An unknown spacing (NaN): MONAI raises a ValueError.

All take a spacing in the order of the array's axes, down and across. DICOM's PixelSpacing has the same order; NIfTI's
zooms and SimpleITK's spacing start with across.

A contour that is off by one millimeter costs a small bone more Dice than a large one. So a group with smaller bones has
lower scores although its contours are as good; `boundary_errors` measures this effect, and `fairness.reference_ser`
separates it from the rest.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from scipy.spatial import KDTree

# Spacings are stored as f32: five pixels of 0.2 mm are 1.00000001 mm, which is within 1 mm.
_ROUNDING = 1e-6

# Cases whose surfaces share a tree. A larger tree does not fit the cache and is no faster.
_CASES_PER_TREE = 8


def surface_distances(
    prediction: np.ndarray, truth: np.ndarray, structures: int, spacing: ArrayLike, tolerance_mm: float = 1.0
) -> dict[str, np.ndarray]:
    """Return HD95, ASSD and NSD of one case, or of several cases of one size, in threads.

    With d(p, T) the distance between the centers of a surface pixel p of the prediction and the nearest pixel of the
    true surface T, and d(t, P) likewise:

    * `hd95_mm`: the larger of the 95th percentiles of d(p, T) over P and of d(t, P) over T (Huttenlocher et al. 1993
      define the Hausdorff distance, by the maximum in place of the percentile); percentiles interpolate linearly.
    * `assd_mm`: average symmetric surface distance, the mean of all d(p, T) and d(t, P) together (Heimann et al. 2009).
    * `nsd`: normalized surface distance, the share of all d(p, T) and d(t, P) together that are at most the tolerance
      (Nikolov et al. 2021, counted in pixels of surface).

    A structure that fills the whole image has no surface: it scores 0 mm, 0 mm and 1 against another such mask, and
    against any other mask as if it were absent.

    Args:
        prediction: integers [..., H, W], background as 0 and structures as 1..S; void pixels as 0 in both masks.
        truth: integers [..., H, W].
        structures: S.
        spacing: f[..., 2], mm per pixel down and across, of each case or of all cases; if either is unknown (not
            finite), all scores are NaN.
        tolerance_mm: the largest distance of surfaces that count as equal.

    Returns:
        `hd95_mm`, `assd_mm` (mm) and `nsd` (in [0, 1]), f64[..., S] each.

    Raises:
        ValueError: the shapes differ, a mask holds another label (`check_labels`), or a spacing is not
            positive.

    Example:
        >>> truth = np.zeros((8, 8), np.uint8)
        >>> truth[2:5, 2:5] = 1
        >>> scores = surface_distances(np.roll(truth, 1, axis=1), truth, structures=1, spacing=(0.5, 0.5))
        >>> {name: values.tolist() for name, values in scores.items()}
        {'hd95_mm': [0.5], 'assd_mm': [0.25], 'nsd': [1.0]}
    """
    spacing = np.asarray(spacing, float)
    _check_masks(prediction, truth, structures, spacing)
    *batch, height, width = truth.shape
    spacing = np.broadcast_to(spacing, (*batch, 2)).reshape(-1, 2)
    predicted, true = (mask.reshape(-1, height, width) for mask in (prediction, truth))
    scores = np.full((len(spacing), structures, 3), np.nan)

    def fill(rows: np.ndarray) -> None:
        scores[rows] = _measure(predicted[rows], true[rows], structures, spacing[rows], tolerance_mm)

    rows = np.flatnonzero(np.isfinite(spacing).all(1))
    chunks = np.split(rows, range(_CASES_PER_TREE, len(rows), _CASES_PER_TREE))
    if len(chunks) > 1:
        with ThreadPoolExecutor() as pool:
            list(pool.map(fill, chunks))
    elif len(rows):
        fill(rows)
    scores = scores.reshape(*batch, structures, 3)
    return {name: scores[..., k] for k, name in enumerate(("hd95_mm", "assd_mm", "nsd"))}


def _check_masks(prediction: np.ndarray, truth: np.ndarray, structures: int, spacing: np.ndarray) -> None:
    """Refuse masks and spacings that `surface_distances` cannot compare."""
    if prediction.shape != truth.shape or truth.ndim < 2:
        raise ValueError(f"prediction and truth must both be [..., H, W]: {prediction.shape}, {truth.shape}")
    check_labels(structures, prediction=prediction, truth=truth)
    if spacing.ndim < 1 or spacing.shape[-1] != 2 or (spacing <= 0).any():
        raise ValueError(f"spacing must be two positive numbers, mm per pixel down and across: {spacing}")


class _Surfaces(NamedTuple):
    """Surface pixels of the S structures of N cases.

    Attributes:
        owner: i64[K], the surface of each pixel: case x S + structure.
        position: f64[K, 3], mm down, mm across, and the surface's coordinate on an axis that separates the surfaces.
        size: i64[N S], pixels of each surface.
        full: bool[N S], whether a structure fills the image and so has no surface.
    """

    owner: np.ndarray
    position: np.ndarray
    size: np.ndarray
    full: np.ndarray


def _measure(
    prediction: np.ndarray, truth: np.ndarray, structures: int, spacing: np.ndarray, tolerance_mm: float
) -> np.ndarray:
    """Return HD95, ASSD and NSD of N cases of known spacing, f64[N, S, 3]."""
    diagonal = np.hypot(*(spacing * truth.shape[1:]).T)
    p, t = (_surfaces(label, structures, spacing, 2 * diagonal.max()) for label in (prediction, truth))
    penalty = np.repeat(diagonal, structures)
    absent = (p.size + t.size == 0) & ~p.full & ~t.full
    distance = np.where(absent, np.nan, np.where(p.full & t.full, 0.0, penalty))
    scores = np.stack([distance, distance, np.where(p.full & t.full, 1.0, 0 * distance)], axis=-1)
    comparable = (p.size > 0) & (t.size > 0)
    if comparable.any():
        to_truth, to_prediction = _distances(p, t, comparable), _distances(t, p, comparable)
        surfaces = len(comparable)
        hd95 = np.maximum(*(_percentiles(*pair, surfaces, 0.95) for pair in (to_truth, to_prediction)))
        owner, distance = (np.concatenate(pair) for pair in zip(to_truth, to_prediction, strict=True))
        within = distance <= tolerance_mm * (1 + _ROUNDING)
        pooled = [np.bincount(owner, values, surfaces) for values in (distance, within)]
        scores[comparable] = np.stack([hd95, *(pooled / np.maximum(p.size + t.size, 1))], axis=-1)[comparable]
    return scores.reshape(len(truth), structures, 3)


def _surfaces(label: np.ndarray, structures: int, spacing: np.ndarray, separation: float) -> _Surfaces:
    """Find the surfaces of all structures; `separation`, in mm, exceeds any distance within an image."""
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
    position = np.stack([y * spacing[case, 0], x * spacing[case, 1], owner * separation], axis=-1)
    size = np.bincount(owner, minlength=len(label) * structures)
    at_corner = label[:, 0, 0, None] == np.arange(1, structures + 1)
    return _Surfaces(owner, position, size, at_corner.reshape(-1) & (size == 0))


def _distances(origin: _Surfaces, target: _Surfaces, comparable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return owners and distances in mm, [K] each, from the origin's pixels to the target's same surface."""
    # Other surfaces are further away than any pixel of the same surface, so one tree serves all.
    tree = KDTree(target.position, leafsize=32, compact_nodes=False, balanced_tree=False)
    rows = comparable[origin.owner]
    return origin.owner[rows], tree.query(origin.position[rows])[0]


def _percentiles(owner: np.ndarray, values: np.ndarray, owners: int, share: float) -> np.ndarray:
    """Return the linearly interpolated percentile of each owner's values, f64[owners]; arbitrary without values."""
    values = values[np.lexsort((values, owner))]
    size = np.bincount(owner, minlength=owners)
    rank = np.maximum(size - 1, 0) * share
    lower = np.minimum(np.cumsum(size) - size + rank.astype(np.int64), len(values) - 1)
    upper = np.minimum(lower + 1, len(values) - 1)
    percentiles: np.ndarray = values[lower] + (values[upper] - values[lower]) * (rank % 1)
    return percentiles


def check_labels(structures: int, **masks: np.ndarray) -> None:
    """Refuse masks with a label outside 0 (background) to S, which would count as another structure or as background.

    `overlap` cannot read values in compiled code on the device: there, such a label belongs to no structure.

    Args:
        structures: S.
        masks: name in the message -> label mask of any shape.

    Raises:
        ValueError: a mask is not of integers (or booleans), or holds a label outside 0 to S.

    Example:
        >>> check_labels(2, truth=np.array([[0, 3]]))
        Traceback (most recent call last):
        ValueError: truth: label 3 is not from 0 to S = 2; relabel it, or set void pixels to 0
    """
    for name, mask in masks.items():
        if mask.dtype.kind not in "iub":
            raise ValueError(f"{name}: labels are {mask.dtype}; give integers from 0 to S = {structures}")
        if not mask.size:
            continue
        for label in (int(mask.max()), int(mask.min())):
            if not 0 <= label <= structures:
                raise ValueError(
                    f"{name}: label {label} is not from 0 to S = {structures}; relabel it, or set void pixels to 0"
                )


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
        ValueError: the truth is not [H, W] or holds another label (`check_labels`), or a spacing is not
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
