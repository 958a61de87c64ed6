"""Pixel spacings of a cohort's masks: other units, headers that contradict each other, and kinds of spacing."""

from collections.abc import Mapping, Sequence

import numpy as np

from kneefair_jax.audit.mask_faults import PAIR_SPACING, REFERENCE, TABLE_SPACING, UNITS, Fault, FaultyMask
from kneefair_jax.audit.mask_summary import Summary

_SAME = 0.01  # relative difference up to which two spacings are the same
# A wrong unit changes the spacing and, by its square, the area of the bones. Films that were resized have other pixels
# and bones of the same area, a cropped one has a smaller area and the same pixels. A factor of 2 makes areas 4 times as
# large, of which the size of the knee takes or adds a third; spacings of a cohort differ by some percent.
_SPACING_RATIO, _AREA_RATIO = 1.8, 2.5


def units(truth: Mapping[str, Summary], spacing: np.ndarray) -> list[FaultyMask]:
    """The cases whose pixels and bones are both far larger, or both far smaller, than those of most cases.

    Args:
        truth: case id -> reference mask.
        spacing: f[N, 2], mm per pixel as used; NaN where it is unknown.
    """
    pixels = np.array([one.pixels for one in truth.values()])
    pixel_mm2 = spacing.astype(float).prod(1)
    known = np.isfinite(pixel_mm2) & (pixels > 0)
    if not known.any():
        return []
    area = pixels * pixel_mm2
    sides = np.sqrt(pixel_mm2) / np.median(np.sqrt(pixel_mm2[known]))
    areas = area / np.median(area[known])
    faults = []
    for case, stated, side, size in zip(truth, spacing, sides, areas, strict=True):
        larger = side >= _SPACING_RATIO and size >= _AREA_RATIO
        if larger or (0 < side <= 1 / _SPACING_RATIO and 0 < size <= 1 / _AREA_RATIO):
            detail = f"{_text(stated)}, {side:.3g} times the median, areas {size:.3g} times"
            faults.append(FaultyMask(case, REFERENCE, Fault(UNITS, detail)))
    return faults


def against_table(truth: Mapping[str, Summary], spacing: np.ndarray) -> list[FaultyMask]:
    """The reference masks whose headers state another spacing than the table, f[N, 2]."""
    return [
        FaultyMask(case, REFERENCE, Fault(TABLE_SPACING, f"{_text(one.spacing)} and {_text(stated)}"))
        for (case, one), stated in zip(truth.items(), spacing, strict=True)
        if differ(one.spacing, stated)
    ]


def against_reference(
    truth: Mapping[str, Summary], predictions: Mapping[str, Summary | None], model: str
) -> list[FaultyMask]:
    """The predictions whose headers state another spacing than those of their reference masks."""
    return [
        FaultyMask(case, model, Fault(PAIR_SPACING, f"{_text(true.spacing)} and {_text(one.spacing)}"))
        for (case, true), one in zip(truth.items(), predictions.values(), strict=True)
        if one is not None and differ(true.spacing, one.spacing)
    ]


def differ(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two spacings, f[2], are known and not the same."""
    both = np.stack([first, second])
    return bool(np.isfinite(both).all() and not np.allclose(both[0], both[1], rtol=_SAME))


def kinds(masks: Mapping[str, Summary], name: str) -> list[str]:
    """A note on the kinds of spacing that headers state, where masks differ in them.

    Args:
        masks: case id -> mask.
        name: of such masks, for the note.
    """
    cases_of: dict[str, list[str]] = {}
    for case, mask in masks.items():
        if np.isfinite(mask.spacing).all():
            cases_of.setdefault(mask.spacing_kind, []).append(case)
    if len(cases_of) < 2:
        return []
    counts = ", ".join(f"{kind} in {len(cases)} (such as {cases[0]})" for kind, cases in cases_of.items())
    return [
        f"the headers of the {name} state spacings of different kinds, which differ in magnification: {counts}"
    ]


def pair_kinds(truth: Mapping[str, Summary], predictions: Mapping[str, Summary | None], of: str) -> list[str]:
    """A note on the cases whose reference mask and prediction state spacings of different kinds."""
    pairs = {
        case: (true.spacing_kind, one.spacing_kind)
        for (case, true), one in zip(truth.items(), predictions.values(), strict=True)
        if one is not None
        and np.isfinite(np.stack([true.spacing, one.spacing])).all()
        and true.spacing_kind != one.spacing_kind
    }
    if not pairs:
        return []
    case, (first, second) = next(iter(pairs.items()))
    return [
        f"the headers of reference mask and prediction{of} state spacings of different kinds in {len(pairs)} of "
        f"{len(truth)} cases (such as {case}: {first} and {second})"
    ]


def _text(spacing: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{float(value):.4g}" for value in spacing) + " mm"
