"""Measure a knee: masks or probabilities with a pixel spacing to millimeters and degrees."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kneefair_jax.measurements import landmarks
from kneefair_jax.measurements.bones import trace
from kneefair_jax.measurements.definitions import MEASUREMENTS
from kneefair_jax.measurements.joint_space import LOCATIONS, JointSpace
from kneefair_jax.measurements.knee import Knee
from kneefair_jax.measurements.landmarks import NotMeasurableError, Shaft

SHORT_SHAFT = 0.7  # bicondylar widths; shorter shafts get a note
WIDTHS_MM = (50.0, 120.0)  # of human femoral condyles; others get a note
COARSE_MM = 0.8  # larger pixels get a note on joint spaces


TABLE_COLUMNS = ("knee", "measurement", "value", "unit", "reason", "note", "spacing_kind")


class Measurement(NamedTuple):
    """A measurement of a knee.

    Attributes:
        value: in the unit of `MEASUREMENTS`; NaN if it cannot be taken.
        reason: why it cannot be taken; "" if it was.
        note: what limits it; "" if nothing does.
        lines: f64[L, 2, 2], the ends (x, y) of what was measured, mm from the film's upper left corner, for drawings.
    """

    value: float
    reason: str = ""
    note: str = ""
    lines: np.ndarray = np.zeros((0, 2, 2))


def table_rows(knee: str, results: Mapping[str, Measurement], spacing_kind: str) -> Iterator[tuple[str, ...]]:
    """Yield a row of `TABLE_COLUMNS` for each measurement; without a value, the reason says why.

    Args:
        knee: its side, or "".
        results: its measurements.
        spacing_kind: of `spacing.BoneSpacing`.
    """
    for name, result in results.items():
        value = f"{result.value:.4f}" if np.isfinite(result.value) else ""
        yield (knee, name, value, MEASUREMENTS[name].unit, result.reason, result.note, spacing_kind)


def measure(
    bones: Mapping[str, np.ndarray],
    spacing: tuple[float, float] | None,
    side: str = "",
    *,
    refusal: str = "",
    void: np.ndarray | None = None,
) -> dict[str, Measurement]:
    """Take all measurements of one knee; `measure_knee` of `bones.trace`, whose arguments these are.

    Args:
        bones: whole bones by the names of `BONES`, each a mask bool[H, W] or a probability f[H, W].
        spacing: mm of a pixel down and across in the plane of the bones, or None if it is unknown.
        side: "right" or "left"; "" leaves it to the fibula.
        refusal: why lengths are not known in millimeters although the spacing is, such as that it is of the detector.
        void: bool[H, W], pixels of which nothing is known.

    Returns:
        name of `MEASUREMENTS` -> its value, or why there is none.

    Raises:
        ValueError: an unknown bone or side, arrays of different shapes, or a spacing that is not positive.
    """
    return measure_knee(trace(bones, spacing, side, void=void), refusal)


def measure_knee(knee: Knee, refusal: str = "") -> dict[str, Measurement]:
    """Take all measurements of one knee from its contours.

    Args:
        knee: the contours; lengths are refused where their unit is a pixel, since the spacing is unknown.
        refusal: why lengths are not known in millimeters although the spacing is.
    """
    no_length = refusal or ("" if knee.has_spacing else "the pixel spacing is unknown")
    return {name: _take(knee, name, no_length) for name in MEASUREMENTS}


class _Result(NamedTuple):
    value: float
    lines: Sequence[np.ndarray]  # f64[2, 2] each, in the frame
    note: str = ""


def _take(knee: Knee, name: str, no_length: str) -> Measurement:
    """Take one measurement; `no_length` says why no length can be stated, "" if it can."""
    is_length = MEASUREMENTS[name].unit in ("mm", "mm2")
    if is_length and no_length and not knee.refusal:
        return Measurement(float("nan"), no_length)
    try:
        result = _FUNCTIONS[name](knee)
    except NotMeasurableError as reason:
        return Measurement(float("nan"), str(reason))
    is_coarse = name.startswith("jsw") and knee.has_spacing and knee.pixel > COARSE_MM
    low, high = WIDTHS_MM
    width = knee.frame.width
    is_likely = not knee.has_spacing or not knee.pixel or low <= width <= high
    notes = (
        result.note,
        "" if is_likely or not is_length else f"a femur of {width:.0f} mm: check the pixel spacing",
        "" if knee.has_spacing else "square pixels are assumed",
        f"pixels of {knee.pixel:.2g} mm are coarse for a joint space" if is_coarse else "",
    )
    return Measurement(
        result.value, "", "; ".join(filter(None, notes)), knee.frame.to_film(np.array(result.lines))
    )


def _angle(first: np.ndarray, second: np.ndarray) -> float:
    """Return the angle between two directions f64[2], degrees, from the first towards the second axis positive."""
    cross = first[0] * second[1] - first[1] * second[0]
    return float(np.rad2deg(np.arctan2(cross, first @ second)))


def _minimum(space: JointSpace) -> _Result:
    return _Result(space.minimum, [space.line], "" if space.minimum else "the bones touch")


def _require_locations(space: JointSpace) -> None:
    if np.isnan(space.widths).any():
        raise NotMeasurableError("the tibia does not face the femur at all fixed locations")


def _mean(space: JointSpace) -> _Result:
    _require_locations(space)
    return _Result(float(space.widths.mean()), list(space.lines))


def _area(space: JointSpace, locations: Sequence[float], width: float) -> _Result:
    _require_locations(space)
    return _Result(float(np.trapezoid(space.widths, np.array(locations) * width)), list(space.lines))


def _fta(knee: Knee) -> _Result:
    _, femur, tibia = knee.sided_frame, knee.femoral_shaft, knee.tibial_shaft
    # Valgus: the tibia's axis leaves the extended axis of the femur to the lateral side.
    value = -_angle(-femur.direction, tibia.direction)
    return _Result(value, [femur.ends, tibia.ends], _shaft_note(knee, femur, tibia))


def _aldfa(knee: Knee) -> _Result:
    frame, femur = knee.sided_frame, knee.femoral_shaft
    value = abs(_angle(np.array([1.0, 0.0]), femur.direction))
    return _Result(value, [frame.tangent, femur.ends], _shaft_note(knee, femur))


def _ampta(knee: Knee) -> _Result:
    _, edges, tibia = knee.sided_frame, knee.plateau, knee.tibial_shaft
    value = abs(_angle(edges[0] - edges[1], tibia.direction))
    return _Result(value, [edges, tibia.ends], _shaft_note(knee, tibia))


def _jlca(knee: Knee) -> _Result:
    frame, edges = knee.sided_frame, knee.plateau
    return _Result(_angle(np.array([1.0, 0.0]), edges[1] - edges[0]), [frame.tangent, edges])


def _shaft_note(knee: Knee, *shafts: Shaft) -> str:
    shortest = min(shaft.length for shaft in shafts) / knee.frame.width
    return f"short shaft: {shortest:.2f} of the knee's width" if shortest < SHORT_SHAFT else ""


def _bicondylar(knee: Knee) -> _Result:
    frame = knee.frame
    return _Result(frame.width, [knee.extent("femur", np.array([1.0, 0.0]), (-frame.gap, np.inf))])


def _plateau(knee: Knee) -> _Result:
    edges = knee.plateau
    along = (edges[1] - edges[0]) / np.linalg.norm(edges[1] - edges[0])
    top = knee.local("tibia").points[:, 1].min()
    ends = knee.extent("tibia", along, (-np.inf, top + landmarks.PLATEAU * knee.frame.width))
    return _Result(float((ends[1] - ends[0]) @ along), [ends])


def _ratio(knee: Knee) -> _Result:
    femur, tibia = _bicondylar(knee), _plateau(knee)
    return _Result(femur.value / tibia.value, [*femur.lines, *tibia.lines])


def _patella(knee: Knee, axis: int) -> _Result:
    ends = knee.extent("patella", np.eye(2)[axis])
    return _Result(float((ends[1] - ends[0])[axis]), [ends])


_FUNCTIONS: dict[str, Callable[[Knee], _Result]] = {
    "jsw_min_medial": lambda knee: _minimum(knee.medial),
    "jsw_mean_medial": lambda knee: _mean(knee.medial),
    "jsw_area_medial": lambda knee: _area(knee.medial, LOCATIONS["medial"], knee.frame.width),
    "jsw_min_lateral": lambda knee: _minimum(knee.lateral),
    "jsw_mean_lateral": lambda knee: _mean(knee.lateral),
    "jsw_area_lateral": lambda knee: _area(knee.lateral, LOCATIONS["lateral"], knee.frame.width),
    "fta": _fta,
    "aldfa": _aldfa,
    "ampta": _ampta,
    "jlca": _jlca,
    "bicondylar_width": _bicondylar,
    "plateau_width": _plateau,
    "width_ratio": _ratio,
    "patella_width": lambda knee: _patella(knee, 0),
    "patella_height": lambda knee: _patella(knee, 1),
}
