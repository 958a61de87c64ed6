"""Defines an estimate as every report gives it: value, interval, sample size, p value and method."""

from dataclasses import dataclass


@dataclass(frozen=True)
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
