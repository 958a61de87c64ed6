"""Masks that lie on their films only when turned or flipped: contours of bones lie where grey values change.

No network is needed, so this holds for any structures. A mask's contours are laid over the film in the eight
orientations, and the one whose contours have the strongest edges below them fits.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from kneefair_jax.data.readers import ORIENTATIONS

NONE = "none"
_FEWEST = 16  # pixels of a contour
# By how much the mean rank of the edges must rise. Of 60 JSRT chest films and 120 phantom knees with correct masks, it
# rises in none; the right orientation leads by 0.06 to 0.3.
_CLEAR = 0.04
# A cohort is judged that is large enough, and of which most cases fit best in one orientation or two (two sites).
_FEWEST_CASES, _AGREEING = 8, 0.8
_CONSISTENT = 0.9  # share of the cases that one orientation must fit to be a cohort's


class Turned(NamedTuple):
    """A case whose mask fits its film better in another orientation.

    Attributes:
        case_id: the case.
        orientation: a name of `readers.ORIENTATIONS`.
        edge_rank: mean rank, 0 to 1, of the film's edges below the contours in that orientation.
        edge_rank_as_read: the same of the mask as read.
    """

    case_id: str
    orientation: str
    edge_rank: float
    edge_rank_as_read: float


def edge_ranks(image: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Return the mean rank, 0 to 1, of the film's edges below the contours, by orientation; none without contours.

    Args:
        image: u8[H, W, C].
        label: u8[H, W].
    """
    ranks = _ranks(image)
    result = {}
    for name, orientation in ORIENTATIONS.items():
        contour = _contour(orientation.apply(label))
        if contour.shape == ranks.shape and np.count_nonzero(contour) >= _FEWEST:
            result[name] = float(ranks[contour].mean())
    return result


def turned(cases: Mapping[str, Mapping[str, float]]) -> list[Turned]:
    """Return the cases whose mask fits clearly better in another orientation.

    Masks that do not follow the edges of their films fit best in any of the eight: then nothing is said.

    Args:
        cases: case id -> `edge_ranks`.
    """
    best = {case: max(ranks, key=ranks.__getitem__) for case, ranks in cases.items() if ranks}
    if len(best) < _FEWEST_CASES:
        return []
    if sum(count for _, count in Counter(best.values()).most_common(2)) < _AGREEING * len(best):
        return []
    return [
        Turned(case, name, cases[case][name], cases[case][NONE])
        for case, name in best.items()
        if cases[case][name] >= cases[case][NONE] + _CLEAR
    ]


def consistent(cases: Sequence[Turned], count: int) -> str:
    """Return the orientation that fits nearly all `count` cases of a cohort, or ""."""
    if not cases:
        return ""
    name, several = Counter(case.orientation for case in cases).most_common(1)[0]
    return name if several >= _CONSISTENT * count else ""


def _ranks(image: np.ndarray) -> np.ndarray:
    """f64[H, W], the rank of each pixel's gradient magnitude, 0 to 1: exposure and contrast do not matter."""
    down, across = np.gradient(image.astype(np.float32).mean(axis=2))
    magnitude = np.hypot(down, across)
    return stats.rankdata(magnitude, axis=None).reshape(magnitude.shape) / magnitude.size


def _contour(label: np.ndarray) -> np.ndarray:
    """bool[H, W], the pixels on both sides of every border between labels."""
    contour = np.zeros(label.shape, bool)
    down, across = label[1:] != label[:-1], label[:, 1:] != label[:, :-1]
    contour[1:] |= down
    contour[:-1] |= down
    contour[:, 1:] |= across
    contour[:, :-1] |= across
    return contour
