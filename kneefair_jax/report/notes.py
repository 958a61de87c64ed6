"""Write the notes above the numbers: masks that can be scored but need attention, and the pixel spacing."""

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
    """Return notes on empty masks, and on pixel spacings that are unknown or too large for NSD.

    Args:
        cases: N rows, `case_id` and the categorical attribute columns.
        attributes: names of the attribute columns.
        true_pixels: i[N], pixels of all structures of the reference mask.
        pred_pixels: i[N], pixels of all structures of the prediction.
        spacing: f[N, 2], mm per pixel as used; NaN where it is unknown.
        of: the model of the predictions, such as ` by unet`.
    """
    is_known = np.isfinite(spacing).all(1)
    conditions = {
        "the reference mask is empty in {}": true_pixels == 0,
        "the spacing is unknown in {}, so these have no distances, NSD or areas": ~is_known,
        f"a pixel is larger than the tolerance of NSD, {TOLERANCE_MM:g} mm, in {{}}: there, an error of one pixel is a "
        "miss": is_known & (spacing.max(1) > TOLERANCE_MM),
    }
    notes = [text.format(count_cases(cases, mask)) for text, mask in conditions.items() if mask.any()]
    empty = (true_pixels > 0) & (pred_pixels == 0)
    if empty.any():
        levels = "; ".join(_count_levels(cases[name], empty) for name in attributes)
        notes.append(
            f"the prediction{of} is empty in {count_cases(cases, empty)}, and scores 0 there ({levels})"
        )
    return notes


def count_cases(cases: pd.DataFrame, mask: Sequence[bool] | np.ndarray) -> str:
    """Count the cases where a mask is true and name one of them, `3 of 24 cases (such as c1)`."""
    return f"{sum(mask)} of {len(cases)} cases (such as {cases['case_id'].iloc[int(np.argmax(mask))]})"


def sentences(notes: Sequence[str]) -> list[str]:
    """Return unique notes as sentences: with a full stop, and a capital unless the note begins with a file name."""
    return list(dict.fromkeys(map(_sentence, notes)))


def _sentence(note: str) -> str:
    is_file = any(mark in note.split(maxsplit=1)[0] for mark in "./")
    text = (note[0] if is_file else note[0].upper()) + note[1:].removesuffix(".")
    return text if text.endswith("?") else f"{text}."


def _count_levels(levels: pd.Series, mask: np.ndarray) -> str:
    """Count cases by level, `sex: female 6, male 0`."""
    counts = levels[mask].value_counts(sort=False)
    return f"{levels.name}: {', '.join(f'{level} {count}' for level, count in counts.items())}"


def one_spacing(spacings: Iterable[np.ndarray]) -> list[float] | None:
    """Return the spacing that all cases share, mm per pixel down and across, to 0.1 micrometer; None without one.

    >>> one_spacing([np.array([0.3, 0.2]), np.array([0.3, 0.2])])
    [0.3, 0.2]
    """
    spacing_set = {tuple(np.round(spacing.astype(float), 4).tolist()) for spacing in spacings}
    spacing: list[float] = list(spacing_set.pop())
    return spacing if not spacing_set and np.isfinite(spacing).all() else None
