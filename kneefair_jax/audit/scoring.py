"""Masks -> the long per-case table, at the masks' own size and spacing; NumPy and threads, nothing is compiled."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import metrics
from kneefair_jax.audit import label_map
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.label_map import BACKGROUND, Checked
from kneefair_jax.data import metadata, readers
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import patient_table


class Reading(NamedTuple):
    """How masks are read.

    Attributes:
        truth: structure -> values of the reference masks, `label_map.checked`.
        prediction: the same of the predicted masks.
        orientation: a name of `readers.ORIENTATIONS` that every predicted mask is laid out by.
    """

    truth: Checked
    prediction: Checked
    orientation: str = "none"

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of labels 1, 2, ... of what `pair` returns."""
        return tuple(name for name in self.truth if name != BACKGROUND)


class Scored(NamedTuple):
    """One case by one model.

    Attributes:
        scores: `dice`, `iou`, `hd95_mm`, `assd_mm`, `nsd`, `true_area_mm2`, `pred_area_mm2`, f64[S] each.
        stated: f32[2, 2], mm per pixel as the truth's and the prediction's header state it, NaN where they do not.
        spacing: f32[2], mm per pixel as used.
        true_pixels: of all structures.
        pred_pixels: of all structures.
        same: whether prediction and truth are equal.
        digest: of both label maps.
    """

    scores: dict[str, np.ndarray]
    stated: np.ndarray
    spacing: np.ndarray
    true_pixels: int
    pred_pixels: int
    same: bool
    digest: bytes


def pair(truth: Path, prediction: Path | None, reading: Reading) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth u8[H, W], prediction u8[H, W] (empty where there is none), and f32[2, 2] spacings as their headers state.

    Raises:
        InputError: a file cannot be read, holds a value that names no structure, or the two differ in size.
    """
    values, stated = readers.read_mask_with_spacing(truth)
    true = label_map.mapped(values, reading.truth, truth)
    if prediction is None:
        return true, np.zeros_like(true), np.stack([stated, stated])
    values, pred_spacing = readers.read_mask_with_spacing(prediction)
    orientation = readers.ORIENTATIONS[reading.orientation]
    values, pred_spacing = orientation.apply(values), orientation.of_pair(pred_spacing)
    predicted = label_map.mapped(values, reading.prediction, prediction, "--pred-labels")
    if predicted.shape != true.shape:
        hint, remedy = "", "export the predictions at the size of the truth, labels by nearest neighbour"
        if predicted.shape == true.shape[::-1]:
            hint = " (they are transposed)"
            remedy += ", or lay them out with --orientation transpose, rotate-90 or rotate-270"
        raise InputError(
            f"{prediction}: has {predicted.shape[0]} x {predicted.shape[1]} pixels and its truth {truth} has "
            f"{true.shape[0]} x {true.shape[1]}{hint}; {remedy}"
        )
    return true, predicted, np.stack([stated, pred_spacing])


def score(
    true: np.ndarray, predicted: np.ndarray, stated: np.ndarray, spacing: np.ndarray, structures: int
) -> Scored:
    """All scores of one case; where the table gives no spacing, that of the truth's header counts."""
    spacing = np.where(np.isnan(spacing), stated[0], spacing)
    return Scored(
        metrics.mask_scores(predicted, true, structures, spacing),
        stated,
        spacing,
        int(np.count_nonzero(true)),
        int(np.count_nonzero(predicted)),
        np.array_equal(true, predicted),
        hashlib.sha256(repr(true.shape).encode() + true.tobytes() + predicted.tobytes()).digest(),
    )


def over_cases(
    cohort: Cohort, truth: Mapping[str, Path], prediction: Mapping[str, Path], reading: Reading
) -> list[Scored]:
    """Every case of a cohort by one model, in its order; a case without a prediction is scored as an empty one.

    Raises:
        InputError: what is wrong with which files, by the row of the table.
    """

    def of(item: tuple[str, np.ndarray]) -> Scored | InputError:
        case, spacing = item
        try:
            masks = pair(truth[case], prediction.get(case), reading)
            return score(*masks, spacing, len(reading.structures))
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
    cohort: Cohort, truth: Mapping[str, Path], scored: Sequence[Scored], reading: Reading, apart: float
) -> dict[str, np.ndarray]:
    """`metrics.boundary_errors` of every case's reference mask, f64[N, S] by score, contours `apart` mm off."""

    def of(item: tuple[str, Scored]) -> dict[str, np.ndarray]:
        case, one = item
        true = label_map.mapped(readers.read_mask(truth[case]), reading.truth, truth[case])
        return metrics.boundary_errors(true, len(reading.structures), one.spacing, apart)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        errors = list(pool.map(of, zip(cohort.frame["case_id"], scored, strict=True)))
    return {name: np.stack([error[name] for error in errors]) for name in errors[0]}


def values_of(cohort: Cohort, truth: Mapping[str, Path]) -> set[int]:
    """The values that occur in the reference masks.

    Raises:
        InputError: what is wrong with which files, by the row of the table.
    """

    def of(case: str) -> set[int] | InputError:
        try:
            return set(np.unique(readers.read_mask(truth[case])).tolist())
        except InputError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(of, cohort.frame["case_id"]))
    wrong = [
        (row, str(r)) for row, r in zip(cohort.frame.index, results, strict=True) if isinstance(r, InputError)
    ]
    metadata.refuse(cohort.path, wrong)
    return set[int]().union(*(result for result in results if not isinstance(result, InputError)))


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
