"""Find radiographs that occur under two patients, and masks that occur in two cases: leaks that no table shows.

All knees look alike, so with a difference hash of 64 or 256 bits distinct patients are as close as a film and its noisy
copy. This module compares standardized thumbnails without their mean and their leading principal components. Of 600
phantoms of 300 patients the two most similar ones of distinct patients correlate at 0.56; a film and its copy at 0.92
or more, after noise, other brightness or gamma, or a shift by a pixel.
"""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

THRESHOLD = 0.9  # least correlation of near-duplicates
# The most pairs that are listed; all are counted.
MOST_PAIRS = 1000
_SIDE = 16
_COMPONENTS = 16
_BLOCK = 2048  # films that are compared with as many at a time


class Pair(NamedTuple):
    """Two near-duplicate films by row; `likeness` is their correlation, 1 for equal ones."""

    first: int
    second: int
    likeness: float


class NearDuplicates(NamedTuple):
    """Pairs of near-duplicate films.

    Attributes:
        pairs: the `MOST_PAIRS` most similar ones, in descending order of likeness.
        total: number of all pairs.
    """

    pairs: list[Pair]
    total: int


def digest(image: np.ndarray) -> str:
    """Return the SHA-256 of an image, hex digits; "" for one without contrast."""
    if image.min() == image.max():
        return ""
    return hashlib.sha256(str(image.shape).encode() + image.tobytes()).hexdigest()


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Reduce u8[H, W, C] to f32[256] of mean 0 and norm 1, or 0 for an image without contrast."""
    small = Image.fromarray(image.mean(axis=2).astype(np.uint8)).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    flat = np.asarray(small, np.float32).reshape(1, -1)
    unit: np.ndarray = _unit(flat - flat.mean())[0]
    return unit


def pairs(
    thumbnails: np.ndarray,
    owners: Sequence[str],
    advance: Callable[[], None] = lambda: None,
) -> NearDuplicates:
    """Return the pairs of near-duplicate films of different owners.

    Every film is compared with every other, N^2 / 2 products of 256 numbers: 20,000 films take about 10 s on one core.
    Memory does not depend on the number of near-duplicates.

    Args:
        thumbnails: f32[N, 256], a row per film.
        owners: the patient of each film; films of one patient are not compared.
        advance: called after each of `comparisons(N)` comparisons.
    """
    centered = thumbnails - thumbnails.mean(axis=0)
    # With few films, a component would be one of them together with its copy.
    components = min(_COMPONENTS, len(centered) // 40)
    if components:
        _, axes = np.linalg.eigh(centered.T @ centered)
        leading = axes[:, -components:]
        centered = centered - centered @ leading @ leading.T
    films = _unit(centered)
    _, owner = np.unique(np.asarray(owners), return_inverse=True)
    best = np.empty(0, _PAIR)
    count = 0
    for rows, columns in _blocks(len(films)):
        likeness = films[rows] @ films[columns].T
        # With very few films, the components may cancel two equal ones.
        likeness[thumbnails[rows] @ thumbnails[columns].T > 1 - 1e-5] = 1.0
        near = (likeness >= THRESHOLD) & (owner[rows, None] != owner[columns])
        if rows == columns:
            near = np.triu(near, 1)
        count += int(np.count_nonzero(near))
        if len(best) == MOST_PAIRS:  # a pair as similar as the last one listed would not be listed
            near &= likeness > best["likeness"][-1] + 5e-4
        first, second = np.nonzero(near)
        more = np.empty(len(first), _PAIR)
        more["likeness"] = likeness[first, second].astype(float).round(3)
        more["first"], more["second"] = first + rows.start, second + columns.start
        best = np.concatenate([best, more])
        order = np.lexsort((best["second"], best["first"], -best["likeness"]))  # ties by their rows
        best = best[order[:MOST_PAIRS]]
        advance()
    most_similar = [Pair(int(pair["first"]), int(pair["second"]), float(pair["likeness"])) for pair in best]
    return NearDuplicates(most_similar, count)


def comparisons(films: int) -> int:
    """Return the number of blocks of films that `pairs` compares."""
    return len(_blocks(films))


_PAIR = np.dtype([("likeness", "f8"), ("first", "i4"), ("second", "i4")])


def _blocks(films: int) -> list[tuple[slice, slice]]:
    """Return the rows and columns of the blocks on and above the diagonal."""
    slices = [slice(start, min(start + _BLOCK, films)) for start in range(0, films, _BLOCK)]
    return list(itertools.combinations_with_replacement(slices, 2))


def identical(digests: Sequence[str]) -> list[list[int]]:
    """Return the rows of each group of equal digests, in order; the empty digest equals no other."""
    groups: dict[str, list[int]] = {}
    for row, value in enumerate(digests):
        groups.setdefault(value, []).append(row)
    return [rows for value, rows in groups.items() if value and len(rows) > 1]


def distinct(digests: Sequence[str], owners: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return a row for each distinct film, and its owner; films without a digest are all distinct.

    A film of several owners gets an owner of its own, so that `pairs` compares it with the films of each of them.
    """
    rows = {value or f"row {row}": row for row, value in reversed(list(enumerate(digests)))}
    shared = {}
    for group in identical(digests):
        names = {owners[row] for row in group}
        if len(names) > 1:
            shared[group[0]] = "\0".join(sorted(names))
    distinct_rows = sorted(rows.values())
    return distinct_rows, [shared.get(row, owners[row]) for row in distinct_rows]


def _unit(rows: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(norm > 1e-4, rows / np.maximum(norm, 1e-4), 0).astype(np.float32)
