"""A bilateral film -> its two knees."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d

from kneefair_jax import anatomy
from kneefair_jax.data.oai import films

SIDES = ("right", "left")


class Knee(NamedTuple):
    """The half of a film with one knee.

    Attributes:
        image: u8[H, w, 1].
        label: u8[H, w] of the scheme `knee`; nothing of the other knee.
    """

    image: np.ndarray
    label: np.ndarray


def cut(image: np.ndarray, label: np.ndarray, side: str, *, mirror: bool) -> Knee:
    """Cuts one knee out of a film at the midline: the patient's right knee is the half at image left.

    Args:
        image: u8[H, W, 1].
        label: u8[H, W] of the scheme `knees`.
        side: right or left, the patient's.
        mirror: whether a left knee is mirrored, so that the fibula is at image left in every knee.
    """
    column = midline(image, label)
    half = slice(0, column) if side == "right" else slice(column, None)
    knee = Knee(image[:, half], _ONE_KNEE[side][label[:, half]])
    if mirror and side == "left":
        return Knee(*(np.ascontiguousarray(array[:, ::-1]) for array in knee))
    return knee


def midline(image: np.ndarray, label: np.ndarray) -> int:
    """The first column of the half at image right.

    It is halfway between the two knees of the mask. Where the mask shows one knee, it is the darkest column of the
    film's middle fifth (its mean smoothed over 2 % of the width; the middle one of several), or of as much of that as
    the knee leaves.

    Args:
        image: u8[H, W, 1].
        label: u8[H, W] of the scheme `knees`.
    """
    width = label.shape[1]
    right, left = (np.flatnonzero(films.of_side(label, side).any(axis=0)) for side in SIDES)
    if right.size and left.size:
        return int(right[-1] + 1 + left[0] + 1) // 2  # a half is rounded up
    low = max(2 * width // 5, right[-1] + 1 if right.size else 0)
    high = min(3 * width // 5, left[0] if left.size else width)
    if high <= low:  # the knee reaches across the middle
        return int(low if right.size else high)
    profile = uniform_filter1d(image.mean(axis=(0, 2)), max(1, width // 50), mode="nearest")
    darkest = low + np.flatnonzero(profile[low:high] == profile[low:high].min())
    return int(darkest[len(darkest) // 2])


def _one_knee(side: str) -> np.ndarray:
    """u8[9], the label in the scheme `knee` of each label of `knees`; the other side becomes background."""
    table = np.zeros(len(films.STRUCTURES) + 1, np.uint8)
    for value, name in enumerate(anatomy.SCHEMES["knee"], start=1):
        table[1 + films.STRUCTURES.index(f"{side} {name}")] = value
    return table


_ONE_KNEE = {side: _one_knee(side) for side in SIDES}
