"""Score the masks of every case, with NumPy and threads; each file is decoded once."""

import hashlib
import os
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import anatomy, metrics
from kneefair_jax.audit import mask_pair, mismatch
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.mask_pair import Reading, Reference, Summary
from kneefair_jax.audit.mismatch import Fit
from kneefair_jax.data import label_map, mask_files, metadata
from kneefair_jax.data.annotations import Kind
from kneefair_jax.data.label_map import LabelMap, UnknownValuesError
from kneefair_jax.data.mask_files import MaskSource
from kneefair_jax.data.readers import orientation
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import patient_table
from kneefair_jax.report.text import formatting
from kneefair_jax.runtime import progress

type Masks = Mapping[str, MaskSource]  # case id -> mask


# Share of the predicted pixels below which a structure may be a speck.
_LEAST_SHARE = 0.02


class Scored(NamedTuple):
    """Scores of one case by one model.

    Attributes:
        scores: `dice`, `iou`, `hd95_mm`, `assd_mm`, `nsd`, `true_area_mm2`, `pred_area_mm2`, f64[S] each,
            of the structures `Reading.scored`.
        mask: summary of the prediction; None if there is none.
        is_copy: whether prediction and truth are equal and not empty, and no pixel is ignored.
        digest: of both label maps without ignored pixels.
        relation: `orientation.relation` of both files.
        fit: `mismatch.fit` of a case that scores poorly; else None.
        confusion: i64[S + 1, S + 1], of labels, of the first cases (`mismatch.CASES`); else None.
        ignored: f64[S], the ignored share of each predicted label; NaN if the prediction lacks it.
        false_only: bool[S], which of `Reading.scored` the prediction has (`_LEAST_SHARE` of its pixels or more) and the
            reference mask lacks, though it could show them.
    """

    scores: dict[str, np.ndarray]
    mask: Summary | None
    is_copy: bool
    digest: bytes
    relation: str
    fit: Fit | None
    confusion: np.ndarray | None
    ignored: np.ndarray
    false_only: np.ndarray


class Case(NamedTuple):
    """Results of one case.

    Attributes:
        truth: summary of its reference mask.
        spacing: f32[2], mm per pixel as used: of the table, or else of the reference's header.
        ignored: number of pixels that the reference mask ignores.
        by_model: model -> its scores.
    """

    truth: Summary
    spacing: np.ndarray
    ignored: int
    by_model: dict[str, Scored]


def score_cases(
    cohort: Cohort,
    truth: Masks,
    predictions: Mapping[str, Masks],
    reading: Reading,
    *,
    are_readers: bool = False,
) -> dict[str, Case]:
    """Score every case of a cohort by every model; a missing prediction counts as an empty mask.

    The memory of a result does not depend on the size of the masks.

    Args:
        cohort: the cases.
        truth: the reference masks.
        predictions: model -> predicted masks.
        reading: of the masks.
        are_readers: whether the predictions are those of readers, for which no label map can be stated.

    Returns:
        Case id -> its results, in the cohort's order.

    Raises:
        InputError: files cannot be used (by row of the table), or the palettes of a folder differ.
    """
    ids = cohort.frame["case_id"]
    column = "" if cohort.annotated is None else str(cohort.annotated.name)
    first = {
        model: set(islice((case for case in ids if case in masks), mismatch.CASES))
        for model, masks in predictions.items()
    }

    def score(item: tuple[str, np.ndarray]) -> Case | list[_Failure]:
        case, spacing = item
        kind = reading.kinds.get(case)
        try:
            true = mask_pair.reference(truth[case], reading)
            if kind:
                kind.check(true.label, reading.structures, truth[case], column)
        except InputError as error:
            return [_Failure(None, error)]
        spacing = np.where(np.isnan(spacing), true.mask.spacing, spacing)
        by_model, failures = {}, []
        for model, masks in predictions.items():
            try:
                values = reading.of_model(model)
                one = _score(true, masks.get(case), spacing, values, kind, in_first=case in first[model])
                by_model[model] = one
            except InputError as error:
                failures.append(_Failure(model, error))
        if failures:
            return failures
        summary = mask_pair.summarize(true.mask, true.label, true.ignored, reading.truth)
        return Case(summary, spacing, int(np.count_nonzero(true.ignored)), by_model)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scored = pool.map(score, zip(ids, cohort.spacing, strict=True))
        results = list(progress.track(scored, len(ids), "scoring masks"))
    problems = [
        (row, failure)
        for row, result in zip(cohort.frame.index, results, strict=True)
        if isinstance(result, list)
        for failure in result
    ]
    if problems:
        # Unknown values may be those of a re-sorted palette, for which this message is better.
        folders = [(truth, reading.truth)]
        folders += [(masks, reading.of_model(model).prediction) for model, masks in predictions.items()]
        for masks, values in folders:
            mask_files.check_palettes([masks[case] for case in ids if case in masks], values)
    without_map = {}
    for model, masks in () if are_readers else predictions.items():
        count = len(masks.keys() & set(ids))
        if message := _missing_label_map(model, count, [failure for _, failure in problems], reading):
            without_map[model] = message
    metadata.refuse(
        cohort.path,
        [(metadata.WHOLE_COLUMN, message) for message in without_map.values()]
        + [
            (row, str(failure.error))
            for row, failure in problems
            if failure.model not in without_map or not isinstance(failure.error, UnknownValuesError)
        ],
    )
    cases = {case_id: case for case_id, case in zip(ids, results, strict=True) if isinstance(case, Case)}
    _check_palettes(cases.values(), predictions, reading)
    return cases


