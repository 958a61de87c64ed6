"""Masks -> the results of every case, each file decoded once; NumPy and threads, nothing is compiled."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import anatomy, metrics
from kneefair_jax.audit import mask_alignment, mask_pair, mask_summary
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.label_map import Checked
from kneefair_jax.audit.mask_alignment import Fit
from kneefair_jax.audit.mask_pair import Reading, Reference
from kneefair_jax.audit.mask_summary import Summary
from kneefair_jax.data import layouts, mask_files, metadata
from kneefair_jax.data.mask_files import MaskPath
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import patient_table
from kneefair_jax.runtime import progress

type Paths = Mapping[str, MaskPath]  # case id -> mask


class Scored(NamedTuple):
    """One case by one model.

    Attributes:
        scores: `dice`, `iou`, `hd95_mm`, `assd_mm`, `nsd`, `true_area_mm2`, `pred_area_mm2`, f64[S] each,
            of the structures `Reading.scored`.
        mask: the prediction; None where there is none.
        same: whether prediction and truth are equal and not empty, and no pixel is ignored.
        digest: of both label maps without ignored pixels.
        relation: `layouts.relation` of both files.
        fit: in the eight orientations, of a case that scores poorly; else None.
        confusion: i64[S + 1, S + 1], of labels, of the first cases (`mask_alignment.CASES`); else None.
        ignored: f64[S], the share of each predicted label that is ignored; NaN where there is none of it.
    """

    scores: dict[str, np.ndarray]
    mask: Summary | None
    same: bool
    digest: bytes
    relation: str
    fit: Fit | None
    confusion: np.ndarray | None
    ignored: np.ndarray


class Case(NamedTuple):
    """One case.

    Attributes:
        truth: its reference mask.
        spacing: f32[2], mm per pixel as used: the table's, or else that of the reference's header.
        ignored: pixels that the reference mask leaves out.
        by_model: of each model.
    """

    truth: Summary
    spacing: np.ndarray
    ignored: int
    by_model: dict[str, Scored]


def over_cases(
    cohort: Cohort, truth: Paths, predictions: Mapping[str, Paths], reading: Reading
) -> list[Case]:
    """Every case of a cohort, in its order, by every model; a case without a prediction is scored as an empty one.

    What is kept of a case does not depend on the size of its masks.

    Args:
        cohort: the cases.
        truth: the reference masks.
        predictions: model -> predicted masks.
        reading: of the masks.

    Raises:
        InputError: what is wrong with which files, by the row of the table; or the palettes of a folder differ.
    """
    ids = cohort.frame["case_id"]
    first = {
        model: set(islice((case for case in ids if case in paths), mask_alignment.CASES))
        for model, paths in predictions.items()
    }

    def of(item: tuple[str, np.ndarray]) -> Case | list[InputError]:
        case, spacing = item
        try:
            true = mask_pair.reference(truth[case], reading)
        except InputError as error:
            return [error]
        spacing = np.where(np.isnan(spacing), true.mask.spacing, spacing)
        by_model, wrong = {}, []
        for model, paths in predictions.items():
            try:
                by_model[model] = _score(true, paths.get(case), spacing, reading, case in first[model])
            except InputError as error:
                wrong.append(error)
        if wrong:
            return wrong
        summary = mask_summary.of(true.mask, true.label, true.ignored, reading.truth)
        return Case(summary, spacing, int(np.count_nonzero(true.ignored)), by_model)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scored = pool.map(of, zip(ids, cohort.spacing, strict=True))
        results = list(progress.track(scored, len(ids), "scoring masks"))
    wrong = [
        (row, str(error))
        for row, result in zip(cohort.frame.index, results, strict=True)
        if isinstance(result, list)
        for error in result
    ]
    if wrong:
        # Values that name no structure may be those of a palette that was sorted anew, which is the better message.
        for paths in (truth, *predictions.values()):
            values = reading.truth if paths is truth else reading.prediction
            mask_files.check_palettes([paths[case] for case in ids if case in paths], values)
    metadata.refuse(cohort.path, wrong)
    cases = [result for result in results if isinstance(result, Case)]
    _check_palettes(cases, predictions, reading)
    return cases


def _score(
    true: Reference, path: MaskPath | None, spacing: np.ndarray, reading: Reading, in_first: bool
) -> Scored:
    """All results of one case by one model."""
    masks = mask_pair.pair(true, path, reading)
    structures = len(reading.structures)
    layers = anatomy.layers(reading.structures, reading.scored)
    scores = metrics.score_by_layer(metrics.mask_scores, layers, masks.predicted, masks.true, spacing=spacing)
    mask = masks.prediction
    poor = mask is not None and mask_alignment.is_poor(scores["dice"])
    in_all, in_ignored = (
        np.bincount(label.ravel(), minlength=structures + 1)[1:]
        for label in (masks.label, masks.label[masks.ignored])
    )
    return Scored(
        scores,
        None if mask is None else mask_summary.of(mask, masks.label, masks.ignored, reading.prediction),
        # Nobody copies a mask with pixels that it does not label.
        bool(masks.true.any()) and np.array_equal(masks.true, masks.predicted) and not masks.ignored.any(),
        mask_summary.digest(masks.true, masks.predicted),
        masks.relation,
        mask_alignment.fit(masks.true, masks.label, masks.ignored, masks.relation == layouts.STATED)
        if poor
        else None,
        metrics.confusion_matrix(masks.true, masks.predicted, structures) if in_first else None,
        np.where(in_all > 0, in_ignored / np.maximum(in_all, 1), np.nan),
    )


def _check_palettes(cases: Sequence[Case], models: Iterable[str], reading: Reading) -> None:
    """Requires that palette images of one folder mean the same by an index."""
    folders: list[tuple[list[Summary | None], Checked]] = [([one.truth for one in cases], reading.truth)]
    folders += [([one.by_model[model].mask for one in cases], reading.prediction) for model in models]
    for masks, values in folders:
        indices = dict(mask.palette for mask in masks if mask is not None and mask.palette is not None)
        mask_files.check_read_palettes(indices, values)


def sizes(
    cohort: Cohort, truth: Paths, cases: Sequence[Case], reading: Reading, apart: Mapping[str, float]
) -> dict[str, dict[str, np.ndarray]]:
    """Model -> `metrics.boundary_errors` of every case's reference mask, f64[N, S] by score.

    The distance follows from the scores of all cases, so this decodes each reference mask a second time.

    Args:
        cohort: the cases.
        truth: the reference masks.
        cases: their results.
        reading: of the masks.
        apart: model -> how far off contours are, mm.
    """
    layers = anatomy.layers(reading.structures, reading.scored)

    def of(item: tuple[str, Case]) -> dict[str, dict[str, np.ndarray]]:
        case, one = item
        true = mask_pair.reference(truth[case], reading).label

        def score(distance: float) -> dict[str, np.ndarray]:
            return metrics.score_by_layer(
                metrics.boundary_errors, layers, true, spacing=one.spacing, distance_mm=distance
            )

        return {model: score(distance) for model, distance in apart.items()}

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        measured = pool.map(of, zip(cohort.frame["case_id"], cases, strict=True))
        errors = list(progress.track(measured, len(cases), "measuring sizes"))
    return {
        model: {name: np.stack([error[model][name] for error in errors]) for name in errors[0][model]}
        for model in apart
    }


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
