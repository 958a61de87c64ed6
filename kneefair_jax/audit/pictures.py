"""Draw the example cases of a page: both masks on the radiograph, or on gray without one; note the headers."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax.audit import mask_pair
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.mask_pair import Reading
from kneefair_jax.data import inspection, layouts, readers
from kneefair_jax.data.mask_files import MaskSource
from kneefair_jax.data.readers import Orientation
from kneefair_jax.report import overlays
from kneefair_jax.report.overlays import CaseView

_GRAY = 80


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


class Pictures(NamedTuple):
    """Example cases of a model.

    Attributes:
        views: the cases, in the order of the page.
        headers: case id -> header, of the radiographs that were read.
    """

    views: list[CaseView]
    headers: dict[str, FilmHeader]


def views(
    table: pd.DataFrame,
    cohort: Cohort,
    truth: Mapping[str, MaskSource],
    prediction: Mapping[str, MaskSource],
    images: Mapping[str, Path],
    reading: Reading,
    failure_dice: float,
) -> Pictures:
    """Return the best, median and worst case of each level of each attribute; this decodes their masks again.

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
            image = _image(film, masks.true.shape)
            headers[case] = FilmHeader(film.notes, film.orientation, true.mask.orientation)
        layers[case] = image, masks.true, masks.predicted
    return Pictures([CaseView(*choice, *layers[choice.case_id]) for choice in choices], headers)


def _image(film: readers.Radiograph, size: tuple[int, ...]) -> np.ndarray:
    """Return u8[H, W], the radiograph at the size of the masks."""
    resized = readers.resize_image(readers.to_uint8(film.pixels, valid=film.valid), (size[0], size[1]))
    return resized.mean(-1).astype(np.uint8)


def header_notes_of_films(headers: Mapping[str, FilmHeader]) -> list[str]:
    """Return a line for each kind of note, with the number of cases among the radiographs that were read.

    Args:
        headers: case id -> header, of the radiographs that were read.
    """
    texts = inspection.aggregate_notes(list(headers), [header.notes for header in headers.values()])
    lines = [f"film, of those that were read: {text}" for text in texts]
    open_films = [
        case for case, header in headers.items() if layouts.relation(header.film, header.mask) == layouts.OPEN
    ]
    if open_films:
        lines.append(
            f"only one of the headers of film and reference mask states an orientation in {len(open_films)} of the "
            f"films that were read (such as {min(open_films)}): the other was assumed to lie as this one is displayed"
        )
    return lines
