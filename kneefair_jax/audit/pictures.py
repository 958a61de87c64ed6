"""The cases that a page shows: reference and prediction on the radiograph, or on grey where there is none."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax.audit import mask_pair
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.film_headers import FilmHeader
from kneefair_jax.audit.mask_pair import Reading
from kneefair_jax.data import readers
from kneefair_jax.data.mask_files import MaskPath
from kneefair_jax.report import examples
from kneefair_jax.report.overlays import CaseView

_GREY = 80


class Pictures(NamedTuple):
    """What a page shows of a model.

    Attributes:
        views: the cases, in the order of the page.
        headers: case id -> what the header of its film states, of the films that were read.
    """

    views: list[CaseView]
    headers: dict[str, FilmHeader]


def views(
    table: pd.DataFrame,
    cohort: Cohort,
    truth: Mapping[str, MaskPath],
    prediction: Mapping[str, MaskPath],
    images: Mapping[str, Path],
    reading: Reading,
    failure_dice: float,
) -> Pictures:
    """The best, median and worst case of each level of each attribute; their masks are decoded again.

    Args:
        table: the long per-case table of one model.
        cohort: its cases.
        truth: case id -> reference mask.
        prediction: case id -> predicted mask; a case without one is shown without.
        images: case id -> radiograph; those without are shown on grey.
        reading: of the masks.
        failure_dice: that of `patient_table.macro`.

    Raises:
        InputError: an image cannot be read.
    """
    choices = examples.choose(table, cohort.attributes, failure_dice=failure_dice)
    headers: dict[str, FilmHeader] = {}
    drawn: dict[str, tuple[np.ndarray, ...]] = {}
    for case in dict.fromkeys(choice.case_id for choice in choices):
        true = mask_pair.reference(truth[case], reading)
        masks = mask_pair.pair(true, prediction.get(case), reading)
        image = np.full(masks.true.shape, _GREY, np.uint8)
        if case in images:
            film = readers.read_radiograph(images[case])
            image = _image(film, masks.true.shape)
            headers[case] = FilmHeader(film.notes, film.orientation, true.mask.orientation)
        drawn[case] = image, masks.true, masks.predicted
    return Pictures([CaseView(*choice, *drawn[choice.case_id]) for choice in choices], headers)


def _image(film: readers.Radiograph, size: tuple[int, ...]) -> np.ndarray:
    """u8[H, W], of the masks' size."""
    resized = readers.resize_image(readers.to_uint8(film.pixels, valid=film.valid), (size[0], size[1]))
    return resized.mean(-1).astype(np.uint8)
