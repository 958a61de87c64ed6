"""Tests whether the gap of one attribute differs between the levels of another.

The means of the groups of two attributes are compared with an additive model of the levels of both. As in tests of gaps
(`inference.describe`), they are means of the patients without a failed segmentation. Johansen's statistic, which allows
for unequal variances (Biometrika 67, 1980), tests all contrasts that the additive model sets to zero. A single
contrast, as of a 2 x 2 table, is tested by Welch's t after Hall's transformation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import linalg, stats

from kneefair_jax import groups
from kneefair_jax.fairness import inference, patient_table, two_part
from kneefair_jax.fairness.hypothesis_tests import holm
from kneefair_jax.fairness.patient_bootstrap import samples
from kneefair_jax.fairness.patient_table import MACRO, Column, Table
from kneefair_jax.fairness.results import Interval
from kneefair_jax.fairness.two_part import Scores

# The reason why ranked groups that could have an interaction are not tested.
TOO_FEW = "too few groups have five patients without a failed segmentation"
# A squared standard error below this share of the largest is rounding.
_SMALLEST_SHARE = 1e-9


class ContrastTest(NamedTuple):
    """A test that R contrasts of independent means are zero.

    Attributes:
        contrast: the value of the contrast if R = 1, with coefficients of at most 1 in size; else None.
        error: its standard error.
        skewness: of the contrast: third cumulant over cubed standard error.
        statistic: t of a contrast, Johansen's F of several.
        freedom: R and the degrees of freedom of the error.
        p: two-sided.
    """

    contrast: float | None
    error: float | None
    skewness: float | None
    statistic: float
    freedom: tuple[float, float]
    p: float


@dataclass(frozen=True)
class Interaction:
    """The interaction of two attributes in one score: the fields of `ContrastTest`, None if it is not tested.

    Attributes:
        cells: the names of the groups.
        reason: why the groups are not tested; None if they are.
        coefficients: of a single contrast, by cell.
        p_holm: corrected over the pairs of attributes.
        interval: of a single contrast, at 95 %.
        interval_adjusted: at the level at which the correction over the family judged `p`; `family` sets it.
    """

    cells: list[str]
    reason: str | None = None
    coefficients: list[float] | None = None
    contrast: float | None = None
    error: float | None = None
    skewness: float | None = None
    statistic: float | None = None
    freedom: tuple[float, float] | None = None
    p: float | None = None
    p_holm: float | None = None
    interval: Interval | None = None
    interval_adjusted: Interval | None = None


def interactions(
    cases: pd.DataFrame,
    structures: Sequence[str],
    attributes: Sequence[str],
    *,
    min_group_patients: int,
    failure_dice: float = patient_table.FAILURE_DICE,
) -> dict[str, dict[str, Interaction]]:
    """Return the `interactions` of `report.json` for every pair of attributes whose ranked groups have contrasts.

    Args:
        cases: as `scores.scores`.
        structures: of the macro score.
        attributes: columns to cross.
        min_group_patients: smaller cells are not ranked.
        failure_dice: Dice below which a segmentation counts as failed.

    Returns:
        `sex,race` -> score -> interaction. Pairs of attributes whose ranked groups form no contrast are absent; if the
        groups with enough patients form none, numbers are None and `reason` is given.
    """
    table = patient_table.table(cases, structures, failure_dice)
    results = {
        ",".join(partition.attributes): _by_score(table, partition, max(min_group_patients, 1))
        for partition in groups.partitions(table.rows, attributes)
        if len(partition.attributes) == 2
    }
    results = {key: entries for key, entries in results.items() if entries}
    p_holm = {
        score: holm({key: entries[score].p for key, entries in results.items() if score in entries})
        for score in dict.fromkeys(score for entries in results.values() for score in entries)
    }
    return {
        key: {score: replace(entry, p_holm=p_holm[score][key]) for score, entry in entries.items()}
        for key, entries in results.items()
    }


def _by_score(table: Table, partition: groups.Partition, minimum: int) -> dict[str, Interaction]:
    """Return the interaction of the partition's two attributes in each macro score with contrasts, not corrected."""
    macro = [k for k, column in enumerate(table.columns) if column.structure == MACRO]
    levels = _levels(table.rows, partition)
    values, flags, _, index, names = patient_table.group_scores(table, partition, macro)
    entries = {}
    for k, column in enumerate(table.columns[number] for number in macro):
        # Ranking counts all patients of a cell; the test uses those without failures.
        has_score = ~np.isnan(values[:, k])
        ranked = [g for g in range(len(names)) if (has_score & (index == g)).sum() >= minimum]
        if len(additive_contrasts([levels[g] for g in ranked])):
            is_tested = has_score & ~flags[:, k] & np.isin(index, ranked)
            tested_values = np.where(is_tested, values[:, k], np.nan)
            entries[column.score] = _test_cells(tested_values, index, column, names, levels) or Interaction(
                [names[g] for g in ranked], TOO_FEW
            )
    return entries


