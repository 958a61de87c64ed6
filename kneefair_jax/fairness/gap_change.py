"""Change of the gap between groups from one model to another, by swaps of the two models' scores within patients.

The gap is the highest minus the lowest group mean, of each model in its own extreme groups, so no pair of groups is
selected by one of the models and the order of the models turns nothing but the sign. Under the null hypothesis the
models are exchangeable: any patient's two scores could have come from the other model. Swaps of patients' scores then
leave the distribution of every statistic as it is (Pesarin and Salmaso, Permutation Tests for Complex Data, 2010).

* Each model's scores are taken from that model's mean, because a model that is better everywhere has changed no gap.
* The gap of sampled means is too large on average, the more the fewer patients and the wider their scores. The
  difference of this bias between the models is estimated by a parametric bootstrap of the group means and subtracted.
* The change is divided by its standard error for the extreme groups at hand. Turned round, the critical value of the
  swaps gives an interval that excludes zero where the test rejects, and nowhere else.
"""

from dataclasses import dataclass

import numpy as np

from kneefair_jax.fairness import bootstrap
from kneefair_jax.fairness.hypothesis_tests import TIE
from kneefair_jax.fairness.seed_intervals import ROUNDING

LEVEL = 0.05
# Pairs of opposite normal deviates that estimate the bias of a gap.
_DEVIATES = 20


@dataclass(frozen=True)
class GapChange:
    """The gaps of two models between the same groups of patients, and their difference.

    Attributes:
        first: the first model's highest minus lowest group mean.
        second: that of the second model.
        value: second minus first; negative where the second model's gap is smaller.
        interval: for the change in the population, of confidence 1 - `LEVEL`; None where a group has fewer than
            `bootstrap.MIN_PATIENTS` patients or there are too few swaps.
        p: two-sided, not corrected; None where a group is that small.
    """

    first: float
    second: float
    value: float
    interval: tuple[float, float] | None
    p: float | None


def by_swaps(
    first: np.ndarray, second: np.ndarray, index: np.ndarray, patients: np.ndarray, swaps: int, seed: int
) -> GapChange:
    """Compare the gaps of two models.

    Args:
        first: f[R], the first model's scores of patients in groups; none NaN.
        second: f[R], the second model's scores of the same rows.
        index: i[R], the group of each row, 0 to G - 1 with G at least 2; each group has a row.
        patients: [R], the patient of each row; the rows of one patient are swapped together.
        swaps: random sets of patients whose scores are swapped.
        seed: of the swaps.
    """
    sizes = np.bincount(index)
    means = [np.bincount(index, scores) / sizes for scores in (first, second)]
    before, after = (float(np.ptp(mean)) for mean in means)
    value = after - before
    if sizes.min() < bootstrap.MIN_PATIENTS:
        return GapChange(before, after, value, None, None)
    first, second = first - first.mean(), second - second.mean()
    if np.abs(second - first).max() <= ROUNDING:
        return GapChange(before, after, value, (value, value), 1.0)
    # By the models' average, so that neither the groups' names nor the models' order change a draw.
    order = np.argsort(np.argsort(means[0] + means[1], kind="stable"))
    _, who = np.unique(patients, return_inverse=True)
    rng = np.random.default_rng(seed)
    deviates = rng.normal(size=(_DEVIATES, len(sizes)))
    statistics = _Statistics(first, second, order[index], np.concatenate([deviates, -deviates]))
    change, error = statistics.of(np.ones((1, len(first))))
    t = change[0] / error[0]
    swapped = np.empty(swaps)
    rows = max(1, bootstrap.CHUNK // max(len(first), 2 * _DEVIATES * len(sizes)))
    for start in range(0, swaps, rows):
        size = min(rows, swaps - start)
        signs = rng.choice(np.array([-1.0, 1.0]), (size, who.max() + 1))[:, who]
        numerator, denominator = statistics.of(signs)
        swapped[start : start + size] = np.abs(numerator / denominator)
    swapped.sort()
    p = (1 + swaps - np.searchsorted(swapped, abs(t) * (1 - TIE))) / (1 + swaps)
    rejected = int(np.floor(LEVEL * (1 + swaps) + 1e-9))
    interval = None
    if rejected:
        # A change that equals the critical value is a tie, which the test does not reject.
        half = swapped[swaps - rejected] * (1 + TIE) * error[0]
        interval = (float(max(change[0] - half, -1.0)), float(min(change[0] + half, 1.0)))
    return GapChange(before, after, value, interval, float(p))


class _Statistics:
    """The change of the gap, less its bias, and its standard error after swaps: sums that are linear in the signs."""

    def __init__(self, first: np.ndarray, second: np.ndarray, index: np.ndarray, deviates: np.ndarray):
        """Take f[R] centered scores of both models, their groups i[R], and f[N, G] deviates for the bias."""
        sizes = np.bincount(index)
        member = index[:, None] == np.arange(len(sizes))
        average, half = (first + second) / 2, (second - first) / 2
        self.freedom = sizes - 1
        self.deviates = deviates
        self.average = average @ member / sizes
        self.half = member * half[:, None] / sizes
        self.product = member * (average * half)[:, None] / sizes
        self.squares = (average**2 + half**2) @ member / sizes
        self.crossed = (average**2 - half**2) @ member / sizes

    def of(self, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f[D, R] signs, -1 where a row's scores are swapped -> change and standard error, f[D] each."""
        moved, product = signs @ self.half, 2 * (signs @ self.product)
        first, second = self.average - moved, self.average + moved
        spread = [
            np.maximum(self.squares + sign * product - mean**2, 0) / self.freedom
            for sign, mean in ((-1, first), (1, second))
        ]
        covariance = (self.crossed - first * second) / self.freedom
        one, other = _extremes(first), _extremes(second)
        squared = (one**2 * spread[0] + other**2 * spread[1] - 2 * one * other * covariance).sum(1)
        change = np.ptp(second, axis=1) - np.ptp(first, axis=1)
        bias = self._bias(second, spread[1]) - self._bias(first, spread[0])
        return change - bias, np.sqrt(np.maximum(squared, ROUNDING**2))

    def _bias(self, means: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """How far the gap of resampled means exceeds the gap of the means: f[D, G] and their variances -> f[D]."""
        drawn = means[:, None] + np.sqrt(spread)[:, None] * self.deviates
        return np.ptp(drawn, axis=2).mean(1) - np.ptp(means, axis=1)


def _extremes(means: np.ndarray) -> np.ndarray:
    """f[D, G] -> f[D, G], 1 at the highest mean, -1 at the lowest."""
    eye = np.eye(means.shape[1])
    return eye[means.argmax(1)] - eye[means.argmin(1)]
