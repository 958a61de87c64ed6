"""What a reader must know before reading an interval."""

from collections.abc import Mapping

import numpy as np
from scipy import stats

# Below this a group is small, above these its scores are skewed and its spread is large. Estimates from few patients
# vary, so both lie well below what defeats the intervals, log-normal errors with a doubled spread: of such cohorts with
# 60 and 15 patients 65 % are warned of, of normal ones with doubled spread 6 %, of skewed ones with equal spread 6 %
# (benchmarks/calibration.py, 3,000 cohorts).
SMALL = 20
SKEWED = 0.5
WIDER = 1.4


def cautions(groups: Mapping[str, np.ndarray]) -> list[str]:
    """Sentences about small groups whose scores are skewed and spread far more than another group's.

    Their 95 % intervals may cover as little as 90 %, whichever method they come from.

    Args:
        groups: patient means by name of the group.
    """
    spreads = {name: float(scores.std(ddof=1)) for name, scores in groups.items() if len(scores) > 2}
    shapes = [
        (groups[name] - groups[name].mean()) / spread for name, spread in spreads.items() if spread > 1e-12
    ]
    if len(shapes) < 2:
        return []
    # Of all groups, each centred and scaled: that of a small group alone says little.
    skewness = abs(float(stats.skew(np.concatenate(shapes))))
    if skewness < SKEWED:
        return []
    narrowest = min(spreads.values())
    return [
        f"{name} has {len(groups[name])} patients, with skewed scores that are spread {spread / narrowest:.1f} times "
        "as far as another group's: its 95 % intervals may cover as little as 90 %"
        for name, spread in spreads.items()
        if len(groups[name]) < SMALL and spread >= WIDER * narrowest > 0
    ]


def lacking(scored: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A sentence for each structure that some of the groups have scores of, and others none at all.

    Args:
        scored: structure -> ranked group -> patients with a score of it.
    """
    return [
        f"{structure} has no score in {name}, whose mean over structures is of the others alone: it cannot be compared "
        "with that of groups that have it"
        for structure, groups in scored.items()
        for name, patients in groups.items()
        if not patients and any(groups.values())
    ]


def crossing(patients: np.ndarray) -> list[str]:
    """A sentence about patients who have cases in several of the groups.

    Args:
        patients: the patient of each row, a row for each group that a patient is in.
    """
    twice = int((np.unique(patients, return_counts=True)[1] > 1).sum()) if len(patients) else 0
    if not twice:
        return []
    who = "1 patient has" if twice == 1 else f"{twice} patients have"
    return [
        f"{who} cases in more than one of these groups and count once in each, as if they were different people: "
        "where such cases score alike, intervals of differences are too wide and tests reject too seldom"
    ]
