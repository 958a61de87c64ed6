"""Where on a bone a prediction is wrong: signed distances along its contour, at corresponding points of all knees.

The contour of a bone is divided at landmarks and resampled between them, so that the points of one number are the same
place of all knees. The shafts beyond `SHAFT` bicondylar widths from the joint are left out, since films show more or
less of them.
"""

import contextlib
import itertools
from typing import NamedTuple

import numpy as np

from kneefair_jax.measurements.contours import Contour, crossings, distance
from kneefair_jax.measurements.knee import Knee
from kneefair_jax.measurements.landmarks import NotMeasurableError

SHAFT = 0.5
ROUNDING = 1e-9  # bicondylar widths
# Points between two landmarks, in the order of the landmarks of each bone.
POINTS = {"femur": (20, 15, 15, 15, 15, 20), "tibia": (20, 50, 20), "patella": (15, 15, 15, 15)}


class ContourErrors(NamedTuple):
    """The errors of a contour at corresponding points.

    Attributes:
        places: f64[J, 2], the points of the reference contour in the knee's frame, in bicondylar widths.
        errors: f64[J], signed distances to the predicted contour in the unit of the contours; positive where the
            prediction lies outside of the reference.
    """

    places: np.ndarray
    errors: np.ndarray


def errors_of_bones(reference: Knee, prediction: Knee) -> dict[str, ContourErrors]:
    """Return the errors of the bones that both masks of a knee show; others are left out.

    Args:
        reference: the knee by its reference mask, in millimeters.
        prediction: the knee by its predicted mask, on the same film.
    """
    result = {}
    for bone in POINTS:
        with contextlib.suppress(NotMeasurableError):
            result[bone] = contour_errors(reference, prediction.bone(bone), bone)
    return result


def contour_errors(reference: Knee, prediction: Contour, bone: str) -> ContourErrors:
    """Return the errors of a bone's predicted contour.

    Args:
        reference: the knee by its reference mask.
        prediction: the predicted contour of this bone, on the same film.
        bone: a key of `POINTS`.

    Raises:
        NotMeasurableError: the film does not show the side, or all of the bone's part.
    """
    frame = reference.sided_frame
    outline = reference.local(bone)
    path = _landmarks(reference, bone)
    points = _resample(outline, path, POINTS[bone])
    target = frame.of_film(prediction.points)
    closed = np.concatenate([target, target[:1]])
    distances, _ = distance(points, closed)
    distances[distances < ROUNDING * frame.width] = 0.0  # equal contours have no sign
    signs = np.where(inside(points, target), 1.0, -1.0)
    return ContourErrors(points / frame.width, signs * distances)


def _landmarks(knee: Knee, bone: str) -> list[int]:
    """Return the vertices of a bone's landmarks, from the medial to the lateral side; the patella's are closed."""
    frame, points = knee.sided_frame, knee.local(bone).points
    if bone == "patella":
        extremes = (
            points[:, 1].argmin(),
            points[:, 0].argmax(),
            points[:, 1].argmax(),
            points[:, 0].argmin(),
        )
        return [*map(int, extremes), int(extremes[0])]
    if bone == "femur":
        level, across = -SHAFT * frame.width, points[:, 0]
        notch = np.flatnonzero(
            (across > frame.tangent[0, 0])
            & (across < frame.tangent[1, 0])
            & (points[:, 1] > -0.5 * frame.gap)
        )
        if not notch.size:
            raise NotMeasurableError("the femoral condyles cannot be told apart")
        middle = [
            _nearest(points, frame.bicondylar[0]),
            _nearest(points, frame.tangent[0]),
            int(notch[points[notch, 1].argmin()]),
            _nearest(points, frame.tangent[1]),
            _nearest(points, frame.bicondylar[1]),
        ]
    else:
        edges = knee.plateau
        level = float(edges[:, 1].mean()) + SHAFT * frame.width
        middle = [_nearest(points, edge) for edge in edges]
    low, high, first, last = crossings(points[:, ::-1], np.array([level]))
    if not np.isfinite([low[0], high[0]]).all():
        raise NotMeasurableError(f"the film shows too little of the {bone}")
    return [int(first[0]), *middle, int(last[0])]


def _nearest(points: np.ndarray, place: np.ndarray) -> int:
    return int(np.linalg.norm(points - place, axis=1).argmin())


def _resample(outline: Contour, path: list[int], counts: tuple[int, ...]) -> np.ndarray:
    """Return points at equal steps between successive landmarks, f64[sum(counts), 2].

    Raises:
        NotMeasurableError: the film cuts the contour between landmarks, or they are out of order.
    """
    points, is_cut = outline.points, outline.is_cut
    size = len(points)
    # The contour may run either way: the right one is that on which the landmarks follow each other.
    for direction in (1, -1):
        steps = [(direction * (end - start)) % size for start, end in itertools.pairwise(path)]
        if sum(steps) <= size and min(steps) > 0:
            break
    else:
        raise NotMeasurableError("the landmarks of the contour are out of order")
    parts = []
    for start, count, vertices in zip(path[:-1], counts, steps, strict=True):
        rows = (start + direction * np.arange(vertices + 1)) % size
        if is_cut[rows].any():
            raise NotMeasurableError("the film cuts the contour")
        piece = points[rows]
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(piece, axis=0), axis=1))])
        places = np.linspace(0, along[-1], count, endpoint=False)
        parts.append(np.stack([np.interp(places, along, values) for values in piece.T], axis=1))
    return np.concatenate(parts)


def inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Return which points f64[P, 2] lie inside of a closed polygon f64[V, 2], by the even-odd rule."""
    a, b = polygon, np.roll(polygon, -1, axis=0)
    y = points[:, 1, None]
    spans = (a[:, 1] > y) != (b[:, 1] > y)
    rise = np.where(b[:, 1] == a[:, 1], 1.0, b[:, 1] - a[:, 1])
    at = a[:, 0] + (y - a[:, 1]) * (b[:, 0] - a[:, 0]) / rise
    result: np.ndarray = (spans & (points[:, 0, None] < at)).sum(axis=1) % 2 == 1
    return result
