"""Aligns a mask with its film, or with another mask, by the headers of both files and an orientation flag.

A file has the orientation that its header applied to the stored pixels, or None if the header states none.
"""

from pathlib import Path
from typing import NamedTuple

from kneefair_jax.data.readers import NONE, ORIENTATIONS, Orientation, name_of
from kneefair_jax.errors import InputError

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
    """A file and its orientation."""

    path: Path
    orientation: Orientation | None


def checked(flag: Flag) -> Flag:
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
