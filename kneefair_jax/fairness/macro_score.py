"""Computes the macro score of a case: its mean over structures, standardized if some structures are missing.

A mean over the structures that a case has compares different structures. If the fibula scores lower than the others and
is out of view more often in one group, that group's plain means are higher although every structure scores alike. So a
case's macro score is the mean deviation of its structures from their expected scores, plus the mean of the expected
scores over all structures. This equals giving every missing structure its expected score plus the case's own mean
deviation. A case with every structure keeps its plain mean.

The expected scores are the structure effects of the linear model score = structure + case, by generalized least squares
(Aitken 1935; Searle, Casella and McCulloch, Variance Components, 1992). The scores of a case are correlated, so nearly
all of the comparison of two structures comes from cases that have both. (Cases that lack a structure may score lower or
higher in all others.) Structures that never occur together are compared by their means.
"""

from collections.abc import Mapping

import numpy as np

# Intraclass correlation of a case's structures in the model. At 0, plain means of structures miss 7 % of a gap of all
# structures if 80 % of the lower group lack one. Near 1, a single case that links structures decides, and equal groups
# differ significantly in 25 % of cohorts (docs/statistics.md).
CORRELATION = 0.75


def standardized_means(values: np.ndarray, typical: np.ndarray | None = None) -> np.ndarray:
    """Return the macro score of each case.

    Args:
        values: f64[N, S], scores of N cases and S structures; NaN where a case lacks a structure.
        typical: bool[N, S], the scores from which expected scores are estimated, such as those of segmentations that
            did not fail: a failed one is not informative of the cases that lack the structure. None for all. If a
            structure has no typical score, all of its scores are used.

    Returns:
        f64[N]: the plain mean of cases that have every structure that any case has; NaN for cases without a structure.
        Other values may lie outside the range of the score if expected scores differ widely.
    """
    has_score = ~np.isnan(values)
    count = has_score.sum(1)
    plain_means = np.full(len(values), np.nan)
    plain_means[count > 0] = np.nanmean(values[count > 0], axis=1)
    macro: np.ndarray = plain_means + adjustments(values, typical)
    return macro


def adjustments(values: np.ndarray, typical: np.ndarray | None = None) -> np.ndarray:
    """Return what `standardized_means` adds to each case's plain mean, f64[N]; 0 if no structure is missing."""
    has_any_score = ~np.isnan(values).all(0)
    values, has_score = values[:, has_any_score], ~np.isnan(values[:, has_any_score])
    incomplete = ~has_score.all(1) & has_score.any(1)
    adjustment = np.zeros(len(values))
    if incomplete.any():
        is_typical = has_score if typical is None else has_score & typical[:, has_any_score]
        expected = _structure_effects(values, np.where(is_typical.any(0), is_typical, has_score))
        own_expected = (has_score[incomplete] @ expected) / has_score[incomplete].sum(1)
        adjustment[incomplete] = expected.mean() - own_expected
    return adjustment


def incomplete_case_warnings(scored: Mapping[str, Mapping[str, int]], cases: Mapping[str, int]) -> list[str]:
    """Return a sentence that names the structures that some cases lack; an empty list if none is missing.

    Args:
        scored: structure -> group -> cases with a score of it.
        cases: group -> cases with a score of any structure.
    """
    missing_scores = [
        f"{structure} in {cases[group] - scored_count:,} of {cases[group]:,} of {group}"
        for structure, by_group in scored.items()
        for group, scored_count in by_group.items()
        if scored_count < cases[group]
    ]
    if not missing_scores:
        return []
    return [
        f"some cases lack a structure ({', '.join(missing_scores)}): their macro scores are standardized, so that a "
        "missing structure causes no gap; a gap in that structure counts in the other cases only"
    ]


def _structure_effects(values: np.ndarray, is_used: np.ndarray) -> np.ndarray:
    """Return the structure effects f64[S] by generalized least squares with a compound-symmetric covariance."""
    scores, weights = np.where(is_used, values, 0.0), is_used.astype(float)
    shared = weights / (weights.sum(1, keepdims=True) + (1 - CORRELATION) / CORRELATION)
    normal = np.diag(weights.sum(0)) - shared.T @ weights
    return np.linalg.solve(normal, scores.sum(0) - shared.T @ scores.sum(1))
