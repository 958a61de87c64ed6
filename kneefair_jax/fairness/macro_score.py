"""The macro score of a case: its mean over structures, standardized where some of them are missing.

A mean over the structures that a case has compares different structures: where the fibula scores lower than the others
and is out of view more often in one group, that group's plain means are higher though every structure scores alike.
So a case's score is its structures' mean deviation from what cases score in these structures, plus the mean of these
expected scores over all structures: the same as giving every missing structure its expected score and the case's own
mean deviation. A case with every structure keeps its plain mean.

The expected scores are the structure effects of the linear model score = structure + case, by generalized least squares
(Aitken 1935; Searle, Casella and McCulloch, Variance Components, 1992). The scores of a case are correlated, so nearly
all of the comparison of two structures is within cases that have both, as cases that lack a structure may score lower
or higher in all others; structures that are never seen together are compared by their means.
"""

from collections.abc import Mapping

import numpy as np

# Intraclass correlation of a case's structures in the model. At 0 plain means of structures leave 7 % of a gap of all
# structures out where 80 % of the lower group lack one; near 1 a single case that links structures decides, and equal
# groups are called different in 25 % of cohorts (docs/statistics.md).
CORRELATION = 0.75


def standardized_means(values: np.ndarray, typical: np.ndarray | None = None) -> np.ndarray:
    """Return the macro score of each case.

    Args:
        values: f64[N, S], scores of N cases and S structures; NaN where a case lacks a structure.
        typical: bool[N, S], the scores that expected scores are made of, such as those of segmentations that did not
            fail: a failed one says nothing about the cases that lack the structure. None for all. Where a structure has
            no typical score, all of its scores are.

    Returns:
        f64[N]: the plain mean of cases that have every structure that any case has; NaN of cases without any. Those
        of other cases may lie beyond the range of the score, if expected scores differ widely.
    """
    known = ~np.isnan(values)
    count = known.sum(1)
    plain = np.full(len(values), np.nan)
    plain[count > 0] = np.nanmean(values[count > 0], axis=1)
    return plain + adjustments(values, typical)


def adjustments(values: np.ndarray, typical: np.ndarray | None = None) -> np.ndarray:
    """Return what `standardized_means` adds to each case's plain mean, f64[N]: 0 where no structure is missing."""
    seen = ~np.isnan(values).all(0)
    values, known = values[:, seen], ~np.isnan(values[:, seen])
    incomplete = ~known.all(1) & known.any(1)
    adjustment = np.zeros(len(values))
    if incomplete.any():
        chosen = known if typical is None else known & typical[:, seen]
        expected = _structure_effects(values, np.where(chosen.any(0), chosen, known))
        own = (known[incomplete] @ expected) / known[incomplete].sum(1)
        adjustment[incomplete] = expected.mean() - own
    return adjustment


def incomplete_case_warnings(scored: Mapping[str, Mapping[str, int]], cases: Mapping[str, int]) -> list[str]:
    """Return a sentence that says which structures some cases of the groups lack, or none.

    Args:
        scored: structure -> group -> cases with a score of it.
        cases: group -> cases with a score of any structure.
    """
    missing = [
        f"{structure} in {cases[group] - number:,} of {cases[group]:,} of {group}"
        for structure, by_group in scored.items()
        for group, number in by_group.items()
        if number < cases[group]
    ]
    if not missing:
        return []
    return [
        f"some cases lack a structure ({', '.join(missing)}): their macro scores are standardized, so that a missing "
        "structure makes no gap; a gap in it alone counts in the other cases only"
    ]


def _structure_effects(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Generalized least squares of structure effects, f64[S], by the inverse of a compound-symmetric covariance."""
    scores, used = np.where(chosen, values, 0.0), chosen.astype(float)
    shared = used / (used.sum(1, keepdims=True) + (1 - CORRELATION) / CORRELATION)
    normal = np.diag(used.sum(0)) - shared.T @ used
    return np.linalg.solve(normal, scores.sum(0) - shared.T @ scores.sum(1))
