"""Notes on the headers of the films that an audit reads: those of its pictures, and all with `--suspicious`."""

from collections.abc import Mapping
from typing import NamedTuple

from kneefair_jax.data import inspection, layouts
from kneefair_jax.data.readers import Orientation


class FilmHeader(NamedTuple):
    """What the header of a film states.

    Attributes:
        notes: what is odd about it: spacing, orientation, the meaning of pixels.
        film: the film's orientation, None where the header states none.
        mask: that of the reference mask.
    """

    notes: tuple[str, ...]
    film: Orientation | None
    mask: Orientation | None


def notes(headers: Mapping[str, FilmHeader]) -> list[str]:
    """A line for each kind of note, with the number of cases among the films that were read, and one of them.

    Args:
        headers: by case id, of the films that were read.
    """
    texts = inspection.aggregate_notes(list(headers), [one.notes for one in headers.values()])
    lines = [f"film, of those that were read: {text}" for text in texts]
    open_films = [
        case for case, one in headers.items() if layouts.relation(one.film, one.mask) == layouts.OPEN
    ]
    if open_films:
        lines.append(
            f"only one of the headers of film and reference mask states an orientation in {len(open_films)} of the "
            f"films that were read (such as {min(open_films)}): the other was taken to lie as this one is displayed"
        )
    return lines
