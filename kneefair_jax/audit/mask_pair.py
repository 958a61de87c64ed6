"""Read the reference mask and the prediction of a case on one grid, and summarize each mask.

A summary is what an audit stores of a mask after it frees the pixels: counts, faults, a digest and a thumbnail.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import anatomy
from kneefair_jax.audit import mask_faults
from kneefair_jax.audit.mask_faults import Fault
from kneefair_jax.data import label_map, mask_files, metadata
from kneefair_jax.data.annotations import Kind
from kneefair_jax.data.label_map import LabelMap
from kneefair_jax.data.mask_files import MaskSource
from kneefair_jax.data.readers import Mask, orientation
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import progress

THUMBNAIL = 32  # pixels a side, whatever the size of the mask


class Reading(NamedTuple):
    """The settings for reading masks.

    Attributes:
        truth: structure -> values of the reference masks, `label_map.check`.
        prediction: the same of the predicted masks.
        orientation: of `orientation.FLAGS`, for predicted masks whose relation to the truth the headers leave open.
        by_model: model -> values of its masks, for models whose values differ from `prediction`.
        kinds: case id -> what its reference mask shows; empty where all show all structures.
    """

    truth: LabelMap
    prediction: LabelMap
    orientation: str = "none"
    by_model: Mapping[str, LabelMap] = {}
    kinds: Mapping[str, Kind] = {}

    def of_model(self, model: str) -> "Reading":
        """Return how to read the masks of one model."""
        return self._replace(prediction=self.by_model.get(model, self.prediction))

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of labels 1, 2, ... of every label map."""
        return label_map.structure_names(self.truth)

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of the structures in the scores: whole bones in place of overlap classes."""
        return anatomy.scored_structures(self.structures)


def discover_labels(
    frame: pd.DataFrame, table: Path, truth: Mapping[str, MaskSource]
) -> dict[str, tuple[int, ...]]:
    """Return structure -> values without --labels: the names of DICOM segments, or `structure 1`, ... by value.

    Args:
        frame: the cases, indexed by row: `case_id`.
        table: the table of the cases, for messages.
        truth: case id -> reference mask; each is decoded once more.

    Raises:
        InputError: a file cannot be read (by row of the table), there is no structure, or a value is unlikely to be a
            label.
    """

    def read(case: str) -> set[int] | list[str] | InputError:
        try:
            if names := mask_files.segment_names(truth[case]):
                return names
            return set(np.unique(mask_files.read(truth[case], {}).values).tolist())
        except InputError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(progress.track(pool.map(read, frame["case_id"]), len(frame), "reading labels"))
    errors = zip(frame.index, results, strict=True)
    metadata.refuse(table, [(row, str(error)) for row, error in errors if isinstance(error, InputError)])
    values = set[int]().union(*(result for result in results if isinstance(result, set)))
    names = [name for result in results if isinstance(result, list) for name in result]
    if not names:
        return _by_value(values)
    if any(isinstance(result, set) for result in results):
        raise InputError(
            "--truth: some masks are DICOM-SEG, whose segments have names, and some have only values; name the "
            "structures with --labels, such as --labels femur=1 tibia=2"
        )
    if set(names) & anatomy.OVERLAPS.keys():  # segments that overlap in other files alone, `dicom_seg.read`
        names = [anatomy.class_beside(name) for name in names]
    unique = dict.fromkeys(names)
    order = next((scheme for scheme in anatomy.SCHEMES.values() if set(unique) <= set(scheme)), unique)
    in_order = [name for name in order if name in unique]
    return {name: (label,) for label, name in enumerate(in_order, start=1)}


def _by_value(values: Iterable[int]) -> dict[str, tuple[int, ...]]:
    values = sorted(set(values) - {0})
    if not values or not 1 <= values[0] <= values[-1] <= label_map.MAX_UNNAMED:
        content = f"hold the values {label_map.first_values(values)}" if values else "are all empty"
        raise InputError(
            f"--truth: the masks {content}; name their structures with --labels, such as --labels femur=1 tibia=2 (in "
            f"masks of 0 and 255, --labels femur=255), and {label_map.IGNORE}=255 if the pixels of 255 have no label"
        )
    return {f"structure {value}": (value,) for value in values}


class Reference(NamedTuple):
    """A reference mask.

    Attributes:
        path: its file or files.
        mask: as read.
        label: u8[H, W], structures as 1..S; ignored pixels are 0.
        ignored: bool[H, W], the pixels that every score excludes.
    """

    path: MaskSource
    mask: Mask
    label: np.ndarray
    ignored: np.ndarray


class MaskPair(NamedTuple):
    """A reference mask and a prediction on one grid.

    Ignored pixels are background in both before scoring: they enter no overlap, no area and no distance, since surfaces
    are those of the remaining pixels. Where such pixels cut a structure, both masks have the same edge.

    Attributes:
        true: u8[H, W], structures as 1..S.
        predicted: the same for the prediction; empty if there is none.
        label: the prediction, with structures in ignored pixels.
        ignored: bool[H, W].
        prediction: as read, on the grid of the reference mask; None if there is none.
        relation: `orientation.relation` of both files.
    """

    true: np.ndarray
    predicted: np.ndarray
    label: np.ndarray
    ignored: np.ndarray
    prediction: Mask | None
    relation: str


def reference(path: MaskSource, reading: Reading) -> Reference:
    """Read a reference mask.

    Raises:
        InputError: a file cannot be read, or holds a value that names no structure.
    """
    mask = mask_files.read(path, reading.truth)
    label = label_map.to_labels(mask.values, reading.truth, path)
    return Reference(path, mask, label, label_map.ignored(mask.values, reading.truth))


def pair(true: Reference, path: MaskSource | None, reading: Reading) -> MaskPair:
    """Read the prediction of a case on the grid of the reference mask.

    Args:
        true: the reference mask.
        path: of the prediction; None if there is none.
        reading: of the masks.

    Raises:
        InputError: a file cannot be read, holds a value that names no structure, or the two differ in size.
    """
    if path is None:
        empty = np.zeros_like(true.label)
        return MaskPair(true.label, empty, empty, true.ignored, None, orientation.STATED)
    mask = mask_files.read(path, reading.prediction)
    relation = orientation.relation(true.mask.orientation, mask.orientation)
    correction = orientation.correction(true.mask.orientation, mask.orientation, reading.orientation)
    mask = mask._replace(values=correction.apply(mask.values), spacing=correction.of_pair(mask.spacing))
    label = label_map.to_labels(mask.values, reading.prediction, path, "--pred-labels")
    if label.shape != true.label.shape:
        hint, remedy = "", "export the predictions at the size of the truth, labels by nearest neighbor"
        if label.shape == true.label.shape[::-1]:
            hint = " (they are transposed)"
            if relation != orientation.STATED:
                remedy += ", or lay them out with --orientation transpose, rotate-90 or rotate-270"
        raise InputError(
            f"{path}: has {label.shape[0]} x {label.shape[1]} pixels and its truth {true.path} has "
            f"{true.label.shape[0]} x {true.label.shape[1]}{hint}; {remedy}"
        )
    ignored = true.ignored | label_map.ignored(mask.values, reading.prediction)
    scored, predicted = (anatomy.background_where(ignored, mask) for mask in (true.label, label))
    return MaskPair(scored, predicted, label, ignored, mask, relation)


class Summary(NamedTuple):
    """Summary of one mask.

    Attributes:
        shape: rows and columns.
        pixels: of all structures, without ignored ones.
        spacing: f32[2], mm per pixel as the header states it, on the reference's grid; NaN if it states none.
        spacing_kind: of `readers.Radiograph`.
        notes: quality warnings about the header.
        faults: of `mask_faults.of_mask`.
        digest: SHA-256 of shape and labels.
        thumbnail: u8[32, 32], labels of the pixels on a regular grid.
        ignored: bool[32, 32], which of these pixels are ignored.
        palette: of `readers.Mask`.
    """

    shape: tuple[int, ...]
    pixels: int
    spacing: np.ndarray
    spacing_kind: str
    notes: tuple[str, ...]
    faults: list[Fault]
    digest: bytes
    thumbnail: np.ndarray
    ignored: np.ndarray
    palette: tuple[Path, np.ndarray] | None


def summarize(mask: Mask, label: np.ndarray, ignored: np.ndarray, labels: LabelMap) -> Summary:
    """Summarize a mask.

    Args:
        mask: as read.
        label: u8[H, W], its structures.
        ignored: bool[H, W], the pixels that every score and the search for faults exclude.
        labels: the label map of such masks.
    """
    return Summary(
        label.shape,
        int(np.count_nonzero(label[~ignored])),
        mask.spacing,
        mask.spacing_kind,
        mask.notes,
        mask_faults.of_mask(mask.values, labels, ignored),
        digest(label),
        thumbnail(label),
        thumbnail(ignored),
        mask.palette,
    )


def digest(*labels: np.ndarray) -> bytes:
    """Return the SHA-256 of label maps of one shape, u8[H, W], and of the shape."""
    parts = [repr(labels[0].shape).encode(), *(label.tobytes() for label in labels)]
    return hashlib.sha256(b"".join(parts)).digest()


def thumbnail(label: np.ndarray) -> np.ndarray:
    """Return [32, 32], the pixels nearest to the centers of 32 x 32 equal cells."""
    rows, columns = ((np.arange(THUMBNAIL) + 0.5) * side / THUMBNAIL for side in label.shape)
    return label[np.ix_(rows.astype(int), columns.astype(int))]
