"""Computes intervals of mean scores that stay valid if segmentations fail, or fail too rarely to be observed.

A failed segmentation (Dice near 0) lies tens of standard deviations below the others. Some samples contain one and
others do not, so Student's t and the bootstrap fail: with 2 % failures, their 95 % interval of the mean of 30 patients
covers it in 56 % of samples. So a mean is split: `mean = center - loss`, with `center` the mean of the patients without
a failure and `loss` the mean loss by failures.

* `center` has Student's interval after Hall's transformation, which corrects for skewness (Hall, JRSS B 54, 1992).
* `loss`, as a share of the largest possible loss, is a mean of numbers in [0, 1] of which nearly all are 0. It has
  Stringer's bounds (Bickel, International Statistical Review 60, 1992): Clopper-Pearson's limits of the failure rate,
  each failure weighted by its size. With no failure observed among n patients, the upper bound is 1 - (tail)^(1/n).
* The method of variance estimates recovery, MOVER (Zou and Donner, Statistics in Medicine 27, 2008), combines both, and
  the means of several groups in a contrast, by adding squared distances from estimate to limit.

The limit on the side of failures is wide in small groups, because a small sample does not exclude failures.

`differences` and the functions below it give conservative intervals of summaries of groups. Simultaneous limits bound
every summary: those of all pairs' differences, or of all groups' means, each at its share of the level (Bonferroni). If
the limits hold, the summary's interval holds. It stays inside the range of the score.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from kneefair_jax.fairness.bootstrap import pairs
from kneefair_jax.fairness.results import Interval

# With fewer patients skewness cannot be estimated, and Student's t is used without correction.
MIN_SKEWNESS_PATIENTS = 5
# A larger skewness of a mean is clipped to this value: Hall's transformation is nearly flat where skewness times t is
# -3, so a few outliers would give limits of dozens of standard errors.
MOST_SKEWNESS = 0.3


@dataclass(frozen=True)
class Scores:
    """The scores of one group's patients, reduced to what intervals need.

    Attributes:
        n: patients.
        failures: patients with a failed segmentation.
        failed: patients whose score counts as a loss: with a failed segmentation, or all (`scores`).
        mean: of all scores.
        center: mean of the scores that did not fail.
        error: standard error of `center`.
        skewness: of the scores that did not fail, divided by the square root of their number.
        freedom: degrees of freedom of `error`.
        losses: f64[failed], (center - score) / (center - worst) of each failure, largest first; in [0, 1].
        worst: the lowest possible score (of an error: the highest); None of a distance, which is unbounded.
        best: the best possible score.
    """

    n: int
    failures: int
    failed: int
    mean: float
    center: float
    error: float
    skewness: float
    freedom: int
    losses: np.ndarray
    worst: float | None
    best: float

    @property
    def loss(self) -> float:
        """Mean loss over all patients, as a share of the largest possible one."""
        return float(self.losses.sum() / self.n)


def is_loss_only(failures: int, patients: int) -> bool:
    """Return whether every score counts as a loss: most patients have a failure, or fewer than two have none."""
    return failures > patients / 2 or (failures > 0 and patients - failures < 2)


def summarize(values: np.ndarray, failed: np.ndarray, worst: float | None, best: float) -> Scores:
    """Reduce the scores of one group.

    The method assumes that failures are the exception. If more than half of the patients have one, or fewer than two
    have none, every score counts as a loss from the best score. Distances are not split, because they have no worst
    value that an unobserved failure could take.

    Args:
        values: f64[n], one per patient, no NaN; n at least 1.
        failed: bool[n].
        worst: the worst possible score: 0 for overlap, 1 for a calibration error, None for distances.
        best: the best possible score.
    """
    failures = int(failed.sum())
    if worst is None:
        failed = np.zeros(len(values), bool)
    elif is_loss_only(failures, len(values)):
        return Scores(
            n=len(values),
            failures=failures,
            failed=len(values),
            mean=float(values.mean()),
            center=best,
            error=0.0,
            skewness=0.0,
            freedom=len(values) - 1,
            losses=np.sort(np.clip((best - values) / (best - worst), 0, 1))[::-1],
            worst=worst,
            best=best,
        )
    successes, failure_scores = values[~failed], values[failed]
    center = float(successes.mean())
    spread = successes.std()
    moment = (
        ((successes - center) ** 3).mean() / spread**3
        if spread > 1e-12 and len(successes) >= MIN_SKEWNESS_PATIENTS
        else 0.0
    )
    losses = np.zeros(len(failure_scores))
    if worst is not None and len(failure_scores) and center != worst:
        losses = np.sort(np.clip((center - failure_scores) / (center - worst), 0, 1))[::-1]
    return Scores(
        n=len(values),
        failures=failures,
        failed=len(failure_scores),
        mean=float(values.mean()),
        center=center,
        error=float(spread / np.sqrt(max(len(successes) - 1, 1))),
        skewness=float(moment / np.sqrt(len(successes))),
        freedom=len(successes) - 1,
        losses=losses,
        worst=worst,
        best=best,
    )


def limits(group: Scores, tail: float) -> tuple[float, float]:
    """Return confidence limits of a group's mean, which allow for failures that were not observed.

    Args:
        group: two patients or more.
        tail: probability that the mean lies outside each limit, such as 0.025.

    Returns:
        Lower and upper limit, inside the range of the score.
    """
    if group.freedom < 1:
        return (-np.inf, np.inf) if group.worst is None else _clip_to_range(-np.inf, np.inf, group)
    quantile = special.stdtrit(group.freedom, 1 - tail)
    low, high = (group.center - group.error * inverse_hall(q, group.skewness) for q in (quantile, -quantile))
    if group.worst is None:
        return float(max(low, group.best)), float(high)
    toward_worst, toward_best = (low, high) if group.worst < group.best else (high, low)
    smallest_loss, largest_loss = _loss_limits(group, tail)
    span = abs(group.center - group.worst)
    down = np.hypot((1 - group.loss) * abs(group.center - toward_worst), span * (largest_loss - group.loss))
    up = np.hypot((1 - group.loss) * abs(toward_best - group.center), span * (group.loss - smallest_loss))
    if group.worst < group.best:
        return _clip_to_range(group.mean - down, group.mean + up, group)
    return _clip_to_range(group.mean - up, group.mean + down, group)


def contrasts(
    estimates: np.ndarray, ends: Sequence[tuple[float, float]], matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return limits of linear functions of independent means by MOVER.

    Args:
        estimates: f64[G], the means.
        ends: the limits of each mean.
        matrix: f64[J, G].

    Returns:
        Lower and upper limits, f64[J] each.
    """
    low, high = np.array(ends).T
    down, up = (estimates - low) ** 2, (high - estimates) ** 2
    squared, positive = matrix**2, matrix > 0
    point = matrix @ estimates
    return (
        point - np.sqrt(np.where(positive, squared * down, squared * up).sum(1)),
        point + np.sqrt(np.where(positive, squared * up, squared * down).sum(1)),
    )


