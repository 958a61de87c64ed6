"""The mirror test: a predictor should segment a film and its mirror image alike, in every group.

The masks of the mirrored films, flipped back, take the place of predictions, and those of the films that of reference
masks; so Dice is the agreement of the two.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kneefair_jax import anatomy
from kneefair_jax.audit import run
from kneefair_jax.audit.options import MaskOptions, Settings
from kneefair_jax.audit.result import Audit
from kneefair_jax.data import mask_files, readers
from kneefair_jax.data.label_map import IGNORE, Labels
from kneefair_jax.errors import InputError

TITLE = "Agreement of masks of mirrored films, by patient group"
NOTE = (
    "mirror test: the scores are the agreement of the masks of each film with those of its mirror image, flipped back; "
    "there are no reference masks, so they say nothing of accuracy"
)


def mirror_test(
    pred: str | Path,
    mirrored: str | Path,
    metadata: str | Path | pd.DataFrame,
    attributes: Sequence[str],
    options: MaskOptions = MaskOptions(),  # noqa: B008 - frozen
    settings: Settings = Settings(),  # noqa: B008 - a NamedTuple cannot change
) -> Audit:
    """Compare the masks of films with those of their mirror images.

    Args:
        pred: folder of the masks.
        mirrored: folder of the masks of the mirrored films, as they were predicted.
        metadata: as for `run.masks`.
        attributes: its columns to report by.
        options: which cases to read, and how to read masks. Where `labels` names the sides, they change places.
        settings: how to compute the numbers.

    Raises:
        InputError: an input cannot be used; the message names file, row and remedy.
    """
    if options.orientation != "none" or options.pred_labels or options.model_labels:
        raise InputError(
            "the mirror test flips masks and labels itself: leave out --orientation and --pred-labels"
        )
    if options.on_missing == "zero":
        raise InputError("--on-missing zero needs reference masks; give stop or skip")
    for folder in map(Path, (pred, mirrored)):
        _require_no_headers(folder)
    options = dataclasses.replace(
        options, orientation="flip-lr", pred_labels=_flipped(options.labels) if options.labels else None
    )
    settings = settings._replace(title=settings.title or TITLE)
    audit = run.masks(pred, {"mirrored": mirrored}, metadata, attributes, options, settings)
    audit.report["cohort"]["warnings"].insert(0, NOTE[0].upper() + NOTE[1:] + ".")
    return audit


def _flipped(labels: Labels) -> Labels:
    """Return a label map in which right and left have changed places."""
    names = [name for name in labels if name != IGNORE]
    table = anatomy.flip_table(tuple(names))
    values = {names[table[label] - 1]: labels[name] for label, name in enumerate(names, start=1)}
    return {name: values.get(name, labels[name]) for name in labels}


def _require_no_headers(folder: Path) -> None:
    """Refuse masks whose headers state an orientation, which a mirrored film may have kept or not.

    Raises:
        InputError: the message names the first such file.
    """
    if not folder.is_dir():
        return  # `run.masks` says what is wrong
    for path in mask_files.list_files(folder).paths:
        if readers.suffix_of(path.name).lower() in (*readers.NIFTI_SUFFIXES, ".dcm"):
            raise InputError(
                f"{path}: its header states an orientation, and whether it was mirrored with the pixels is unknown; "
                "export the masks of the mirror test as PNG, TIFF or NPY"
            )
