"""Masks -> the long per-case table, at the masks' own size and spacing; NumPy and threads, nothing is compiled."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import anatomy, metrics
from kneefair_jax.audit import label_map, mask_faults
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.label_map import Checked
from kneefair_jax.data import layouts, mask_files, metadata
from kneefair_jax.data.mask_files import MaskPath
from kneefair_jax.data.readers import Orientation
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import patient_table


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
        """Names of labels 1, 2, ... of what `pair` returns."""
        return label_map.structure_names(self.truth)


class MaskPair(NamedTuple):
    """A reference mask and a prediction on one grid.

    Attributes:
        true: u8[H, W], structures as 1..S; ignored pixels are 0.
        predicted: the same; empty where there is no prediction.
        stated: f32[2, 2], mm per pixel as the truth's and the prediction's header state it, NaN where they do not.
        true_values: integers [H, W], as the file holds them.
        predicted_values: the same; None where there is no prediction.
        orientation: of the truth's header, None where it states none.
        relation: `layouts.relation` of truth and prediction.
        true_notes: what is odd about the truth's header.
        pred_notes: what is odd about the prediction's header.
    """

    true: np.ndarray
    predicted: np.ndarray
    stated: np.ndarray
    true_values: np.ndarray
    predicted_values: np.ndarray | None
    orientation: Orientation | None
    relation: str
    true_notes: tuple[str, ...] = ()
    pred_notes: tuple[str, ...] = ()


class Scored(NamedTuple):
    """One case by one model.

    Attributes:
        scores: `dice`, `iou`, `hd95_mm`, `assd_mm`, `nsd`, `true_area_mm2`, `pred_area_mm2`, f64[S] each.
        stated: f32[2, 2], mm per pixel as the truth's and the prediction's header state it, NaN where they do not.
        spacing: f32[2], mm per pixel as used.
        true_pixels: of all structures.
        pred_pixels: of all structures.
        same: whether prediction and truth are equal, and no pixel is ignored.
        digest: of both label maps.
        true_faults: of the reference mask (`mask_faults.of_mask`).
        pred_faults: of the prediction.
        relation: of `MaskPair`.
        true_notes: what is odd about the truth's header.
        pred_notes: what is odd about the prediction's header.
    """

    scores: dict[str, np.ndarray]
    stated: np.ndarray
    spacing: np.ndarray
    true_pixels: int
    pred_pixels: int
    same: bool
    digest: bytes
    true_faults: list[str]
    pred_faults: list[str]
    relation: str
    true_notes: tuple[str, ...] = ()
    pred_notes: tuple[str, ...] = ()


def pair(truth: MaskPath, prediction: MaskPath | None, reading: Reading) -> MaskPair:
    """Reads both masks of a case.

    Pixels that the truth ignores become background in both, before anything is scored: they enter no overlap, no area
    and no distance, since surfaces are those of what is left. Where such pixels cut a structure off, both masks have
    the same edge there.

    Raises:
        InputError: a file cannot be read, holds a value that names no structure, or the two differ in size.
    """
    values, stated, laid_out, notes = mask_files.read(truth, reading.truth)
    true = label_map.mapped(values, reading.truth, truth)
    if prediction is None:
        both = np.stack([stated, stated])
        return MaskPair(true, np.zeros_like(true), both, values, None, laid_out, layouts.STATED, notes)
    predicted_mask = mask_files.read(prediction, reading.prediction)
    relation = layouts.relation(laid_out, predicted_mask.orientation)
    correction = layouts.correction(laid_out, predicted_mask.orientation, reading.orientation)
    predicted_values = correction.apply(predicted_mask.values)
    predicted_stated = correction.of_pair(predicted_mask.spacing)
    predicted = label_map.mapped(predicted_values, reading.prediction, prediction, "--pred-labels")
    if predicted.shape != true.shape:
        hint, remedy = "", "export the predictions at the size of the truth, labels by nearest neighbour"
        if predicted.shape == true.shape[::-1]:
            hint = " (they are transposed)"
            if relation != layouts.STATED:
                remedy += ", or lay them out with --orientation transpose, rotate-90 or rotate-270"
        raise InputError(
            f"{prediction}: has {predicted.shape[0]} x {predicted.shape[1]} pixels and its truth {truth} has "
            f"{true.shape[0]} x {true.shape[1]}{hint}; {remedy}"
        )
    predicted = anatomy.background_where(label_map.ignored(values, reading.truth), predicted)
    both = np.stack([stated, predicted_stated])
    return MaskPair(
        true, predicted, both, values, predicted_values, laid_out, relation, notes, predicted_mask.notes
    )


def score(masks: MaskPair, spacing: np.ndarray, reading: Reading) -> Scored:
    """All scores of one case; where the table gives no spacing, that of the truth's header counts."""
    true, predicted, values = masks.true, masks.predicted, masks.predicted_values
    spacing = np.where(np.isnan(spacing), masks.stated[0], spacing)
    return Scored(
        metrics.mask_scores(predicted, true, len(reading.structures), spacing),
        masks.stated,
        spacing,
        int(np.count_nonzero(true)),
        int(np.count_nonzero(predicted)),
        # Nobody copies a mask with pixels that it does not label.
        np.array_equal(true, predicted) and not label_map.ignored(masks.true_values, reading.truth).any(),
        hashlib.sha256(repr(true.shape).encode() + true.tobytes() + predicted.tobytes()).digest(),
        mask_faults.of_mask(masks.true_values, reading.truth),
        [] if values is None else mask_faults.of_mask(values, reading.prediction),
        masks.relation,
        masks.true_notes,
        masks.pred_notes,
    )