class _Failure(NamedTuple):
    """Why the prediction of a case by a model cannot be used; the model is None for the reference mask."""

    model: str | None
    error: InputError


def _missing_label_map(model: str, masks: int, failures: Sequence[_Failure], reading: Reading) -> str:
    """Return one message on a model whose label map does not name the values of most of its masks, or ""."""
    unknown = [
        failure.error.values
        for failure in failures
        if failure.model == model and isinstance(failure.error, UnknownValuesError)
    ]
    if len(unknown) <= max(1, masks / 2):
        return ""
    labels = reading.of_model(model).prediction
    option, name = (f"--pred {model}", f"{model}: ") if model else ("--pred", "")
    values = shlex.join(f"{structure}=VALUE" for structure in reading.structures)
    return (
        f"{option}: {len(unknown)} of {masks} predictions hold values that name no structure: "
        f"{label_map.first_values(sorted(set().union(*unknown)))} ({label_map.describe(labels)}); state the values "
        f"of this model with --pred-labels {name}{values}, and other values as {label_map.BACKGROUND}=VALUE"
    )


def _score(
    true: Reference,
    source: MaskSource | None,
    spacing: np.ndarray,
    reading: Reading,
    kind: Kind | None,
    *,
    in_first: bool,
) -> Scored:
    """Score one case by one model; `in_first` says whether to count its confusion matrix."""
    masks = mask_pair.pair(true, source, reading)
    if kind:
        masks = masks._replace(
            true=kind.merge_labels(masks.true),
            predicted=kind.merge_labels(masks.predicted),
            label=kind.merge_labels(masks.label),
        )
    structures = len(reading.structures)
    members = anatomy.membership(reading.structures, reading.scored)[:, 1:]
    in_truth, in_prediction = (
        members @ np.bincount(label.ravel(), minlength=structures + 1)[1:]
        for label in (masks.true, masks.predicted)
    )
    false_only = (in_truth == 0) & (in_prediction > _LEAST_SHARE * np.count_nonzero(masks.predicted))
    layers = anatomy.layers(reading.structures, reading.scored)
    scores = metrics.score_by_layer(metrics.mask_scores, layers, masks.predicted, masks.true, spacing=spacing)
    if kind:
        scores = {name: np.where(kind.shows_structure, values, np.nan) for name, values in scores.items()}
    mask = masks.prediction
    is_poor = mask is not None and mismatch.is_poor(scores["dice"])
    in_all, in_ignored = (
        np.bincount(label.ravel(), minlength=structures + 1)[1:]
        for label in (masks.label, masks.label[masks.ignored])
    )
    return Scored(
        scores,
        None if mask is None else mask_pair.summarize(mask, masks.label, masks.ignored, reading.prediction),
        # A copy of a mask would have its ignored pixels.
        bool(masks.true.any()) and np.array_equal(masks.true, masks.predicted) and not masks.ignored.any(),
        mask_pair.digest(masks.true, masks.predicted),
        masks.relation,
        mismatch.fit(masks.true, masks.label, masks.ignored, masks.relation == orientation.STATED)
        if is_poor
        else None,
        metrics.confusion_matrix(masks.true, masks.predicted, structures) if in_first else None,
        np.where(in_all > 0, in_ignored / np.maximum(in_all, 1), np.nan),
        false_only & (kind is None or kind.shows_structure),
    )


def _check_palettes(cases: Collection[Case], models: Iterable[str], reading: Reading) -> None:
    """Require that an index has one meaning in all palette images of a folder."""
    folders: list[tuple[list[Summary | None], LabelMap]] = [([case.truth for case in cases], reading.truth)]
    folders += [
        ([case.by_model[model].mask for case in cases], reading.of_model(model).prediction)
        for model in models
    ]
    for masks, values in folders:
        indices = dict(mask.palette for mask in masks if mask is not None and mask.palette is not None)
        mask_files.check_read_palettes(indices, values)


