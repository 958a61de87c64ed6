"""Errors of a measurement by group: prediction minus reference, in the measurement's own unit.

A clinician acts on a joint space or an angle, not on a Dice. Unlike Dice, the error of a measurement does not grow
because bones are small, so a gap in it is no effect of size.

Errors are averaged over a patient's cases first, so patients are the sample. Differences between groups are tested by
permuted Welch tests, with intervals that agree with them (`permutation_tests`); groups are equivalent in bias if the
90 % intervals of all differences lie within the margin (two one-sided tests, Schuirmann 1987).

Reference:
    Bland JM, Altman DG: Lancet 327:307 (1986), limits of agreement; Journal of Biopharmaceutical Statistics 17:571
    (2007), section 3, with several observations of a patient, DOI 10.1080/10543400701329422.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from kneefair_jax import groups
from kneefair_jax.fairness import hypothesis_tests, patient_table, permutation_tests, rates
from kneefair_jax.fairness.equivalence import AGREEMENT_SD
from kneefair_jax.fairness.rates import GroupRate, Tally
from kneefair_jax.fairness.results import Estimate

# A line through fewer patients says nothing about the slope of the errors.
MIN_SLOPE_PATIENTS = 5


@dataclass(frozen=True)
class GroupErrors:
    """The errors of one measurement in one group.

    Attributes:
        cases: with a reference value.
        without_reference: patients with a case that has no reference value.
        not_measured: patients with a case that has a reference value and no predicted one.
        bias: mean error over patients.
        absolute: mean absolute error over patients.
        limits: limits of agreement of a case, bias -+ 1.96 standard deviations; None with fewer than two patients.
        beyond_margin: patients with an absolute error beyond the margin; None without a margin.
        wrong_side: patients with a case that is on the other side of the threshold; None without a threshold.
        slope: of the error on the reference value over patients, the proportional error; none against readers.
    """

    cases: int
    without_reference: GroupRate
    not_measured: GroupRate
    bias: Estimate
    absolute: Estimate
    limits: tuple[float, float] | None
    beyond_margin: GroupRate | None
    wrong_side: GroupRate | None
    slope: Estimate


@dataclass(frozen=True)
class PairErrors:
    """The difference of two groups, the first minus the second.

    Attributes:
        first: name of a group.
        second: name of another.
        bias: difference of the mean errors; its p is corrected over the pairs of the attribute.
        absolute: difference of the mean absolute errors, likewise.
        equivalent: whether the biases of the two differ by less than the margin; None without a margin.
    """

    first: str
    second: str
    bias: Estimate
    absolute: Estimate
    equivalent: bool | None


@dataclass(frozen=True)
class AttributeErrors:
    """The comparison of the ranked groups of one attribute.

    Attributes:
        pairs: of ranked groups.
        p: of equal mean errors in all groups; None with fewer than two ranked groups.
        p_adjusted: the same, corrected for the false discovery rate over all measurements and attributes.
        equivalent: whether the biases differ by less than the margin; None without margin or with too few patients.
    """

    pairs: list[PairErrors]
    p: float | None
    p_adjusted: float | None
    equivalent: bool | None


@dataclass(frozen=True)
class MeasurementErrors:
    """The errors of one measurement, of all patients and by group.

    Attributes:
        unit: of values and errors.
        margin: the absolute error that matters, in the unit; None if none is stated.
        threshold: the value on whose sides decisions differ; None if none is stated.
        overall: of all patients.
        groups: by name.
        attributes: the comparison of the groups of each attribute.
    """

    unit: str
    margin: float | None
    threshold: float | None
    overall: GroupErrors
    groups: dict[str, GroupErrors]
    attributes: dict[str, AttributeErrors]


def measurement_errors(
    cases: pd.DataFrame,
    attributes: Sequence[str],
    *,
    unit: str,
    margin: float | None = None,
    threshold: float | None = None,
    minimum: int = 10,
    draws: int = 10_000,
    seed: int = 0,
    is_exact: bool = True,
) -> MeasurementErrors:
    """Describe and compare the errors of one measurement.

    Args:
        cases: a row per knee with `patient_id`, categorical attributes, and `reference` and `predicted`, f64, NaN where
            the measurement could not be taken. A knee without a reference value has no error; its patient is counted.
        attributes: columns to group by.
        unit: of the values.
        margin: the absolute error that matters.
        threshold: the value on whose sides decisions differ.
        minimum: patients of a group that is compared.
        draws: permutations.
        seed: of the permutations.
        is_exact: whether the reference has no error of its own. Else no slope is computed: errors of a reader alone
            make the slope of the difference on the reader's value negative (Bland and Altman 1995, Lancet 346:1085).
    """
    all_cases = groups.Partition((), ("all",), np.zeros(len(cases), np.int32))
    options = _Options(margin, threshold, minimum, is_exact)
    overall = _by_group(cases, all_cases, options._replace(minimum=0))["all"]
    by_group: dict[str, GroupErrors] = {}
    comparisons: dict[str, AttributeErrors] = {}
    for attribute in attributes:
        partition = groups.partition(cases, [attribute], missing_as_level=True)
        group_errors = _by_group(cases, partition, options)
        by_group |= group_errors
        ranked = [name for name, entry in group_errors.items() if _is_ranked(name, entry, minimum)]
        comparisons[attribute] = _compare(_of_patients(cases, partition), ranked, margin, draws, seed)
    return MeasurementErrors(unit, margin, threshold, overall, by_group, comparisons)


def adjust(results: Mapping[str, MeasurementErrors]) -> dict[str, MeasurementErrors]:
    """Return the results with p values corrected over all measurements and attributes (Benjamini and Hochberg 1995)."""
    p_values = {
        (name, attribute): entry.p
        for name, result in results.items()
        for attribute, entry in result.attributes.items()
    }
    adjusted = hypothesis_tests.benjamini_hochberg(p_values)
    return {
        name: replace(
            result,
            attributes={
                attribute: replace(entry, p_adjusted=adjusted[name, attribute])
                for attribute, entry in result.attributes.items()
            },
        )
        for name, result in results.items()
    }


class _Options(NamedTuple):
    margin: float | None
    threshold: float | None
    minimum: int
    is_exact: bool


def _of_patients(cases: pd.DataFrame, partition: groups.Partition) -> dict[str, np.ndarray]:
    """Return the mean and mean absolute error of each group's patients, f64[2, P], for patients who have one."""
    error = (cases["predicted"] - cases["reference"]).to_numpy(float)
    values = np.stack([error, np.abs(error)], axis=1)
    means, _, rows = patient_table.patient_group_means(
        values, cases["patient_id"].to_numpy(), partition.index
    )
    has_error = ~np.isnan(means[:, 0])
    return {name: means[has_error & (rows == g)].T for g, name in enumerate(partition.names)}