def hall[T: (float, np.ndarray)](t: T, skewness: T) -> T:
    """Return Hall's transformation of studentized means, t + g t^2 / 3 + g^2 t^3 / 27 + g / 6, increasing in t.

    Args:
        t: f64[...], a mean's distance from its expectation in standard errors.
        skewness: f64[...], g, of the mean: the scores' skewness over sqrt(n), clipped to `MOST_SKEWNESS`.
    """
    skewness = np.clip(skewness, -MOST_SKEWNESS, MOST_SKEWNESS)
    transformed: T = t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6
    return transformed


def inverse_hall(value: float, skewness: float) -> float:
    """Return the studentized mean t for which `hall(t, skewness)` equals the value."""
    skewness = float(np.clip(skewness, -MOST_SKEWNESS, MOST_SKEWNESS))
    if abs(skewness) < 1e-6:
        return float(value)
    return float(3 / skewness * (np.cbrt(1 + skewness * (value - skewness / 6)) - 1))


def _loss_limits(group: Scores, tail: float) -> tuple[float, float]:
    """Return Stringer's bounds of the mean loss, as a share of the largest possible; the lower from the gains."""
    count = np.arange(group.failed + 1)
    rest = group.n - count
    upper = np.where(rest > 0, special.betaincinv(count + 1, np.maximum(rest, 1), 1 - tail), 1.0)
    lower = np.zeros(len(count))
    lower[1:] = special.betaincinv(count[1:], group.n - count[1:] + 1, tail)
    return (
        float(np.diff(lower) @ group.losses),
        float(upper[0] + np.diff(upper) @ group.losses),
    )


