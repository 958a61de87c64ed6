"""Find masks of another case: copies, exchanged files, and masks that overlap far less than most."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kneefair_jax.audit.mask_alignment import Fit
from kneefair_jax.audit.mask_faults import OTHER_CASE, OUTLIER, SAME_PIXELS, Fault, FaultyMask
from kneefair_jax.audit.mask_pair import Summary

# An exchanged mask fits the other case as predictions fit, and its own clearly less.
_MIN_DICE, _MIN_LEAD = 0.85, 0.1
_ROWS = 256  # thumbnails that are compared with all others at a time
# Robust standard deviations below the median overlap; a cohort with a lower median has no outliers.
_MAX_ROBUST_Z, _MIN_MEDIAN, _MIN_SPREAD = 6.0, 0.85, 0.01
_MAX_LISTED = 3

type Masks = Mapping[str, Summary | None]  # by case id; None if there is no mask


def copies(masks: Masks, name: str) -> list[FaultyMask]:
    """Return the masks of different cases with identical pixels; empty masks are not compared.

    Args:
        masks: the reference masks, or the predictions of one model.
        name: `reference`, or the model's name.
    """
    cases_of = _by_digest(masks)
    return [
        FaultyMask(case, name, _identical(_join([other for other in cases if other != case])))
        for cases in cases_of.values()
        if len(cases) > 1
        for case in cases
    ]


def copies_of_references(truth: Masks, predictions: Masks, model: str) -> list[FaultyMask]:
    """Return the predictions with the pixels of another case's reference mask, and not of their own."""
    cases_of = _by_digest(truth)
    faults = []
    for case, mask in predictions.items():
        cases = cases_of.get(mask.digest, []) if mask is not None and mask.pixels else []
        if cases and case not in cases:
            faults.append(FaultyMask(case, model, _identical(f"the reference mask of {_join(cases)}")))
    return faults


def exchanged(
    truth: Masks, predictions: Masks, fits: Mapping[str, Fit | None], model: str
) -> list[FaultyMask]:
    """Return the cases whose prediction fits another reference mask, and whose reference mask fits another prediction.

    This holds if two files are exchanged, or if all have their neighbor's name. It compares thumbnails of masks of one
    size, and only of cases that score poorly, and requires both directions, so that a poor prediction does not count as
    one of another case. It excludes cases that fit at least as well in another orientation.

    Args:
        truth: reference masks.
        predictions: of one model.
        fits: case id -> `mask_alignment.fit`; None if a case does not score poorly.
        model: its name.
    """
    best = {case: fit.best for case, fit in fits.items() if fit is not None}
    shapes: dict[tuple[int, ...], list[str]] = {}
    for case in best:
        true, predicted = truth[case], predictions[case]
        if true is not None and predicted is not None and true.pixels and predicted.pixels:
            shapes.setdefault(true.shape, []).append(case)
    return [
        fault for cases in shapes.values() for fault in _exchanged(cases, truth, predictions, best, model)
    ]


def _exchanged(
    cases: Sequence[str], truth: Masks, predictions: Masks, best: Mapping[str, float], model: str
) -> list[FaultyMask]:
    """Return the same for cases whose masks have one size; `best` is their Dice in the best orientation."""
    of_truth, of_prediction = (
        _Thumbnails.of([mask for case in cases if (mask := masks[case]) is not None])
        for masks in (truth, predictions)
    )
    # The reference mask decides which pixels are ignored, for every prediction it is compared with.
    of_prediction = of_prediction._replace(valid=np.ones_like(of_prediction.valid))
    rows, dice, dice_of_own = _best(of_prediction, of_truth)
    is_mutual = _is_clear(dice, dice_of_own) & _is_clear(*_best(of_truth, of_prediction)[1:])
    return [
        FaultyMask(
            case,
            model,
            Fault(OTHER_CASE, f"{cases[rows[i]]}, Dice about {dice[i]:.2f}, not {dice_of_own[i]:.2f}"),
        )
        for i, case in enumerate(cases)
        if is_mutual[i] and dice[i] > best[case]
    ]


