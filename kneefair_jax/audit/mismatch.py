"""Find predictions that do not match their reference masks: turned ones, other labels, and masks of another case.

Turned masks and other labels have the size of the truth, and score near 0: `fit` and `metrics.confusion_matrix` examine
a case while its masks are in memory, and the notes follow from their results. Masks of another case are copies,
exchanged files, and masks that overlap far less than most.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from kneefair_jax import anatomy
from kneefair_jax.audit.mask_faults import OTHER_CASE, OUTLIER, SAME_PIXELS, Fault, FaultyMask
from kneefair_jax.audit.mask_pair import Summary
from kneefair_jax.data.readers import ORIENTATIONS

NONE = "none"
# A case is examined if its mean Dice is below `_POOR_DICE`. An orientation is accepted if it raises Dice by
# `_MIN_RISE`, to `_MIN_DICE` or more, and to at most `_MAX_BELOW` (or `_MAX_ROBUST_Z` robust standard deviations) below
# the median.
_POOR_DICE, _MIN_RISE, _MIN_DICE, _MAX_BELOW, _MAX_ROBUST_Z = 0.85, 0.1, 0.5, 0.1, 3.0
# A mask differs in orientation from most masks if its labels are less likely by more than `_MIN_NATS` per pixel. Of 40
# phantoms of one side, 39 mirrored ones exceed it; of 20 right and 20 left ones, none does in either direction.
_MIN_NATS, _MIN_FREQUENCY = 0.5, 0.01
# Labels are compared over the first `CASES` of a cohort, and only if its mean Dice is below a half.
_MAX_MEAN_DICE, CASES, _MIN_LABEL_RISE = 0.5, 20, 0.2
# An exchanged mask fits the other case as predictions fit, and its own clearly less.
_EXCHANGED_DICE, _EXCHANGED_LEAD = 0.85, 0.1
_ROWS = 256  # thumbnails that are compared with all others at a time
# Robust standard deviations below the median overlap; a cohort with a lower median has no outliers.
_OUTLIER_Z, _OUTLIER_MEDIAN, _OUTLIER_SPREAD = 6.0, 0.85, 0.01
_MAX_LISTED = 3

type Masks = Mapping[str, Summary | None]  # by case id; None if there is no mask


class Fit(NamedTuple):
    """The fit of a prediction to its reference mask.

    Attributes:
        dice: of all structures together, as read.
        orientation: the one of the eight that fits best by a clear margin, or `none`.
        best: Dice in that orientation.
        stated: whether the headers of both masks state an orientation, so that `--orientation` has no effect.
    """

    dice: float
    orientation: str
    best: float
    stated: bool = False


def is_poor(dice: np.ndarray) -> bool:
    """Return whether a case scores poorly, by the Dice of its structures, f64[S]; NaN if one is absent."""
    present = dice[np.isfinite(dice)]
    return not (present.size and present.mean() >= _POOR_DICE)


def fit(true: np.ndarray, predicted: np.ndarray, ignored: np.ndarray, stated: bool = False) -> Fit:
    """Compare a prediction with its truth in the eight orientations.

    Args:
        true: u8[H, W], without ignored pixels.
        predicted: u8[H, W], with structures in ignored pixels, which are turned with the others.
        ignored: bool[H, W], the pixels of the truth that count in no orientation.
        stated: whether the headers of both state an orientation.
    """
    dice = {}
    for name, orientation in ORIENTATIONS.items():
        laid_out = orientation.apply(predicted)
        if laid_out.shape == true.shape:
            dice[name] = _foreground_dice(true, anatomy.background_where(ignored, laid_out))
    best = max(dice, key=dice.__getitem__)  # the first of equal ones; `none` is the first of all
    if dice[best] < max(dice[NONE] + _MIN_RISE, _MIN_DICE):
        best = NONE
    return Fit(dice[NONE], best, dice[best], stated)


def misoriented(fits: Mapping[str, Fit | None], overlap: Mapping[str, float]) -> dict[str, Fit]:
    """Return the cases that fit in another orientation as well as the cohort does.

    A shifted mask, or one of another case, may overlap a little more after a turn, but its Dice stays far below the
    median over all cases in their best orientation.

    Args:
        fits: case id -> `fit`, of the cases with a prediction; None if a case does not score poorly.
        overlap: case id -> Dice, of the cases in which both masks have structures.
    """
    best = [dice if (match := fits[case]) is None else match.best for case, dice in overlap.items()]
    if not best:
        return {}
    median = float(np.median(best))
    spread = 1.4826 * float(np.median(np.abs(np.array(best) - median)))
    least = median - max(_MAX_BELOW, _MAX_ROBUST_Z * spread)
    return {
        case: match
        for case, match in fits.items()
        if match is not None and match.orientation != NONE and match.best >= least
    }


def frequencies(thumbnails: Sequence[np.ndarray]) -> np.ndarray:
    """Return f64[256, K], the frequency of each label at each of the K pixels of thumbnails, u8[side, side]."""
    labels = np.stack([thumbnail.ravel() for thumbnail in thumbnails])
    counts = np.zeros((256, labels.shape[1]))
    for label in np.unique(labels):
        counts[label] = (labels == label).mean(0)
    return counts


def is_reference_misoriented(
    predicted: np.ndarray, as_reference: np.ndarray, frequencies: np.ndarray
) -> bool:
    """Return whether, of two masks that differ in orientation, the reference mask differs from most masks.

    This compares the log-likelihood of the prediction's labels with that of its labels in the orientation of the
    reference mask. If neither is clearly larger, as for mirrored masks of right and left knees, it is the prediction.

    Args:
        predicted: u8[side, side], thumbnail of the prediction.
        as_reference: the same in the orientation of the reference mask.
        frequencies: of `frequencies`.
    """
    pixels = np.flatnonzero(predicted.ravel() != as_reference.ravel())
    if not pixels.size:
        return False
    log_likelihood, log_likelihood_as_reference = (
        np.log(np.maximum(frequencies[thumbnail.ravel()[pixels], pixels], _MIN_FREQUENCY)).mean()
        for thumbnail in (predicted, as_reference)
    )
    return bool(log_likelihood - log_likelihood_as_reference > _MIN_NATS)


def orientation_note(misoriented: Mapping[str, Fit], predictions: int, of: str, flag: str) -> str:
    """Return a note on the flag that turns all predictions, if they all fit in one orientation; "" otherwise.

    Args:
        misoriented: the cases whose prediction fits in another orientation.
        predictions: number of cases with a prediction.
        of: whose predictions, such as ` by unet`.
        flag: the value of `--orientation`.
    """
    orientations = {fit.orientation for fit in misoriented.values()}
    if len(misoriented) < predictions or len(orientations) != 1 or flag != NONE:
        return ""
    if any(fit.stated for fit in misoriented.values()):
        return ""
    (orientation,) = orientations
    return (
        f"WARNING: all {predictions} predictions{of} fit the reference masks after {orientation}: correct their "
        f"headers, or give --orientation {orientation}"
    )


def label_note(
    fits: Mapping[str, Fit | None],
    confusions: Mapping[str, np.ndarray],
    structures: Sequence[str],
    mean_dice: float,
    of: str,
) -> str:
    """Return a note on exchanged labels, if they fit clearly better than the files as read and than a turn.

    Args:
        fits: case id -> `fit`, of the cases with a prediction; None if a case does not score poorly.
        confusions: case id -> `metrics.confusion_matrix`, of the first of them.
        structures: names of labels 1, 2, ...
        mean_dice: over cases and structures.
        of: whose predictions, such as ` by unet`.
    """
    if not mean_dice < _MAX_MEAN_DICE or not confusions:
        return ""
    new_labels = _best_labels([*confusions.values()])
    changes = [
        f"{structures[old - 1]} is called {structures[new - 1]}"
        for old, new in enumerate(new_labels)
        if new != old
    ]
    if not changes:
        return ""
    as_read = {case: _dice(pixels, np.arange(len(pixels))) for case, pixels in confusions.items()}
    dice_renamed = float(np.mean([_dice(pixels, new_labels) for pixels in confusions.values()]))
    turns = {case: match.best for case in as_read if (match := fits.get(case)) is not None}
    best_turn = [turns.get(case, dice) for case, dice in as_read.items()]
    dice_as_read = np.mean(list(as_read.values()))
    if dice_renamed < dice_as_read + _MIN_LABEL_RISE or dice_renamed < np.mean(best_turn):
        return ""
    return (
        f"WARNING: the predictions{of} fit the reference masks better when {', '.join(changes)} (Dice of all "
        f"structures {dice_renamed:.2f} instead of {dice_as_read:.2f}): check their labels (--pred-labels) before you "
        "believe any number."
    )


def _best_labels(confusions: Sequence[np.ndarray]) -> np.ndarray:
    """Return i64[S + 1], the assignment of predicted labels to true labels with the most common pixels."""
    by_prediction = np.sum(confusions, axis=0).T
    labels = np.arange(len(by_prediction))
    labels[1:] = 1 + linear_sum_assignment(by_prediction[1:, 1:], maximize=True)[1]
    return labels


def _dice(pixels: np.ndarray, names: np.ndarray) -> float:
    """Return `_foreground_dice` by a confusion matrix, with new names for the predicted labels."""
    total = int(pixels[1:].sum()) + int(pixels[:, 1:].sum())
    return 2 * int(pixels[names[1:], np.arange(1, len(pixels))].sum()) / max(total, 1)


def _foreground_dice(true: np.ndarray, predicted: np.ndarray) -> float:
    """Return 2 |P and T| / (|P| + |T|), counting pixels where the structures agree; 0 if both are empty."""
    total = int(np.count_nonzero(true)) + int(np.count_nonzero(predicted))
    return 2 * int(np.count_nonzero((true == predicted) & (true > 0))) / max(total, 1)


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
        fits: case id -> `fit`; None if a case does not score poorly.
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
    return dice >= np.maximum(_EXCHANGED_DICE, dice_of_own + _EXCHANGED_LEAD)


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
    spread = max(1.4826 * float(np.median(np.abs(dice - median))), _OUTLIER_SPREAD)
    if median < _OUTLIER_MEDIAN:
        return []
    return [
        FaultyMask(case, model, Fault(OUTLIER, f"Dice {value:.2f}, median {median:.2f}"))
        for case, value in overlap.items()
        if value < min(_OUTLIER_MEDIAN, median - _OUTLIER_Z * spread) and case not in explained
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
