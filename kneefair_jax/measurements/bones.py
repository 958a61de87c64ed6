"""The whole bones of a knee from a label map, and their contours."""

from collections.abc import Mapping, Sequence

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.errors import InputError
from kneefair_jax.measurements import contours
from kneefair_jax.measurements.knee import SIDES, Knee

BONES = ("femur", "tibia", "fibula", "patella")
# If the collimated field cuts both bones, they end in one column along this share of the femur's width, and along more
# pixels than a round bone: a column of pixels shows sqrt(8 r) of a circle of radius r, about a third of the width.
_RUN, _ROUND = 0.08, 1.7
_MIRRORED = 0.005  # largest share of differing pixels of a film that is composed of mirrored halves


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


def knees_of(structures: Sequence[str]) -> tuple[str, ...]:
    """Return the knees that structures show with femur and tibia: `right`, `left`, or "" for one knee without side."""
    sides = tuple(side for side in SIDES if any(name.startswith(f"{side} ") for name in structures))
    empty = np.zeros((1, 1), np.uint8)
    return tuple(
        side for side in sides or ("",) if {"femur", "tibia"} <= whole_bones(empty, structures, side).keys()
    )


def trace(
    bones: Mapping[str, np.ndarray],
    spacing: tuple[float, float] | None,
    side: str = "",
    *,
    void: np.ndarray | None = None,
) -> Knee:
    """Trace the contours of one knee's bones.

    Args:
        bones: whole bones by the names of `BONES`, each a mask bool[H, W] or a probability f[H, W] of which 0.5 is the
            outline; the fibula decides the side and may be missing if `side` is given. `whole_bones` makes them of a
            label map.
        spacing: mm of a pixel down and across in the plane of the bones, or None if it is unknown: square pixels are
            assumed then, and their length is the unit.
        side: "right" or "left" knee on a film that is displayed as from the front, the patient's right at the film's
            left; "" leaves it to the fibula.
        void: bool[H, W], pixels of which nothing is known, as for `contours.contour`.

    Returns:
        The knee; it is refused as a whole if the film is composed of mirrored halves or its field cuts the knee.

    Raises:
        ValueError: an unknown bone or side, arrays of different shapes, or a spacing that is not positive.
    """
    _check(bones, spacing, side)
    pixel = spacing or (1.0, 1.0)
    refusal = ""
    if _is_mirrored(bones):
        refusal = "the mask equals its mirror image: the film is composed of mirrored halves"
    elif _ends_in_one_column(bones):
        refusal = "femur and tibia end in the same column of pixels: the collimated field cuts the knee"
    outlines = {} if refusal else {name: contours.contour(bone, pixel, void) for name, bone in bones.items()}
    return Knee(outlines, side, max(pixel), has_spacing=spacing is not None, refusal=refusal)


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
    width = spans[0][1] - spans[0][0]
    least = max(_RUN * width, _ROUND * np.sqrt(width))
    return any(
        spans[0][end] == spans[1][end] and min(mask[:, spans[0][end]].sum() for mask in masks) >= least
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