def _by_group(cases: pd.DataFrame, partition: groups.Partition, options: _Options) -> dict[str, GroupErrors]:
    of_patients = _of_patients(cases, partition)
    return {
        name: _describe(name, cases[partition.index == g], of_patients[name], options)
        for g, name in enumerate(partition.names)
    }


def _describe(name: str, cases: pd.DataFrame, errors: np.ndarray, options: _Options) -> GroupErrors:
    margin, threshold, minimum = options.margin, options.threshold, options.minimum
    has_none = _rate(name, cases["reference"].isna(), cases["patient_id"], minimum)
    cases = cases[cases["reference"].notna()]
    complete_cases = cases[cases["predicted"].notna()]
    error = complete_cases["predicted"] - complete_cases["reference"]
    missing = cases["predicted"].isna()
    is_wrong_side = None
    if threshold is not None:
        is_wrong_side = (complete_cases["predicted"] < threshold) != (complete_cases["reference"] < threshold)
    by_patient = complete_cases.assign(error=error).groupby("patient_id")[["error", "reference"]].mean()
    return GroupErrors(
        len(cases),
        has_none,
        _rate(name, missing, cases["patient_id"], minimum),
        _mean(errors[0]),
        _mean(errors[1], 0.0),
        _limits(error, complete_cases["patient_id"]),
        None if margin is None else _rate(name, error.abs() > margin, complete_cases["patient_id"], minimum),
        None if is_wrong_side is None else _rate(name, is_wrong_side, complete_cases["patient_id"], minimum),
        _slope(by_patient["reference"].to_numpy(float), by_patient["error"].to_numpy(float))
        if options.is_exact
        else Estimate(None, None, len(by_patient)),
    )


