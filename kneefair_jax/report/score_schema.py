"""Types of the scores, rates and models in `report.json`; `schema` has the report as a whole.

Each class is a JSON object with its keys. Keys that only some reports have are `NotRequired`.
"""

from typing import NotRequired, TypedDict

type Interval = list[float]  # lower and upper end


class Estimate(TypedDict):
    """A value over patients with its interval and test, as `fairness.results.Estimate`."""

    estimate: float | None
    interval: Interval | None
    n: int
    p: float | None
    p_adjusted: float | None
    method: str


class RateDifference(Estimate):
    """The difference of two rates, as `fairness.rates.Difference`."""

    tallies: list[list[int]]
    interval_adjusted: Interval | None


class RatePair(TypedDict):
    """The difference of the rates of two groups, the first minus the second."""

    first: str
    second: str
    difference: RateDifference


class RateComparison(TypedDict):
    """The comparison of the rates of one attribute's groups."""

    test: Estimate | None
    pairs: list[RatePair]
    unranked: dict[str, RateDifference]


class GroupRate(TypedDict):
    """The rate of an endpoint in one group."""

    count: int
    rate: Estimate
    ranked: bool
    unranked: str | None


class StructureRates(TypedDict):
    """The rates of an endpoint in one structure."""

    overall: Estimate
    groups: dict[str, GroupRate]
    tests: dict[str, Estimate]


class Endpoint(TypedDict):
    """The rates of an endpoint over all structures, by group, and in each structure."""

    score: str | None
    threshold: float | None
    adverse: bool
    reason: str | None
    count: int
    overall: Estimate | None
    groups: dict[str, GroupRate]
    comparisons: dict[str, RateComparison]
    structures: dict[str, StructureRates]


class SmallGroupTest(Estimate):
    """The difference in mean between a small group and all other patients."""

    patients: int


class Rates(TypedDict):
    """Failure rates and other endpoints; `small_groups` is score -> attribute -> group -> test."""

    failure_dice: float
    endpoints: dict[str, Endpoint]
    small_groups: dict[str, dict[str, dict[str, SmallGroupTest]]]


class Mean(TypedDict):
    """The mean score of a set of patients."""

    mean: float | None
    interval: Interval | None
    patients: int
    cases: int


class GroupRow(Mean):
    """The mean score of a group; `unranked` states why the group is not ranked."""

    ranked: NotRequired[bool]
    unranked: NotRequired[str | None]


class Statistic(TypedDict):
    """A summary of group means."""

    value: float | None
    interval: Interval | None


class WorstGroup(Statistic):
    """The largest error of a group, and its name."""

    group: str | None


class BeyondSize(TypedDict):
    """The ratio of two groups' errors divided by the ratio that size alone gives."""

    value: float
    interval: Interval | None
    observed: float
    expected: float
    best: str
    worst: str
    patients: dict[str, int]


class ErrorRatio(Statistic):
    """The skewed error ratio, and the ratio that size alone gives."""

    size: NotRequired[float | None]
    beyond_size: NotRequired[BeyondSize | None]


class GapTest(TypedDict):
    """The permutation test of a gap."""

    name: str
    statistic: float
    p: float
    p_holm: float | None
    p_bh: NotRequired[float | None]


class TestedGap(Statistic):
    """The gap of patients without a failed segmentation, with the number of patients by group."""

    interval_adjusted: Interval | None
    patients: dict[str, int] | None


class RankTest(TypedDict):
    """The rank test of an attribute."""

    name: str
    p: float | None


class PatientDifference(TypedDict):
    """The difference of two groups over all patients."""

    difference: float | None
    interval: Interval | None


class Pair(TypedDict):
    """The difference of two groups, the first minus the second, of patients without a failed segmentation."""

    first: str
    second: str
    difference: float | None
    interval: Interval | None
    interval_adjusted: Interval | None
    welch: Interval | None
    p: float | None
    p_holm: float | None
    all_patients: PatientDifference
    p_brunner_munzel: float | None
    p_mann_whitney: float | None
    cliffs_delta: float | None


class Equivalence(TypedDict):
    """The test of equivalence of an attribute's groups."""

    delta: float
    confidence: float
    equivalent: bool
    reason: str | None
    intervals: list[Interval]
    failure_intervals: list[Interval]


class Summary(TypedDict):
    """The inequality between the groups of an attribute in one score."""

    worst: WorstGroup
    gap: Statistic
    sd: Statistic
    es: Statistic
    ser: ErrorRatio
    test: NotRequired[GapTest | None]
    gap_without_failures: NotRequired[TestedGap]
    rank: NotRequired[RankTest | None]
    pairs: NotRequired[list[Pair]]
    detectable: NotRequired[float | None]
    equivalence: NotRequired[Equivalence | None]
    warnings: NotRequired[list[str]]


class StructureScores(TypedDict):
    """One score in one structure."""

    overall: Mean
    groups: dict[str, GroupRow]
    summaries: dict[str, Summary]


class Scores(StructureScores):
    """One score over all structures, and in each structure."""

    structures: dict[str, StructureScores]


class Interaction(TypedDict):
    """The interaction of two attributes in one score; only `reason` and `cells` where it was not tested."""

    cells: list[str]
    reason: str | None
    contrast: NotRequired[float | None]
    coefficients: NotRequired[list[float] | None]
    error: NotRequired[float | None]
    skewness: NotRequired[float | None]
    statistic: NotRequired[float | None]
    freedom: NotRequired[list[float] | None]
    p: float | None
    p_holm: float | None
    interval: Interval | None
    interval_adjusted: Interval | None


class PooledMean(TypedDict):
    """The pooled mean of a small group, as `fairness.small_groups.PooledMean`."""

    patients: int
    raw: float
    mean: float
    interval: Interval
    weight: float


class PatientsNeeded(TypedDict):
    """The patients that the smaller group needs at a margin; None for more than `fairness.power` considers."""

    margin: float
    spread: float
    failure_rate: float
    ratio: float
    span: float
    power: float
    level: float
    equivalence_level: float
    mean: int | None
    failures: int | None
    equivalence: int | None


class AttributePower(TypedDict):
    """The power of two groups of an attribute, as `fairness.attribute_power.AttributePower`."""

    groups: list[str]
    patients: list[int]
    detectable: float | None
    failure_rate: float
    detectable_failure_rate: float | None
    margin_stated: bool
    needed: PatientsNeeded


class ModelTerm(TypedDict):
    """A coefficient of an adjusted model."""

    term: str
    estimate: float
    interval: Interval
    df: float
    p: float


class ModelContrast(Estimate):
    """An adjusted gap."""

    term: str
    attribute: str
    level: str
    reference: str
    df: float


class Fit(TypedDict):
    """A fit of an adjusted model."""

    formula: str
    covariates: list[str]
    contrasts: list[ModelContrast]
    terms: list[ModelTerm]
    patients: int
    cases: int


class AdjustedModel(TypedDict):
    """The adjusted models of one score, and why variables or models are excluded."""

    formula: str
    kind: str
    references: list[str]
    left_out: list[str]
    reasons: list[str]
    without_mediators: Fit | None
    with_mediators: Fit | None
