"""How far two readers differ in a score: in the mean over patients, and in a single patient."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

# Fewer patients whom both readers read say nothing useful about the readers' mean difference.
MIN_PATIENTS = 5
CONFIDENCE = 0.95
# Differences that cancel leave a mean of rounding errors.
ZERO = 1e-12
# Standard deviations on either side of the mean that limits of agreement take (Bland and Altman 1986).
AGREEMENT_SD = 1.96


@dataclass(frozen=True)
class ReaderAgreement:
    """The differences of two readers in one score, the first reader minus the second, over patients.

    The estimand of `margin` is the difference of the readers' mean scores in the population of patients. It is on the
    scale of a gap, a difference of group means. The point estimate is taken: a margin that is too small never makes a
    claim of equivalence false, and `interval` says how uncertain it is. The limits of agreement are another quantity:
    how far the readers differ in a single patient. They are not a margin for differences of means.

    Attributes:
        patients: those whom both read.
        mean_difference: signed, in the score's unit.
        interval: of the mean difference, at 95 % (Student's t).
        limits_of_agreement: mean difference -+ 1.96 standard deviations of the patients' differences (Bland and Altman,
            Lancet 327, 1986).
        margin: the absolute value of the mean difference; 0, which is no margin, where the differences cancel.
    """

    patients: int
    mean_difference: float
    interval: tuple[float, float]
    limits_of_agreement: tuple[float, float]
    margin: float

    @property
    def includes_zero(self) -> bool:
        """Whether the mean difference is not distinguishable from zero, so that the margin says little."""
        return self.interval[0] <= 0 <= self.interval[1]


def reader_agreement(differences: np.ndarray) -> ReaderAgreement:
    """Summarize the differences of two readers.

    Args:
        differences: f64[P], the first reader's score minus the second's, one a patient; P at least 2, none NaN.
    """
    patients, mean, spread = len(differences), float(differences.mean()), float(differences.std(ddof=1))
    half = float(stats.t.isf((1 - CONFIDENCE) / 2, patients - 1)) * spread / np.sqrt(patients)
    return ReaderAgreement(
        patients=patients,
        mean_difference=mean,
        interval=(mean - half, mean + half),
        limits_of_agreement=(mean - AGREEMENT_SD * spread, mean + AGREEMENT_SD * spread),
        margin=abs(mean) if abs(mean) > ZERO else 0.0,
    )
