"""From images of any size and number type to the working grid of a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kneefair_jax.data import readers
from kneefair_jax.errors import InputError
from kneefair_jax.predict import films


def as_uint8(image: Any) -> np.ndarray:
    """Convert an image of any number type to u8[H, W, 1 or 3].

    Raises:
        InputError: it is no image, or its pixels are not finite.
    """
    array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3) or not array.size or array.dtype.kind not in "buif":
        raise InputError(
            f"an array of shape {np.shape(image)} and type {array.dtype} is no image; give numbers, [H, W] or [H, W, 3]"
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return readers.to_uint8(array)
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError("it holds pixels that are NaN, infinite or beyond float32")
    return readers.to_uint8(array)


def as_pictures(images: Sequence[Any] | np.ndarray) -> list[np.ndarray]:
    """Convert each image to u8[H, W, 1 or 3], and refuse what the command line refuses of files."""
    shape = np.shape(images) if isinstance(images, np.ndarray) else ()
    if isinstance(images, (str, Path)) or len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)):
        raise InputError(
            "give a list of images, each an array: predictor([image]); the command line takes files"
        )
    pictures = []
    for index, image in enumerate(images):
        try:
            pictures.append(as_uint8(image))
            films.require_picture(readers.to_gray(pictures[-1]))
        except InputError as error:
            raise InputError(f"images[{index}]: {error}") from error
    return pictures


class Placement(NamedTuple):
    """The rows and columns of a working grid that a film covers."""

    rows: slice
    columns: slice

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the grid."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def place_on_grid(size: tuple[int, int], grid: tuple[int, int], fit: str) -> Placement:
    """Place a film on a working grid.

    Args:
        size: (H, W) of the film; its pixels count as square.
        grid: (h, w).
        fit: of `weights.FITS`: "stretch" covers the grid whatever the film's shape, "pad" keeps the aspect
            ratio, to a pixel of the grid, and centers the film.
    """
    if fit == "stretch":
        return Placement(slice(0, grid[0]), slice(0, grid[1]))
    scale = min(grid[0] / size[0], grid[1] / size[1])
    spans = []
    for length, cells in zip(size, grid, strict=True):
        extent = min(cells, max(1, round(scale * length)))
        start = (cells - extent) // 2
        spans.append(slice(start, start + extent))
    return Placement(*spans)


def resize_to_grid(image: np.ndarray, grid: tuple[int, int], placement: Placement) -> np.ndarray:
    """Resize a film u8[H, W, C] to its place on the grid u8[h, w, C]; the rest is black, as a collimated border."""
    small = readers.resize_image(image, placement.size)
    if placement.size == grid:
        return small
    padded = np.zeros((*grid, image.shape[2]), np.uint8)
    padded[placement.rows, placement.columns] = small
    return padded
