"""A file -> an image that a network can be shown."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kneefair_jax.data import readers
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError

SMALLEST = 16  # pixels along a side


class Film(NamedTuple):
    """An image as read.

    Attributes:
        path: its file.
        image: u8[H, W, 1], bone bright, the patient's right at image left where the header says so.
        spacing: f32[2], mm per pixel down and across; NaN where unknown.
        bilateral: whether its header says that it shows both knees.
        notes: what is odd about it.
        spacing_kind: of `readers.Radiograph`, or `stated` (`stated_spacing`).
        orientation: what displays the stored pixels, or None, of `readers.Radiograph`.
        view: what turns the displayed pixels to `image`, of `readers.Radiograph`.
        laterality: which knee its header states, of `readers.Radiograph`.
    """

    path: Path
    image: np.ndarray
    spacing: np.ndarray
    bilateral: bool
    notes: tuple[str, ...]
    spacing_kind: str = "unknown"
    orientation: readers.Orientation | None = None
    view: readers.Orientation = readers.NONE
    laterality: str = ""

    def displayed(self, mask: np.ndarray) -> np.ndarray:
        """Return a mask of `image` as a mask of the displayed pixels, which a file without orientation holds."""
        return self.view.undo(mask)

    def stored(self, mask: np.ndarray) -> np.ndarray:
        """Return a mask of `image` as a mask of the film's stored pixels."""
        return (self.orientation or readers.NONE).undo(self.view.undo(mask))

    def stored_spacing(self) -> np.ndarray:
        """Return f32[2], mm per stored pixel down and across; NaN where unknown."""
        return (self.orientation or readers.NONE).of_pair(self.view.of_pair(self.spacing))


def read(path: Path) -> Film:
    """Reads an image file.

    Raises:
        InputError: it is unreadable, too large, too small or blank.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged headers; what cannot be read is an error anyway
        film = readers.read_radiograph(path)
    eight = film.view.apply(readers.to_uint8(film.pixels, valid=film.valid))
    grey = readers.to_gray(eight)
    try:
        require_picture(grey)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    colourful = eight.shape[2] == 3 and np.ptp(eight.astype(np.int16), axis=2).mean() > 8
    notes = (*film.notes, *(["in colour"] if colourful else []))
    return Film(
        path,
        grey,
        film.view.of_pair(film.spacing),
        film.bilateral,
        notes,
        film.spacing_kind,
        film.orientation,
        film.view,
        film.laterality,
    )


def require_picture(image: np.ndarray) -> None:
    """Refuses u8[H, W, 1] that cannot be a radiograph.

    Raises:
        InputError: it is too small, too large, or blank.
    """
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST:
        raise InputError(f"{height} x {width} pixels; a radiograph has at least {SMALLEST} a side")
    if height * width > limits.MOST_PIXELS:
        raise InputError(
            f"{height} x {width} pixels, more than {limits.MOST_PIXELS // 10**6} million; make it smaller"
        )
    if image.min() == image.max():
        raise InputError("all pixels are alike; export the film again")
