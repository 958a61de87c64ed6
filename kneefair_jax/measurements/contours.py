"""Bone contours with sub-pixel precision, from masks or probabilities.

The contour of probabilities is their 0.5 level, which marching squares interpolate between pixels. A mask has steps in
place of a level, so its contour is fitted locally by parabolas (Savitzky-Golay), which average the steps and, other
than a mean, do not shrink curved parts.
"""

from typing import NamedTuple

import contourpy
import numpy as np
from scipy import ndimage, signal

LEVEL = 0.5
STEP_PIXELS = 1.0  # between the vertices of a contour
WINDOW = 15  # vertices of each parabola
_MIN_PIXELS = 50  # of a bone; fewer have no shape


class Contour(NamedTuple):
    """The outline of the largest piece of a bone.

    Attributes:
        points: f64[V, 2], vertices (x, y) of a closed polygon, x to the right and y down from the film's upper left
            corner, in the unit of the spacing.
        is_cut: bool[V], whether the film's edge cuts the bone at this vertex, or at most `rounding` vertices from it.
        rounding: vertices beside a corner that smoothing may have moved.
        other_pieces: share of the bone's pixels that are not in its largest piece.
    """

    points: np.ndarray
    is_cut: np.ndarray
    rounding: int = 0
    other_pieces: float = 0.0


def contour(bone: np.ndarray, spacing: tuple[float, float], void: np.ndarray | None = None) -> Contour | None:
    """Return the outline of a bone; None if it is absent.

    Args:
        bone: a mask bool[H, W], or its probability f[H, W].
        spacing: length of a pixel down and across.
        void: bool[H, W], pixels of which nothing is known; a contour beside them is cut. None for none.

    Raises:
        ValueError: the array has another shape or type, or holds a value outside [0, 1].
    """
    if bone.ndim != 2 or bone.dtype.kind not in "bf":
        raise ValueError(f"give a mask bool[H, W] or probabilities f[H, W]: {bone.dtype}{list(bone.shape)}")
    if bone.dtype.kind == "f" and not ((bone >= 0) & (bone <= 1)).all():
        raise ValueError("probabilities must lie in [0, 1]")
    mask = bone > LEVEL if bone.dtype.kind == "f" else bone
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    # Rows and columns of the bone with one pixel around it; beyond the film, there is background.
    (top, bottom), (left, right) = ((span[0] - 1, span[-1] + 2) for span in (rows, columns))
    inside = np.s_[max(top, 0) : bottom, max(left, 0) : right]
    box = np.zeros((bottom - top, right - left), np.float32)
    part = bone[inside]
    box[-min(top, 0) :, -min(left, 0) :][: part.shape[0], : part.shape[1]] = part
    generator = contourpy.contour_generator(z=box, line_type=contourpy.LineType.Separate)
    lines = [np.asarray(line) for line in generator.lines(LEVEL)]
    areas = [abs(area(line)) for line in lines]
    if not lines or max(areas) < _MIN_PIXELS:
        return None
    points = lines[int(np.argmax(areas))][:-1] + np.array([left, top])
    points = _resample(points)
    is_cut = ((points < 0) | (points > np.array(bone.shape[::-1]) - 1)).any(axis=1)
    if void is not None and void.any():
        near = ndimage.binary_dilation(void, iterations=2)
        rows, columns = (
            np.clip(np.rint(points[:, axis]).astype(int), 0, bone.shape[1 - axis] - 1) for axis in (1, 0)
        )
        is_cut |= near[rows, columns]
    rounding = 0
    if bone.dtype == bool:
        rounding = WINDOW // 2
        points = signal.savgol_filter(points, WINDOW, 2, axis=0, mode="wrap")
    other_pieces = max(0.0, 1 - max(areas) / np.count_nonzero(mask)) if len(lines) > 1 else 0.0
    return Contour((points + 0.5) * spacing[::-1], widen(is_cut, rounding), rounding, other_pieces)


def widen(flags: np.ndarray, vertices: int) -> np.ndarray:
    """Return bool[V], which vertices of a closed contour are at most some vertices from a flagged one."""
    if not flags.any():
        return flags
    rows = (np.flatnonzero(flags)[:, None] + np.arange(-vertices, vertices + 1)) % len(flags)
    result = np.zeros_like(flags)
    result[rows] = True
    return result


def area(polygon: np.ndarray) -> float:
    """Return the signed area of a closed polygon f64[V, 2]."""
    x, y = polygon.T
    return float(0.5 * (x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def centroid(polygon: np.ndarray) -> np.ndarray:
    """Return the centroid f64[2] of a closed polygon f64[V, 2]."""
    origin = polygon[0]
    x, y = (polygon - origin).T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    cross = x * next_y - next_x * y
    result: np.ndarray = origin + np.array([(x + next_x) @ cross, (y + next_y) @ cross]) / (3 * cross.sum())
    return result


def crossings(
    points: np.ndarray, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return where a polygon's boundary crosses lines of constant first coordinate: the outermost points.

    Args:
        points: f64[V, 2].
        levels: f64[L], first coordinates of the lines, ascending.

    Returns:
        The least and the greatest second coordinate of the crossings, f64[L] each, NaN for a line that the polygon does
        not meet; and the numbers of the edges that cross there, i64[L] each. Edge v joins vertices v and v + 1.
    """
    ends = np.roll(points, -1, axis=0)
    low, high = np.minimum(points[:, 0], ends[:, 0]), np.maximum(points[:, 0], ends[:, 0])
    # An edge crosses the levels from its lower end on, without its upper end, so that a vertex is crossed once.
    start = np.searchsorted(levels, low)
    counts = np.searchsorted(levels, high) - start
    edges = np.repeat(np.arange(len(points)), counts)
    rows = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts) + start[edges]
    a, b = points[edges], ends[edges]
    at = a[:, 1] + (levels[rows] - a[:, 0]) * (b[:, 1] - a[:, 1]) / (b[:, 0] - a[:, 0])
    order = np.lexsort((at, rows))
    outermost = np.full((2, len(levels)), np.nan)
    crossed = np.zeros((2, len(levels)), np.int64)
    # Of several assignments to one place, the last one stays.
    for side, sequence in enumerate((order[::-1], order)):
        outermost[side, rows[sequence]] = at[sequence]
        crossed[side, rows[sequence]] = edges[sequence]
    return (*outermost, *crossed)


def distance(points: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances f64[P] from points f64[P, 2] to an open polyline f64[V, 2], and its nearest places."""
    a, edge = line[:-1], np.diff(line, axis=0)
    squared = np.maximum((edge**2).sum(axis=1), 1e-300)
    along = np.clip(((points[:, None] - a) * edge).sum(axis=-1) / squared, 0, 1)
    nearest = a + along[..., None] * edge
    distances = np.linalg.norm(points[:, None] - nearest, axis=-1)
    best = distances.argmin(axis=1)
    rows = np.arange(len(points))
    return distances[rows, best], nearest[rows, best]


def _resample(points: np.ndarray) -> np.ndarray:
    """Return a closed polygon f64[V, 2] with vertices at equal steps of about `STEP_PIXELS` along it."""
    closed = np.concatenate([points, points[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    count = max(WINDOW, round(along[-1] / STEP_PIXELS))
    places = np.arange(count) * along[-1] / count
    return np.stack([np.interp(places, along, values) for values in closed.T], axis=1)
