"""Measure each case without a network, and find cases far from the median."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

# An outlier is this many scaled median absolute deviations from the median (Iglewicz and Hoaglin 1993 suggest 3.5,
# which flags many of 10,000 cases), and at least 25 % from it where nearly all cases agree.
_MAX_ROBUST_Z = 5.0
_MIN_CHANGE = np.log(1.25)
_MAD_OF_NORMAL = 1.4826


class Outlier(NamedTuple):
    """A case far from the others; `value` and `median` are of `measure`."""

    case_id: str
    measure: str
    value: float
    median: float


def of_case(
    image: np.ndarray, label: np.ndarray, spacing: np.ndarray, structures: Sequence[str]
) -> dict[str, float]:
    """Return positive numbers by name: size of the picture, gray values, area of each structure.

    Args:
        image: u8[H, W, C].
        label: u8[H, W].
        spacing: f32[2], mm per pixel; NaN gives areas as a share of the picture, and no lengths.
        structures: names of labels 1, 2, ...
    """
    height, width = spacing * label.shape
    has_spacing = bool(np.isfinite(spacing).all())
    counts = np.bincount(label.ravel(), minlength=len(structures) + 1)[1:]
    unit, scale = ("mm2", float(np.prod(spacing))) if has_spacing else ("%", 100 / label.size)
    return {
        "height of the picture, mm": float(height),
        "width of the picture, mm": float(width),
        "mean grey value": float(image.mean()) + 1,
        "contrast (SD of grey values)": float(image.std()) + 1,
        **{f"area of {name}, {unit}": count * scale for name, count in zip(structures, counts, strict=True)},
    }


def outliers(table: pd.DataFrame) -> list[Outlier]:
    """Return the cases with a measure far from the median, on the logarithmic scale, the farthest first.

    Args:
        table: of `of_case`, indexed by case id. Zeros and NaN are not compared.
    """
    ranked = []
    for measure, values in table.items():
        logs = np.log(values[values > 0])
        if logs.empty:
            continue
        center = logs.median()
        deviation = (logs - center).abs()
        limit = max(_MAX_ROBUST_Z * _MAD_OF_NORMAL * deviation.median(), _MIN_CHANGE)
        for case_id, distance in deviation[deviation > limit].items():
            outlier = Outlier(str(case_id), str(measure), float(values[case_id]), float(np.exp(center)))
            ranked.append((distance / limit, outlier))
    return [outlier for _, outlier in sorted(ranked, key=lambda item: (-item[0], item[1]))]


def absent(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return the structures that some cases lack, each with those cases, in which its area is 0."""
    areas = [name for name in table if str(name).startswith("area of ")]
    cases_without: dict[str, list[str]] = {}
    for name in areas:
        structure = str(name).removeprefix("area of ").rpartition(", ")[0]
        cases_without.setdefault(structure, []).extend(str(case) for case in table.index[table[name] == 0])
    return {structure: cases for structure, cases in cases_without.items() if cases}
