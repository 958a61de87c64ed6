"""Reliability curves and calibration errors by group, from the sums of `metrics.reliability` over cases."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import groups

ALL = "all"


class Sums(NamedTuple):
    """Of N cases: pixels of each bin, the sum of their probabilities, and how many are true; f[N, S, bins] each."""

    pixels: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def calibration(
    sums: Sums, cases: pd.DataFrame, attributes: tuple[str, ...], intersections: bool = True
) -> dict[str, Any]:
    """The `calibration` of `report.json`, for everyone and for the groups of each attribute and each pair.

    Args:
        sums: of the N cases.
        cases: `patient_id` and the categorical attribute columns.
        attributes: their columns.
        intersections: whether pairs of attributes are among the groups.

    Returns:
        `ece`: group -> mean over patients of their cases' mean over structures; `curves`: group -> `confidence` and
        `accuracy`, means over the pixels of each bin of all structures and cases together (None where it has none), and
        `pixels`, how many.
    """
    total = sums.pixels.sum(2)
    apart = np.abs(sums.accuracy - sums.confidence).sum(2)
    error = np.divide(apart, total, out=np.full(total.shape, np.nan), where=total > 0)
    macro = pd.DataFrame(error).mean(axis=1)
    members = {ALL: np.ones(len(cases), bool)}
    for partition in groups.partitions(cases, attributes, intersections):
        members |= {name: partition.index == g for g, name in enumerate(partition.names)}
    patients = cases["patient_id"].to_numpy()
    return {
        "ece": {
            name: _or_none(macro[member].groupby(patients[member]).mean().mean())
            for name, member in members.items()
        },
        "curves": {name: _curve(Sums(*(part[member] for part in sums))) for name, member in members.items()},
    }


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
