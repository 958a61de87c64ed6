"""Predictions that are turned against the truth, or whose labels are: they fit in size, and score near 0."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from kneefair_jax.audit import scoring
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.scoring import Reading
from kneefair_jax.data.mask_files import MaskPath

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
    truth: Mapping[str, MaskPath],
    prediction: Mapping[str, MaskPath],
    reading: Reading,
    model: str,
) -> list[str]:
    """Says how a model's predictions would fit better: turned, or with their labels exchanged.

    Only where they score below half.

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
    pairs = [scoring.pair(truth[case], prediction[case], reading)[:2] for case in cases]
    renamed = _renamed(pairs, len(reading.structures))
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {"as it is": lambda mask: mask, **_TURNS}
    if exchanged := [
        f"{reading.structures[was - 1]} is called {reading.structures[now - 1]}"
        for was, now in enumerate(renamed)
        if now != was
    ]:
        changes[", ".join(exchanged)] = lambda mask: renamed[mask]
    dice: dict[str, list[float]] = {change: [] for change in changes}
    for true, predicted in pairs:
        for change, value in dice.items():
            turned = changes[change](predicted)
            if turned.shape == true.shape:
                value.append(_foreground_dice(true, turned))
    means = {
        change: float(np.mean(values)) for change, values in dice.items() if len(values) == len(cases) > 0
    }
    best = max(means, key=means.__getitem__, default="as it is")
    if best == "as it is" or means[best] < means["as it is"] + _CLEAR:
        return []
    of = f" by {model}" if model else ""
    what = "orientation" if best in _TURNS else "labels (--pred-labels)"
    return [
        f"WARNING: the predictions{of} fit the reference masks better when {best} (Dice of all structures "
        f"{means[best]:.2f} instead of {means['as it is']:.2f}): check their {what} before you believe any number."
    ]


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
