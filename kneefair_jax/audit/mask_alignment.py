"""Predictions that lie differently from the truth, or whose labels do: they fit in size, and score near 0."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from kneefair_jax.audit import scoring
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.scoring import Reading
from kneefair_jax.data import layouts
from kneefair_jax.data.mask_files import MaskPath
from kneefair_jax.data.readers import ORIENTATIONS

NONE = "none"
# A case is looked at where its mean Dice is below `_POOR`; an orientation counts where it raises Dice by `_CLEAR`, to a
# value that masks of the same knee have.
_POOR, _CLEAR, _FITS = 0.85, 0.1, 0.5
_SHOWN = 10
# Labels are compared over a cohort, and only where it scores below half.
_EXCHANGED, _CASES, _BETTER = 0.5, 20, 0.2


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


def notes(
    cohort: Cohort,
    table: pd.DataFrame,
    truth: Mapping[str, MaskPath],
    prediction: Mapping[str, MaskPath],
    reading: Reading,
    model: str,
) -> list[str]:
    """Name the cases whose prediction fits better in another orientation, and labels that are exchanged.

    Args:
        cohort: the cases.
        table: the model's long per-case table.
        truth: case id -> reference mask.
        prediction: case id -> predicted mask.
        reading: of the masks.
        model: its name, for the note.
    """
    of = f" by {model}" if model else ""
    dice = table.groupby("case_id")["dice"].mean()
    poor = [case for case in cohort.frame["case_id"] if case in prediction and not dice[case] >= _POOR]

    def fit_of(case: str) -> Fit:
        masks = scoring.pair(truth[case], prediction[case], reading)
        return fit(masks.true, masks.predicted)._replace(stated=masks.relation == layouts.STATED)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        fits = dict(zip(poor, pool.map(fit_of, poor), strict=True))
    turned = {case: one for case, one in fits.items() if one.orientation != NONE}
    several = sum(case in prediction for case in cohort.frame["case_id"])
    if table["dice"].mean() < _EXCHANGED and (
        found := _exchanged(cohort, truth, prediction, reading, of, turned)
    ):
        return [found]
    return [_turned(turned, several, of, reading)] if turned else []


def fit(true: np.ndarray, predicted: np.ndarray) -> Fit:
    """Compare a prediction with its truth in the eight orientations.

    Args:
        true: u8[H, W].
        predicted: u8[H, W].
    """
    dice = {}
    for name, orientation in ORIENTATIONS.items():
        laid_out = orientation.apply(predicted)
        if laid_out.shape == true.shape:
            dice[name] = _foreground_dice(true, laid_out)
    best = max(dice, key=dice.__getitem__)  # the first of equals, and `none` is the first of all
    if dice[best] < max(dice[NONE] + _CLEAR, _FITS):
        best = NONE
    return Fit(dice[NONE], best, dice[best])


def _turned(turned: Mapping[str, Fit], several: int, of: str, reading: Reading) -> str:
    counts = Counter(one.orientation for one in turned.values())
    common, count = counts.most_common(1)[0]
    listed = ", ".join(
        f"{case}: {one.orientation} ({one.best:.2f} instead of {one.dice:.2f})"
        for case, one in list(turned.items())[:_SHOWN]
    )
    more = ", ..." if len(turned) > _SHOWN else ""
    remedy = "correct these files or their headers"
    if count == several and reading.orientation == NONE and not any(one.stated for one in turned.values()):
        remedy = f"correct the headers, or give --orientation {common}"
    return (
        f"WARNING: {len(turned)} of {several} predictions{of} fit the reference masks better in another orientation, "
        f"by Dice of all structures ({listed}{more}): {remedy} before you believe any number."
    )


def _exchanged(
    cohort: Cohort,
    truth: Mapping[str, MaskPath],
    prediction: Mapping[str, MaskPath],
    reading: Reading,
    of: str,
    turned: Mapping[str, Fit],
) -> str:
    """A note on exchanged labels where that fits clearly better than the files as they are, and than a turn; or ""."""
    cases = [case for case in cohort.frame["case_id"] if case in prediction][:_CASES]
    pairs = [scoring.pair(truth[case], prediction[case], reading)[:2] for case in cases]
    renamed = _renamed(pairs, len(reading.structures))
    words = [
        f"{reading.structures[was - 1]} is called {reading.structures[now - 1]}"
        for was, now in enumerate(renamed)
        if now != was
    ]
    if not words:
        return ""
    as_read = [_foreground_dice(true, predicted) for true, predicted in pairs]
    after = float(np.mean([_foreground_dice(true, renamed[predicted]) for true, predicted in pairs]))
    best_turn = [
        turned[case].best if case in turned else one for case, one in zip(cases, as_read, strict=True)
    ]
    if after < np.mean(as_read) + _BETTER or after < np.mean(best_turn):
        return ""
    return (
        f"WARNING: the predictions{of} fit the reference masks better when {', '.join(words)} (Dice of all structures "
        f"{after:.2f} instead of {np.mean(as_read):.2f}): check their labels (--pred-labels) before you believe any "
        "number."
    )


def _renamed(pairs: Sequence[tuple[np.ndarray, np.ndarray]], structures: int) -> np.ndarray:
    """u8[S + 1], what each predicted label had better be called: most pixels agree, each name is given once."""
    together = np.zeros((structures + 1, structures + 1), np.int64)
    for true, predicted in pairs:
        both = predicted.astype(np.int64).ravel() * (structures + 1) + true.ravel()
        together += np.bincount(both, minlength=together.size).reshape(together.shape)
    names = np.arange(structures + 1, dtype=np.uint8)
    names[1:] = 1 + linear_sum_assignment(together[1:, 1:], maximize=True)[1]
    return names


def _foreground_dice(true: np.ndarray, predicted: np.ndarray) -> float:
    """2 |P and T| / (|P| + |T|) with pixels counted where the structures agree; 0 where both are empty."""
    total = int(np.count_nonzero(true)) + int(np.count_nonzero(predicted))
    return 2 * int(np.count_nonzero((true == predicted) & (true > 0))) / max(total, 1)
