"""The cases that a page shows: reference and prediction on the radiograph, or on grey where there is none."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from kneefair_jax.audit import scoring
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.scoring import Reading
from kneefair_jax.data import readers
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
) -> list[CaseView]:
    """The best, median and worst case of each level of each attribute.

    Args:
        table: the long per-case table of one model.
        cohort: its cases.
        truth: case id -> reference mask.
        prediction: case id -> predicted mask; a case without one is shown without.
        images: case id -> radiograph; those without are shown on grey.
        reading: of the masks.

    Raises:
        InputError: an image cannot be read.
    """
    shown = []
    for choice in examples.choose(table, cohort.attributes):
        case = choice.case_id
        true, predicted = scoring.pair(truth[case], prediction.get(case), reading)[:2]
        image = _image(images[case], true.shape) if case in images else np.full(true.shape, _GREY, np.uint8)
        shown.append(CaseView(*choice, image, true, predicted))
    return shown


def _image(path: Path, size: tuple[int, ...]) -> np.ndarray:
    """u8[H, W], of the masks' size."""
    film = readers.read_radiograph(path)
    resized = readers.resize_image(readers.to_uint8(film.pixels, valid=film.valid), (size[0], size[1]))
    return resized.mean(-1).astype(np.uint8)
