"""Joint space width (JSW) of a compartment, in the knee's frame.

Places are shares of the bicondylar width, 0 at the most medial point of the femur and 1 at the most lateral one, as in
Duryea's fixed-location JSW(x).

Reference:
    Duryea J, Li J, Peterfy CG, Gordon C, Genant HK: Medical Physics 27:580 (2000), software for the minimum.
    Neumann G, Hunter D, Nevitt M et al.: Osteoarthritis and Cartilage 17:761 (2009), JSW(x).
"""

from typing import NamedTuple

import numpy as np

from kneefair_jax.measurements.contours import Contour, crossings, distance
from kneefair_jax.measurements.landmarks import Frame, NotMeasurableError

# The part of each compartment without the intercondylar part and the margins, on which osteophytes grow.
COMPARTMENTS = {"medial": (0.08, 0.33), "lateral": (0.67, 0.92)}
# Where JSW(x) is taken.
LOCATIONS = {
    "medial": tuple(np.arange(0.15, 0.3001, 0.025).round(3).tolist()),
    "lateral": tuple(np.arange(0.70, 0.9001, 0.025).round(3).tolist()),
}
_REACH = 0.03  # how far beyond a compartment the nearest place on the tibia may lie
_STEP = 0.0025
_TOUCHING_PIXELS = 0.75
MAX_TOUCHING = 0.5  # share of a compartment
MIN_FACING = 0.7  # share of a compartment in which the tibia lies below the femur


class JointSpace(NamedTuple):
    """The joint space of one compartment.

    Attributes:
        minimum: the least distance between femur and tibia; 0 where they touch.
        line: f64[2, 2], its ends in the frame, on femur and tibia.
        widths: JSW(x) at `LOCATIONS` along the normal of the condylar tangent, f64[X]; at least 0, NaN where one of the
            bones is not above or below the other.
        lines: f64[X, 2, 2], their ends.
    """

    minimum: float
    line: np.ndarray
    widths: np.ndarray
    lines: np.ndarray


def joint_space(
    femur: Contour,
    tibia: Contour,
    frame: Frame,
    compartment: str,
    pixel: float,
) -> JointSpace:
    """Measure the joint space of a compartment.

    Args:
        femur: its contour, with points in the frame.
        tibia: the same.
        frame: of the knee, facing the lateral side.
        compartment: a key of `COMPARTMENTS`.
        pixel: length of a pixel; margins that are closer than 0.75 of it touch.

    Raises:
        NotMeasurableError: the film cuts the compartment, or the bones overlap in it.
    """
    start, end = COMPARTMENTS[compartment]
    places = np.arange(start, end + _STEP / 2, _STEP)
    beyond = np.arange(start - _REACH, end + _REACH + _STEP / 2, _STEP)
    condyle = _margin(femur, frame, places, is_lower=True)
    plateau = _margin(tibia, frame, beyond, is_lower=False)
    if condyle is None or plateau is None:
        raise NotMeasurableError(f"the film cuts the {compartment} compartment")
    faces = (
        (condyle[:, 0] >= plateau[0, 0]) & (condyle[:, 0] <= plateau[-1, 0])
        if len(plateau)
        else np.array([False])
    )
    if faces.mean() < MIN_FACING:
        raise NotMeasurableError(f"the tibia does not face the femur in the {compartment} compartment")
    condyle = condyle[faces]
    gaps = np.interp(condyle[:, 0], plateau[:, 0], plateau[:, 1]) - condyle[:, 1]
    if (gaps < _TOUCHING_PIXELS * pixel).mean() > MAX_TOUCHING:
        raise NotMeasurableError(f"femur and tibia overlap in the {compartment} compartment")
    distances, nearest = distance(condyle, plateau)
    distances = np.where(gaps > 0, distances, 0.0)
    best = int(distances.argmin())
    fixed = frame.bicondylar[0, 0] + frame.width * np.array(LOCATIONS[compartment])
    heights = [
        np.interp(fixed, line[:, 0], line[:, 1], left=np.nan, right=np.nan) for line in (condyle, plateau)
    ]
    lines = np.stack([np.stack([fixed, height], axis=1) for height in heights], axis=1)
    return JointSpace(
        float(distances[best]),
        np.stack([condyle[best], nearest[best]]),
        np.maximum(heights[1] - heights[0], 0.0),
        lines,
    )


def _margin(bone: Contour, frame: Frame, places: np.ndarray, *, is_lower: bool) -> np.ndarray | None:
    """Return the lowest or highest points of a contour at shares of the width, f64[X, 2]; None if one is cut.

    Places beyond the bone are left out.
    """
    levels = frame.bicondylar[0, 0] + frame.width * places
    upper, lower, first, last = crossings(bone.points, levels)
    heights, edges = (lower, last) if is_lower else (upper, first)
    meets = np.isfinite(heights)
    if (bone.is_cut | np.roll(bone.is_cut, -1))[edges[meets]].any():
        return None
    return np.stack([levels, heights], axis=1)[meets]
