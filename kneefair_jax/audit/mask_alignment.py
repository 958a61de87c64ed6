"""Predictions that lie differently from the truth, or whose labels do: they fit in size, and score near 0.

The evidence of a case is taken while its masks are at hand (`fit`, `confusion`); the notes follow from it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from kneefair_jax.data.readers import ORIENTATIONS

NONE = "none"
# A case is looked at where its mean Dice is below `_POOR`; an orientation counts where it raises Dice by `_CLEAR`, to a
# value that masks of the same knee have.
_POOR, _CLEAR, _FITS = 0.85, 0.1, 0.5
_SHOWN = 10
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


def fit(true: np.ndarray, predicted: np.ndarray, stated: bool = False) -> Fit:
    """Compare a prediction with its truth in the eight orientations.

    Args:
        true: u8[H, W].
        predicted: u8[H, W].
        stated: whether the headers of both state an orientation.
    """
    dice = {}
    for name, orientation in ORIENTATIONS.items():
        laid_out = orientation.apply(predicted)
        if laid_out.shape == true.shape:
            dice[name] = _foreground_dice(true, laid_out)
    best = max(dice, key=dice.__getitem__)  # the first of equals, and `none` is the first of all
    if dice[best] < max(dice[NONE] + _CLEAR, _FITS):
        best = NONE
    return Fit(dice[NONE], best, dice[best], stated)


def confusion(true: np.ndarray, predicted: np.ndarray, structures: int) -> np.ndarray:
    """i64[S + 1, S + 1], pixels by predicted label and by true label.

    Args:
        true: u8[H, W].
        predicted: u8[H, W].
        structures: S.
    """
    both = predicted.astype(np.int64).ravel() * (structures + 1) + true.ravel()
    return np.bincount(both, minlength=(structures + 1) ** 2).reshape(structures + 1, structures + 1)


def turned(fits: Mapping[str, Fit | None]) -> dict[str, Fit]:
    """The cases that fit better in another orientation."""
    return {case: one for case, one in fits.items() if one is not None and one.orientation != NONE}


def frequencies(thumbnails: Sequence[np.ndarray]) -> np.ndarray:
    """f64[256, K], how often each label is at each of the K pixels of thumbnails, u8[side, side]."""
    labels = np.stack([one.ravel() for one in thumbnails])
    counts = np.zeros((256, labels.shape[1]))
    for label in np.unique(labels):
        counts[label] = (labels == label).mean(0)
    return counts


def reference_is_turned(true: np.ndarray, predicted: np.ndarray, usual: np.ndarray) -> bool:
    """Whether of two masks that lie differently the reference is the one that lies unlike most masks.

    Args:
        true: u8[side, side], thumbnail of the reference mask.
        predicted: the same of the prediction.
        usual: of `frequencies`.
    """
    pixels = np.arange(usual.shape[1])
    of_true, of_prediction = (float(usual[one.ravel(), pixels].mean()) for one in (true, predicted))
    return of_true < of_prediction


def notes(turned: Mapping[str, Fit], several: int, of: str, flag: str) -> list[str]:
    """Name the cases whose prediction fits better in another orientation.

    Args:
        turned: those cases.
        several: how many cases have a prediction.
        of: whose predictions, such as ` by unet`.
        flag: the value of `--orientation`.
    """
    if not turned:
        return []
    counts = Counter(one.orientation for one in turned.values())
    common, count = counts.most_common(1)[0]
    listed = ", ".join(
        f"{case}: {one.orientation} ({one.best:.2f} instead of {one.dice:.2f})"
        for case, one in list(turned.items())[:_SHOWN]
    )
    more = ", ... (all in mask_faults.csv)" if len(turned) > _SHOWN else ""
    remedy = "correct these files or their headers"
    if count == several and flag == NONE and not any(one.stated for one in turned.values()):
        remedy = f"correct the headers, or give --orientation {common}"
    return [
        f"WARNING: {len(turned)} of {several} predictions{of} fit the reference masks better in another orientation, "
        f"by Dice of all structures ({listed}{more}): {remedy} before you believe any number."
    ]


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
        confusions: case id -> `confusion`, of the first of them.
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
    others = turned(fits)
    best_turn = [others[case].best if case in others else one for case, one in as_read.items()]
    before = np.mean(list(as_read.values()))
    if after < before + _BETTER or after < np.mean(best_turn):
        return ""
    return (
        f"WARNING: the predictions{of} fit the reference masks better when {', '.join(words)} (Dice of all structures "
        f"{after:.2f} instead of {before:.2f}): check their labels (--pred-labels) before you believe any number."
    )


def _renamed(confusions: Sequence[np.ndarray]) -> np.ndarray:
    """i64[S + 1], what each predicted label had better be called: most pixels agree, each name is given once."""
    together = np.sum(confusions, axis=0)
    names = np.arange(len(together))
    names[1:] = 1 + linear_sum_assignment(together[1:, 1:], maximize=True)[1]
    return names


def _dice(pixels: np.ndarray, names: np.ndarray) -> float:
    """`_foreground_dice` by a confusion matrix, predicted labels having other names."""
    total = int(pixels[1:].sum()) + int(pixels[:, 1:].sum())
    return 2 * int(pixels[np.arange(1, len(pixels)), names[1:]].sum()) / max(total, 1)


def _foreground_dice(true: np.ndarray, predicted: np.ndarray) -> float:
    """2 |P and T| / (|P| + |T|) with pixels counted where the structures agree; 0 where both are empty."""
    total = int(np.count_nonzero(true)) + int(np.count_nonzero(predicted))
    return 2 * int(np.count_nonzero((true == predicted) & (true > 0))) / max(total, 1)
