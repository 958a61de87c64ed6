"""Rules of anatomy that flag masks which cannot show one knee on a postero-anterior radiograph.

The network's confidence does not detect them: for an upside-down knee, or two knees in one picture, it can exceed 0.95.
`benchmarks/plausibility.py` tests the limits on films that did not determine them.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

SIDES = ("right", "left")  # of the patient, from image left to image right

# The least share of a knee's bone. In the predictions of the shipped network for 160 clinical phantoms (128, 192 and
# 256 pixels a side), the smallest shares are 0.26, 0.43, 0.35, 0.054 and 0.13; each limit is about half of those, as a
# film may be cropped. In 64 phantoms upside down, no fibula has more than 0.026, so they are flagged.
LEAST = {"femur": 0.13, "whole femur": 0.22, "tibia": 0.17, "fibula": 0.03, "patella": 0.06}
# The largest share of a structure outside its largest piece. Each bone of a knee is one piece, except that the patella
# may cut off a part of the femur: both count as one. In those 160 masks at most 0.009 lies outside; in 96 pictures of
# two knees side by side, 64 of them a knee and its mirror image, at least 0.41 of the femur.
PIECE = 0.1
_JOINED = {"femur": ("femur", "patella")}


def quality_warnings(label: np.ndarray, structures: Sequence[str]) -> tuple[str, ...]:
    """Return why a mask is implausible; empty if it is plausible, or holds no bone at all.

    Args:
        label: u8[h, w]; its pixels need not be square.
        structures: names of labels 1, 2, ... The bones of each side are one knee. A structure that is no bone of the
            knee gets a warning only if it is absent.
    """
    masks = {name: label == value for value, name in enumerate(structures, start=1)}
    if not label.any():
        return ()
    if not all(name.partition(" ")[0] in SIDES and name.partition(" ")[2] in LEAST for name in structures):
        return tuple(_warnings_of_knee(masks))
    warnings: list[str] = []
    for side in SIDES:
        bones = {name.removeprefix(f"{side} "): mask for name, mask in masks.items() if name.startswith(side)}
        warnings += [f"{side} knee: {warning}" for warning in _warnings_of_knee(bones)]
    return tuple(warnings)


def _warnings_of_knee(masks: dict[str, np.ndarray]) -> list[str]:
    sizes = {name: int(mask.sum()) for name, mask in masks.items()}
    bone = sum(sizes.values())
    if not bone:
        return ["nothing found"]
    warnings = []
    if absent := [name for name, size in sizes.items() if not size]:
        warnings.append(f"no {', no '.join(absent)} found: upside down or cut off?")
    if small := [name for name, size in sizes.items() if 0 < size < LEAST.get(name, 0) * bone]:
        shares = (f"{name} ({100 * sizes[name] / bone:.1f} % of the bone)" for name in small)
        warnings.append(f"too little {', '.join(shares)}: upside down or cut off?")
    if broken := [name for name in masks if name in LEAST and _share_outside_piece(masks, name) > PIECE]:
        warnings.append(f"{', '.join(broken)} in several pieces: two knees? see --knees")
    femur = next((name for name in ("femur", "whole femur") if sizes.get(name)), None)
    if femur and sizes.get("tibia") and _mean_row(masks["tibia"]) <= _mean_row(masks[femur]):
        warnings.append(f"the tibia is not below the {femur}: upside down or on its side?")
    return warnings


def _share_outside_piece(masks: dict[str, np.ndarray], name: str) -> float:
    """Return the share of a structure's pixels outside its largest connected piece."""
    union = np.logical_or.reduce([masks[part] for part in _JOINED.get(name, (name,)) if part in masks])
    pieces = np.bincount(ndimage.label(union)[0].ravel())[1:]
    return 1 - pieces.max() / pieces.sum() if pieces.size else 0.0


def _mean_row(mask: np.ndarray) -> float:
    return float(np.nonzero(mask)[0].mean())
