"""Predictions that are turned against the truth: square masks of another format fit in size and score near 0."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from kneefair_jax.audit import scoring
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.scoring import Reading

_TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "transposed": np.transpose,
    "turned by 180 degrees": lambda mask: mask[::-1, ::-1],
    "flipped left to right": lambda mask: mask[:, ::-1],
    "flipped upside down": lambda mask: mask[::-1],
}
# Only poor scores are looked at, a few cases of them, and only a clear difference is worth a word.
_POOR, _CASES, _CLEAR = 0.5, 20, 0.2


def notes(
    cohort: Cohort,
    table: pd.DataFrame,
    truth: Mapping[str, Path],
    prediction: Mapping[str, Path],
    reading: Reading,
    model: str,
) -> list[str]:
    """Says how a model's predictions would fit better, if they score below half and another orientation does better.

    Args:
        cohort: the cases.
        table: the model's long per-case table.
        truth: case id -> reference mask.
        prediction: case id -> predicted mask.
        reading: of the masks.
        model: its name, for the note.
    """
    if table["dice"].mean() >= _POOR:
        return []
    cases = [case for case in cohort.frame["case_id"] if case in prediction][:_CASES]
    dice: dict[str, list[float]] = {turn: [] for turn in ("as it is", *_TURNS)}
    for case in cases:
        true, predicted, _ = scoring.pair(truth[case], prediction[case], reading)
        for turn, value in dice.items():
            turned = _TURNS[turn](predicted) if turn in _TURNS else predicted
            if turned.shape == true.shape:
                value.append(_foreground_dice(true, turned))
    means = {turn: float(np.mean(values)) for turn, values in dice.items() if len(values) == len(cases) > 0}
    best = max(means, key=means.__getitem__, default="as it is")
    if best == "as it is" or means[best] < means["as it is"] + _CLEAR:
        return []
    of = f" by {model}" if model else ""
    return [
        f"WARNING: the predictions{of} fit the reference masks better when {best} (Dice of all structures "
        f"{means[best]:.2f} instead of {means['as it is']:.2f}): check their orientation before you believe any number."
    ]


def _foreground_dice(true: np.ndarray, predicted: np.ndarray) -> float:
    """2 |P and T| / (|P| + |T|) with pixels counted where the structures agree; 0 where both are empty."""
    total = int(np.count_nonzero(true)) + int(np.count_nonzero(predicted))
    return 2 * int(np.count_nonzero((true == predicted) & (true > 0))) / max(total, 1)
