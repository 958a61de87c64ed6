"""Measure a knee: masks or probabilities with a pixel spacing to millimeters and degrees."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.errors import InputError
from kneefair_jax.measurements import contours, landmarks
from kneefair_jax.measurements.contours import Contour
from kneefair_jax.measurements.definitions import MEASUREMENTS
from kneefair_jax.measurements.joint_space import LOCATIONS, JointSpace
from kneefair_jax.measurements.knee import SIDES, Knee
from kneefair_jax.measurements.landmarks import NotMeasurableError, Shaft

BONES = ("femur", "tibia", "fibula", "patella")
SHORT_SHAFT = 0.7  # bicondylar widths; shorter shafts get a note
COARSE_MM = 0.8  # larger pixels get a note on joint spaces
_RUN = 0.08  # share of the femur's width that both bones end in one column, if the collimated field cuts them
_MIRRORED = 0.005  # largest share of differing pixels of a film that is composed of mirrored halves


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


def measure(
    bones: Mapping[str, np.ndarray],
    spacing: tuple[float, float] | None,
    side: str = "",
    *,
    refusal: str = "",
    void: np.ndarray | None = None,
) -> dict[str, Measurement]:
    """Take all measurements of one knee.

    Args:
        bones: whole bones by the names of `BONES`, each a mask bool[H, W] or a probability f[H, W] of which 0.5 is the
            outline; the fibula decides the side and may be missing if `side` is given. `whole_bones` makes them of a
            label map.
        spacing: mm of a pixel down and across in the plane of the bones, or None if it is unknown: lengths are refused
            then, and angles assume square pixels.
        side: "right" or "left" knee on a film that is displayed as from the front, the patient's right at the film's
            left; "" leaves it to the fibula.
        refusal: why lengths are not known in millimeters although the spacing is, such as that it is of the detector.
        void: bool[H, W], pixels of which nothing is known, as for `contours.contour`.

    Returns:
        name of `MEASUREMENTS` -> its value, or why there is none.

    Raises:
        ValueError: an unknown bone or side, arrays of different shapes, or a spacing that is not positive.
    """
    _check(bones, spacing, side)
    pixel = spacing or (1.0, 1.0)
    outlines = {name: contours.contour(bone, pixel, void) for name, bone in bones.items()}
    if _is_mirrored(bones):
        reason = "the mask equals its mirror image: the film is composed of mirrored halves"
        return {name: Measurement(float("nan"), reason) for name in MEASUREMENTS}
    if _ends_in_one_column(bones):
        reason = "femur and tibia end in the same column of pixels: the collimated field cuts the knee"
        return {name: Measurement(float("nan"), reason) for name in MEASUREMENTS}
    lengths = refusal or ("" if spacing else "the pixel spacing is unknown")
    return measure_contours(outlines, side, max(pixel), refusal=lengths, is_square=spacing is None)


def measure_contours(
    outlines: Mapping[str, Contour | None],
    side: str = "",
    pixel: float = 0.0,
    *,
    refusal: str = "",
    is_square: bool = False,
) -> dict[str, Measurement]:
    """Take all measurements of one knee from its contours.

    Args:
        outlines: whole bones by the names of `BONES`, None for one that is absent.
        side: as for `measure`.
        pixel: length of a pixel, to whose share contours are exact; 0 for exact ones.
        refusal: as for `measure`.
        is_square: whether square pixels are assumed, which angles say in their notes.
    """
    knee = Knee(outlines, side, pixel)
    return {name: _take(knee, name, refusal, is_square=is_square) for name in MEASUREMENTS}


def side_of(bones: Mapping[str, np.ndarray]) -> str:
    """Return the side of a knee by its fibula, "right" or "left"; "" if that is unknown. Arguments as for `measure`."""
    pixel = (1.0, 1.0)
    return Knee({name: contours.contour(bone, pixel) for name, bone in bones.items()}).side


def whole_bones(mask: np.ndarray, structures: Sequence[str], side: str = "") -> dict[str, np.ndarray]:
    """Return the whole bones of one knee.

    In a scheme without overlap classes the whole femur is femur and patella, since the patella hides the femur.

    Args:
        mask: integers [H, W] of the labels, or probabilities f[H, W, C] of the classes.
        structures: names of labels 1, 2, ...; those that are no bone of a knee are left out.
        side: "right" or "left" knee of a film of both, whose structures have names such as "right femur".

    Returns:
        the bones of `BONES` that the structures have, bool[H, W] or f[H, W].
    """
    prefix = f"{side} " if side and any(name.startswith(f"{side} ") for name in structures) else ""
    names = [name.removeprefix(prefix) if name.startswith(prefix) else "" for name in structures]
    members: dict[str, np.ndarray] = {}
    for bone in BONES:
        for name in (f"whole {bone}", bone):
            if name in names:
                members[bone] = np.array([False, *(other == name for other in names)])
                break
            try:
                members[bone] = anatomy.membership(names, [name])[0]
                break
            except InputError:
                continue
    if mask.ndim == 3:
        return {name: np.clip(mask[..., row].sum(axis=-1), 0, 1) for name, row in members.items()}
    return {name: row[mask] for name, row in members.items()}


class _Result(NamedTuple):
    value: float
    lines: Sequence[np.ndarray]  # f64[2, 2] each, in the frame
    note: str = ""


def _take(knee: Knee, name: str, lengths: str, *, is_square: bool) -> Measurement:
    """Take one measurement; `lengths` says why no length can be stated, `is_square` that square pixels are assumed."""
    is_length = MEASUREMENTS[name].unit in ("mm", "mm2")
    if is_length and lengths:
        return Measurement(float("nan"), lengths)
    try:
        result = _FUNCTIONS[name](knee)
        coarse = name.startswith("jsw") and knee.pixel > COARSE_MM and not is_square
        notes = (
            result.note,
            "square pixels are assumed" if is_square else "",
            f"pixels of {knee.pixel:.2g} mm are coarse for a joint space" if coarse else "",
        )
        note = "; ".join(filter(None, notes))
        return Measurement(result.value, "", note, knee.frame.to_film(np.array(result.lines)))
    except NotMeasurableError as reason:
        return Measurement(float("nan"), str(reason))


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


def _is_mirrored(bones: Mapping[str, np.ndarray]) -> bool:
    """Return whether femur and tibia equal their mirror images, as in a film composed of mirrored halves."""
    masks = [np.asarray(bones[name]) > contours.LEVEL for name in ("femur", "tibia") if name in bones]
    if len(masks) < 2 or not all(mask.any() for mask in masks):
        return False
    union = masks[0] | masks[1]
    columns = np.flatnonzero(union.any(axis=0))
    part = union[:, columns[0] : columns[-1] + 1]
    return bool((part != part[:, ::-1]).sum() < _MIRRORED * part.sum())


def _ends_in_one_column(bones: Mapping[str, np.ndarray]) -> bool:
    """Return whether femur and tibia both end along one column inside of the film, as where a field ends."""
    masks = [np.asarray(bones[name]) > contours.LEVEL for name in ("femur", "tibia") if name in bones]
    if len(masks) < 2 or not all(mask.any() for mask in masks):
        return False
    spans = [np.flatnonzero(mask.any(axis=0))[[0, -1]] for mask in masks]
    longest = _RUN * (spans[0][1] - spans[0][0])
    return any(
        spans[0][end] == spans[1][end]
        and min(mask[:, spans[0][end]].sum() for mask in masks) >= max(longest, 3)
        for end in (0, 1)
    )


def _check(bones: Mapping[str, np.ndarray], spacing: tuple[float, float] | None, side: str) -> None:
    if unknown := [name for name in bones if name not in BONES]:
        raise ValueError(f"unknown bone {unknown[0]!r}; give {', '.join(BONES)}")
    if side not in ("", *SIDES):
        raise ValueError(f"side {side!r}: give right, left, or leave it out")
    if len({bone.shape for bone in bones.values()}) > 1:
        raise ValueError(f"bones of different shapes: { {name: bone.shape for name, bone in bones.items()} }")
    if spacing is not None and not (len(spacing) == 2 and all(np.isfinite(mm) and mm > 0 for mm in spacing)):
        raise ValueError(
            f"spacing {spacing}: give two positive numbers, mm per pixel down and across, or None"
        )
