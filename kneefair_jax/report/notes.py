"""Notes above the numbers: what is odd about scored masks, though they can be scored, and the pixel spacing."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

TOLERANCE_MM = 1.0  # of NSD


def observations(
    cases: pd.DataFrame,
    attributes: Sequence[str],
    *,
    true_pixels: np.ndarray,
    pred_pixels: np.ndarray,
    spacing: np.ndarray,
    of: str = "",
) -> list[str]:
    """Notes on empty masks, and on pixels that are unknown or too large for NSD.

    Args:
        cases: N rows, `case_id` and the categorical attribute columns.
        attributes: their columns.
        true_pixels: i[N], of all structures of the reference mask.
        pred_pixels: the same of the prediction.
        spacing: f[N, 2], mm per pixel as used; NaN where it is unknown.
        of: whose predictions, such as ` by unet`.
    """
    known = np.isfinite(spacing).all(1)
    found = {
        "the reference mask is empty in {}": true_pixels == 0,
        "the spacing is unknown in {}, so these have no distances, NSD or areas": ~known,
        f"a pixel is larger than the tolerance of NSD, {TOLERANCE_MM:g} mm, in {{}}: there, an error of one pixel is a "
        "miss": known & (spacing.max(1) > TOLERANCE_MM),
    }
    told = [text.format(some(cases, chosen)) for text, chosen in found.items() if chosen.any()]
    empty = (true_pixels > 0) & (pred_pixels == 0)
    if empty.any():
        whose = "; ".join(_by_level(cases[name], empty) for name in attributes)
        told.append(f"the prediction{of} is empty in {some(cases, empty)}, and scores 0 there ({whose})")
    return told


def some(cases: pd.DataFrame, chosen: Sequence[bool] | np.ndarray) -> str:
    """`3 of 24 cases (such as c1)`."""
    return f"{sum(chosen)} of {len(cases)} cases (such as {cases['case_id'].iloc[int(np.argmax(chosen))]})"


def sentences(notes: Sequence[str]) -> list[str]:
    """Notes as sentences, each once: with a full stop, and a capital unless one begins with the name of a file."""
    return list(dict.fromkeys(map(_sentence, notes)))


def _sentence(note: str) -> str:
    named = any(mark in note.split(maxsplit=1)[0] for mark in "./")
    text = (note[0] if named else note[0].upper()) + note[1:].removesuffix(".")
    return text if text.endswith("?") else f"{text}."


def _by_level(levels: pd.Series, chosen: np.ndarray) -> str:
    """`sex: female 6, male 0`."""
    counts = levels[chosen].value_counts(sort=False)
    return f"{levels.name}: {', '.join(f'{level} {count}' for level, count in counts.items())}"


def one_spacing(spacings: Iterable[np.ndarray]) -> list[float] | None:
    """Mm per pixel down and across, to 0.1 micrometre, where all cases share it and know it; else None.

    >>> one_spacing([np.array([0.3, 0.2]), np.array([0.3, 0.2])])
    [0.3, 0.2]
    """
    different = {tuple(np.round(spacing.astype(float), 4).tolist()) for spacing in spacings}
    spacing: list[float] = list(different.pop())
    return spacing if not different and np.isfinite(spacing).all() else None