def over_cases(
    cohort: Cohort, truth: Mapping[str, MaskPath], prediction: Mapping[str, MaskPath], reading: Reading
) -> list[Scored]:
    """Every case of a cohort by one model, in its order; a case without a prediction is scored as an empty one.

    Raises:
        InputError: what is wrong with which files, by the row of the table.
    """

    def of(item: tuple[str, np.ndarray]) -> Scored | InputError:
        case, spacing = item
        try:
            return score(pair(truth[case], prediction.get(case), reading), spacing, reading)
        except InputError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(of, zip(cohort.frame["case_id"], cohort.spacing, strict=True)))
    wrong = [
        (row, str(r)) for row, r in zip(cohort.frame.index, results, strict=True) if isinstance(r, InputError)
    ]
    metadata.refuse(cohort.path, wrong)
    return [result for result in results if isinstance(result, Scored)]


def sizes(
    cohort: Cohort, truth: Mapping[str, MaskPath], scored: Sequence[Scored], reading: Reading, apart: float
) -> dict[str, np.ndarray]:
    """`metrics.boundary_errors` of every case's reference mask, f64[N, S] by score, contours `apart` mm off."""

    def of(item: tuple[str, Scored]) -> dict[str, np.ndarray]:
        case, one = item
        true = label_map.mapped(
            mask_files.read(truth[case], reading.truth).values, reading.truth, truth[case]
        )
        return metrics.boundary_errors(true, len(reading.structures), one.spacing, apart)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        errors = list(pool.map(of, zip(cohort.frame["case_id"], scored, strict=True)))
    return {name: np.stack([error[name] for error in errors]) for name in errors[0]}


def found_labels(cohort: Cohort, truth: Mapping[str, MaskPath], folder: Path) -> dict[str, tuple[int, ...]]:
    """The structures of reference masks that nobody named: those of DICOM-SEGs by their labels, others by their values.

    Raises:
        InputError: what is wrong with which files, by the row of the table.
    """

    def of(case: str) -> set[int] | list[str] | InputError:
        try:
            if names := mask_files.segment_names(truth[case]):
                return names
            return set(np.unique(mask_files.read(truth[case], {}).values).tolist())
        except InputError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(of, cohort.frame["case_id"]))
    wrong = [
        (row, str(r)) for row, r in zip(cohort.frame.index, results, strict=True) if isinstance(r, InputError)
    ]
    metadata.refuse(cohort.path, wrong)
    values = set[int]().union(*(result for result in results if isinstance(result, set)))
    names = [name for result in results if isinstance(result, list) for name in result]
    if not names:
        return label_map.found(values, folder)
    if any(isinstance(result, set) for result in results):
        raise InputError(
            f"--truth {folder}: some masks are DICOM-SEG, whose segments have names, and some have values alone; name "
            "the structures with --labels, such as --labels femur=1 tibia=2"
        )
    return {name: (label,) for label, name in enumerate(_ordered(names), start=1)}


def _ordered(names: Sequence[str]) -> list[str]:
    """Each name once, in the order of a scheme that has them all, or else as they occur."""
    different = dict.fromkeys(names)
    scheme = next((scheme for scheme in anatomy.SCHEMES.values() if set(different) <= set(scheme)), different)
    return [name for name in scheme if name in different]


def table(
    cohort: Cohort, scored: Sequence[Scored], structures: Sequence[str], model: str, split: str
) -> pd.DataFrame:
    """The long per-case table of one model: N x S rows, a structure after another."""
    about = cohort.frame.reset_index(drop=True).assign(model=model, split=split, ece=np.nan)
    stacked = {name: np.stack([one.scores[name] for one in scored]) for name in scored[0].scores}
    frames = [
        about.assign(
            structure=structure, **{name: values[:, s].astype(float) for name, values in stacked.items()}
        )
        for s, structure in enumerate(structures)
    ]
    return pd.concat(frames, ignore_index=True)[patient_table.column_order(cohort.attributes)]


def fingerprint(cohort: Cohort, scored: Sequence[Scored]) -> str:
    """SHA-256 of the cases' names and of both label maps of each."""
    digest = hashlib.sha256()
    for case, one in zip(cohort.frame["case_id"], scored, strict=True):
        digest.update(case.encode() + one.digest)
    return digest.hexdigest()
