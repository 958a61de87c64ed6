"""Computes the calibration of predicted probabilities by group, from the sums of `metrics.reliability` over cases.

The expected calibration error of a case is a mean of absolute differences, which noise increases: perfectly calibrated
probabilities with correlated pixels have an ECE of 0.06 to 0.10 in discs of 8 pixels' radius and about 0.01 in discs of
32 (docs/statistics.md). So groups with smaller bones would look worse calibrated, and the ECE is not compared by group.
Noise cancels in two other measures:

* the bias, mean probability minus share of true pixels ("calibration in the large");
* the slope of the logistic regression of truth on the logit of the probability (Cox, Biometrika 45, 1958): 1 if
  probabilities are calibrated, below 1 if they are too extreme (overconfident). The slope of an overconfident network
  hardly depends on the share of the pixels near a contour.

Each patient has weight 1, and each structure's box weight 1 in its case.
"""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats

from kneefair_jax import groups
from kneefair_jax.fairness.inference import MIN_INTERVAL_PATIENTS

ALL = "all"
LEVEL = 0.05
# A bin's mean probability is clipped to this distance from 0 and 1, because sums of float32 are no more exact.
_LEAST = 1e-6
# With a larger slope, probabilities separate true from false pixels, and the slope is undefined.
_LARGEST_SLOPE = 100.0
_ITERATIONS = 50


class Sums(NamedTuple):
    """Pixels of each bin, sums of their probabilities, and counts of true pixels of N cases; f[N, S, bins] each."""

    pixels: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


@dataclass(frozen=True)
class GroupCalibration:
    """The calibration of one group; None if undefined, intervals (95 %) also with too few patients.

    Attributes:
        patients: those with pixels of any structure.
        bias: mean probability minus share of true pixels.
        bias_interval: Student's t over patients.
        slope: of the logistic regression of truth on the logit of the probability.
        slope_interval: by standard errors clustered by patient and Student's t.
    """

    patients: int
    bias: float | None
    bias_interval: tuple[float, float] | None
    slope: float | None
    slope_interval: tuple[float, float] | None


def calibration(
    sums: Sums, cases: pd.DataFrame, attributes: tuple[str, ...], intersections: bool = True
) -> dict[str, Any]:
    """Return the `calibration` of `report.json`, for all patients and the groups of each attribute and each pair.

    Args:
        sums: of the N cases.
        cases: `patient_id` and the categorical attribute columns.
        attributes: columns of the cases.
        intersections: whether pairs of attributes are among the groups.

    Returns:
        `groups`: group -> `GroupCalibration` as a dict; `curves`: group -> `confidence` and `accuracy`, means over the
        pixels of each bin of all structures and cases (None for an empty bin), and `pixels`, their number.
    """
    members = {ALL: np.ones(len(cases), bool)}
    for partition in groups.partitions(cases, attributes, intersections):
        members |= {name: partition.index == g for g, name in enumerate(partition.names)}
    patients, shares = cases["patient_id"].to_numpy(), _shares(sums)
    return {
        "groups": {
            name: asdict(_calibration(_patient_shares(shares[member], patients[member])))
            for name, member in members.items()
        },
        "curves": {name: _curve(Sums(*(part[member] for part in sums))) for name, member in members.items()},
    }


def _shares(sums: Sums) -> np.ndarray:
    """Return `Sums` of each case as shares of a box's pixels, averaged over structures: f64[N, 3, bins]."""
    total = sums.pixels.sum(2, dtype=float)
    parts = np.stack(sums, axis=2).astype(float)
    boxes = np.divide(
        parts, total[:, :, None, None], out=np.zeros_like(parts), where=total[:, :, None, None] > 0
    )
    count = (total > 0).sum(1)
    shares: np.ndarray = np.divide(
        boxes.sum(1),
        count[:, None, None],
        out=np.full(boxes[:, 0].shape, np.nan),
        where=count[:, None, None] > 0,
    )
    return shares


def _patient_shares(shares: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Return means over the cases of each patient, f64[P, 3, bins]; patients without pixels are excluded."""
    has_pixels = ~np.isnan(shares[:, 0, 0])
    flat = shares[has_pixels].reshape(has_pixels.sum(), shares[0].size)
    means = np.asarray(pd.DataFrame(flat).groupby(patients[has_pixels]).mean(), float)
    return means.reshape(len(means), *shares.shape[1:])


def _calibration(patient_shares: np.ndarray) -> GroupCalibration:
    patient_count = len(patient_shares)
    if not patient_count:
        return GroupCalibration(0, None, None, None, None)
    biases = (patient_shares[:, 1] - patient_shares[:, 2]).sum(1)
    bias, (slope, error) = float(biases.mean()), _slope(*patient_shares.swapaxes(0, 1))
    bias_interval = slope_interval = None
    if patient_count >= MIN_INTERVAL_PATIENTS:
        quantile = float(stats.t.ppf(1 - LEVEL / 2, patient_count - 1))
        half = quantile * float(biases.std(ddof=1)) / np.sqrt(patient_count)
        bias_interval = (bias - half, bias + half)
        if slope is not None and error is not None:
            slope_interval = (slope - quantile * error, slope + quantile * error)
    return GroupCalibration(patient_count, bias, bias_interval, slope, slope_interval)


def _slope(
    pixels: np.ndarray, confidence: np.ndarray, accuracy: np.ndarray
) -> tuple[float, float] | tuple[None, None]:
    """Return the slope of truth on the logit of each bin's mean probability, and its error clustered by patient.

    Args:
        pixels: f64[P, bins], the patients' shares of pixels.
        confidence: f64[P, bins], sums of the pixels' probabilities.
        accuracy: f64[P, bins], shares of true pixels.
    """
    filled_bins = pixels.sum(0) > 0
    pixels, confidence, accuracy = (
        pixels[:, filled_bins],
        confidence[:, filled_bins].sum(0),
        accuracy[:, filled_bins],
    )
    mean_probability = np.clip(confidence / pixels.sum(0), _LEAST, 1 - _LEAST)
    design = np.stack([np.ones(len(mean_probability)), special.logit(mean_probability)], axis=1)
    if len(mean_probability) < 2:
        return None, None
    coefficients = np.array([0.0, 1.0])
    for _ in range(_ITERATIONS):
        expected = special.expit(design @ coefficients)
        information = design.T @ (design * (pixels.sum(0) * expected * (1 - expected))[:, None])
        if np.linalg.cond(information) > 1 / np.finfo(float).eps:
            return None, None
        step = np.linalg.solve(information, design.T @ (accuracy.sum(0) - pixels.sum(0) * expected))
        coefficients = coefficients + step
        if not abs(coefficients[1]) < _LARGEST_SLOPE:
            return None, None
        if np.abs(step).max() < 1e-9:
            break
    else:
        return None, None
    scores = (accuracy - pixels * expected) @ design
    inverse = np.linalg.inv(information)
    variance = inverse @ (scores.T @ scores) @ inverse * len(pixels) / max(len(pixels) - 1, 1)
    return float(coefficients[1]), float(np.sqrt(variance[1, 1]))


def _curve(sums: Sums) -> dict[str, list[float | None]]:
    pixels, confidence, accuracy = (part.sum((0, 1), dtype=np.float64) for part in sums)
    means = [
        np.divide(x, pixels, out=np.full(len(x), np.nan), where=pixels > 0) for x in (confidence, accuracy)
    ]
    return {
        "confidence": [_or_none(x) for x in means[0]],
        "accuracy": [_or_none(x) for x in means[1]],
        "pixels": [int(x) for x in pixels],
    }


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