class _Thumbnails(NamedTuple):
    """Thumbnails of N masks: labels, u8[N, K], and the pixels that are not ignored, bool[N, K]."""

    labels: np.ndarray
    valid: np.ndarray

    @classmethod
    def of(cls, masks: Sequence[Summary]) -> "_Thumbnails":
        return cls(
            np.stack([mask.thumbnail.ravel() for mask in masks]),
            ~np.stack([mask.ignored.ravel() for mask in masks]),
        )


def _best(thumbnails: _Thumbnails, candidates: _Thumbnails) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the best candidate of each of N thumbnails: its row, its Dice, and the Dice of the one of the same row."""
    count = len(thumbnails.labels)
    rows, dice, dice_of_own = np.empty(count, int), np.empty(count), np.empty(count)
    for start in range(0, count, _ROWS):
        block = slice(start, start + _ROWS)
        overlaps = _overlaps(_Thumbnails(*(array[block] for array in thumbnails)), candidates)
        rows[block], dice[block] = overlaps.argmax(1), overlaps.max(1)
        dice_of_own[block] = np.diagonal(overlaps, start)
    return rows, dice, dice_of_own


def _is_clear(dice: np.ndarray, dice_of_own: np.ndarray) -> np.ndarray:
    """Return whether masks fit the other case well and better than their own."""
    return dice >= np.maximum(_MIN_DICE, dice_of_own + _MIN_LEAD)


def outliers(overlap: Mapping[str, float], explained: set[str], model: str) -> list[FaultyMask]:
    """Return the cases in which prediction and reference mask overlap far less than in most.

    Args:
        overlap: case id -> mean Dice of the cases in which both masks have structures.
        explained: cases with another fault that explains a low overlap.
        model: whose predictions.
    """
    if not overlap:
        return []
    dice = np.array(list(overlap.values()))
    median = float(np.median(dice))
    spread = max(1.4826 * float(np.median(np.abs(dice - median))), _MIN_SPREAD)
    if median < _MIN_MEDIAN:
        return []
    return [
        FaultyMask(case, model, Fault(OUTLIER, f"Dice {value:.2f}, median {median:.2f}"))
        for case, value in overlap.items()
        if value < min(_MIN_MEDIAN, median - _MAX_ROBUST_Z * spread) and case not in explained
    ]


def _identical(to: str) -> Fault:
    return Fault(SAME_PIXELS, f"the same mask as {to}")


def _by_digest(masks: Masks) -> dict[bytes, list[str]]:
    """Return digest -> cases, of masks that are not empty."""
    cases_of: dict[bytes, list[str]] = {}
    for case, mask in masks.items():
        if mask is not None and mask.pixels:
            cases_of.setdefault(mask.digest, []).append(case)
    return cases_of


def _overlaps(first: _Thumbnails, second: _Thumbnails) -> np.ndarray:
    """Return Dice of all structures together, f32[P, R], over the pixels that neither of two thumbnails ignores."""
    labels = np.unique(first.labels)
    agreeing = np.zeros((len(first.labels), len(second.labels)), np.float32)
    for label in labels[labels > 0]:
        agreeing += _common((first.labels == label) & first.valid, (second.labels == label) & second.valid)
    total = _common((first.labels > 0) & first.valid, second.valid)
    total += _common(first.valid, (second.labels > 0) & second.valid)
    dice: np.ndarray = 2 * agreeing / np.maximum(total, 1)
    return dice


def _common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return f32[P, R], the number of pixels that are set in both of two thumbnails, bool[P, K] and bool[R, K]."""
    counts: np.ndarray = first.astype(np.float32) @ second.astype(np.float32).T
    return counts


def _join(cases: Sequence[str]) -> str:
    more = len(cases) - _MAX_LISTED
    return ", ".join(cases[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
