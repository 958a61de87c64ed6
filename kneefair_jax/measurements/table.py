"""Measurements as rows of a table."""

from collections.abc import Iterator, Mapping

import numpy as np

from kneefair_jax.measurements.definitions import MEASUREMENTS
from kneefair_jax.measurements.measure import Measurement

COLUMNS = ("knee", "measurement", "value", "unit", "reason", "note", "spacing_kind")


def rows(knee: str, results: Mapping[str, Measurement], spacing_kind: str) -> Iterator[tuple[str, ...]]:
    """Yield a row of `COLUMNS` for each measurement; the value is empty where a reason says why there is none.

    Args:
        knee: its side, or "".
        results: its measurements.
        spacing_kind: of `spacing.BoneSpacing`.
    """
    for name, result in results.items():
        value = f"{result.value:.4f}" if np.isfinite(result.value) else ""
        yield (knee, name, value, MEASUREMENTS[name].unit, result.reason, result.note, spacing_kind)
