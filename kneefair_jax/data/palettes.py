"""Palette images as masks: when the index of a pixel is its label, and when the gray value that it shows is.

Optimizers and `Image.quantize` sort palettes anew, so that the picture looks the same and its indices differ.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from kneefair_jax.data import readers
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError

# Gray values up to this are labels; a picture that is to be looked at uses the whole scale.
_MAX_LABEL = 32


def read(path: Path) -> np.ndarray | None:
    """The palette of a file, u8[N, 3] by index; None for any other file, or one that cannot be read."""
    if readers.suffix_of(path.name) not in readers.PALETTE_SUFFIXES:
        return None
    try:
        with limits.open_regular(path) as file, Image.open(file, formats=("PNG", "TIFF")) as image:
            if image.mode != "P":
                return None
            colors = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    except Exception:  # `data.readers` says what is wrong with the file
        return None
    return np.pad(colors, ((0, 256 - len(colors)), (0, 0)))


def labels(index: np.ndarray, palette: np.ndarray, values: Collection[int], path: Path) -> np.ndarray:
    """The labels of a palette image: its indices, or the gray values that these show.

    Colors and indices that agree need no choice, and several indices that all show one gray value are the labels.
    Elsewhere the gray values are the labels if all of them are values of structures or background and the indices are
    not, or if all are small, as no picture to look at is.

    Args:
        index: integers [H, W].
        palette: u8[N, 3].
        values: that structures and background have in such masks; empty where that is unknown.
        path: the file, for the message.

    Returns:
        u8[H, W].

    Raises:
        InputError: indices and gray values could both be labels.
    """
    used = np.unique(index)
    colors = palette[used]
    shown = colors[:, 0]
    index = index.astype(np.uint8)
    # Colors that nobody set are black, as are those of an 8-bit color map in a TIFF, which has 16 bits.
    unset = len(used) > 1 and np.ptp(shown) == 0
    if (colors != shown[:, None]).any() or np.array_equal(shown, used) or unset:
        return index
    by_shown, by_index = (set(one.tolist()) <= {0, *values} for one in (shown, used))
    small = shown.max() <= _MAX_LABEL
    if values and by_shown and by_index and not small:
        raise InputError(
            f"{path}: a palette image whose indices {_some(used)} show the gray values {_some(shown)}, and both could "
            "be labels; save the labels as one gray image without a palette"
        )
    if by_shown if values and by_shown != by_index else small:
        return palette[:, 0][index]
    return index


def _some(values: np.ndarray) -> str:
    return ", ".join(map(str, values[:5].tolist())) + (", ..." if len(values) > 5 else "")


class _Use(NamedTuple):
    """The colors that a file uses: index -> (R, G, B)."""

    path: Path
    colors: dict[int, tuple[int, ...]]


def check(
    paths: Sequence[Path],
    read_index: Callable[[Path], np.ndarray],
    values: Collection[int] = (),
    threads: int | None = None,
) -> None:
    """Requires that in all palette images of a folder the same index has the same color.

    Files whose labels are their gray values (`labels`) are passed over, as are those that cannot be read.

    Args:
        paths: masks of one annotator or one model.
        read_index: path -> indices, integers [H, W].
        values: as for `labels`.
        threads: that read; None for as many as there are cores.

    Raises:
        InputError: two files differ; the message names both.
    """
    color_of: dict[int, tuple[tuple[int, ...], Path]] = {}
    index_of: dict[tuple[int, ...], tuple[int, Path]] = {}

    def use(path: Path) -> _Use | None:
        return _use(path, read_index, values)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for one in filter(None, pool.map(use, paths)):
            for index, color in one.colors.items():
                expected, first = color_of.setdefault(index, (color, one.path))
                number, other = index_of.setdefault(color, (index, one.path))
                if expected != color or number != index:
                    known = (
                        f"{first} gives it the color {expected}"
                        if expected != color
                        else f"{other} gives this color the index {number}"
                    )
                    raise InputError(
                        f"{one.path}: its palette gives the index {index} the color {color}, and {known}, so an index "
                        "is not one structure; save the masks as gray images of the labels, without a palette"
                    )


def _use(path: Path, read_index: Callable[[Path], np.ndarray], values: Collection[int]) -> _Use | None:
    palette = read(path)
    if palette is None:
        return None
    try:
        index = read_index(path)
        if not np.array_equal(labels(index, palette, values, path), index):
            return None
    except InputError:  # said when the mask is read
        return None
    used = {number: tuple(palette[number].tolist()) for number in np.unique(index).tolist()}
    if all(color == (number,) * 3 for number, color in used.items()):
        return None
    # Entries that nobody set are all black, and say nothing.
    times = Counter(used.values())
    return _Use(path, {number: color for number, color in used.items() if times[color] == 1})
