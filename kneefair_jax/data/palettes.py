"""Reads palette images as masks: the label of a pixel is its index, or the gray value of its color.

Image optimizers and `Image.quantize` reorder palettes, which changes the indices but not the displayed image.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from kneefair_jax.data import readers
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError

# Gray values up to this are labels; an image for display uses the full scale.
_MAX_LABEL = 32


def read(path: Path) -> np.ndarray | None:
    """Return the palette of a file, u8[N, 3] by index; None for any other file, or an unreadable one."""
    if readers.suffix_of(path.name) not in readers.PALETTE_SUFFIXES:
        return None
    try:
        with limits.open_regular(path) as file, Image.open(file, formats=("PNG", "TIFF")) as image:
            if image.mode != "P":
                return None
            colors = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    except Exception:  # `data.readers` reports the fault of the file
        return None
    return np.pad(colors, ((0, 256 - len(colors)), (0, 0)))


def labels(index: np.ndarray, palette: np.ndarray, values: Collection[int], path: Path) -> np.ndarray:
    """Return the labels of a palette image: its indices, or the gray values of their colors.

    Indices are the labels if colors are not gray, if gray values equal the indices, or if several indices all have one
    gray value. Otherwise the gray values are the labels if all of them are values of structures or background and the
    indices are not, or if all are small, unlike in an image for display.

    Args:
        index: integers [H, W].
        palette: u8[N, 3].
        values: of structures and background in such masks; empty if unknown.
        path: the file, for the message.

    Returns:
        u8[H, W].

    Raises:
        InputError: indices and gray values could both be labels.
    """
    indices = np.unique(index)
    colors = palette[indices]
    grays = colors[:, 0]
    index = index.astype(np.uint8)
    # Unset colors are black, as are the colors of an 8-bit color map in a TIFF, which should have 16 bits.
    is_unset = len(indices) > 1 and np.ptp(grays) == 0
    if (colors != grays[:, None]).any() or np.array_equal(grays, indices) or is_unset:
        return index
    grays_match, indices_match = (set(array.tolist()) <= {0, *values} for array in (grays, indices))
    is_small = grays.max() <= _MAX_LABEL
    if values and grays_match and indices_match and not is_small:
        raise InputError(
            f"{path}: a palette image whose indices {_format(indices)} have the gray values {_format(grays)}, and both "
            "could be labels; save the labels as one gray image without a palette"
        )
    if grays_match if values and grays_match != indices_match else is_small:
        gray_image: np.ndarray = palette[:, 0][index]
        return gray_image
    return index


def _format(values: np.ndarray) -> str:
    return ", ".join(map(str, values[:5].tolist())) + (", ..." if len(values) > 5 else "")


def check(
    paths: Sequence[Path],
    read_index: Callable[[Path], np.ndarray],
    values: Collection[int] = (),
    threads: int | None = None,
) -> None:
    """Require that in all palette images of a folder the same index has the same color.

    Files whose labels are their gray values (`labels`) are skipped, as are unreadable files.

    Args:
        paths: masks of one annotator or one model.
        read_index: path -> indices, integers [H, W].
        values: as for `labels`.
        threads: number of reading threads; None for the number of cores.

    Raises:
        InputError: two files differ; the message names both.
    """
    color_of: dict[int, tuple[tuple[int, ...], Path]] = {}
    index_of: dict[tuple[int, ...], tuple[int, Path]] = {}

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        used_colors = pool.map(lambda path: _used_colors(path, read_index, values), paths)
        for path, colors in zip(paths, used_colors, strict=True):
            for index, color in colors.items():
                first_color, color_path = color_of.setdefault(index, (color, path))
                first_index, index_path = index_of.setdefault(color, (index, path))
                if first_color != color or first_index != index:
                    difference = (
                        f"{color_path} gives it the color {first_color}"
                        if first_color != color
                        else f"{index_path} gives this color the index {first_index}"
                    )
                    raise InputError(
                        f"{path}: its palette gives the index {index} the color {color}, and {difference}, so an index "
                        "has no single meaning; save the masks as gray images of the labels, without a palette"
                    )


def _used_colors(
    path: Path, read_index: Callable[[Path], np.ndarray], values: Collection[int]
) -> dict[int, tuple[int, ...]]:
    """Return the colors in use in a palette image, index -> (R, G, B); {} where its labels are its gray values."""
    palette = read(path)
    if palette is None:
        return {}
    try:
        index = read_index(path)
        if not np.array_equal(labels(index, palette, values, path), index):
            return {}
    except InputError:  # reported when the mask is read
        return {}
    colors = {number: tuple(palette[number].tolist()) for number in np.unique(index).tolist()}
    if all(color == (number,) * 3 for number, color in colors.items()):
        return {}
    # Unset entries are all black and carry no information.
    counts = Counter(colors.values())
    return {number: color for number, color in colors.items() if counts[color] == 1}
