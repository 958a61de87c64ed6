"""Films of two patients that are one film, and masks of two cases that are one mask: the leaks that no table shows.

All knees look alike, so a difference hash of 64 or 256 bits finds distinct patients as close as a film and its noisy
copy. What tells two films apart is what is left of them once the common is taken away: thumbnails, standardised, less
their mean and their leading principal components. Of 600 phantoms of 300 patients the two most alike of distinct
patients correlate at 0.56; a film and its copy at 0.92 or more, after noise, other brightness or gamma, or a shift by a
pixel.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

THRESHOLD = 0.9
_SIDE = 16
_COMPONENTS = 16
_BLOCK = 1024


class Pair(NamedTuple):
    """Two films that are nearly one; `likeness` is their correlation, 1 for equal ones."""

    first: int
    second: int
    likeness: float


def thumbnail(image: np.ndarray) -> np.ndarray:
    """u8[H, W, C] -> f32[256] of mean 0 and norm 1, or 0 for an image without contrast."""
    small = Image.fromarray(image.mean(axis=2).astype(np.uint8)).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    flat = np.asarray(small, np.float32).reshape(1, -1)
    return _unit(flat - flat.mean())[0]


def pairs(thumbnails: np.ndarray, owners: Sequence[str], threshold: float = THRESHOLD) -> list[Pair]:
    """The pairs of different owners' films that are nearly one, the likeliest first.

    Args:
        thumbnails: f32[N, 256], a row per film.
        owners: the patient of each; films of one patient are not compared.
        threshold: least correlation.
    """
    centred = thumbnails - thumbnails.mean(axis=0)
    # Few films have no common to speak of: a component would be one of them, and its copy.
    components = min(_COMPONENTS, len(centred) // 40)
    if components:
        _, axes = np.linalg.eigh(centred.T @ centred)
        leading = axes[:, -components:]
        centred = centred - centred @ leading @ leading.T
    films = _unit(centred)
    _, owner = np.unique(np.asarray(owners), return_inverse=True)
    found = []
    for start in range(0, len(films), _BLOCK):
        here = slice(start, start + _BLOCK)
        alike = films[here] @ films.T
        # Of a handful of films, two equal ones may be all the common there is.
        alike[thumbnails[here] @ thumbnails.T > 1 - 1e-5] = 1.0
        for first, second in np.argwhere((alike >= threshold) & (owner[here, None] != owner)):
            if start + first < second:
                found.append(Pair(int(start + first), int(second), round(float(alike[first, second]), 3)))
    return sorted(found, key=lambda pair: (-pair.likeness, pair))


def identical(digests: Sequence[str]) -> list[list[int]]:
    """Return the rows of each group of equal digests, in order; "" equals nothing."""
    groups: dict[str, list[int]] = {}
    for row, digest in enumerate(digests):
        groups.setdefault(digest, []).append(row)
    return [rows for digest, rows in groups.items() if digest and len(rows) > 1]


def _unit(rows: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(norm > 1e-4, rows / np.maximum(norm, 1e-4), 0).astype(np.float32)