def size_errors(
    truth: Masks, cases: Mapping[str, Case], reading: Reading, offsets_mm: Mapping[str, float]
) -> dict[str, dict[str, np.ndarray]]:
    """Return model -> `metrics.boundary_errors` of every case's reference mask, f64[N, S] by score.

    The offset follows from the scores of all cases, so this decodes each reference mask a second time.

    Args:
        truth: the reference masks.
        cases: of `score_cases`.
        reading: of the masks.
        offsets_mm: model -> mean distance of its contours from the reference's.
    """
    layers = anatomy.layers(reading.structures, reading.scored)

    def measure(item: tuple[str, Case]) -> dict[str, dict[str, np.ndarray]]:
        case_id, case = item
        true = mask_pair.reference(truth[case_id], reading).label

        def score(offset: float) -> dict[str, np.ndarray]:
            return metrics.score_by_layer(
                metrics.boundary_errors, layers, true, spacing=case.spacing, distance_mm=offset
            )

        return {model: score(offset) for model, offset in offsets_mm.items()}

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        measured = pool.map(measure, cases.items())
        errors = list(progress.track(measured, len(cases), "measuring sizes"))
    return {
        model: {name: np.stack([error[model][name] for error in errors]) for name in errors[0][model]}
        for model in offsets_mm
    }


def table(
    cohort: Cohort, cases: Mapping[str, Case], structures: Sequence[str], model: str, split: str
) -> pd.DataFrame:
    """Return the long per-case table of one model: N x S rows, one structure after another."""
    scored = [case.by_model[model] for case in cases.values()]
    about = cohort.frame.reset_index(drop=True).assign(model=model, split=split, ece=np.nan)
    stacked = {name: np.stack([case.scores[name] for case in scored]) for name in scored[0].scores}
    frames = [
        about.assign(
            structure=structure, **{name: values[:, s].astype(float) for name, values in stacked.items()}
        )
        for s, structure in enumerate(structures)
    ]
    return pd.concat(frames, ignore_index=True)[patient_table.column_order(cohort.attributes)]


def fingerprint(cases: Mapping[str, Case], model: str) -> str:
    """Return the SHA-256 of the case ids and of both label maps of each case."""
    digest = hashlib.sha256()
    for case_id, case in cases.items():
        digest.update(case_id.encode() + case.by_model[model].digest)
    return digest.hexdigest()


class IgnoredPixels(NamedTuple):
    """The pixels that the label `ignore` excludes from the scores of one model.

    Attributes:
        pixels: of all reference masks together.
        cases: number of cases with such pixels.
        largest_share: of one predicted structure's pixels, in [0, 1]; None if no predicted structure is affected.
        structure: with this share.
        case_id: with this share.
    """

    pixels: int
    cases: int
    largest_share: float | None = None
    structure: str | None = None
    case_id: str | None = None

    def note(self, cases: int, of: str) -> str:
        """Return a note on these pixels.

        Args:
            cases: number of all cases.
            of: whose predictions, such as ` by unet`.
        """
        if not self.cases:
            return "no reference mask holds a value that --labels calls ignore"
        amount = formatting.amount(self.pixels, "pixel")
        text = f"every score excludes ignored pixels: {amount} in {self.cases} of {cases} cases"
        if self.largest_share is None:
            return f"{text}; no structure of the predictions{of} has any"
        return (
            f"{text}, at most {100 * self.largest_share:.1f} % of a structure of the predictions{of} "
            f"({self.structure} of case {self.case_id})"
        )


def ignored_pixels(
    case_ids: Sequence[str], counts: Sequence[int], shares: np.ndarray, structures: Sequence[str]
) -> IgnoredPixels:
    """Sum the ignored pixels of all cases, and find the predicted structure with the largest ignored share.

    Args:
        case_ids: of N cases.
        counts: ignored pixels of each reference mask.
        shares: f64[N, S], of each predicted structure; NaN if the prediction lacks it.
        structures: names of the S structures.
    """
    total, affected = int(np.sum(counts)), int(np.count_nonzero(counts))
    filled = np.nan_to_num(shares)
    row, column = np.unravel_index(int(np.argmax(filled)), filled.shape)
    if filled[row, column] == 0:
        return IgnoredPixels(total, affected)
    return IgnoredPixels(
        total, affected, float(filled[row, column]), structures[int(column)], case_ids[int(row)]
    )
