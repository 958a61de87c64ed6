"""Where a film of any size lies on the working grid: stretched to all of it, or with its aspect ratio, padded."""

from typing import NamedTuple

import numpy as np

from kneefair_jax.data import readers


class Placement(NamedTuple):
    """The part of a working grid that a film covers.

    Attributes:
        rows: of the grid.
        columns: of the grid.
    """

    rows: slice
    columns: slice

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the grid."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def place(size: tuple[int, int], grid: tuple[int, int], fit: str) -> Placement:
    """Place a film on a grid.

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
        covered = min(cells, max(1, round(scale * length)))
        start = (cells - covered) // 2
        spans.append(slice(start, start + covered))
    return Placement(*spans)


def on_grid(image: np.ndarray, grid: tuple[int, int], place: Placement) -> np.ndarray:
    """Resize a film u8[H, W, C] to its place on the grid u8[h, w, C]; the rest is black, as a collimated border."""
    small = readers.resize_image(image, place.size)
    if place.size == grid:
        return small
    padded = np.zeros((*grid, image.shape[2]), np.uint8)
    padded[place.rows, place.columns] = small
    return padded
