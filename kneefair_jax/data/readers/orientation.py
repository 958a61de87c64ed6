"""Orientations of pixel arrays, and those that the headers of NIfTI and DICOM state.

The displayed space is LPS, as SimpleITK gives a 2-D slice: columns run to the patient's left and rows to the posterior
(axial), columns to the left and rows to the feet (frontal), or columns to the posterior and rows to the feet (lateral).
A file whose header states no orientation (PNG, NPY, NIfTI with both codes 0) is displayed as it is stored. The headers
of a mask and of its film, or of another mask, and an orientation flag align the two files.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kneefair_jax.errors import InputError


class Orientation(NamedTuple):
    """One of the eight orientations of an array: transpose it first, then flip it.

    Attributes:
        transpose: exchange rows and columns.
        flip_rows: reverse the order of the rows.
        flip_columns: reverse the order of the columns.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Return an array [rows, columns, ...] in this orientation, C-contiguous."""
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
        """Return a pair [down, across] of the stored array as that of the array that `apply` returns."""
        return pair[::-1] if self.transpose else pair

    def compose(self, second: "Orientation") -> "Orientation":
        """Return the orientation that applies this one first and `second` after it."""
        rows, columns = self.flip_rows, self.flip_columns
        if second.transpose:
            rows, columns = columns, rows
        return Orientation(
            self.transpose != second.transpose, rows != second.flip_rows, columns != second.flip_columns
        )


NONE = Orientation()


# By the values of a flag; `rotate-90` is counterclockwise, as in `numpy.rot90`.
ORIENTATIONS = {
    "none": NONE,
    "flip-lr": Orientation(flip_columns=True),
    "flip-ud": Orientation(flip_rows=True),
    "rotate-180": Orientation(flip_rows=True, flip_columns=True),
    "transpose": Orientation(transpose=True),
    "rotate-90": Orientation(transpose=True, flip_rows=True),
    "rotate-270": Orientation(transpose=True, flip_columns=True),
    "anti-transpose": Orientation(transpose=True, flip_rows=True, flip_columns=True),
}
# Letter of PatientOrientation -> axis of RAS+ space, and whether the coordinate increases.
_LETTERS = {"R": (0, True), "L": (0, False), "A": (1, True), "P": (1, False), "H": (2, True), "F": (2, False)}


def name_of(orientation: Orientation) -> str:
    """Return the name in `ORIENTATIONS`."""
    return next(name for name, value in ORIENTATIONS.items() if value == orientation)


def of_affine(affine: np.ndarray, columns: int = 0, rows: int = 1) -> Orientation | None:
    """Return the orientation by a RAS+ affine; None if the affine is singular.

    Args:
        affine: f64[4, 4], voxel index -> mm in RAS+ space.
        columns: the voxel axis that is the stored array's column index.
        rows: the voxel axis that is the stored array's row index.
    """
    from nibabel import orientations

    library: Any = orientations  # which has no annotations
    if not np.isfinite(affine).all():
        return None
    axes = library.io_orientation(affine)
    if np.isnan(axes[[columns, rows]]).any():
        return None
    (column_axis, column_sign), (row_axis, row_sign) = axes[columns], axes[rows]
    return _of_axes((column_axis, column_sign > 0), (row_axis, row_sign > 0))


def of_directions(cosines: Sequence[float]) -> Orientation | None:
    """Return the orientation by DICOM's ImageOrientationPatient; None if it is no pair of directions.

    Args:
        cosines: six numbers in LPS space: the direction of increasing column index, then of increasing row index.
    """
    affine = affine_of_directions(cosines)
    return None if affine is None else of_affine(affine)


def affine_of_directions(
    cosines: Sequence[float],
    position: Sequence[float] = (0.0, 0.0, 0.0),
    spacing: Sequence[float] = (1.0, 1.0),
) -> np.ndarray | None:
    """Return f64[4, 4], [column, row, 0] -> mm in RAS+ space; None if the directions are not perpendicular units.

    Args:
        cosines: ImageOrientationPatient.
        position: ImagePositionPatient.
        spacing: mm per pixel, down and across.
    """
    directions = np.asarray(cosines, float)
    if directions.shape != (6,) or not np.allclose(
        directions.reshape(2, 3) @ directions.reshape(2, 3).T, np.eye(2), atol=1e-2
    ):
        return None
    across, down = directions[:3], directions[3:]
    affine = np.eye(4)
    affine[:3, :3] = np.stack([across * spacing[1], down * spacing[0], np.cross(across, down)], axis=1)
    affine[:3, 3] = position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def affine_of_turn(
    turn: Orientation, shape: Sequence[int], spacing: Sequence[float] = (1.0, 1.0)
) -> np.ndarray:
    """Return f64[4, 4], [column, row, 0] of stored pixels -> mm in axial RAS+ space, by the turn that displays them.

    Args:
        turn: stored pixels -> displayed pixels, the first of which is at 0.
        shape: rows and columns as stored.
        spacing: mm per stored pixel, down and across.
    """
    down, across = np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])  # LPS, of displayed pixels
    down = -down if turn.flip_rows else down
    across = -across if turn.flip_columns else across
    if turn.transpose:
        down, across = across, down
    steps = np.stack([down * spacing[0] * (shape[0] - 1), across * spacing[1] * (shape[1] - 1)])
    corner = -steps.sum(axis=0).clip(max=0.0) + 0.0  # of the first stored pixel
    affine = affine_of_directions([*across, *down], corner.tolist(), spacing)
    assert affine is not None
    return affine


def of_letters(letters: Sequence[str]) -> Orientation | None:
    """Return the orientation by DICOM's PatientOrientation; None if the letters are not two different axes.

    Lateral films are not flipped from left to right: both directions of anterior are usual displays.

    Args:
        letters: the direction of increasing column index, then of increasing row index, such as ["L", "F"].
    """
    axes = [_LETTERS.get(str(letter).strip().upper()[:1]) for letter in letters]
    if len(axes) != 2 or axes[0] is None or axes[1] is None or axes[0][0] == axes[1][0]:
        return None
    orientation = _of_axes(axes[0], axes[1])
    if {axes[0][0], axes[1][0]} == {1, 2}:
        return orientation._replace(flip_columns=False)
    return orientation


def _of_axes(columns: tuple[float, bool], rows: tuple[float, bool]) -> Orientation:
    """Return the orientation by the RAS+ axes along columns and rows, and whether each increases.

    All displayed axes decrease.
    """
    if columns[0] <= rows[0]:
        return Orientation(False, flip_rows=rows[1], flip_columns=columns[1])
    return Orientation(True, flip_rows=columns[1], flip_columns=rows[1])


# `relation` of two files.
STATED = "stated"  # both headers state an orientation: the files are in one space
OPEN = "open"  # one header turns its pixels, and the other states no orientation: the relation is ambiguous
UNSTATED = "unstated"  # no pixels were turned: the files are compared as stored
STORED = "stored"
FLAGS = (*ORIENTATIONS, STORED)  # values of an orientation flag


class Flag(NamedTuple):
    """An orientation flag of a config.

    Attributes:
        value: one of `FLAGS`, or "" to follow the headers and refuse ambiguous pairs.
        name: of the field, for messages.
    """

    value: str = ""
    name: str = "data.orientation"


class File(NamedTuple):
    """A file, and the orientation that its header applied to the stored pixels; None if the header states none."""

    path: Path
    orientation: Orientation | None


def checked_flag(flag: Flag) -> Flag:
    """Return the flag.

    Raises:
        InputError: its value is not one of `FLAGS`.
    """
    if flag.value and flag.value not in FLAGS:
        raise InputError(f"config.{flag.name}={flag.value!r}: give one of {', '.join(FLAGS)}, or nothing")
    return flag


def mask_to_film(mask: File, film: File, flag: Flag) -> Orientation:
    """Return the orientation that aligns a mask with its film after both headers were applied.

    Args:
        mask: the file of the mask.
        film: the file of its film.
        flag: settles a pair whose headers are ambiguous.

    Raises:
        InputError: the headers are ambiguous, and the flag is not set.
    """
    if not flag.value and relation(film.orientation, mask.orientation) == OPEN:
        turned, unturned = (film, mask) if mask.orientation is None else (mask, film)
        turn = name_of(film.orientation or mask.orientation or NONE)
        raise InputError(
            f"{mask.path}: the header of {turned.path.name} states an orientation ({turn} displays its pixels), and "
            f"that of {unturned.path.name} states none; give --config.{flag.name}=none if {unturned.path.name} lies as "
            f"{turned.path.name} is displayed, --config.{flag.name}={STORED} if it lies as the pixels of "
            f"{turned.path.name} are stored"
        )
    return correction(film.orientation, mask.orientation, flag.value or "none")


def relation(first: Orientation | None, second: Orientation | None) -> str:
    """Return `STATED`, `OPEN` or `UNSTATED` for the orientations of two files."""
    if first is not None and second is not None:
        return STATED
    return UNSTATED if (first or NONE) == (second or NONE) else OPEN


def correction(reference: Orientation | None, mask: Orientation | None, flag: str) -> Orientation:
    """Return the orientation that aligns a mask with its reference after both headers were applied.

    If both headers state an orientation, they decide, and the flag has no effect.

    Args:
        reference: the orientation of the film, or of the reference mask.
        mask: the orientation of the mask.
        flag: a name of `ORIENTATIONS`, or `STORED` if the stored pixels of both files are aligned.
    """
    if relation(reference, mask) == STATED:
        return NONE
    if flag == STORED:
        return (reference or NONE).compose((mask or NONE).inverse())  # one of them is NONE
    return ORIENTATIONS[flag]