def _clip_to_range(low: float, high: float, group: Scores) -> tuple[float, float]:
    """Clip limits to the range of the score; Student's t and rounding may exceed it."""
    assert group.worst is not None
    ends = sorted((group.worst, group.best))
    return float(max(low, ends[0])), float(min(high, ends[1]))


def differences(
    groups: Sequence[Scores], level: float = 0.05, each: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits of all pairs' differences, the first minus a later group.

    Args:
        groups: G groups of two patients or more.
        level: probability that any of the intervals misses its difference.
        each: whether `level` is that of each single interval instead, as in an equivalence test.

    Returns:
        Lower and upper limits, f64[J] each, J = G (G - 1) / 2.
    """
    matrix = pairs(len(groups))
    tail = level / 2 if each else level / 2 / len(matrix)
    ends = [limits(group, tail) for group in groups]
    return contrasts(np.array([group.mean for group in groups]), ends, matrix)


def gap(low: np.ndarray, high: np.ndarray) -> Interval:
    """Return the interval of max_g mu_g - min_g mu_g from the limits of all differences; not below 0."""
    return [
        float(max(np.maximum(low, -high).max(), 0.0)),
        float(np.maximum(high, -low).max()),
    ]


def sd(low: np.ndarray, high: np.ndarray, count: int) -> Interval:
    """Return the interval of the population SD of mu_g, whose square is the sum of squared differences / count^2."""
    smallest, largest = np.maximum(np.maximum(low, -high), 0), np.maximum(high, -low)
    return [float(np.sqrt((part**2).sum()) / count) for part in (smallest, largest)]


def worst_error(groups: Sequence[Scores], level: float = 0.05) -> Interval:
    """Return the interval of the largest error: 1 - mu_g of an overlap score, mu_g of a distance."""
    ends = _errors(groups, level)
    return [float(end) for end in ends.max(0)]


def ser(groups: Sequence[Scores], level: float = 0.05) -> Interval | None:
    """Return the interval of max_g e_g / min_g e_g by MOVER of the logarithms; None if an error may be 0."""
    count = len(groups)
    ends = _errors(groups, 2 * level / (count - 1))  # level / J, J = count (count - 1) / 2
    points = np.array([_error(group) for group in groups])
    if min(points.min(), ends.min()) <= 1e-12:
        return None
    low, high = contrasts(np.log(points), np.log(ends).tolist(), pairs(count))
    return [float(np.exp(end)) for end in gap(low, high)]


def es(strata: Sequence[Scores], weights: np.ndarray, groups: int, level: float = 0.05) -> Interval:
    """Return the interval of S / (1 + sum_g |S - mu_g|), S = weights . mu, over the first `groups` strata."""
    deviations = weights - np.eye(len(weights))[:groups]
    matrix = np.vstack([weights, deviations])
    ends = [limits(group, level / 2 / len(matrix)) for group in strata]
    low, high = contrasts(np.array([group.mean for group in strata]), ends, matrix)
    largest = np.maximum(-low, high)[1:].sum()
    smallest = np.maximum(np.maximum(low, -high), 0)[1:].sum()
    return [float(max(low[0], 0.0) / (1 + largest)), float(min(high[0], 1.0) / (1 + smallest))]


def _error(group: Scores) -> float:
    return group.best - group.mean if group.best > 0 else group.mean


def _errors(groups: Sequence[Scores], level: float) -> np.ndarray:
    """Return simultaneous limits of all groups' errors: f64[G, 2]."""
    ends = [limits(group, level / 2 / len(groups)) for group in groups]
    return np.array(
        [
            (group.best - high, group.best - low) if group.best > 0 else (low, high)
            for group, (low, high) in zip(groups, ends, strict=True)
        ]
    )
