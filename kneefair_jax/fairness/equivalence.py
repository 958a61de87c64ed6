"""Are groups equivalent? By two one-sided tests against a margin stated in advance, never by a large p."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kneefair_jax.fairness import group_intervals
from kneefair_jax.fairness.two_part import Scores


def tost(groups: Sequence[Scores], delta: float, unranked: int = 0, level: float = 0.05) -> dict[str, Any]:
    """Whether every pair's difference is shown to lie inside +-delta.

    Two one-sided tests at `level` are the interval of confidence 1 - 2 level (Schuirmann 1987), here of `two_part`, so
    that it allows for failures that were not observed; all pairs must pass, so each is tested at the full level
    (intersection-union).

    Args:
        groups: the G ranked groups' scores.
        delta: the margin, stated in advance, in the score's unit.
        unranked: groups with scores that are too small to be ranked: nothing is shown of them.
        level: of each test.

    Returns:
        `{"delta", "equivalent": bool, "reason": why not, or None, "intervals": [[lo, hi]]}`, a pair after another in
        the order of `simultaneous_intervals.pairs`.
    """
    intervals: list[list[float]] = []
    if len(groups) > 1 and min(group.n for group in groups) > 1:
        low, high = group_intervals.differences(groups, 2 * level, each=True)
        intervals = np.stack([low, high], axis=1).tolist()
    reason = None
    if len(groups) < 2:
        reason = "fewer than two groups are ranked"
    elif unranked:
        reason = "a group is too small to be ranked"
    elif any(group.worst is None for group in groups):
        reason = "a distance has no worst value, so failures that were not observed cannot be allowed for"
    elif not any(group.error > 1e-12 or group.failed for group in groups):
        reason = "no group's scores vary, so they compare nothing"
    elif not intervals:
        reason = "a group has a single patient"
    elif not all(-delta < low and high < delta for low, high in intervals):
        reason = "a pair's interval reaches beyond the margin"
    return {"delta": delta, "equivalent": reason is None, "reason": reason, "intervals": intervals}
