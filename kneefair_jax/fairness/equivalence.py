"""Are groups equivalent? By two one-sided tests against a margin stated in advance, never by a large p."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from kneefair_jax.fairness import group_intervals, rates
from kneefair_jax.fairness.rates import Tally
from kneefair_jax.fairness.two_part import Scores

# Probability of a false claim in one report; each of its A attributes is tested at LEVEL / A (Bonferroni).
LEVEL = 0.05

type Intervals = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Equivalence:
    """Whether the groups of an attribute are shown to be equivalent in one score.

    Attributes:
        delta: the margin, in the score's unit; of failure rates the same number as a share.
        confidence: of each interval, 1 - 2 level.
        equivalent: whether every requirement is met.
        reason: which requirements are not met; None where all are.
        intervals: of the differences of two groups' means, a pair after another in the order of
            `simultaneous_intervals.pairs`.
        failure_intervals: of the differences of their failure rates.
    """

    delta: float
    confidence: float
    equivalent: bool
    reason: str | None
    intervals: Intervals
    failure_intervals: Intervals


def tost(
    groups: Sequence[Scores], names: Sequence[str], delta: float, unranked: int = 0, level: float = LEVEL
) -> Equivalence:
    """Test whether the means and the failure rates of every pair of groups differ by less than delta.

    Two one-sided tests at `level` are the interval of confidence 1 - 2 level (Schuirmann 1987): of means that of
    `two_part`, so that it allows for failures that were not observed, and of failure rates that of
    `rates.difference_interval`. All pairs must pass in both, so each is tested at the full level (intersection-union).

    Args:
        groups: the G ranked groups' scores.
        names: of the groups, for the reason.
        delta: the margin, stated in advance, in the score's unit.
        unranked: groups with scores that are too small to be ranked: nothing is shown of them.
        level: of each test.
    """
    confidence = 1 - 2 * level
    means: Intervals = ()
    failures: Intervals = ()
    if len(groups) > 1 and min(group.n for group in groups) > 1:
        low, high = group_intervals.differences(groups, 2 * level, each=True)
        means = tuple(zip(low.tolist(), high.tolist(), strict=True))
        tallies = [Tally(group.failures, group.n) for group in groups]
        failures = tuple(rates.difference_interval(*pair, confidence) for pair in combinations(tallies, 2))
    reason = _untestable(groups, unranked)
    if reason is None:
        pairs = [f"{first} minus {second}" for first, second in combinations(names, 2)]
        unmet = [_beyond("means", means, pairs, delta), _beyond("failure rates", failures, pairs, delta)]
        reason = "; ".join(filter(None, unmet)) or None
    return Equivalence(delta, confidence, reason is None, reason, means, failures)


def _untestable(groups: Sequence[Scores], unranked: int) -> str | None:
    """Why intervals cannot show the groups to be equivalent; None where they can."""
    if len(groups) < 2:
        return "fewer than two groups are ranked"
    if unranked:
        return "a group is too small to be ranked"
    if any(group.worst is None for group in groups):
        return "a distance has no worst value, so failures that were not observed cannot be allowed for"
    if not any(group.error > 1e-12 or group.failed for group in groups):
        return "no group's scores vary, so they compare nothing"
    if min(group.n for group in groups) < 2:
        return "a group has a single patient"
    return None


def _beyond(what: str, intervals: Intervals, pairs: Sequence[str], delta: float) -> str | None:
    """Name the pair whose interval reaches furthest beyond the margin; None where none does."""
    reach = [max(-low, high) for low, high in intervals]
    furthest = max(reach)
    if furthest < delta:
        return None
    return f"difference of {what}: the interval of {pairs[reach.index(furthest)]} reaches beyond the margin"
