"""Detects faults of a label mask: interpolated labels, and a void label mapped to background.

The checks are pure functions of the values in the file, so that `--mode=check` and an audit share them.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from scipy import ndimage

# A rim is at most this wide, in pixels or as a share of the picture's smaller side.
_RIM_PIXELS, _RIM_SHARE = 4, 1 / 64
# `benchmarks/interpolated_labels.py`: of 400 phantoms at 128 and at 256 pixels and 100 films of both knees each, exact
# or resized by nearest neighbor, the largest share is 0.114; of those resized, turned or moved by linear interpolation,
# the smallest is 0.321 (0.268 where areas are averaged).
_INTERPOLATED = 0.18
_FEWEST_RIMS = 8
_BLOCK = 1 << 20  # pixels counted at a time
# A label with a larger share of rim pixels is a thin structure, such as cartilage between background and bone.
_MAX_RIM_PIXELS = 0.5

# A void band covers most of the structures' outlines, and is thin compared with the picture.
_OUTLINE = 0.5
_BAND_PIXELS, _BAND_SHARE = 2.0, 1 / 24

EXPORT_LABELS = "export the labels again by nearest neighbor, without interpolation"


class Rims(NamedTuple):
    """Rims of labels between two others.

    Attributes:
        rims: their number, along rows and columns.
        share: of rims among the steps over two or more labels, in [0, 1]; 0 if there is no such step.
    """

    rims: int
    share: float

    @property
    def interpolated(self) -> bool:
        """Return whether linear interpolation produced them."""
        return self.rims >= _FEWEST_RIMS and self.share > _INTERPOLATED


def interpolated_rims(label: np.ndarray) -> Rims:
    """Count the rims that interpolation produces between two labels that differ by two or more.

    Linear interpolation between 0 and 4, rounded, gives 1, 2 and 3: labels of other structures. Along each row and
    column, a run of label k, at most four pixels (or 1/64 of the smaller side) long, between a label below k and one
    above it is a rim, if most pixels of label k are not in rims; a border of two labels that differ by two or more is a
    direct step. Exact masks have direct steps, interpolated masks have rims in their place.

    Args:
        label: integers [H, W], as in the file.

    Returns:
        The rims, and their share of rims and direct steps together.

    Example:
        >>> exact = np.zeros((16, 16), np.uint8)
        >>> exact[:, 4:8], exact[:, 8:] = 2, 4
        >>> interpolated_rims(exact)
        Rims(rims=0, share=0.0)
        >>> between = np.where(np.arange(16) == 8, 3, exact)
        >>> between[:4] = 3
        >>> interpolated_rims(between).rims, round(interpolated_rims(between).share, 2)
        (12, 0.43)
    """
    width = max(_RIM_PIXELS, round(_RIM_SHARE * min(label.shape)))
    lines = [_rims_by_block(array, width) for array in (label, label.T)]
    rims = sum(rims[thin <= _MAX_RIM_PIXELS * pixels].sum() for rims, thin, pixels, _ in lines)
    steps = rims + sum(direct for *_, direct in lines)
    return Rims(int(rims), float(rims / steps) if steps else 0.0)


def _rims_by_block(label: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return f64[K] by label: its rims along the rows, the pixels in them, all its pixels; and the direct steps.

    Runs of one pixel take about fifty bytes a pixel, so a block of rows is counted at a time.

    Args:
        label: integers [H, W].
        width: pixels of the widest rim.
    """
    rows = max(1, _BLOCK // label.shape[1])
    sums: dict[int, np.ndarray] = {}
    direct = 0
    for start in range(0, len(label), rows):
        values, *counts, steps = _rims(np.ascontiguousarray(label[start : start + rows]), width)
        direct += steps
        for value, count in zip(values.tolist(), np.stack(counts, axis=1), strict=True):
            sums[value] = sums.get(value, 0) + count
    rims, thin, pixels = np.stack([*sums.values()], axis=1)
    return rims, thin, pixels, direct


def _rims(label: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Return labels, i64[K], their rims along the rows, the pixels in these, all pixels; and the direct steps."""
    starts = np.ones(label.shape, bool)
    starts[:, 1:] = label[:, 1:] != label[:, :-1]
    start = np.flatnonzero(starts)
    value = label.ravel()[start].astype(np.int64)
    length = np.diff(np.append(start, label.size))
    row = start // label.shape[1]
    step = np.where(row[1:] == row[:-1], np.diff(value), 0)
    rim = np.flatnonzero((step[:-1] * step[1:] > 0) & (length[1:-1] <= width)) + 1
    values, run = np.unique(value, return_inverse=True)
    rims = np.bincount(run[rim], minlength=len(values))
    thin = np.bincount(run[rim], length[rim], len(values))
    return values, rims, thin, np.bincount(run, length, len(values)), int(np.count_nonzero(np.abs(step) >= 2))


def contour_bands(label: np.ndarray, values: Collection[int], background: Collection[int]) -> list[int]:
    """Return the background values, other than 0, that form a thin band along the structures' contours.

    Segmentation data sets mark such bands as void, to be excluded from scores; scored as background, they lower the
    scores of all structures, those of small ones most.

    Args:
        label: integers [H, W], as in the file.
        values: of structures.
        background: values that are no structure.

    Returns:
        Those that cover at least half of the structures' outlines, and three quarters of whose pixels are within
        two pixels (or 1/24 of the picture's smaller side) of its edge.
    """
    candidates = [value for value in background if value and (label == value).any()]
    if not candidates:
        return []
    structure = np.isin(label, list(values))
    outline = ndimage.binary_dilation(structure) & ~structure
    side = min(label.shape)
    limit = max(_BAND_PIXELS, _BAND_SHARE * side)
    bands = []
    for value in candidates:
        band = label == value
        is_on_outline = np.count_nonzero(band & outline) >= _OUTLINE * max(int(outline.sum()), 1)
        if is_on_outline and np.quantile(ndimage.distance_transform_edt(band)[band], 0.75) <= limit:
            bands.append(value)
    return bands
