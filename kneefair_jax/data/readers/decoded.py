"""What a decoder returns: pixels as stored, and what the header states about them."""

from typing import NamedTuple

import numpy as np


class Orientation(NamedTuple):
    """One of the eight ways to lay out an array: transpose it first, then flip it.

    Attributes:
        transpose: exchange rows and columns.
        flip_rows: reverse the order of the rows.
        flip_columns: reverse the order of the columns.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Return [rows, columns, ...] laid out so, C-contiguous."""
        if self == NONE:
            return array
        array = array.swapaxes(0, 1) if self.transpose else array
        array = array[::-1] if self.flip_rows else array
        return np.ascontiguousarray(array[:, ::-1] if self.flip_columns else array)

    def undo(self, array: np.ndarray) -> np.ndarray:
        """Invert `apply`."""
        return self.inverse().apply(array)

    def inverse(self) -> "Orientation":
        """Return the orientation that undoes this one."""
        if self.transpose:
            return Orientation(True, self.flip_columns, self.flip_rows)
        return self

    def of_pair(self, pair: np.ndarray) -> np.ndarray:
        """Return [down, across] for the array that `apply` returns."""
        return pair[::-1] if self.transpose else pair

    def then(self, other: "Orientation") -> "Orientation":
        """Return the orientation that applies this one, then the other."""
        rows, columns = self.flip_rows, self.flip_columns
        if other.transpose:
            rows, columns = columns, rows
        return Orientation(
            self.transpose != other.transpose, rows != other.flip_rows, columns != other.flip_columns
        )


NONE = Orientation()


class Decoded(NamedTuple):
    """A file's pixels as stored.

    Attributes:
        pixels: [rows, columns] or [rows, columns, channels], bone bright.
        spacing: mm per pixel down and across as the header states it, one number for both, or None.
        spacing_kind: `detector`, `calibrated`, `scanned`, `header` or `unknown`.
        grid: stored pixels -> displayed space by affine, ImageOrientationPatient or the turn of EXIF or TIFF; None if
            the header states none of them.
        view: pixels as displayed -> the patient's right at image left, by PatientOrientation where there is no `grid`.
        valid: bool[rows, columns], False where pixels are padding; None if all are valid.
        notes: what is odd about the header.
        laterality: which knee the header states: R, L, B (both) or "".
        bilateral: whether the header states that both knees are shown.
    """

    pixels: np.ndarray
    spacing: object = None
    spacing_kind: str = "unknown"
    grid: Orientation | None = None
    view: Orientation = NONE
    valid: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    laterality: str = ""
    bilateral: bool = False
