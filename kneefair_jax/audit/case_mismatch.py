"""Masks of another case: copies, exchanged files, and masks that are of no film of the cohort."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kneefair_jax.audit.mask_alignment import Fit
from kneefair_jax.audit.mask_faults import OTHER_CASE, OUTLIER, SAME_PIXELS, Fault, FaultyMask
from kneefair_jax.audit.mask_summary import Summary

# An exchanged mask fits the other case as predictions fit, and its own clearly less.
_FITS, _CLEAR = 0.85, 0.1
_ROWS = 256  # compared with all others at a time
# Robust standard deviations below the median overlap; a cohort whose median is low has no outliers.
_FAR, _USUAL, _LEAST_MAD = 6.0, 0.85, 0.01
_SHOWN = 3

type Masks = Mapping[str, Summary | None]  # by case id; None where there is no mask


def copies(masks: Masks, name: str) -> list[FaultyMask]:
    """The masks of different cases whose pixels are the same; empty masks are not compared.

    Args:
        masks: the reference masks, or the predictions of one model.
        name: `reference`, or the model's.
    """
    cases_of = _by_digest(masks)
    return [
        FaultyMask(case, name, _identical(_named([other for other in cases if other != case])))
        for cases in cases_of.values()
        if len(cases) > 1
        for case in cases
    ]


def copies_of_references(truth: Masks, predictions: Masks, model: str) -> list[FaultyMask]:
    """The predictions whose pixels are those of another case's reference mask, and not of their own."""
    cases_of = _by_digest(truth)
    faults = []
    for case, mask in predictions.items():
        cases = cases_of.get(mask.digest, []) if mask is not None and mask.pixels else []
        if cases and case not in cases:
            faults.append(FaultyMask(case, model, _identical(f"the reference mask of {_named(cases)}")))
    return faults


def exchanged(
    truth: Masks, predictions: Masks, fits: Mapping[str, Fit | None], model: str
) -> list[FaultyMask]:
    """The cases whose prediction fits another reference mask, and whose reference mask another prediction.

    So it is where two files are exchanged, and where all have their neighbor's name. Thumbnails of masks of one size
    are compared, and only of cases that score poorly: a poor prediction is not taken for one of another case. A case
    that fits at least as well in another orientation is not named.

    Args:
        truth: reference masks.
        predictions: of one model.
        fits: case id -> `mask_alignment.fit`; None where a case does not score poorly.
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
    """The same among cases whose masks have one size, by their Dice in the best orientation."""
    of_truth, of_prediction = (
        _Thumbnails.of([one for case in cases if (one := masks[case]) is not None])
        for masks in (truth, predictions)
    )
    # What is ignored is a matter of the reference mask, whichever prediction it is compared with.
    of_prediction = of_prediction._replace(counted=np.ones_like(of_prediction.counted))
    forward, backward = _best(of_prediction, of_truth), _best(of_truth, of_prediction)
    return [
        FaultyMask(
            case,
            model,
            Fault(OTHER_CASE, f"{cases[there.row]}, Dice about {there.dice:.2f}, not {there.own:.2f}"),
        )
        for case, there, back in zip(cases, forward, backward, strict=True)
        if there.is_clear and back.is_clear and there.dice > best[case]
    ]


class _Thumbnails(NamedTuple):
    """Thumbnails of N masks: labels, u8[N, K], and which pixels are not ignored, bool[N, K]."""

    labels: np.ndarray
    counted: np.ndarray

    @classmethod
    def of(cls, masks: Sequence[Summary]) -> "_Thumbnails":
        return cls(
            np.stack([one.thumbnail.ravel() for one in masks]),
            ~np.stack([one.ignored.ravel() for one in masks]),
        )


class _Match(NamedTuple):
    """The thumbnail that fits another best: its row, Dice, and Dice with the one of the same row."""

    row: int
    dice: float
    own: float

    @property
    def is_clear(self) -> bool:
        return self.dice >= max(_FITS, self.own + _CLEAR)


def _best(thumbnails: _Thumbnails, others: _Thumbnails) -> list[_Match]:
    """The match of each of N thumbnails among N others."""
    matches = []
    for start in range(0, len(thumbnails.labels), _ROWS):
        dice = _overlaps(_Thumbnails(*(part[start : start + _ROWS] for part in thumbnails)), others)
        for row, best in enumerate(dice.argmax(1)):
            matches.append(_Match(int(best), float(dice[row, best]), float(dice[row, start + row])))
    return matches


def outliers(overlap: Mapping[str, float], named: set[str], model: str) -> list[FaultyMask]:
    """The cases in which prediction and reference mask overlap far less than in most.

    Args:
        overlap: case id -> mean Dice of the cases in which both masks have structures.
        named: cases that another fault explains.
        model: whose predictions.
    """
    if not overlap:
        return []
    dice = np.array(list(overlap.values()))
    median = float(np.median(dice))
    spread = max(1.4826 * float(np.median(np.abs(dice - median))), _LEAST_MAD)
    if median < _USUAL:
        return []
    return [
        FaultyMask(case, model, Fault(OUTLIER, f"Dice {one:.2f}, median {median:.2f}"))
        for case, one in overlap.items()
        if one < min(_USUAL, median - _FAR * spread) and case not in named
    ]


def _identical(to: str) -> Fault:
    return Fault(SAME_PIXELS, f"the same mask as {to}")


def _by_digest(masks: Masks) -> dict[bytes, list[str]]:
    """Digest -> cases, of masks that are not empty."""
    cases_of: dict[bytes, list[str]] = {}
    for case, mask in masks.items():
        if mask is not None and mask.pixels:
            cases_of.setdefault(mask.digest, []).append(case)
    return cases_of


def _overlaps(first: _Thumbnails, second: _Thumbnails) -> np.ndarray:
    """Dice of all structures together, f32[P, R], over the pixels that neither of two thumbnails ignores."""
    labels = np.unique(first.labels)
    both = np.zeros((len(first.labels), len(second.labels)), np.float32)
    for label in labels[labels > 0]:
        both += _common((first.labels == label) & first.counted, (second.labels == label) & second.counted)
    total = _common((first.labels > 0) & first.counted, second.counted)
    total += _common(first.counted, (second.labels > 0) & second.counted)
    return 2 * both / np.maximum(total, 1)


def _common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """f32[P, R], how many pixels are set in both of two thumbnails, bool[P, K] and bool[R, K]."""
    counts: np.ndarray = first.astype(np.float32) @ second.astype(np.float32).T
    return counts


def _named(cases: Sequence[str]) -> str:
    more = len(cases) - _SHOWN
    return ", ".join(cases[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
