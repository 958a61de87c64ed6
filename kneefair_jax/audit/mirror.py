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
from kneefair_jax.data.label_map import BACKGROUND, IGNORE, Labels
from kneefair_jax.errors import InputError
from kneefair_jax.report.build import sentences

_NO_STRUCTURES = (BACKGROUND, IGNORE)
TITLE = "Agreement of masks of mirrored films, by patient group"
NOTE = (
    "mirror test: the scores are the agreement of the masks of each film with those of its mirror image, flipped back; "
    "there are no reference masks, so the scores do not show accuracy"
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
        _require_plain_masks(folder, options.labels or {})
    options = dataclasses.replace(
        options, orientation="flip-lr", pred_labels=_flip_sides(options.labels) if options.labels else None
    )
    settings = settings._replace(title=settings.title or TITLE)
    audit = run.masks(pred, {"mirrored": mirrored}, metadata, attributes, options, settings)
    audit.report["cohort"]["warnings"][:0] = sentences([NOTE])
    return audit


def _flip_sides(label_map: Labels) -> dict[str, tuple[int, ...]]:
    """Return a label map in which right and left have changed places."""
    labels = {name: (value,) if isinstance(value, int) else tuple(value) for name, value in label_map.items()}
    names = [name for name in labels if name not in _NO_STRUCTURES]
    table = anatomy.flip_table(tuple(names))
    values = {names[table[label] - 1]: labels[name] for label, name in enumerate(names, start=1)}
    # The ignored pixels are those of the film's mask.
    background = (*labels.get(BACKGROUND, ()), *labels.get(IGNORE, ()))
    return values | ({BACKGROUND: background} if background else {})


def _require_plain_masks(folder: Path, labels: Labels) -> None:
    """Refuse masks whose header states an orientation, and files of one structure whose names state a side.

    A mirrored film may have kept its header or not, and the name of a file does not change places.

    Raises:
        InputError: the message names the first such file.
    """
    if not folder.is_dir():
        return  # `run.masks` says what is wrong
    sided = [name for name in labels if {"right", "left"} & set(name.lower().split())]
    endings = tuple(f"_{name.lower().replace(' ', '_')}" for name in sided)
    for path in mask_files.list_files(folder).paths:
        suffix = readers.suffix_of(path.name)
        has_header = suffix.lower() in (*readers.NIFTI_SUFFIXES, *readers.DICOM_SUFFIXES)
        if has_header or readers.has_dicom_magic(path):
            raise InputError(
                f"{path}: its header states an orientation, and whether it was mirrored with the pixels is unknown; "
                "export the masks of the mirror test as PNG, TIFF or NPY"
            )
        if endings and path.name.removesuffix(suffix).lower().endswith(endings):
            raise InputError(
                f"{path}: a file of one structure with a side, which changes places in a mirror; give the mirror test "
                "one mask per film"
            )
