"""Differences of group means with intervals that agree with the permuted Welch test.

The studentized difference of a pair goes through Hall's transformation, and the permuted largest |t| over all pairs is
its critical value (`hypothesis_tests.permuted_welch`). Turned round, the same critical value gives an interval: at any
level, it excludes zero where the test rejects at that level, and nowhere else.
"""

from dataclasses import dataclass

import numpy as np

from kneefair_jax.fairness import hypothesis_tests, two_part
from kneefair_jax.fairness.hypothesis_tests import PermutationTests


@dataclass(frozen=True)
class PairDifferences:
    """Differences of the means of all J = G (G - 1) / 2 pairs of groups, the first minus a later group.

    Attributes:
        estimates: f64[J], in the order of `simultaneous_intervals.pairs`.
        errors: f64[J], Welch's standard errors.
        skewness: f64[J], of the differences: third cumulant over cubed standard error.
        p: f64[J], corrected over the pairs.
        largest: f64[permutations], the permuted max |t| over pairs, ascending.
        span: the largest difference that the score allows; infinite of a distance.
    """

    estimates: np.ndarray
    errors: np.ndarray
    skewness: np.ndarray
    p: np.ndarray
    largest: np.ndarray
    span: float

    def limits(self, level: float = 0.05) -> tuple[np.ndarray, np.ndarray] | None:
        """Lower and upper limits, f64[J] each, which hold at once with probability 1 - level.

        None where there are too few permutations for the level.
        """
        rejected = int(np.floor(level * (1 + len(self.largest)) + 1e-9))
        if rejected < 1:
            return None
        # A difference that equals it is a tie, which the test does not reject.
        critical = self.largest[len(self.largest) - rejected] * (1 + hypothesis_tests.TIE)
        shifts = np.array(
            [
                [two_part.unskewed(end, skewness) for skewness in self.skewness]
                for end in (critical, -critical)
            ]
        )
        low, high = np.clip(self.estimates - shifts * self.errors, -self.span, self.span)
        return low, high


def of_groups(
    parts: list[np.ndarray], place: np.ndarray, tests: PermutationTests, column: int, span: float
) -> PairDifferences:
    """The differences of G groups, of which the tests may have another order.

    Args:
        parts: f64[n] of each group, two patients or more.
        place: i64[G], each group's place among those of the tests.
        tests: of the same patients.
        column: of the tests.
        span: the largest difference that the score allows.
    """
    first, second = np.triu_indices(len(parts), 1)
    number = np.zeros((len(parts), len(parts)), int)
    number[first, second] = np.arange(len(first))
    number += number.T
    pair = number[place[first], place[second]]
    turned = place[first] > place[second]
    means = np.array([part.mean() for part in parts])
    squared = np.array([part.var(ddof=1) / len(part) for part in parts])
    return PairDifferences(
        estimates=means[first] - means[second],
        errors=np.sqrt(squared[first] + squared[second]),
        skewness=np.where(turned, -1.0, 1.0) * tests.skewness[column, pair],
        p=tests.pairs_p[column, pair],
        largest=tests.largest[:, column],
        span=span,
    )
