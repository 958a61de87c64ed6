"""Measures how far two readers differ in a score: in the mean over patients, and in a single patient."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

# The mean difference of fewer patients whom both readers read is too uncertain to use.
MIN_PATIENTS = 5
CONFIDENCE = 0.95
# Limits of agreement are this many standard deviations from the mean (Bland and Altman 1986).
AGREEMENT_SD = 1.96


@dataclass(frozen=True)
class ReaderAgreement:
    """The differences of two readers in one score, the first reader minus the second, over patients.

    The estimand of `margin` is the difference of the readers' mean scores in the population of patients. It is on the
    scale of a gap, a difference of group means. The margin is the end of its interval that is nearest to zero. With
    few patients the absolute value of an estimate is too large on average, and a margin that is too large makes claims
    of equivalence false. The limits of agreement are another quantity: how far the readers differ in a single patient.
    They are not a margin for differences of means.

    Attributes:
        patients: whom both readers read.
        mean_difference: signed, in the score's unit.
        interval: of the mean difference, at 95 % (Student's t).
        limits_of_agreement: mean difference -+ 1.96 standard deviations of the patients' differences (Bland and Altman,
            Lancet 327, 1986).
        margin: distance of the interval of the mean difference from zero; 0, which is no margin, if it includes zero.
    """

    patients: int
    mean_difference: float
    interval: tuple[float, float]
    limits_of_agreement: tuple[float, float]
    margin: float


def reader_agreement(differences: np.ndarray) -> ReaderAgreement:
    """Summarize the differences of two readers.

    Args:
        differences: f64[P], the first reader's score minus the second's, one a patient; P at least 2, none NaN.
    """
    patients, mean, spread = len(differences), float(differences.mean()), float(differences.std(ddof=1))
    half = float(stats.t.isf((1 - CONFIDENCE) / 2, patients - 1) * spread / np.sqrt(patients))
    return ReaderAgreement(
        patients=patients,
        mean_difference=mean,
        interval=(mean - half, mean + half),
        limits_of_agreement=(mean - AGREEMENT_SD * spread, mean + AGREEMENT_SD * spread),
        margin=max(abs(mean) - half, 0.0),
    )
