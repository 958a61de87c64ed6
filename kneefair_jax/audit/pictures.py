"""The cases that a page shows: reference and prediction on the radiograph, or on grey where there is none."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from kneefair_jax.audit import scoring
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.scoring import Reading
from kneefair_jax.data import layouts, readers
from kneefair_jax.data.mask_files import MaskPath
from kneefair_jax.report import examples
from kneefair_jax.report.overlays import CaseView

_GREY = 80


def views(
    table: pd.DataFrame,
    cohort: Cohort,
    truth: Mapping[str, MaskPath],
    prediction: Mapping[str, MaskPath],
    images: Mapping[str, Path],
    reading: Reading,
    open_films: set[str],
) -> list[CaseView]:
    """The best, median and worst case of each level of each attribute.

    Args:
        table: the long per-case table of one model.
        cohort: its cases.
        truth: case id -> reference mask.
        prediction: case id -> predicted mask; a case without one is shown without.
        images: case id -> radiograph; those without are shown on grey.
        reading: of the masks.
        open_films: gets the cases of which only one header, of film or truth, states an orientation.

    Raises:
        InputError: an image cannot be read.
    """
    shown = []
    for choice in examples.choose(table, cohort.attributes):
        case = choice.case_id
        masks = scoring.pair(truth[case], prediction.get(case), reading)
        image = np.full(masks.true.shape, _GREY, np.uint8)
        if case in images:
            film = readers.read_radiograph(images[case])
            image = _image(film, masks.true.shape)
            if layouts.relation(film.orientation, masks.orientation) == layouts.OPEN:
                open_films.add(case)
        shown.append(CaseView(*choice, image, masks.true, masks.predicted))
    return shown


def _image(film: readers.Radiograph, size: tuple[int, ...]) -> np.ndarray:
    """u8[H, W], of the masks' size."""
    resized = readers.resize_image(readers.to_uint8(film.pixels, valid=film.valid), (size[0], size[1]))
    return resized.mean(-1).astype(np.uint8)
