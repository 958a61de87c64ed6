"""Predictions that lie differently from the truth, or whose labels do: they fit in size, and score near 0.

`fit` and `metrics.confusion_matrix` record the evidence of a case while its masks are in memory; the notes use it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from kneefair_jax import anatomy
from kneefair_jax.data.readers import ORIENTATIONS

NONE = "none"
# A case is examined where its mean Dice is below `_POOR`. An orientation is accepted where it raises Dice by `_CLEAR`,
# to `_FITS` or more, and to at most `_BELOW` (or `_FAR` robust standard deviations) below the cohort's median.
_POOR, _CLEAR, _FITS, _BELOW, _FAR = 0.85, 0.1, 0.5, 0.1, 3.0
# A mask lies unlike most masks where its labels are less likely by more than `_UNLIKE` nats a pixel. Of 40 phantoms of
# one side, 39 mirrored ones are above it; of 20 right and 20 left ones, none is beyond it in either direction.
_UNLIKE, _LEAST_FREQUENCY = 0.5, 0.01
# Labels are compared over the first cases of a cohort, and only where it scores below half.
_EXCHANGED, CASES, _BETTER = 0.5, 20, 0.2


class Fit(NamedTuple):
    """How a case fits.

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
    """Whether a case is looked at, by the Dice of its structures, f64[S]; NaN where one is absent."""
    present = dice[np.isfinite(dice)]
    return not (present.size and present.mean() >= _POOR)


def fit(true: np.ndarray, predicted: np.ndarray, ignored: np.ndarray, stated: bool = False) -> Fit:
    """Compare a prediction with its truth in the eight orientations.

    Args:
        true: u8[H, W], without ignored pixels.
        predicted: u8[H, W], with the structures that lie in ignored pixels: they are turned with the others.
        ignored: bool[H, W], the pixels of the truth that count in no orientation.
        stated: whether the headers of both state an orientation.
    """
    dice = {}
    for name, orientation in ORIENTATIONS.items():
        laid_out = orientation.apply(predicted)
        if laid_out.shape == true.shape:
            dice[name] = _foreground_dice(true, anatomy.background_where(ignored, laid_out))
    best = max(dice, key=dice.__getitem__)  # the first of equals, and `none` is the first of all
    if dice[best] < max(dice[NONE] + _CLEAR, _FITS):
        best = NONE
    return Fit(dice[NONE], best, dice[best], stated)


def turned(fits: Mapping[str, Fit | None], overlap: Mapping[str, float]) -> dict[str, Fit]:
    """Return the cases that fit in another orientation as well as the cohort does.

    A moved mask, or one of another case, may overlap a little more when it is turned: its Dice stays far below the
    median, which is that of every case in its best orientation.

    Args:
        fits: case id -> `fit`, of the cases with a prediction; None where a case does not score poorly.
        overlap: case id -> Dice, of the cases in which both masks have structures.
    """
    best = [dice if (one := fits[case]) is None else one.best for case, dice in overlap.items()]
    if not best:
        return {}
    median = float(np.median(best))
    spread = 1.4826 * float(np.median(np.abs(np.array(best) - median)))
    least = median - max(_BELOW, _FAR * spread)
    return {
        case: one
        for case, one in fits.items()
        if one is not None and one.orientation != NONE and one.best >= least
    }


def frequencies(thumbnails: Sequence[np.ndarray]) -> np.ndarray:
    """f64[256, K], how often each label is at each of the K pixels of thumbnails, u8[side, side]."""
    labels = np.stack([one.ravel() for one in thumbnails])
    counts = np.zeros((256, labels.shape[1]))
    for label in np.unique(labels):
        counts[label] = (labels == label).mean(0)
    return counts


