"""The reference mask and the prediction of a case on one grid, with the labels that the audit names."""

from typing import NamedTuple

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.audit import label_map
from kneefair_jax.audit.label_map import Checked
from kneefair_jax.data import layouts, mask_files
from kneefair_jax.data.mask_files import Mask, MaskPath
from kneefair_jax.errors import InputError


class Reading(NamedTuple):
    """How masks are read.

    Attributes:
        truth: structure -> values of the reference masks, `label_map.checked`.
        prediction: the same of the predicted masks.
        orientation: of `layouts.FLAGS`, for predicted masks whose relation to the truth the headers leave open.
    """

    truth: Checked
    prediction: Checked
    orientation: str = "none"

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of labels 1, 2, ... of every label map."""
        return label_map.structure_names(self.truth)

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of the structures of every score: whole bones in place of overlap classes."""
        return anatomy.scored_structures(self.structures)


class Reference(NamedTuple):
    """A reference mask.

    Attributes:
        path: its file or files.
        mask: as read.
        label: u8[H, W], structures as 1..S; ignored pixels are 0.
        ignored: bool[H, W], the pixels that are left out of every score.
    """

    path: MaskPath
    mask: Mask
    label: np.ndarray
    ignored: np.ndarray


class MaskPair(NamedTuple):
    """A reference mask and a prediction on one grid.

    Ignored pixels are background in both, before anything is scored: they enter no overlap, no area and no distance,
    since surfaces are those of what is left. Where such pixels cut a structure off, both masks have one edge there.

    Attributes:
        true: u8[H, W], structures as 1..S.
        predicted: the same; empty where there is no prediction.
        label: the prediction with the structures that lie in ignored pixels.
        ignored: bool[H, W].
        prediction: the prediction as read, on the grid of the reference mask; None where there is none.
        relation: `layouts.relation` of both files.
    """

    true: np.ndarray
    predicted: np.ndarray
    label: np.ndarray
    ignored: np.ndarray
    prediction: Mask | None
    relation: str


def reference(path: MaskPath, reading: Reading) -> Reference:
    """Reads a reference mask.

    Raises:
        InputError: a file cannot be read, or holds a value that names no structure.
    """
    mask = mask_files.read(path, reading.truth)
    label = label_map.mapped(mask.values, reading.truth, path)
    return Reference(path, mask, label, label_map.ignored(mask.values, reading.truth))


def pair(true: Reference, path: MaskPath | None, reading: Reading) -> MaskPair:
    """Reads the prediction of a case and lays it on the reference mask.

    Args:
        true: the reference mask.
        path: of the prediction; None where there is none.
        reading: of the masks.

    Raises:
        InputError: a file cannot be read, holds a value that names no structure, or the two differ in size.
    """
    if path is None:
        empty = np.zeros_like(true.label)
        return MaskPair(true.label, empty, empty, true.ignored, None, layouts.STATED)
    mask = mask_files.read(path, reading.prediction)
    relation = layouts.relation(true.mask.orientation, mask.orientation)
    correction = layouts.correction(true.mask.orientation, mask.orientation, reading.orientation)
    mask = mask._replace(values=correction.apply(mask.values), spacing=correction.of_pair(mask.spacing))
    label = label_map.mapped(mask.values, reading.prediction, path, "--pred-labels")
    if label.shape != true.label.shape:
        hint, remedy = "", "export the predictions at the size of the truth, labels by nearest neighbour"
        if label.shape == true.label.shape[::-1]:
            hint = " (they are transposed)"
            if relation != layouts.STATED:
                remedy += ", or lay them out with --orientation transpose, rotate-90 or rotate-270"
        raise InputError(
            f"{path}: has {label.shape[0]} x {label.shape[1]} pixels and its truth {true.path} has "
            f"{true.label.shape[0]} x {true.label.shape[1]}{hint}; {remedy}"
        )
    ignored = true.ignored | label_map.ignored(mask.values, reading.prediction)
    scored, predicted = (anatomy.background_where(ignored, part) for part in (true.label, label))
    return MaskPair(scored, predicted, label, ignored, mask, relation)
