"""Landmarks of a knee's contours: the condylar tangent, the plateau's edges, and the axes of the shafts.

All are found in the knee's own frame, so that a turned film has the same ones. Its first coordinate runs along the
condylar tangent to the lateral side, or to the film's right while the side is unknown; its second from the femur to
the tibia. Its origin is the middle of the tangent.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from kneefair_jax.measurements.contours import Contour, centroid, crossings, widen

# A straight part of a contour, of this many bicondylar widths, is an edge of the collimated field.
STRAIGHT = {"femur": 0.35, "tibia": 0.35, "patella": 0.2}
STRAIGHT_PIXELS = 0.3  # largest deviation from a line
# A shaft ends where its contour turns across its axis, in the last 0.25 widths of what the film shows.
MAX_SIDE_DEGREES, MAX_END = 50.0, 0.25
# In bicondylar widths from the tangent or the plateau line, along the shaft.
SHAFT_START, SHAFT_END, MIN_SHAFT, SHAFT_MARGIN = 0.5, 1.5, 0.2, 0.05
_SHAFT_STEP = 0.01
PLATEAU = 0.4  # bicondylar widths from the tibia's upper end, which contain the plateau's edges
_CORNER_DEGREES = np.arange(20, 61, 5)  # above the plateau line, the directions that face a plateau's edge


class NotMeasurableError(Exception):
    """The reason why a measurement cannot be taken."""


class Frame(NamedTuple):
    """The knee's frame.

    Attributes:
        origin: f64[2], the middle of the condylar tangent, on the film.
        axes: f64[2, 2], rows: along the tangent, and from femur to tibia, as directions on the film.
        bicondylar: f64[2, 2], the most medial and the most lateral point of the condyles, in the frame.
        tangent: f64[2, 2], where the tangent touches the condyles, in the frame, in the same order.
    """

    origin: np.ndarray
    axes: np.ndarray
    bicondylar: np.ndarray
    tangent: np.ndarray

    @property
    def width(self) -> float:
        """The bicondylar width: extent of the condyles along the tangent."""
        return float(self.bicondylar[1, 0] - self.bicondylar[0, 0])

    @property
    def gap(self) -> float:
        """The distance between the points at which the tangent touches the condyles."""
        return float(self.tangent[1, 0] - self.tangent[0, 0])

    def of_film(self, points: np.ndarray) -> np.ndarray:
        """Map places f64[..., 2] from the film to the frame."""
        local: np.ndarray = (points - self.origin) @ self.axes.T
        return local

    def to_film(self, points: np.ndarray) -> np.ndarray:
        """Map places f64[..., 2] from the frame to the film."""
        places: np.ndarray = points @ self.axes + self.origin
        return places


class Shaft(NamedTuple):
    """The axis of a shaft, in the knee's frame.

    Attributes:
        ends: f64[2, 2], of the part that was measured, the end at the joint first.
        direction: f64[2], away from the joint.
    """

    ends: np.ndarray
    direction: np.ndarray

    @property
    def length(self) -> float:
        """Length of the part that was measured."""
        return float(np.linalg.norm(self.ends[1] - self.ends[0]))


def knee_frame(femur: Contour, tibia: Contour) -> Frame:
    """Return the frame by the condyles of the femur; the side is that of the film's right.

    Raises:
        NotMeasurableError: the limb is not upright on the film, or the film cuts the condyles.
    """
    down = centroid(tibia.points) - centroid(femur.points)
    down /= np.linalg.norm(down)
    if down[1] < 0.5:
        raise NotMeasurableError("the femur is not above the tibia: turn the film upright")
    first, second = _condyles(femur.points, down)
    points = femur.points[[first, second]]
    along = points[1] - points[0]
    gap = np.linalg.norm(along)
    along /= gap
    axes = np.stack([along, [-along[1], along[0]]])
    origin = points.mean(axis=0)
    local = (femur.points - origin) @ axes.T
    distal = np.flatnonzero(local[:, 1] > -gap)
    ends = distal[[local[distal, 0].argmin(), local[distal, 0].argmax()]]
    if femur.is_cut[[first, second]].any() or femur.is_cut[ends].any():
        raise NotMeasurableError("the film cuts the femoral condyles")
    return Frame(origin, axes, local[ends], local[[first, second]])


def _condyles(points: np.ndarray, down: np.ndarray) -> tuple[int, int]:
    """Return the vertices at which a line touches both condyles from below, left one first.

    They are the ends of the edge of the convex hull that bridges the notch: the one below the femur's centroid.
    """
    try:
        hull = ConvexHull(points).vertices
    except QhullError as error:
        raise NotMeasurableError("the femur's contour has no extent") from error
    across = np.array([down[1], -down[0]])
    local = (points[hull] - centroid(points)) @ np.stack([across, down]).T
    following = np.roll(local, -1, axis=0)
    bridges = (local[:, 0] <= 0) != (following[:, 0] <= 0)
    is_below = local[:, 1] + following[:, 1] > 0
    edges = np.flatnonzero(bridges & is_below)
    if len(edges) != 1:
        raise NotMeasurableError("the femoral condyles cannot be told apart")
    ends = hull[edges[0]], hull[(edges[0] + 1) % len(hull)]
    first, second = sorted(map(int, ends), key=lambda vertex: float(points[vertex] @ across))
    return first, second


def is_straight(points: np.ndarray, direction: np.ndarray, length: float, pixel: float) -> np.ndarray:
    """Return which vertices of a contour are in or at the end of a straight part that runs across a direction.

    Args:
        points: f64[V, 2], of equal steps.
        direction: f64[2], to which the part is at an angle of 60 degrees or more.
        length: of the part.
        pixel: length of a pixel.

    Returns:
        bool[V].
    """
    step = np.linalg.norm(np.diff(points, axis=0), axis=1).mean()
    half = round(0.5 * length / step)
    if len(points) <= 2 * half + 1:
        return np.zeros(len(points), bool)
    before, after = np.roll(points, half, axis=0), np.roll(points, -half, axis=0)
    chord = after - before
    chord /= np.maximum(np.linalg.norm(chord, axis=1, keepdims=True), 1e-12)
    deviations = []
    for part in (-half // 2, 0, half // 2):
        offset = np.roll(points, -part, axis=0) - before
        deviations.append(np.abs(chord[:, 0] * offset[:, 1] - chord[:, 1] * offset[:, 0]))
    straight = (np.max(deviations, axis=0) < STRAIGHT_PIXELS * pixel) & (np.abs(chord @ direction) < 0.5)
    return widen(straight, half + 1)


def facing_lateral(frame: Frame, *, is_lateral_right: bool) -> Frame:
    """Turn the first axis of a frame to the lateral side."""
    if is_lateral_right:
        return frame
    flip = np.array([-1.0, 1.0])
    return frame._replace(
        axes=frame.axes * flip[:, None],
        bicondylar=frame.bicondylar[::-1] * flip,
        tangent=frame.tangent[::-1] * flip,
    )


def plateau_edges(bone: Contour, frame: Frame) -> np.ndarray:
    """Return the most medial and the most lateral edge of the plateau, f64[2, 2], in the frame.

    An edge is the rounded corner between the plateau and the bone's side: the mean of the contour's outermost points in
    directions from 20 to 60 degrees above the plateau line. The outermost point along the line alone may lie anywhere
    on the steep side, by millimeters.

    Args:
        bone: the tibia's contour, with points in the frame.
        frame: of the knee.

    Raises:
        NotMeasurableError: the film cuts the plateau.
    """
    tibia = bone.points
    proximal = np.flatnonzero(tibia[:, 1] < tibia[:, 1].min() + PLATEAU * frame.width)
    points, angles = tibia[proximal], np.deg2rad(_CORNER_DEGREES)
    along = np.array([1.0, 0.0])
    edges = np.zeros((2, 2))
    for _ in range(2):  # directions are relative to the plateau line, which the first pass finds
        upwards = np.array([along[1], -along[0]])
        for side, sign in enumerate((-1, 1)):
            directions = np.cos(angles)[:, None] * sign * along + np.sin(angles)[:, None] * upwards
            outermost = (points @ directions.T).argmax(axis=0)
            if bone.is_cut[proximal[outermost]].any():
                raise NotMeasurableError("the film cuts the tibial plateau")
            edges[side] = points[outermost].mean(axis=0)
        along = (edges[1] - edges[0]) / np.linalg.norm(edges[1] - edges[0])
    return edges


def shaft(bone: Contour, width: float, start: np.ndarray, away: int) -> Shaft:
    """Return the axis of a shaft: the line through the middles of its widths.

    Widths are taken across the axis itself, from `SHAFT_START` bicondylar widths beyond the joint to `SHAFT_END`, or to
    `SHAFT_MARGIN` before the film or its field ends.

    Args:
        bone: its contour, with points in the frame.
        width: bicondylar width.
        start: f64[2], the middle of the bone at the joint.
        away: -1 for the femur, 1 for the tibia: the sign of the second coordinate away from the joint.

    Raises:
        NotMeasurableError: less than `MIN_SHAFT` widths of the shaft are on the film.
    """
    levels = width * np.arange(SHAFT_START, SHAFT_END + _SHAFT_STEP / 2, _SHAFT_STEP)
    direction = np.array([0.0, float(away)])
    needed = round(MIN_SHAFT / _SHAFT_STEP)
    points = bone.points
    step = np.linalg.norm(np.diff(points, axis=0), axis=1).mean()
    margin = max(bone.rounding + 1, int(np.ceil(SHAFT_MARGIN * width / step)))
    for _ in range(4):
        across = np.array([-direction[1], direction[0]])
        local = (points - start) @ np.stack([direction, across]).T
        low, high, first, last = crossings(local, levels)
        is_whole = ~(widen(bone.is_cut, margin - bone.rounding) | widen(_is_end(local, width), margin))
        valid = np.isfinite(low) & is_whole[first] & is_whole[last]
        count = len(levels) if valid.all() else int(valid.argmin())
        if count <= needed:
            raise NotMeasurableError(f"the film shows less of the shaft than {MIN_SHAFT} of the knee's width")
        heights, middles = levels[:count], 0.5 * (low + high)[:count]
        slope, offset = np.polyfit(heights, middles, 1)
        ends = start + np.stack(
            [height * direction + (offset + slope * height) * across for height in heights[[0, -1]]]
        )
        direction = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    return Shaft(ends, direction)


def _is_end(local: np.ndarray, width: float) -> np.ndarray:
    """Return which vertices of a contour, f64[V, 2] along and across a shaft, are of its end, bool[V]."""
    along, across = np.abs(np.roll(local, -2, axis=0) - np.roll(local, 2, axis=0)).T
    is_last = local[:, 0] > local[:, 0].max() - MAX_END * width
    result: np.ndarray = is_last & (across > np.tan(np.deg2rad(MAX_SIDE_DEGREES)) * along)
    return result
