"""Whether a mask lies on its film, or on another mask: what the headers of both files state, and where they do not.

A file has an orientation (what its header applied to the stored pixels), or None where its header states none.
"""

from pathlib import Path
from typing import NamedTuple

from kneefair_jax.data.readers import NONE, ORIENTATIONS, Orientation, name_of
from kneefair_jax.errors import InputError

# `relation` of two files.
STATED = "stated"  # both headers state an orientation: the files lie in one space
OPEN = "open"  # one header turns its pixels, and the other states none
UNSTATED = "unstated"  # no pixels were turned: the files are compared as stored
STORED = "stored"
FLAGS = (*ORIENTATIONS, STORED)  # values of an orientation flag


class Flag(NamedTuple):
    """An orientation flag of a config.

    Attributes:
        value: one of `FLAGS`, or "" to follow the headers and refuse what they leave open.
        name: of the field, for messages.
    """

    value: str = ""
    name: str = "data.orientation"


class File(NamedTuple):
    """A file, and its orientation; `path` is what messages call it."""

    path: Path
    orientation: Orientation | None


def checked(flag: Flag) -> Flag:
    """Return the flag.

    Raises:
        InputError: its value is not known.
    """
    if flag.value and flag.value not in FLAGS:
        raise InputError(f"config.{flag.name}={flag.value!r}: give one of {', '.join(FLAGS)}, or nothing")
    return flag


def mask_to_film(mask: File, film: File, flag: Flag) -> Orientation:
    """Return what lays a mask on its film, after both headers were followed.

    Args:
        mask: the file of the mask.
        film: the file of its film.
        flag: what settles a pair whose headers leave it open.

    Raises:
        InputError: the headers leave it open, and the flag is not set.
    """
    if not flag.value and relation(film.orientation, mask.orientation) == OPEN:
        turned, other = (film, mask) if mask.orientation is None else (mask, film)
        turn = name_of(film.orientation or mask.orientation or NONE)
        raise InputError(
            f"{mask.path}: the header of {turned.path.name} states an orientation ({turn} displays its pixels), and "
            f"that of {other.path.name} states none; give --config.{flag.name}=none if {other.path.name} lies as "
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
    """Return what lays a mask on its reference after both headers were followed.

    Headers that state both orientations decide, so the flag has no effect on such a pair.

    Args:
        reference: the orientation of the film, or of the reference mask.
        mask: the orientation of the mask.
        flag: a name of `ORIENTATIONS`, or `STORED` where the stored pixels of both files lie on each other.
    """
    if relation(reference, mask) == STATED:
        return NONE
    if flag == STORED:
        return (reference or NONE).compose((mask or NONE).inverse())  # one of them is NONE
    return ORIENTATIONS[flag]
