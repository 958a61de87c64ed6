"""Results of a comparison of methods over seeds, as `report.json` of a study gives them."""

from dataclasses import asdict, dataclass
from typing import Any

from kneefair_jax.fairness.patient_bootstrap import Interval


@dataclass(frozen=True)
class SeedEstimate:
    """A mean over seeds with its two intervals; None where it is undefined.

    Attributes:
        value: the mean over seeds.
        per_seed: its S values.
        seeds: interval over seeds; None with one seed.
        patients: interval over patients; None if a ranked group has fewer than `bootstrap.MIN_PATIENTS`.
    """

    value: float | None
    per_seed: list[float] | None
    seeds: Interval | None
    patients: Interval | None


@dataclass(frozen=True)
class Change(SeedEstimate):
    """The change of a statistic against the baseline.

    Attributes:
        p: two-sided, by a t-test over seeds.
        p_holm: corrected over the methods (`primary`), or over methods and secondary statistics together (`secondary`);
            None for the oracle.
        family: `primary` for the gap, else `secondary`.
    """

    p: float | None
    p_holm: float | None
    family: str


@dataclass(frozen=True)
class RepairableGap(SeedEstimate):
    """The baseline's gap minus the oracle's.

    Attributes:
        p: two-sided, by the paired t-test over seeds.
        significant: whether the interval over seeds lies above 0.
    """

    p: float | None
    significant: bool


@dataclass(frozen=True)
class RemainingGap:
    """A method's gap minus the oracle's, with its interval over seeds."""

    value: float
    seeds: Interval | None


@dataclass(frozen=True)
class HalfTest:
    """The one-sided test of whether a method closes more than half of the repairable gap.

    Attributes:
        value: the closed part minus half of the repairable gap.
        seeds: its interval over seeds.
        p: of the t-test over seeds.
        p_holm: corrected over the methods.
    """

    value: float
    seeds: Interval | None
    p: float | None
    p_holm: float | None


@dataclass(frozen=True)
class ClosedShare:
    """The share of the repairable gap that a method closes.

    Attributes:
        value: the share; None if there is no repairable gap.
        seeds: its interval over seeds (Fieller).
        reason: why there is no share; None if there is one.
        left: the gap that is left.
        half: None if there is no share.
    """

    value: float | None
    seeds: Interval | None
    reason: str | None
    left: RemainingGap
    half: HalfTest | None


@dataclass(frozen=True)
class Front:
    """Whether a method is on the Pareto front of the overall mean and of one other statistic, by point estimates.

    Attributes:
        worst: no other method is better in one of overall mean and worst group mean and as good in the other.
        gap: the same of the overall mean and the gap's distance from 0.
    """

    worst: bool | None
    gap: bool | None


@dataclass(frozen=True)
class Method:
    """One method; None where a statistic is undefined.

    Attributes:
        groups: name -> mean of each ranked group.
        mean: over all patients.
        worst: the lowest group mean.
        gap: highest minus lowest group mean of each seed; with two groups the signed pair.
        pair: the signed gap of the pair.
        ser: skewed error ratio.
        es: equity-scaled score.
        hd95: mean distance.
        change: statistic -> its change; None for the baseline.
        closed: None for the baseline and the oracle.
        front: None for the oracle.
    """

    groups: dict[str, float]
    mean: SeedEstimate
    worst: SeedEstimate
    gap: SeedEstimate
    pair: SeedEstimate
    ser: SeedEstimate
    es: SeedEstimate
    hd95: SeedEstimate
    change: dict[str, Change] | None
    closed: ClosedShare | None
    front: Front | None


@dataclass(frozen=True)
class GroupSize:
    """The patients of a group, and whether it is ranked."""

    patients: int
    ranked: bool


@dataclass(frozen=True)
class Pair:
    """The names of the groups that the baseline scores best and worst."""

    best: str
    worst: str


@dataclass(frozen=True)
class Power:
    """The power of the primary family to find one method's change of the gap.

    Attributes:
        change: the true change: the repairable gap if it is significant, else `method_comparison.REPAIRABLE`.
        sd: of a change over seeds: of this study if it has one, else `method_comparison.SD`.
        own_change: whether `change` is that of this study.
        own_sd: whether `sd` is that of this study.
        power: the probability.
    """

    change: float
    sd: float
    own_change: bool
    own_sd: bool
    power: float


@dataclass(frozen=True)
class Comparison:
    """The comparison of a study's methods.

    Attributes:
        baseline: the method with which the others are compared.
        oracle: the method that shows what training can repair, or None.
        confidence: of every interval.
        seeds: number of seeds.
        patients: patients with a score in every run.
        left_out: patients without one.
        groups: name -> its size.
        pair: None if fewer than two groups are ranked.
        repairable: None without an oracle.
        power: None for a single seed or no method.
        methods: by name.
    """

    baseline: str
    oracle: str | None
    confidence: float
    seeds: int
    patients: int
    left_out: int
    groups: dict[str, GroupSize]
    pair: Pair | None
    repairable: RepairableGap | None
    power: Power | None
    methods: dict[str, Method]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON, None for what is undefined."""
        return asdict(self)
