"""Defines an estimate as every report gives it, and the scores by group, with the fields of `report.json` (schema 2).

None is undefined.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

type Interval = list[float]
type Intervals = tuple[tuple[float, float], ...]


def to_dict(results: Any) -> dict[str, Any]:
    """Return a result, or results by name, as the plain Python of `report.json`."""
    if isinstance(results, Mapping):
        return {name: to_dict(entry) for name, entry in results.items()}
    fields: dict[str, Any] = asdict(results)
    return fields


@dataclass(frozen=True)
class Equivalence:
    """The verdict of whether the groups of an attribute are equivalent in one score.

    Attributes:
        delta: the margin, in the score's unit; for failure rates the same number as a share.
        confidence: of each interval, 1 - 2 level.
        equivalent: whether every requirement is met.
        reason: the requirements that are not met; None if all are.
        intervals: of the pairs' differences of means, in the order of `bootstrap.pairs`.
        failure_intervals: of the pairs' differences of failure rates.
    """

    delta: float
    confidence: float
    equivalent: bool
    reason: str | None
    intervals: Intervals
    failure_intervals: Intervals


@dataclass(frozen=True, repr=False)
class Estimate:
    """An estimate over patients.

    Attributes:
        estimate: the value; None if it is undefined.
        interval: its confidence interval, inside the range of the quantity; None if it is undefined.
        n: patients.
        p: two-sided p value of its null hypothesis, before any correction; None if there is no test.
        p_adjusted: the p value corrected over the family that `method` or the report names.
        method: of the interval and of the test, such as `Clopper-Pearson` or `Fisher's exact test`.
    """

    estimate: float | None
    interval: tuple[float, float] | None
    n: int
    p: float | None = None
    p_adjusted: float | None = None
    method: str = ""

    def __repr__(self) -> str:
        """Return `Estimate(0.946 [0.940, 0.951], n=66, p=0.012)`."""
        value = "undefined" if self.estimate is None else f"{self.estimate:.3f}"
        ends = f" [{self.interval[0]:.3f}, {self.interval[1]:.3f}]" if self.interval else ""
        tests = [f", {key}={p:.2g}" for key in ("p", "p_adjusted") if (p := getattr(self, key)) is not None]
        return f"{type(self).__name__}({value}{ends}, n={self.n}{''.join(tests)})"


@dataclass(frozen=True)
class Summary:
    """A summary of the groups of an attribute, over all patients."""

    value: float | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class WorstError(Summary):
    """The largest error of a group, and the group that has it."""

    group: str | None = None


@dataclass(frozen=True)
class BeyondSize:
    """The ratio of two groups' errors over the ratio that follows from size, for the same patients.

    Attributes:
        value: `observed / expected`; 1 if size explains the observed ratio.
        interval: at 95 %; None if a group has fewer than `inference.MIN_INTERVAL_PATIENTS`.
        observed: mean error of the worst group over that of the best.
        expected: the ratio of the same groups that follows from size.
        best: the group with the lowest mean error.
        worst: the group with the highest mean error.
        patients: of both groups.
    """

    value: float
    interval: tuple[float, float] | None
    observed: float
    expected: float
    best: str
    worst: str
    patients: dict[str, int]


@dataclass(frozen=True)
class ErrorRatio(Summary):
    """The skewed error ratio; `reference_ser` adds `size`, the ratio that follows from size, and `beyond_size`."""

    size: float | None = None
    beyond_size: BeyondSize | None = None


@dataclass(frozen=True)
class GroupTest:
    """The test of equal means among patients without a failed segmentation.

    Attributes:
        name: of the test.
        statistic: Welch's t of two groups, the largest |t| of more.
        p: corrected over the pairs.
        p_holm: corrected over the primary family (the primary score), or over attributes (other macro scores).
        p_bh: of a structure, corrected over structures and attributes.
    """

    name: str
    statistic: float
    p: float
    p_holm: float | None = None
    p_bh: float | None = None


@dataclass(frozen=True)
class GapWithoutFailures:
    """The gap among patients without a failed segmentation.

    Attributes:
        value: highest minus lowest group mean.
        interval: simultaneous over the pairs.
        interval_adjusted: at the level at which the correction judged the p of the test.
        patients: group -> patients of each group that takes part.
    """

    value: float | None = None
    interval: Interval | None = None
    interval_adjusted: Interval | None = None
    patients: dict[str, int] | None = None


@dataclass(frozen=True)
class RankTest:
    """The rank test of all groups."""

    name: str
    p: float | None


@dataclass(frozen=True)
class AllPatients:
    """The difference of two group means over all patients."""

    difference: float
    interval: Interval | None


@dataclass(frozen=True)
class PairSummary:
    """Two groups compared, the first minus the second.

    Attributes:
        first: name of a group.
        second: name of another group.
        difference: of the means of patients without a failed segmentation.
        interval: of it, simultaneous over the pairs.
        interval_adjusted: at the level at which the correction judged `p`.
        welch: Welch's interval of this pair only.
        p: corrected over the pairs.
        p_holm: corrected over the family of the attribute's test too.
        all_patients: the same difference over all patients.
        p_brunner_munzel: corrected over the pairs.
        p_mann_whitney: with more than two groups Dunn's, corrected over the pairs.
        cliffs_delta: P(first > second) - P(first < second).
    """

    first: str
    second: str
    difference: float | None
    interval: Interval | None
    interval_adjusted: Interval | None
    welch: Interval | None
    p: float | None
    p_holm: float | None
    all_patients: AllPatients
    p_brunner_munzel: float | None
    p_mann_whitney: float | None
    cliffs_delta: float


@dataclass(frozen=True)
class AttributeSummary:
    """The comparison of the groups of one attribute, or of a pair of attributes, in one score.

    Attributes:
        worst: the largest error.
        gap: highest minus lowest mean over all patients.
        sd: standard deviation of the group means.
        es: equity-scaled score; undefined for distances.
        ser: skewed error ratio.
        test: None if fewer than two groups can be tested.
        gap_without_failures: the gap that `test` is about.
        rank: None if a group has a single patient.
        pairs: of ranked groups, in the order of the groups.
        detectable: the difference of the pair with the least power that a single test detects with 80 % power.
        equivalence: None without a margin.
        warnings: sentences.
    """

    worst: WorstError = WorstError()
    gap: Summary = Summary()
    sd: Summary = Summary()
    es: Summary = Summary()
    ser: ErrorRatio = ErrorRatio()
    test: GroupTest | None = None
    gap_without_failures: GapWithoutFailures = GapWithoutFailures()
    rank: RankTest | None = None
    pairs: list[PairSummary] = field(default_factory=list)
    detectable: float | None = None
    equivalence: Equivalence | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Mean:
    """The mean over patients; the interval needs `inference.MIN_INTERVAL_PATIENTS`."""

    mean: float | None
    interval: Interval | None
    patients: int
    cases: int


@dataclass(frozen=True)
class GroupMean(Mean):
    """The mean of one group, whether it is ranked, and the reason if it is not."""

    unranked: str | None
    ranked: bool


@dataclass(frozen=True, kw_only=True)
class StructureScores:
    """One score of one structure.

    Attributes:
        overall: over all patients.
        groups: group name -> its mean.
        summaries: attribute, or two attributes joined by a comma -> comparison of its groups.
    """

    overall: Mean
    groups: dict[str, GroupMean] = field(default_factory=dict)
    summaries: dict[str, AttributeSummary] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ScoreResult:
    """One score: the macro score over all structures, and each structure by name."""

    structures: dict[str, StructureScores]
    overall: Mean
    groups: dict[str, GroupMean]
    summaries: dict[str, AttributeSummary]

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of `scores` in `report.json`."""
        return asdict(self)


