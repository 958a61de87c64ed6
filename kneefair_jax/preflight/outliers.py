"""Find cases that differ from their cohort: measures far from the median, and masks that fit only after a turn.

This needs no network, so it holds for any structures. A mask's contours are laid over the film in the eight
orientations; the orientation with the strongest edges below the contours fits.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from kneefair_jax import measurements
from kneefair_jax.data.readers import ORIENTATIONS
from kneefair_jax.measurements import MEASUREMENTS

# An outlier is this many scaled median absolute deviations from the median (Iglewicz and Hoaglin 1993 suggest 3.5,
# which flags many of 10,000 cases), and at least 25 % from it where nearly all cases agree.
_MAX_ROBUST_Z = 5.0
_MIN_CHANGE = np.log(1.25)
_MIN_DEGREES = 10.0  # of an angle, in place of the 25 %
# Joint spaces are left out, since disease narrows them to 0: their outliers are patients and no faults.
_MEASUREMENTS = (
    *("fta", "aldfa", "ampta"),
    *("bicondylar_width", "plateau_width", "width_ratio", "patella_width", "patella_height"),
)
_MAD_OF_NORMAL = 1.4826
NONE = "none"
_MIN_CONTOUR = 16  # pixels of a contour
# The least rise of the mean rank of the edges. For 60 JSRT chest films and 120 phantom knees with correct masks, it
# never rises that much; for misoriented masks, the correct orientation leads by 0.06 to 0.3.
_MIN_RISE = 0.04
# A cohort is judged if it is large enough and most cases fit best in one or two orientations (two sites).
_MIN_CASES, _MIN_AGREEMENT = 8, 0.8
_MIN_SHARE = 0.9  # of the cases that one orientation must fit to be the cohort's


class Outlier(NamedTuple):
    """A case far from the others; `value` and `median` are of `measure`."""

    case_id: str
    measure: str
    value: float
    median: float


def of_case(
    image: np.ndarray,
    label: np.ndarray,
    spacing: np.ndarray,
    structures: Sequence[str],
    has_label: np.ndarray | None = None,
) -> dict[str, float]:
    """Return numbers by name: size of the picture, gray values, area of each structure, widths and angles of knees.

    Args:
        image: u8[H, W, C].
        label: u8[H, W].
        spacing: f32[2], mm per pixel; NaN gives areas as a share of the picture, and neither lengths nor angles, since
            the working grid may stretch a film. Measurements are NaN where they cannot be taken, and left out for
            structures that are no knee.
        structures: names of labels 1, 2, ...
        has_label: bool[S], which structures the mask shows; the areas of the others are NaN. None: all.
    """
    height, width = spacing * label.shape
    has_spacing = bool(np.isfinite(spacing).all())
    counts = np.bincount(label.ravel(), minlength=len(structures) + 1)[1:].astype(float)
    if has_label is not None:
        counts[~has_label] = np.nan
    unit, scale = ("mm2", float(np.prod(spacing))) if has_spacing else ("%", 100 / label.size)
    return {
        "height of the picture, mm": float(height),
        "width of the picture, mm": float(width),
        "mean grey value": float(image.mean()) + 1,
        "contrast (SD of grey values)": float(image.std()) + 1,
        **{
            f"area of {name}, {unit}": float(count) * scale
            for name, count in zip(structures, counts, strict=True)
        },
        **(_measurements(label, tuple(spacing.tolist()), structures) if has_spacing else {}),
    }


def _measurements(
    label: np.ndarray, spacing: tuple[float, float], structures: Sequence[str]
) -> dict[str, float]:
    values = {}
    for side in measurements.knees_of(structures):
        knee = measurements.measure(measurements.whole_bones(label, structures, side), spacing, side)
        for name in _MEASUREMENTS:
            values[f"{side} {name}, {MEASUREMENTS[name].unit}".lstrip()] = knee[name].value
    return values


def outliers(table: pd.DataFrame) -> list[Outlier]:
    """Return the cases with a measure far from the median, the farthest first.

    Angles are compared as they are, other measures on the logarithmic scale.

    Args:
        table: of `of_case`, indexed by case id. NaN, and zeros that are no angles, are not compared.
    """
    ranked = []
    for measure, values in table.items():
        is_angle = str(measure).endswith(", degrees")
        places = values.dropna() if is_angle else np.log(values[values > 0])
        if places.empty:
            continue
        center = places.median()
        deviation = (places - center).abs()
        least = _MIN_DEGREES if is_angle else _MIN_CHANGE
        limit = max(_MAX_ROBUST_Z * _MAD_OF_NORMAL * deviation.median(), least)
        median = float(center if is_angle else np.exp(center))
        for case_id, distance in deviation[deviation > limit].items():
            outlier = Outlier(str(case_id), str(measure), float(values[case_id]), median)
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


class Misoriented(NamedTuple):
    """A case whose mask fits its film better in another orientation.

    Attributes:
        case_id: the case.
        orientation: a name of `readers.ORIENTATIONS`.
        edge_rank: mean rank, 0 to 1, of the film's edges below the contours in that orientation.
        edge_rank_as_read: the same of the mask as read.
    """

    case_id: str
    orientation: str
    edge_rank: float
    edge_rank_as_read: float


def edge_ranks(image: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Return the mean rank, 0 to 1, of the film's edges below the contours, by orientation; empty without contours.

    Args:
        image: u8[H, W, C].
        label: u8[H, W].
    """
    ranks = _ranks(image)
    result = {}
    for name, orientation in ORIENTATIONS.items():
        contour = _contour(orientation.apply(label))
        if contour.shape == ranks.shape and np.count_nonzero(contour) >= _MIN_CONTOUR:
            result[name] = float(ranks[contour].mean())
    return result


def misoriented(cases: Mapping[str, Mapping[str, float]]) -> list[Misoriented]:
    """Return the cases whose mask fits clearly better in another orientation.

    Masks that do not follow the edges of their films fit best in arbitrary orientations; then no case is returned.

    Args:
        cases: case id -> `edge_ranks`.
    """
    best = {case: max(ranks, key=ranks.__getitem__) for case, ranks in cases.items() if ranks}
    if len(best) < _MIN_CASES:
        return []
    if sum(count for _, count in Counter(best.values()).most_common(2)) < _MIN_AGREEMENT * len(best):
        return []
    return [
        Misoriented(case, name, cases[case][name], cases[case][NONE])
        for case, name in best.items()
        if cases[case][name] >= cases[case][NONE] + _MIN_RISE
    ]


def consistent(cases: Sequence[Misoriented], count: int) -> str:
    """Return the orientation that fits nearly all `count` cases of a cohort; "" if there is none."""
    if not cases:
        return ""
    name, frequency = Counter(case.orientation for case in cases).most_common(1)[0]
    return name if frequency >= _MIN_SHARE * count else ""


def _ranks(image: np.ndarray) -> np.ndarray:
    """Return f64[H, W], the rank of each pixel's gradient magnitude, 0 to 1, which ignores exposure and contrast."""
    down, across = np.gradient(image.astype(np.float32).mean(axis=2))
    magnitude = np.hypot(down, across)
    ranks: np.ndarray = stats.rankdata(magnitude, axis=None).reshape(magnitude.shape) / magnitude.size
    return ranks


def _contour(label: np.ndarray) -> np.ndarray:
    """Return bool[H, W], the pixels on both sides of every border between labels."""
    contour = np.zeros(label.shape, bool)
    down, across = label[1:] != label[:-1], label[:, 1:] != label[:, :-1]
    contour[1:] |= down
    contour[:-1] |= down
    contour[:, 1:] |= across
    contour[:, :-1] |= across
    return contour