def _test_cells(
    values: np.ndarray,
    index: np.ndarray,
    column: Column,
    names: Sequence[str],
    levels: Sequence[tuple[str, str]],
) -> Interaction | None:
    """Test the cells with enough patients; None if they form no contrast.

    Args:
        values: f64[R], NaN for a patient who is not compared.
        index: i[R], the cell of each patient.
        column: the score.
        names: of the cells.
        levels: of both attributes, by cell.
    """
    (sample,) = samples(values[:, None], index, inference.MIN_INTERVAL_PATIENTS)
    cells = sorted(sample.groups)
    strata = inference.strata(sample, 0, column, np.zeros(len(sample.rows), bool))[: len(cells)]
    contrasts = additive_contrasts([levels[g] for g in cells])
    test = johansen(strata, contrasts)
    if test is None:
        return None
    interaction = Interaction(
        [names[g] for g in cells],
        coefficients=contrasts[0].tolist() if len(contrasts) == 1 else None,
        **test._asdict(),
    )
    return replace(interaction, interval=interval(interaction, column.score))


def additive_contrasts(cells: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return contrasts of cell means that are all zero if and only if the means are sums of row and column effects.

    Args:
        cells: the levels of both attributes of each of G cells; combinations may be missing.

    Returns:
        f64[R, G], R = 0 if any means fit. A single contrast has coefficients of at most 1; its first one is above 0.
    """
    effects = [
        [float(cell[side] == level) for cell in cells]
        for side in (0, 1)
        for level in dict.fromkeys(cell[side] for cell in cells)
    ]
    if not effects:
        return np.zeros((0, 0))
    contrasts: np.ndarray = linalg.null_space(np.array(effects)).T
    if len(contrasts) != 1:
        return contrasts
    (contrast,) = contrasts
    first = contrast[np.flatnonzero(np.abs(contrast) > 1e-9)[0]]
    scaled_contrast: np.ndarray = np.round(contrast / np.abs(contrast).max() * np.sign(first), 12)
    return scaled_contrast[None]


def johansen(cells: Sequence[Scores], contrasts: np.ndarray) -> ContrastTest | None:
    """Test whether contrasts of independent means are all zero.

    Args:
        cells: G groups without failures, two patients or more in each.
        contrasts: f64[R, G].

    Returns:
        None without a contrast. p is 1 if no score varies.

    References:
        Johansen, Biometrika 67, 1980, DOI 10.1093/biomet/67.1.85 (the statistic and its degrees of freedom).
    """
    count = len(contrasts)
    if not count:
        return None
    errors = np.array([cell.error for cell in cells])
    means = np.array([cell.mean for cell in cells])
    freedom = np.array([cell.freedom for cell in cells])
    contrast, error, skewness = None, None, None
    if count == 1:
        (coefficients,) = contrasts
        contrast, error = float(coefficients @ means), float(np.sqrt((coefficients**2 * errors**2).sum()))
        # As in `hypothesis_tests`: one shape for all cells, each with its own variance.
        sizes = np.array([cell.n for cell in cells])
        shape = (np.array([cell.skewness for cell in cells]) * sizes**1.5).sum() / sizes.sum()
        third = shape * (coefficients**3 * errors**3 / np.sqrt(sizes)).sum()
        skewness = float(third / error**3) if error > 1e-9 else 0.0
    if errors.max() < 1e-9:
        return ContrastTest(contrast, error, skewness, 0.0, (float(count), float(freedom.sum())), 1.0)
    variance = np.maximum(errors**2, _SMALLEST_SHARE * (errors**2).max())
    # tr(P Q_g P Q_g) and tr(P Q_g) are both the g-th diagonal element of P, or its square: Q_g picks one mean.
    scaled = contrasts * variance
    projection = scaled.T @ np.linalg.solve(scaled @ contrasts.T, contrasts)
    lack = float((np.diag(projection) ** 2 / freedom).sum())
    distance = contrasts @ means
    squared = float(distance @ np.linalg.solve(scaled @ contrasts.T, distance))
    scale = count + 2 * lack - 6 * lack / (count + 2)
    within = count * (count + 2) / (3 * lack)
    if contrast is None or error is None or skewness is None:
        statistic = squared / scale
        p = float(stats.f.sf(statistic, count, within))
    else:
        statistic = contrast / error
        p = float(2 * stats.t.sf(abs(two_part.hall(statistic, skewness)), within))
    return ContrastTest(contrast, error, skewness, statistic, (float(count), within), p)


def interval(interaction: Interaction, score: str, level: float = 0.05) -> Interval | None:
    """Return the interval of a single contrast, which excludes zero if its p is below the level; None for several.

    Args:
        interaction: of the score.
        score: of the contrast; the interval stays inside its range.
        level: of the interval.
    """
    contrast, error, skewness = interaction.contrast, interaction.error, interaction.skewness
    if contrast is None or error is None or skewness is None:
        return None
    assert interaction.coefficients is not None and interaction.freedom is not None
    worst, best = patient_table.bounds(score)
    largest = (
        np.inf if worst is None else abs(worst - best) * sum(c for c in interaction.coefficients if c > 0)
    )
    critical = stats.t.ppf(1 - level / 2, interaction.freedom[1])
    shifts = (two_part.inverse_hall(end, skewness) for end in (critical, -critical))
    return [float(np.clip(contrast - shift * error, -largest, largest)) for shift in shifts]


def _levels(rows: pd.DataFrame, part: groups.Partition) -> list[tuple[str, str]]:
    """Return the levels of both attributes of each group."""
    first = [int(np.flatnonzero(part.index == g)[0]) for g in range(len(part.names))]
    first_attribute, second_attribute = part.attributes
    return [(str(rows[first_attribute].iloc[row]), str(rows[second_attribute].iloc[row])) for row in first]
