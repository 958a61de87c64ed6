"""Differences of group means with intervals that agree with the permuted Welch test.

The studentized difference of a pair goes through Hall's transformation, and the permuted largest |t| over all pairs is
its critical value (`hypothesis_tests.permuted_welch`). Inverting the test with this critical value gives an interval:
at any level, it excludes zero if and only if the test rejects at that level.
"""

from dataclasses import dataclass

import numpy as np

from kneefair_jax.fairness import hypothesis_tests, two_part
from kneefair_jax.fairness.hypothesis_tests import PermutationTests


@dataclass(frozen=True)
class PairDifferences:
    """Differences of the group means of all J = G (G - 1) / 2 pairs, the first minus a later group.

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
        """Return lower and upper limits, f64[J] each, which hold simultaneously with probability 1 - level.

        Returns None if there are too few permutations for the level.
        """
        rejection_count = int(np.floor(level * (1 + len(self.largest)) + 1e-9))
        if rejection_count < 1:
            return None
        # A difference equal to the critical value is a tie, which the test does not reject.
        critical = self.largest[len(self.largest) - rejection_count] * (1 + hypothesis_tests.TIE)
        shifts = np.array(
            [
                [two_part.unskewed(end, skewness) for skewness in self.skewness]
                for end in (critical, -critical)
            ]
        )
        low, high = np.clip(self.estimates - shifts * self.errors, -self.span, self.span)
        return low, high


def group_differences(
    scores: list[np.ndarray], test_order: np.ndarray, tests: PermutationTests, column: int, span: float
) -> PairDifferences:
    """Return the differences of G groups, which the tests may have in another order.

    Args:
        scores: f64[n] of each group, two patients or more.
        test_order: i64[G], each group's position among those of the tests.
        tests: of the same patients.
        column: of the tests.
        span: the largest difference that the score allows.
    """
    first, second = np.triu_indices(len(scores), 1)
    pair_number = np.zeros((len(scores), len(scores)), int)
    pair_number[first, second] = np.arange(len(first))
    pair_number += pair_number.T
    pair = pair_number[test_order[first], test_order[second]]
    is_reversed = test_order[first] > test_order[second]
    means = np.array([values.mean() for values in scores])
    squared_errors = np.array([values.var(ddof=1) / len(values) for values in scores])
    return PairDifferences(
        estimates=means[first] - means[second],
        errors=np.sqrt(squared_errors[first] + squared_errors[second]),
        skewness=np.where(is_reversed, -1.0, 1.0) * tests.skewness[column, pair],
        p=tests.pairs_p[column, pair],
        largest=tests.largest[:, column],
        span=span,
    )