def _rate(name: str, flags: pd.Series, patients: pd.Series, minimum: int) -> GroupRate:
    """Return the rate of patients with a flag in any case."""
    by_patient = flags.groupby(patients.to_numpy()).any()
    tally = Tally(int(by_patient.sum()), len(by_patient))
    reason = groups.unranked_reason(name, tally.patients, minimum)
    return GroupRate(tally.events, rates.rate(tally), reason is None, reason)


def _mean(values: np.ndarray, least: float = -np.inf) -> Estimate:
    """Return the mean with Student's interval, cut at the least possible value."""
    count = len(values)
    if not count:
        return Estimate(None, None, 0)
    mean = float(values.mean())
    if count < 2:
        return Estimate(mean, None, 1)
    half = float(stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count))
    ends = max(mean - half, least), mean + half
    return Estimate(mean, ends, count, method="Student interval over patients")


def _limits(errors: pd.Series, patients: pd.Series) -> tuple[float, float] | None:
    """Return the limits of agreement of a case: its variance is that within plus that between patients.

    With several cases of a patient, the variance between patients is that of the one-way analysis of variance.
    """
    by_patient = errors.groupby(patients.to_numpy())
    counts, means = by_patient.count().to_numpy(float), by_patient.mean().to_numpy(float)
    patients_count, total = len(counts), counts.sum()
    if patients_count < 2:
        return None
    within = 0.0
    if total > patients_count:
        within = float(by_patient.apply(lambda part: ((part - part.mean()) ** 2).sum()).sum())
        within /= total - patients_count
    center = float(errors.mean())
    between = float((counts * (means - center) ** 2).sum() / (patients_count - 1))
    cases_of_patient = (total - (counts**2).sum() / total) / (patients_count - 1)
    deviation = np.sqrt(max(between - within, 0.0) / cases_of_patient + within)
    bias = float(means.mean())
    return bias - AGREEMENT_SD * float(deviation), bias + AGREEMENT_SD * float(deviation)


def _slope(reference: np.ndarray, error: np.ndarray) -> Estimate:
    count = len(error)
    if count < MIN_SLOPE_PATIENTS or np.ptp(reference) == 0:
        return Estimate(None, None, count)
    line = stats.linregress(reference, error)
    half = float(stats.t.ppf(0.975, count - 2) * line.stderr)
    slope = float(line.slope)
    return Estimate(
        slope, (slope - half, slope + half), count, float(line.pvalue), method="least squares over patients"
    )


def _is_ranked(name: str, entry: GroupErrors, minimum: int) -> bool:
    return groups.unranked_reason(name, entry.bias.n, max(minimum, 2)) is None


def _compare(
    of_patients: Mapping[str, np.ndarray], ranked: Sequence[str], margin: float | None, draws: int, seed: int
) -> AttributeErrors:
    errors = [of_patients[name] for name in ranked]
    if len(ranked) < 2:
        return AttributeErrors([], None, None, None)
    sizes = np.array([part.shape[1] for part in errors])
    scores = np.concatenate(errors, axis=1)
    tests = permutation_tests.permuted_welch(scores, sizes, np.random.default_rng(seed), draws)
    if tests is None:  # a group of one patient
        return AttributeErrors([], None, None, None)
    order = np.arange(len(ranked))
    estimates = []
    for column in range(2):
        differences = permutation_tests.group_differences(
            [part[column] for part in errors], order, tests, column, np.inf
        )
        ends = differences.limits()
        estimates.append(
            [
                Estimate(
                    float(differences.estimates[j]),
                    None if ends is None else (float(ends[0][j]), float(ends[1][j])),
                    int(sizes[first] + sizes[second]),
                    float(differences.p[j]),
                    method=tests.name,
                )
                for j, (first, second) in enumerate(combinations(range(len(ranked)), 2))
            ]
        )
    within: list[bool | None] = [None] * len(estimates[0])
    if margin is not None:
        ends = hypothesis_tests.welch_intervals(scores[:1], sizes, 0.9)[0]
        within = [bool(low > -margin and high < margin) for low, high in ends]
    pairs = [
        PairErrors(first, second, bias, absolute, equivalent)
        for (first, second), bias, absolute, equivalent in zip(
            combinations(ranked, 2), *estimates, within, strict=True
        )
    ]
    return AttributeErrors(pairs, float(tests.p[0]), None, None if margin is None else all(within))
