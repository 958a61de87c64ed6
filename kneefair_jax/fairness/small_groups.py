"""Tests and estimates the mean scores of small groups.

Means are of the patients without a failed segmentation, as in tests of ranked groups (`inference.describe`).

`tests` compares each small group with all other patients by permutation. A group is small if it has too few patients to
rank, or too few without a failure to be tested against single groups.

`pool_small_groups` computes means by partial pooling, shrunken toward the prediction of the other groups, because the
mean of a group of 3 to 30 patients is mostly noise. The model of the means y of G groups is that of Fay and
Herriot (JASA 74, 1979), the structured regression of Herlihy et al. (arXiv 2401.14893) with its deviation estimated:

    y = theta + e,   e ~ N(0, v),   theta = X beta + u,   u ~ N(0, tau^2)

X holds the mean of one attribute's groups, or the main effects of two attributes, from which their cells deviate by u.
beta has a flat prior and tau a half-Cauchy prior (Polson and Scott, Bayesian Analysis 7, 2012), nearly flat over the
values that the means support. tau is integrated out on a grid, so intervals allow for the uncertainty of both. The
variance of few patients is imprecise, so v is moderated: a common variance enters with `PRIOR_FREEDOM` more degrees of
freedom (Smyth, Statistical Applications in Genetics and Molecular Biology 3, 2004). The common variance is the mean of
the groups' variances, weighted by the precision that they have if true variances differ by as much, so that one large
group does not dominate it.

Intervals are Student's, with the mean and the standard deviation of theta over the grid. The degrees of freedom grow
as the share of a group's own v in the variance of theta falls. Hall's transformation (`two_part`) corrects for the
skewness of all groups' scores; without it, intervals of few skewed scores cover too rarely. `docs/statistics.md` has
coverage and error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import special

from kneefair_jax import groups
from kneefair_jax.fairness import hypothesis_tests, inference, patient_table, permutation_tests, two_part
from kneefair_jax.fairness.patient_table import MACRO, Table
from kneefair_jax.fairness.results import Estimate


@dataclass(frozen=True, repr=False)
class DifferenceFromRest(Estimate):
    """The difference of the mean scores of a small group and of all other patients.

    Attributes:
        patients: of the group, among the `n`.
    """

    patients: int = 0


def tests(
    table: Table,
    partitions: Sequence[groups.Partition],
    minimum: int,
    draws: int,
    seed: int,
) -> dict[str, dict[str, dict[str, DifferenceFromRest]]]:
    """Test each small group against all other patients with a known attribute.

    Args:
        table: scores by case.
        partitions: of its rows, one attribute each.
        minimum: patients that a ranked group needs.
        draws: permutations.
        seed: of the permutations.

    Returns:
        Score -> attribute -> group -> the difference of mean scores over all structures (group minus rest) with its p
        value; `p_adjusted` is Holm's over all groups of a score. Attributes without a small group are absent.
    """
    columns = [k for k, column in enumerate(table.columns) if column.structure == MACRO]
    estimates: dict[str, dict[tuple[str, str], DifferenceFromRest]] = {
        table.columns[k].score: {} for k in columns
    }
    for partition in partitions:
        grouped = patient_table.group_scores(table, partition, columns)
        values, flags, rows = (
            array[grouped.groups >= 0] for array in (grouped.values, grouped.failed, grouped.groups)
        )
        for g, name in enumerate(partition.names):
            has_score, has_failure = ~np.isnan(values[rows == g]), flags[rows == g]
            is_small = (has_score.sum(0) < minimum) | (
                (has_score & ~has_failure).sum(0) < inference.MIN_INTERVAL_PATIENTS
            )
            small_scores = np.where(is_small & ~flags, values, np.nan)
            for k, test in _against_rest(small_scores, rows == g, draws, seed).items():
                estimates[table.columns[columns[k]].score][",".join(partition.attributes), name] = test
    return {score: _correct(of_score) for score, of_score in estimates.items()}


def _against_rest(
    values: np.ndarray, member: np.ndarray, draws: int, seed: int
) -> dict[int, DifferenceFromRest]:
    """Test members bool[R] against the rest, for each of K scores f64[R, K] that patients of both have."""
    scored = ~np.isnan(values)
    results = {}
    for columns in patient_table.columns_by_rows(scored):
        rows = scored[:, columns[0]]
        first, second = values[rows & member][:, columns].T, values[rows & ~member][:, columns].T
        if not first.shape[1] or not second.shape[1]:
            continue
        permutation = permutation_test(first, second, draws, seed)
        if permutation is None:
            continue
        p, method = permutation
        for position, k in enumerate(columns):
            gap = float(first[position].mean() - second[position].mean())
            n = first.shape[1] + second.shape[1]
            results[int(k)] = DifferenceFromRest(
                gap, None, n, float(p[position]), method=method, patients=first.shape[1]
            )
    return results


def permutation_test(
    first: np.ndarray, second: np.ndarray, draws: int, seed: int
) -> tuple[np.ndarray, str] | None:
    """Two-sided p values f64[K] of K scores of a group f64[K, n] against the rest, and the test's name.

    The difference is studentized. If a group of 3 to 9 patients has twice the standard deviation of the rest, a plain
    difference rejects 25 % of true nulls, the studentized one 4 to 6 % (120 other patients, normal scores). A single
    patient has no standard deviation and is compared by the distance from the mean over all patients. Returns None if
    there is only one other patient.
    """
    scores = np.concatenate([first, second], axis=1)
    sizes = np.array([first.shape[1], second.shape[1]])
    welch = permutation_tests.permuted_welch(scores, sizes, np.random.default_rng(seed), draws)
    if welch is not None:
        return welch.p, f"permuted Welch t, {draws:,} permutations"
    if sizes[1] == 1:
        return None
    distance = np.abs(scores - scores.mean(1, keepdims=True))
    return (distance >= distance[:, :1] * (1 - permutation_tests.TIE)).mean(
        1
    ), "exact permutation test of one patient"


def _correct(
    estimates: dict[tuple[str, str], DifferenceFromRest],
) -> dict[str, dict[str, DifferenceFromRest]]:
    adjusted_p = hypothesis_tests.holm({key: test.p for key, test in estimates.items()})
    by_attribute: dict[str, dict[str, DifferenceFromRest]] = {}
    for (attribute, name), test in estimates.items():
        by_attribute.setdefault(attribute, {})[name] = replace(test, p_adjusted=adjusted_p[attribute, name])
    return by_attribute


# Groups with this many patients without a failed segmentation have a pooled estimate.
POOLED_PATIENTS = range(3, 30)
PRIOR_FREEDOM = 2
# Scale of the prior of tau, in typical standard errors of a group's mean.
_PRIOR_SCALE = 20.0
_GRID = 128


@dataclass(frozen=True)
class PooledMean:
    """The mean score of a group among its patients without a failed segmentation.

    Attributes:
        patients: of the group, without a failed segmentation.
        raw: mean of their scores.
        mean: the shrunken mean.
        interval: 95 % interval of `mean`.
        weight: of `raw` in `mean`; the rest is the prediction from the other groups.
    """

    patients: int
    raw: float
    mean: float
    interval: tuple[float, float]
    weight: float


def pool_small_groups(
    cases: pd.DataFrame,
    structures: Sequence[str],
    attributes: Sequence[str],
    score: str,
    *,
    failure_dice: float = patient_table.FAILURE_DICE,
    intersections: bool = True,
) -> dict[str, PooledMean]:
    """Return the pooled means of groups with 3 to 29 patients without a failed segmentation.

    Groups with an unknown attribute are excluded, and so are attributes with too few groups to estimate a deviation.

    Args:
        cases: the long per-case table of one split and one model.
        structures: whose mean is the score of a case.
        attributes: columns to group by.
        score: a column of the cases.
        failure_dice: Dice below which a segmentation counts as failed.
        intersections: whether to pool the cells of pairs of attributes.
    """
    table = patient_table.table(cases, structures, failure_dice)
    worst, best = patient_table.bounds(score)
    limits = sorted((np.inf if worst is None else worst, best))
    pooled_means: dict[str, PooledMean] = {}
    for partition in groups.partitions(table.rows, attributes, intersections):
        grouped = patient_table.group_scores(table, partition, table.macro_column(score))
        is_included = ~np.isnan(grouped.values[:, 0]) & ~grouped.failed[:, 0]
        members = {
            g: grouped.values[is_included & (grouped.groups == g), 0] for g in range(len(grouped.names))
        }
        members = {g: scores for g, scores in members.items() if len(scores)}
        design = _design(table.rows, partition, list(members))
        for g, pooled_mean in zip(members, pool(list(members.values()), design, *limits), strict=False):
            if pooled_mean.patients in POOLED_PATIENTS:
                pooled_means[partition.names[g]] = pooled_mean
    return pooled_means


def pool(
    scores: Sequence[np.ndarray], design: np.ndarray, low: float = -np.inf, high: float = np.inf
) -> list[PooledMean]:
    """Return the pooled mean of every group; an empty list if the design explains all means or scores do not vary.

    Args:
        scores: of each of G groups, f64[n], n at least 1.
        design: f64[G, p], of full column rank.
        low: the lowest possible score, at which intervals end.
        high: the highest possible score, likewise.
    """
    sizes = np.array([len(values) for values in scores])
    if len(scores) <= design.shape[1] or sizes.sum() <= len(scores):
        return []
    means = np.array([values.mean() for values in scores])
    squares, cubes = (
        np.array([((values - values.mean()) ** power).sum() for values in scores]) for power in (2, 3)
    )
    freedom = sizes - 1
    common = np.average(squares / np.maximum(freedom, 1), weights=freedom / (PRIOR_FREEDOM + freedom))
    if common < 1e-18:
        return []
    moderated_squares = (PRIOR_FREEDOM * common + squares) / (PRIOR_FREEDOM + freedom)
    variances = moderated_squares / sizes
    centers, spreads, shares = _posterior(means, variances, design)
    own_share = shares * variances / spreads**2
    tails = special.stdtrit(np.minimum(PRIOR_FREEDOM + freedom, freedom.sum()) / own_share, 0.975)
    # The third moment of theta's error comes from the group's own scores.
    skewnesses = (cubes / moderated_squares**1.5).sum() / sizes.sum() / np.sqrt(sizes)
    skewnesses *= (shares * np.sqrt(variances) / spreads) ** 3
    lower, upper = (
        centers - spreads * np.array([*map(two_part.inverse_hall, sign * tails, skewnesses)])
        for sign in (1, -1)
    )
    return [
        PooledMean(int(n), float(raw), float(mean), (float(start), float(end)), float(weight))
        for n, raw, mean, start, end, weight in zip(
            sizes,
            means,
            np.clip(centers, low, high),
            np.clip(lower, low, high),
            np.clip(upper, low, high),
            shares,
            strict=True,
        )
    ]


def _design(rows: pd.DataFrame, partition: groups.Partition, members: Sequence[int]) -> np.ndarray:
    """Return f64[G, p]: the intercept, and for two attributes an indicator of each level except the first."""
    columns = [np.ones(len(members))]
    if len(partition.attributes) > 1:
        first = [int(np.argmax(partition.index == g)) for g in members]
        for attribute in partition.attributes:
            levels = rows[attribute].astype(str).iloc[first].to_numpy()
            columns += [(levels == level).astype(float) for level in sorted(set(levels))[1:]]
    design = np.stack(columns, axis=1)
    # Cells without patients may make main effects collinear: keep the columns that increase the rank.
    independent: list[int] = []
    for k in range(design.shape[1]):
        if np.linalg.matrix_rank(design[:, [*independent, k]]) > len(independent):
            independent.append(k)
    return design[:, independent]


def _posterior(
    means: np.ndarray, variances: np.ndarray, design: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return f64[G] each: mean and standard deviation of theta, and the weight of the raw mean, over a grid of tau."""
    typical = len(variances) / (1 / variances).sum()
    angle = (np.arange(_GRID) + 0.5) / _GRID * np.pi / 2
    tau2 = (typical / np.tan(angle) ** 2)[:, None]  # d tau is proportional to d angle / sin(angle)^2
    precision = 1 / (variances + tau2)
    covariance = np.linalg.inv(np.einsum("kg,gi,gj->kij", precision, design, design))
    beta = np.einsum("kij,gj,kg,g->ki", covariance, design, precision, means)
    prediction = beta @ design.T
    likelihood = 0.5 * (
        np.log(precision).sum(1)
        + np.linalg.slogdet(covariance)[1]
        - (precision * (means - prediction) ** 2).sum(1)
    )
    prior = -2 * np.log(np.sin(angle)) - np.log1p(tau2[:, 0] / (_PRIOR_SCALE**2 * typical))
    log_weights = likelihood + prior
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    shrinkage = variances * precision
    leverage = np.einsum("gi,kij,gj->kg", design, covariance, design)
    given_tau = (1 - shrinkage) * means + shrinkage * prediction
    centers = weights @ given_tau
    within_variance = weights @ (variances * (1 - shrinkage) + shrinkage**2 * leverage)
    between_variance = weights @ (given_tau - centers) ** 2
    return centers, np.sqrt(within_variance + between_variance), weights @ (1 - shrinkage)
