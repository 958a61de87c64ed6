"""Tests whether groups are equivalent by two one-sided tests, and derives the margin from two readers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from kneefair_jax.fairness import rates, two_part
from kneefair_jax.fairness.rates import Tally
from kneefair_jax.fairness.results import Equivalence, Intervals
from kneefair_jax.fairness.two_part import Scores

# Probability of a false claim in one report; each of A attributes is tested at LEVEL / A (Bonferroni).
LEVEL = 0.05
# The mean difference of fewer patients whom both readers read is too uncertain to use.
MIN_READER_PATIENTS = 5
AGREEMENT_CONFIDENCE = 0.95
# Limits of agreement are this many standard deviations from the mean (Bland and Altman 1986).
AGREEMENT_SD = 1.96


def tost(
    groups: Sequence[Scores],
    names: Sequence[str],
    equivalence_margin: float,
    unranked: int = 0,
    level: float = LEVEL,
) -> Equivalence:
    """Test whether the means and the failure rates of every pair of groups differ by less than the margin.

    Two one-sided tests at `level` equal an interval of confidence 1 - 2 level (Schuirmann 1987). For means it is from
    `two_part`, which allows for failures that were not observed; for failure rates it is `rates.difference_interval`.
    All pairs must pass in both, so each is tested at the full level (intersection-union).

    Args:
        groups: the G ranked groups' scores.
        names: of the groups, for the reason.
        equivalence_margin: prespecified, in the score's unit.
        unranked: number of groups that are too small to be ranked; with any, equivalence cannot be claimed.
        level: of each test.
    """
    confidence = 1 - 2 * level
    means: Intervals = ()
    failures: Intervals = ()
    if len(groups) > 1 and min(group.n for group in groups) > 1:
        low, high = two_part.differences(groups, 2 * level, each=True)
        means = tuple(zip(low.tolist(), high.tolist(), strict=True))
        tallies = [Tally(group.failures, group.n) for group in groups]
        failures = tuple(rates.difference_interval(*pair, confidence) for pair in combinations(tallies, 2))
    reason = _untestable_reason(groups, unranked)
    if reason is None:
        pairs = [f"{first} minus {second}" for first, second in combinations(names, 2)]
        failures_to_show = [
            _furthest_pair("means", means, pairs, equivalence_margin),
            _furthest_pair("failure rates", failures, pairs, equivalence_margin),
        ]
        reason = "; ".join(filter(None, failures_to_show)) or None
    return Equivalence(equivalence_margin, confidence, reason is None, reason, means, failures)


def _untestable_reason(groups: Sequence[Scores], unranked: int) -> str | None:
    """Return the reason why intervals cannot show equivalence; None if they can."""
    if len(groups) < 2:
        return "fewer than two groups are ranked"
    if unranked:
        return "a group is too small to be ranked"
    if any(group.worst is None for group in groups):
        return "a distance has no worst value, so failures that were not observed cannot be allowed for"
    if not any(group.error > 1e-12 or group.failed for group in groups):
        return "no group's scores vary, so there is no standard error"
    if min(group.n for group in groups) < 2:
        return "a group has a single patient"
    return None


def _furthest_pair(quantity: str, intervals: Intervals, pairs: Sequence[str], margin: float) -> str | None:
    """Name the pair whose interval reaches furthest beyond the margin; None if no interval does."""
    reach = [max(-low, high) for low, high in intervals]
    largest_reach = max(reach)
    if largest_reach < margin:
        return None
    return f"difference of {quantity}: the interval of {pairs[reach.index(largest_reach)]} reaches beyond the margin"


@dataclass(frozen=True)
class ReaderAgreement:
    """The differences of two readers in one score, the first reader minus the second, over patients.

    The estimand of `margin` is the difference of the readers' mean scores in the population of patients. It is on the
    scale of a gap, a difference of group means. The margin is the end of its interval that is nearest to zero. With
    few patients the absolute value of an estimate is too large on average, and a margin that is too large makes claims
    of equivalence false. The limits of agreement are another quantity: how far the readers differ in a single patient.
    They are not a margin for differences of means.

    Attributes:
        patients: whom both readers read.
        mean_difference: signed, in the score's unit.
        interval: of the mean difference, at 95 % (Student's t).
        limits_of_agreement: mean difference -+ 1.96 standard deviations of the patients' differences (Bland and Altman,
            Lancet 327, 1986).
        margin: distance of the interval of the mean difference from zero; 0, which is no margin, if it includes zero.
    """

    patients: int
    mean_difference: float
    interval: tuple[float, float]
    limits_of_agreement: tuple[float, float]
    margin: float


def reader_agreement(differences: np.ndarray) -> ReaderAgreement:
    """Summarize the differences of two readers.

    Args:
        differences: f64[P], the first reader's score minus the second's, one a patient; P at least 2, none NaN.
    """
    patients, mean, spread = len(differences), float(differences.mean()), float(differences.std(ddof=1))
    half = float(stats.t.isf((1 - AGREEMENT_CONFIDENCE) / 2, patients - 1) * spread / np.sqrt(patients))
    return ReaderAgreement(
        patients=patients,
        mean_difference=mean,
        interval=(mean - half, mean + half),
        limits_of_agreement=(mean - AGREEMENT_SD * spread, mean + AGREEMENT_SD * spread),
        margin=max(abs(mean) - half, 0.0),
    )
