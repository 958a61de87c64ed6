"""What in a mask cannot be a knee as it stands on a postero-anterior film: rules of anatomy, structure by structure.

The network's confidence does not tell: of an upside-down knee, or of two knees in one picture, it can be above 0.95.
`benchmarks/plausibility.py` tries the limits on films that they were not chosen on.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

SIDES = ("right", "left")  # of the patient, from image left to image right

# The least share of a knee's bone. Of the masks that the network that ships draws of 160 clinical phantoms (128, 192
# and 256 pixels a side), the smallest shares are 0.26, 0.43, 0.35, 0.054 and 0.13: each limit is about half of those,
# as a film may be cropped. Of 64 phantoms upside down, no fibula has more than 0.026: so they are found out.
LEAST = {"femur": 0.13, "whole femur": 0.22, "tibia": 0.17, "fibula": 0.03, "patella": 0.06}
# The largest share of a structure outside its largest piece. A knee's bones are one piece each, but for the femur,
# of which the patella may cut off a part: both count as one. In those 160 masks at most 0.009 lies outside; of 96
# pictures of two knees side by side, 64 of them a knee and its mirror image, at least 0.41 of the femur.
PIECE = 0.1
_JOINED = {"femur": ("femur", "patella")}


def doubts(label: np.ndarray, structures: Sequence[str]) -> tuple[str, ...]:
    """Why a mask is no knee's, in words; empty where nothing speaks against it, or no bone is found at all.

    Args:
        label: u8[h, w]; its pixels need not be square.
        structures: names of labels 1, 2, ... Bones of each side are a knee of their own; of what is no bone of the
            knee, only that it is absent is said.
    """
    masks = {name: label == value for value, name in enumerate(structures, start=1)}
    if not label.any():
        return ()
    if not all(name.partition(" ")[0] in SIDES and name.partition(" ")[2] in LEAST for name in structures):
        return tuple(_of_one(masks))
    found: list[str] = []
    for side in SIDES:
        own = {name.removeprefix(f"{side} "): mask for name, mask in masks.items() if name.startswith(side)}
        found += [f"{side} knee: {doubt}" for doubt in _of_one(own)]
    return tuple(found)


def _of_one(masks: dict[str, np.ndarray]) -> list[str]:
    sizes = {name: int(mask.sum()) for name, mask in masks.items()}
    bone = sum(sizes.values())
    if not bone:
        return ["nothing found"]
    said = []
    if absent := [name for name, size in sizes.items() if not size]:
        said.append(f"no {', no '.join(absent)} found: upside down or cut off?")
    if little := [name for name, size in sizes.items() if 0 < size < LEAST.get(name, 0) * bone]:
        shares = (f"{name} ({100 * sizes[name] / bone:.1f} % of the bone)" for name in little)
        said.append(f"too little {', '.join(shares)}: upside down or cut off?")
    if broken := [name for name in masks if name in LEAST and _outside(masks, name) > PIECE]:
        said.append(f"{', '.join(broken)} in several pieces: two knees? see --knees")
    femur = next((name for name in ("femur", "whole femur") if sizes.get(name)), None)
    if femur and sizes.get("tibia") and _height(masks["tibia"]) <= _height(masks[femur]):
        said.append(f"the tibia is not below the {femur}: upside down or on its side?")
    return said


def _outside(masks: dict[str, np.ndarray], name: str) -> float:
    """The share of a structure that is outside its largest piece."""
    whole = np.logical_or.reduce([masks[part] for part in _JOINED.get(name, (name,)) if part in masks])
    pieces = np.bincount(ndimage.label(whole)[0].ravel())[1:]
    return 1 - pieces.max() / pieces.sum() if pieces.size else 0.0


def _height(mask: np.ndarray) -> float:
    """The mean row."""
    return float(np.nonzero(mask)[0].mean())