def reference_is_turned(predicted: np.ndarray, laid_out: np.ndarray, usual: np.ndarray) -> bool:
    """Whether of two masks that lie differently the reference is the one that lies unlike most masks.

    Then the prediction lies like them as it is. The log-likelihood of its labels is compared with that of its labels as
    the reference mask lies. Where neither is clear, as for mirrored masks among right and left knees, the prediction is
    the one.

    Args:
        predicted: u8[side, side], thumbnail of the prediction.
        laid_out: the same, turned as the reference mask lies.
        usual: of `frequencies`.
    """
    pixels = np.flatnonzero(predicted.ravel() != laid_out.ravel())
    if not pixels.size:
        return False
    as_it_is, as_the_reference = (
        np.log(np.maximum(usual[one.ravel()[pixels], pixels], _LEAST_FREQUENCY)).mean()
        for one in (predicted, laid_out)
    )
    return bool(as_it_is - as_the_reference > _UNLIKE)


def flag_note(turned: Mapping[str, Fit], several: int, of: str, flag: str) -> str:
    """Return a note on the flag that turns all predictions, where they all fit in one orientation; or "".

    Args:
        turned: the cases whose prediction fits in another orientation.
        several: how many cases have a prediction.
        of: whose predictions, such as ` by unet`.
        flag: the value of `--orientation`.
    """
    orientations = {one.orientation for one in turned.values()}
    if len(turned) < several or len(orientations) != 1 or flag != NONE:
        return ""
    if any(one.stated for one in turned.values()):
        return ""
    (orientation,) = orientations
    return (
        f"WARNING: all {several} predictions{of} fit the reference masks after {orientation}: correct their headers, "
        f"or give --orientation {orientation}"
    )


def exchanged_labels(
    fits: Mapping[str, Fit | None],
    confusions: Mapping[str, np.ndarray],
    structures: Sequence[str],
    mean_dice: float,
    of: str,
) -> str:
    """A note on exchanged labels where that fits clearly better than the files as they are, and than a turn; or "".

    Args:
        fits: case id -> `fit`, of the cases with a prediction; None where a case does not score poorly.
        confusions: case id -> `metrics.confusion_matrix`, of the first of them.
        structures: names of labels 1, 2, ...
        mean_dice: over cases and structures.
        of: whose predictions, such as ` by unet`.
    """
    if not mean_dice < _EXCHANGED or not confusions:
        return ""
    renamed = _renamed([*confusions.values()])
    words = [
        f"{structures[was - 1]} is called {structures[now - 1]}"
        for was, now in enumerate(renamed)
        if now != was
    ]
    if not words:
        return ""
    as_read = {case: _dice(pixels, np.arange(len(pixels))) for case, pixels in confusions.items()}
    after = float(np.mean([_dice(pixels, renamed) for pixels in confusions.values()]))
    turns = {case: one.best for case in as_read if (one := fits.get(case)) is not None}
    best_turn = [turns.get(case, one) for case, one in as_read.items()]
    before = np.mean(list(as_read.values()))
    if after < before + _BETTER or after < np.mean(best_turn):
        return ""
    return (
        f"WARNING: the predictions{of} fit the reference masks better when {', '.join(words)} (Dice of all structures "
        f"{after:.2f} instead of {before:.2f}): check their labels (--pred-labels) before you believe any number."
    )


def _renamed(confusions: Sequence[np.ndarray]) -> np.ndarray:
    """i64[S + 1], what each predicted label had better be called: most pixels agree, each name is given once."""
    by_prediction = np.sum(confusions, axis=0).T
    names = np.arange(len(by_prediction))
    names[1:] = 1 + linear_sum_assignment(by_prediction[1:, 1:], maximize=True)[1]
    return names


def _dice(pixels: np.ndarray, names: np.ndarray) -> float:
    """`_foreground_dice` by a confusion matrix, predicted labels having other names."""
    total = int(pixels[1:].sum()) + int(pixels[:, 1:].sum())
    return 2 * int(pixels[names[1:], np.arange(1, len(pixels))].sum()) / max(total, 1)


def _foreground_dice(true: np.ndarray, predicted: np.ndarray) -> float:
    """2 |P and T| / (|P| + |T|) with pixels counted where the structures agree; 0 where both are empty."""
    total = int(np.count_nonzero(true)) + int(np.count_nonzero(predicted))
    return 2 * int(np.count_nonzero((true == predicted) & (true > 0))) / max(total, 1)
