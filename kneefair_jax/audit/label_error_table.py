"""Find label errors: reference masks that disagree with a network's predictions for the same radiographs."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import batched
from pathlib import Path

import pandas as pd

from kneefair_jax.audit import mask_pair
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.mask_pair import Reading
from kneefair_jax.audit.pictures import FilmHeader
from kneefair_jax.data.mask_files import MaskSource
from kneefair_jax.errors import InputError

_MAX_LISTED = 5


def table(
    cohort: Cohort,
    truth: Mapping[str, MaskSource],
    images: Mapping[str, Path],
    reading: Reading,
    against: str,
) -> tuple[pd.DataFrame, dict[str, FilmHeader]]:
    """Rank the reference masks that have a radiograph; radiographs and masks are decoded in batches.

    Args:
        cohort: the cases.
        truth: case id -> reference mask.
        images: case id -> radiograph.
        reading: of the masks.
        against: a checkpoint whose predictions they are compared with; `auto` is the shipped network.

    Returns:
        The label errors in descending order of score, with `case_id`, `score` (robust standard deviations below the
        median agreement), `dice` with the network's mask, and `reason`; and case id -> header of its radiograph.

    Raises:
        InputError: there is no such checkpoint, it segments other structures, the radiographs are too few or differ in
            size from their masks.
    """
    # Imported late, since they load the networks, which the rest of an audit does not need.
    from kneefair_jax import label_errors
    from kneefair_jax.predict import films

    ids = [case for case in cohort.frame["case_id"] if case in images]
    if len(ids) < label_errors.MIN_CASES:
        raise InputError(
            f"--suspicious: {len(ids)} of {len(cohort.frame)} cases have a film; give {label_errors.MIN_CASES} or "
            "more with --images"
        )
    compare = label_errors.comparison(reading.structures, against)

    headers: dict[str, FilmHeader] = {}

    def read(rows: Sequence[int]) -> Iterator[label_errors.Pair]:
        for batch in batched(rows, label_errors.BATCH):
            read_films = [films.read(images[ids[row]]) for row in batch]
            masks = [mask_pair.reference(truth[ids[row]], reading) for row in batch]
            pictures = [film.to_displayed(film.image) for film in read_films]  # the layout of the masks
            for row, film, picture, mask in zip(batch, read_films, pictures, masks, strict=True):
                headers[ids[row]] = FilmHeader(film.notes, film.orientation, mask.mask.orientation)
                if picture.shape[:2] != mask.label.shape:
                    raise InputError(
                        f"{film.path}: {picture.shape[0]} x {picture.shape[1]} pixels, its mask {mask.path} "
                        f"{mask.label.shape[0]} x {mask.label.shape[1]}; --suspicious compares them pixel by pixel: "
                        "export both on one grid"
                    )
            for mask, pair in zip(masks, compare(pictures, [mask.label for mask in masks]), strict=True):
                pair.prediction[mask.ignored] = 0
                yield pair

    ranking = label_errors.rank(read, ids, reading.structures)
    columns = ["case_id", "score", "dice", "reason"]
    errors = pd.DataFrame([error._asdict() for error in ranking.label_errors], columns=columns)
    return errors.round({"score": 2, "dice": 4}), headers


def note(errors: pd.DataFrame) -> str:
    """Return a note on the label errors, of `table`."""
    if errors.empty:
        return "no reference mask looks wrong by a network's masks of the same films"
    first = "; ".join(f"{error.case_id}: {error.reason}" for error in errors.head(_MAX_LISTED).itertuples())
    more = ", ..." if len(errors) > _MAX_LISTED else ""
    return (
        f"check the reference masks that look wrong by a network's masks of the same films: {len(errors)} "
        f"({first}{more}), all in suspicious.csv"
    )
