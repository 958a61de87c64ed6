"""Reference masks that look wrongly annotated: a network's masks of the same films do not fit them."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import batched
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kneefair_jax.audit import mask_pair
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.film_headers import FilmHeader
from kneefair_jax.audit.mask_pair import Reading
from kneefair_jax.data.mask_files import MaskPath
from kneefair_jax.errors import InputError

_SHOWN = 5


class LabelErrors(NamedTuple):
    """Reference masks that look wrong.

    Attributes:
        suspects: `case_id`, `score` (robust standard deviations below the median agreement), `dice` with the network's
            mask, and `reason`; the most suspicious first.
        headers: case id -> what the header of its film states.
    """

    suspects: pd.DataFrame
    headers: dict[str, FilmHeader]


def table(
    cohort: Cohort,
    truth: Mapping[str, MaskPath],
    images: Mapping[str, Path],
    reading: Reading,
    against: str,
) -> LabelErrors:
    """The suspicious ones among the masks that have a film; films and masks are decoded in batches.

    Args:
        cohort: the cases.
        truth: case id -> reference mask.
        images: case id -> radiograph.
        reading: of the masks.
        against: a checkpoint whose masks they are compared with; `auto` is the network that ships.

    Raises:
        InputError: there is no such checkpoint, it segments other structures, films are too few or of other sizes.
    """
    # They load the networks, which the rest of an audit does without.
    from kneefair_jax import label_errors
    from kneefair_jax.predict import films

    ids = [case for case in cohort.frame["case_id"] if case in images]
    if len(ids) < label_errors.MIN_CASES:
        raise InputError(
            f"--suspicious: {len(ids)} of {len(cohort.frame)} cases have a film; it takes {label_errors.MIN_CASES} "
            "with --images, among which one can stand out"
        )
    compare = label_errors.comparison(reading.structures, against)

    headers: dict[str, FilmHeader] = {}

    def read(rows: Sequence[int]) -> Iterator[label_errors.Pair]:
        for several in batched(rows, label_errors.BATCH):
            read_films = [films.read(images[ids[row]]) for row in several]
            masks = [mask_pair.reference(truth[ids[row]], reading) for row in several]
            pictures = [film.to_displayed(film.image) for film in read_films]  # as the masks lie
            for row, film, picture, mask in zip(several, read_films, pictures, masks, strict=True):
                headers[ids[row]] = FilmHeader(film.notes, film.orientation, mask.mask.orientation)
                if picture.shape[:2] != mask.label.shape:
                    raise InputError(
                        f"{film.path}: {picture.shape[0]} x {picture.shape[1]} pixels, its mask {mask.path} "
                        f"{mask.label.shape[0]} x {mask.label.shape[1]}; --suspicious compares them pixel by pixel: "
                        "export both on one grid"
                    )
            for mask, both in zip(masks, compare(pictures, [mask.label for mask in masks]), strict=True):
                both.prediction[mask.ignored] = 0
                yield both

    found = label_errors.rank(read, ids, reading.structures).label_errors
    columns = ["case_id", "score", "dice", "reason"]
    suspects = pd.DataFrame([one._asdict() for one in found], columns=columns)
    return LabelErrors(suspects.round({"score": 2, "dice": 4}), headers)


def note(wrong: pd.DataFrame) -> str:
    """What of them is said among the notes."""
    if wrong.empty:
        return "no reference mask looks wrong by a network's masks of the same films"
    first = "; ".join(f"{one.case_id}: {one.reason}" for one in wrong.head(_SHOWN).itertuples())
    more = ", ..." if len(wrong) > _SHOWN else ""
    return (
        f"reference masks that look wrong by a network's masks of the same films, to be looked at: {len(wrong)} "
        f"({first}{more}), all in suspicious.csv"
    )