@dataclass(frozen=True)
class MeanChange:
    """The means of two models over the patients with a score by both, and their difference; None is undefined.

    Attributes:
        first: the first model's mean.
        second: that of the second model.
        value: second minus first, in the score's unit.
        interval: equal-tailed, by the studentized bootstrap, at 95 %.
        p: two-sided, not corrected.
        p_holm: corrected over pairs of models.
    """

    first: float | None = None
    second: float | None = None
    value: float | None = None
    interval: Interval | None = None
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class GapChange:
    """The gaps of two models between the same groups of patients, and their difference; None is undefined.

    Attributes:
        patients: patients of the ranked groups with a score by both models; one with cases in several groups counts in
            each.
        first: the first model's highest minus lowest group mean.
        second: that of the second model.
        value: second minus first; negative where the second model's gap is smaller.
        interval: for the change in the population, at 95 %; None where a group has fewer than
            `bootstrap.MIN_PATIENTS` patients or there are too few swaps.
        p: two-sided, not corrected; None where a group is that small.
        p_holm: corrected over pairs of models and attributes.
    """

    patients: int = 0
    first: float | None = None
    second: float | None = None
    value: float | None = None
    interval: Interval | None = None
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class GroupChange:
    """The change of a group's mean, second model minus first; None is undefined.

    Attributes:
        group: its name, `sex=female`.
        patients: patients of the group with a score by both models.
        first: the first model's mean over these patients.
        second: that of the second model.
        value: second minus first, in the score's unit.
        interval: as that of `MeanChange`; not corrected for the number of groups.
    """

    group: str
    patients: int
    first: float | None = None
    second: float | None = None
    value: float | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class ModelPair:
    """Two models compared on the `patients` with a score by both, for the groups of one attribute."""

    first: str
    second: str
    attribute: str
    patients: int
    change_of_mean: MeanChange
    change_of_gap: GapChange
    change_by_group: list[GroupChange]


@dataclass(frozen=True)
class ModelPairs:
    """Every pair of models and attribute; `order` names the models as given."""

    score: str
    order: list[str]
    pairs: list[ModelPair]

    def to_dict(self) -> dict[str, Any]:
        """Return the `models` of `report.json`."""
        return asdict(self)
