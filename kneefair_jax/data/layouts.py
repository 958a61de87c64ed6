"""Whether a mask lies on its film, or on another mask: what the headers of both files state, and where they do not.

A file has an orientation (what its header applied to the stored pixels), or None where its header states none.
"""

from kneefair_jax.data.readers import NONE, ORIENTATIONS, Orientation

# `relation` of two files.
STATED = "stated"  # both headers state an orientation: the files lie in one space
OPEN = "open"  # one header turns its pixels, and the other states none
UNSTATED = "unstated"  # no pixels were turned: the files are compared as stored
STORED = "stored"
FLAGS = (*ORIENTATIONS, STORED)  # values of an orientation flag


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
        return (reference or NONE).then((mask or NONE).inverse())  # one of them is NONE
    return ORIENTATIONS[flag]
