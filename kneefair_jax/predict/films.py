"""Read a file as an image for a network, with the pixel spacing, and place the image on the network's working grid."""

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kneefair_jax.data import cell_text, readers
from kneefair_jax.data.readers import limits
from kneefair_jax.data.readers.limits import LARGEST_MM, SMALLEST_MM
from kneefair_jax.errors import InputError

SMALLEST = 16  # pixels along a side
STATED = "stated"  # the kind of a spacing that `--spacing` states
_LARGEST_RATIO = 2  # of rows to columns or the reverse; pixels of radiographs are square, or nearly so


class Film(NamedTuple):
    """A radiograph and what its header states.

    Attributes:
        path: its file.
        image: u8[H, W, 1], bone bright, the patient's right at image left where the header says so.
        spacing: f32[2], mm per pixel down and across; NaN where unknown.
        is_bilateral: whether its header says that it shows both knees.
        notes: quality warnings about the header and the pixels.
        spacing_kind: of `readers.Radiograph`, or `STATED`.
        orientation: what displays the stored pixels, or None, of `readers.Radiograph`.
        view: what turns the displayed pixels to `image`, of `readers.Radiograph`.
        laterality: which knee its header states, of `readers.Radiograph`.
    """

    path: Path
    image: np.ndarray
    spacing: np.ndarray
    is_bilateral: bool
    notes: tuple[str, ...]
    spacing_kind: str = "unknown"
    orientation: readers.Orientation | None = None
    view: readers.Orientation = readers.NONE
    laterality: str = ""

    def to_displayed(self, mask: np.ndarray) -> np.ndarray:
        """Return a mask of `image` as a mask of the displayed pixels, which a file without orientation holds."""
        return self.view.undo(mask)

    def to_stored(self, mask: np.ndarray) -> np.ndarray:
        """Return a mask of `image` as a mask of the film's stored pixels."""
        return (self.orientation or readers.NONE).undo(self.view.undo(mask))

    def stored_spacing(self) -> np.ndarray:
        """Return f32[2], mm per stored pixel down and across; NaN where unknown."""
        return (self.orientation or readers.NONE).of_pair(self.view.of_pair(self.spacing))


def read(path: Path) -> Film:
    """Read an image file.

    Raises:
        InputError: it is unreadable, too large, too small or blank.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged headers; the reader refuses what cannot be used
        film = readers.read_radiograph(path)
    image = film.view.apply(readers.to_uint8(film.pixels, valid=film.valid))
    grey = readers.to_gray(image)
    try:
        require_picture(grey)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    is_colored = image.shape[2] == 3 and np.ptp(image.astype(np.int16), axis=2).mean() > 8
    return Film(
        path,
        grey,
        film.view.of_pair(film.spacing),
        film.bilateral,
        (*film.notes, *(["in colour"] if is_colored else [])),
        film.spacing_kind,
        film.orientation,
        film.view,
        film.laterality,
    )


def require_picture(image: np.ndarray) -> None:
    """Refuse u8[H, W, 1] that cannot be a radiograph.

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


def parse_spacing(text: str) -> np.ndarray:
    """Return f32[2], mm per pixel down and across, of `--spacing`: `0.15`, `0.15,0.2` or, as in tables, `0.15x0.2`.

    Raises:
        InputError: it is not one number or two, not between 0.01 and 5 mm, two integers with a comma (which may be one
            number with a decimal comma), or of pixels more than twice as long as wide.
    """
    try:
        values = [cell_text.parse_number(word) for word in re.split("[,x]", text)]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(SMALLEST_MM <= value <= LARGEST_MM for value in values):
        raise InputError(
            f"--spacing {text}: give the pixel spacing in mm, between {SMALLEST_MM} and {LARGEST_MM:g}, as one number "
            "or as ROW,COLUMN, with decimal points: --spacing 0.15 or --spacing 0.15,0.2"
        )
    if re.fullmatch(r"\s*\d+\s*,\s*\d+\s*", text):
        decimal = re.sub(r"\s*,\s*", ".", text.strip())
        raise InputError(
            f"--spacing {text}: the comma may be a decimal comma; write {decimal} for one number, or "
            f"{text.replace(',', 'x')} for ROW x COLUMN"
        )
    if max(values) > _LARGEST_RATIO * min(values):
        raise InputError(
            f"--spacing {text}: {values[0]:g} mm down and {values[1]:g} mm across differ by more than a factor of "
            f"{_LARGEST_RATIO}, which no radiograph has; give ROW,COLUMN with decimal points: --spacing 0.15,0.2"
        )
    return np.array(np.broadcast_to(np.array(values, np.float32), 2))


def with_stated_spacing(film: Film, spacing: np.ndarray) -> Film:
    """Return the film with the stated spacing if its file states none; else the film, with a note if the two differ.

    Args:
        film: as read.
        spacing: f32[2], mm per pixel down and across, of the film as it is displayed.
    """
    stated = film.view.of_pair(spacing)
    if np.isnan(film.spacing).any():
        return film._replace(spacing=stated, spacing_kind=STATED)
    if limits.same_spacing(film.spacing, stated):
        return film
    by_flag, by_header = (" x ".join(f"{value:.4g}" for value in pair) for pair in (stated, film.spacing))
    # A text that began with `--spacing` would be a formula of a spreadsheet.
    note = f"the header states {by_header} mm, and --spacing {by_flag} mm; areas are by the header"
    return film._replace(notes=(*film.notes, note))


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
