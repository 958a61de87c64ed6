"""When groups may be called equal: two one-sided tests, never a large p."""

from typing import Any

import numpy as np

from kneefair_jax.fairness import simultaneous
from kneefair_jax.fairness.simultaneous import Means

# Fewer patients in a group cannot show equality.
MIN_PATIENTS = 50


def tost(
    means: Means | None, sizes: np.ndarray, delta: float, smallest: int, level: float = 0.05
) -> dict[str, Any]:
    """Whether every pair's difference is shown to lie inside +-delta.

    Two one-sided tests at `level` are the interval of confidence 1 - 2 level (Schuirmann 1987), here of the
    studentised bootstrap; all pairs must pass, so each is tested at the full level (intersection-union).

    Args:
        means: of the G ranked groups, of one score; None where there are too few patients for an interval.
        sizes: i64[G], patients of each.
        delta: the margin, stated in advance, in the score's unit.
        smallest: patients of the smallest group, ranked or not: of a group that nobody ranked nothing is shown.
        level: of each test.

    Returns:
        `{"delta", "equivalent": bool, "reason": why not, or None, "intervals": [[lo, hi]]}`, a pair after another in
        the order of `simultaneous.pairs`; an interval is None where there is none.
    """
    intervals: list[list[float] | None] = []
    if means is not None:
        ends = simultaneous.separate(means, simultaneous.pairs(len(sizes)), 1 - 2 * level)
        intervals = [
            [float(low), float(high)] if np.isfinite(low) and np.isfinite(high) else None
            for low, high in zip(*(end[0] for end in ends), strict=True)
        ]
    inside = [ends is not None and -delta < ends[0] and ends[1] < delta for ends in intervals]
    reason = None
    if len(sizes) < 2:
        reason = "fewer than two groups are ranked"
    elif smallest < MIN_PATIENTS:
        reason = f"the smallest group has {smallest}; equality needs {MIN_PATIENTS} patients in every group"
    elif means is not None and not means.spread.any():
        reason = "no group's scores vary, so they compare nothing"
    elif not inside or None in intervals:
        reason = "a pair of groups has no interval"
    elif not all(inside):
        reason = "a pair's interval reaches beyond the margin"
    return {"delta": delta, "equivalent": reason is None, "reason": reason, "intervals": intervals}
