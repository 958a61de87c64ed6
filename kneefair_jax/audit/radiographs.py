"""Read the radiographs of an audit: draw example cases, note their headers, and find label errors.

An example shows both masks on the radiograph, or on gray without one. A label error is a reference mask that disagrees
with a network's prediction for the same radiograph.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import batched
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax.audit import mask_pair
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.mask_pair import Reading
from kneefair_jax.data import inspection, readers
from kneefair_jax.data.mask_files import MaskSource
from kneefair_jax.data.readers import Orientation, limits, orientation
from kneefair_jax.errors import InputError
from kneefair_jax.report import overlays
from kneefair_jax.report.overlays import CaseView
from kneefair_jax.report.text import formatting

_GRAY = 80
_MAX_LISTED_ERRORS = 5


class FilmHeader(NamedTuple):
    """Statements of a radiograph's header.

    Attributes:
        notes: quality warnings: spacing, orientation, the meaning of pixels.
        film: orientation of the radiograph, None if the header states none.
        mask: orientation of the reference mask.
    """

    notes: tuple[str, ...]
    film: Orientation | None
    mask: Orientation | None


def views(
    table: pd.DataFrame,
    cohort: Cohort,
    truth: Mapping[str, MaskSource],
    prediction: Mapping[str, MaskSource],
    images: Mapping[str, Path],
    reading: Reading,
    failure_dice: float,
) -> tuple[list[CaseView], dict[str, FilmHeader]]:
    """Return the best, median and worst case of each level of each attribute, and headers of their radiographs by case.

    This decodes their masks again.

    Args:
        table: the long per-case table of one model.
        cohort: its cases.
        truth: case id -> reference mask.
        prediction: case id -> predicted mask, for the cases that have one.
        images: case id -> radiograph, for the cases that have one; the others have a gray background.
        reading: of the masks.
        failure_dice: that of `patient_table.macro`.

    Raises:
        InputError: an image cannot be read.
    """
    choices = overlays.choose(table, cohort.attributes, failure_dice=failure_dice)
    headers: dict[str, FilmHeader] = {}
    layers: dict[str, tuple[np.ndarray, ...]] = {}
    for case in dict.fromkeys(choice.case_id for choice in choices):
        true = mask_pair.reference(truth[case], reading)
        masks = mask_pair.pair(true, prediction.get(case), reading)
        image = np.full(masks.true.shape, _GRAY, np.uint8)
        if case in images:
            film = readers.read_radiograph(images[case])
            pixels = readers.to_uint8(film.pixels, valid=film.valid)
            image = readers.resize_image(pixels, masks.true.shape).mean(-1).astype(np.uint8)
            scale = np.array(film.pixels.shape[:2]) / masks.true.shape
            spacing = film.spacing * scale
            headers[case] = _header(film.notes, film.orientation, spacing, film.spacing_kind, true.mask)
        layers[case] = image, masks.true, masks.predicted
    return [CaseView(*choice, *layers[choice.case_id]) for choice in choices], headers


def _header(
    notes: tuple[str, ...], film: Orientation | None, spacing: np.ndarray, kind: str, mask: readers.Mask
) -> FilmHeader:
    """Return the header of a radiograph, with a note if film and mask state different spacings.

    Args:
        notes: on the film.
        film: its orientation.
        spacing: f32[2], mm per pixel of the mask by the film's header.
        kind: of this spacing.
        mask: the reference mask.
    """
    if orientation.relation(film, mask.orientation) != orientation.OPEN:
        kinds = kind, mask.spacing_kind
        notes += tuple(inspection.spacing_notes(spacing, mask.spacing, limits.UNKNOWN_SPACING, kinds))
    return FilmHeader(notes, film, mask.orientation)


def header_notes_of_films(headers: Mapping[str, FilmHeader]) -> list[str]:
    """Return a line for each kind of note, with the number of cases among the radiographs that were read.

    Args:
        headers: case id -> header, of the radiographs that were read.
    """
    texts = inspection.aggregate_notes(list(headers), [header.notes for header in headers.values()])
    lines = [f"film, of those that were read: {text}" for text in texts]
    open_films = [
        case
        for case, header in headers.items()
        if orientation.relation(header.film, header.mask) == orientation.OPEN
    ]
    if open_films:
        lines.append(
            f"only one of the headers of film and reference mask states an orientation in {len(open_films)} of the "
            f"films that were read ({formatting.examples(sorted(open_films))}): the other was assumed to lie as "
            "this one is displayed"
        )
    return lines


def label_error_table(
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
        The label errors in descending order of score, with `case_id`, `score` (robust standard deviations below that of
        correct masks), `dice` with the network's mask, and `reason`; and case id -> header of its radiograph.

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
            f"--label-errors: {len(ids)} of {len(cohort.frame)} cases have a film; give {label_errors.MIN_CASES} or "
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
                spacing = film.view.of_pair(film.spacing)  # laid out as the mask
                kind = film.spacing_kind
                headers[ids[row]] = _header(film.notes, film.orientation, spacing, kind, mask.mask)
                if picture.shape[:2] != mask.label.shape:
                    raise InputError(
                        f"{film.path}: {picture.shape[0]} x {picture.shape[1]} pixels, its mask {mask.path} "
                        f"{mask.label.shape[0]} x {mask.label.shape[1]}; --label-errors compares them pixel by pixel: "
                        "export both on one grid"
                    )
            pairs = compare(pictures, [mask.label for mask in masks])
            for row, mask, pair in zip(batch, masks, pairs, strict=True):
                pair.prediction[mask.ignored] = 0
                annotation = reading.kinds.get(ids[row])
                yield pair.each(annotation.keep_distinct) if annotation else pair

    ranking = label_errors.rank(read, ids, reading.structures)
    columns = ["case_id", "score", "dice", "reason"]
    errors = pd.DataFrame([error._asdict() for error in ranking.label_errors], columns=columns)
    return errors.round({"score": 2, "dice": 4}), headers


def label_error_note(errors: pd.DataFrame) -> str:
    """Return a note on the label errors, of `table`."""
    if errors.empty:
        return "no reference mask looks wrong by a network's masks of the same films"
    first = "; ".join(
        f"{error.case_id}: {error.reason}" for error in errors.head(_MAX_LISTED_ERRORS).itertuples()
    )
    more = ", ..." if len(errors) > _MAX_LISTED_ERRORS else ""
    return (
        f"check the reference masks that look wrong by a network's masks of the same films: {len(errors)} "
        f"({first}{more}), all in label_errors.csv"
    )
