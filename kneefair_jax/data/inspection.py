"""Inspect the files of a case while they are decoded, and summarize the inspections of a cohort as notes.

Two faults of a label mask are detected: interpolated labels, and a void label mapped to background. These checks are
pure functions of the values in the file, so that `--mode=check` and an audit share them.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from kneefair_jax.data.readers import limits

_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")
_LISTED_CASES = 5
# A rim is at most this wide, in pixels or as a share of the picture's smaller side.
_RIM_PIXELS, _RIM_SHARE = 4, 1 / 64
# `benchmarks/interpolated_labels.py`: of 400 phantoms at 128 and at 256 pixels and 100 films of both knees each, exact
# or resized by nearest neighbor, the largest share is 0.114; of those resized, turned or moved by linear interpolation,
# the smallest is 0.321 (0.268 where areas are averaged).
_INTERPOLATED = 0.18
_FEWEST_RIMS = 8
_BLOCK = 1 << 20  # pixels counted at a time
# A label with a larger share of rim pixels is a thin structure, such as cartilage between background and bone.
_MAX_RIM_PIXELS = 0.5
# A void band covers most of the structures' outlines, and is thin compared with the picture.
_OUTLINE = 0.5
_BAND_PIXELS, _BAND_SHARE = 2.0, 1 / 24
EXPORT_LABELS = "export the labels again by nearest neighbor, without interpolation"


class Inspection(NamedTuple):
    """Facts about the files of one case, recorded when they are decoded so that nothing decodes them again.

    Attributes:
        spacing_kind: `table`, or of `readers.Radiograph`; "" where the source does not state it.
        notes: warnings on the headers of film and mask.
        interpolated: whether the mask has interpolated labels, by `interpolated_rims`.
        mask_sha256: hex digits, of the labels; "" for a mask without a structure.
        void_pixels: the number of void pixels in the mask's file.
    """

    spacing_kind: str = ""
    notes: tuple[str, ...] = ()
    interpolated: bool = False
    mask_sha256: str = ""
    void_pixels: int = 0


def inspect_mask(
    label: np.ndarray,
    spacing_kind: str = "",
    notes: Sequence[str] = (),
    *,
    values: np.ndarray | None = None,
    void: int = -1,
) -> Inspection:
    """Inspect a mask.

    Args:
        label: u8[H, W] at native resolution, 0 for background.
        spacing_kind: see `Inspection`.
        notes: see `Inspection`.
        values: integers [H, W], the mask as the file stores it, if its values differ from the labels or if it shows
            more than the case; interpolation mixes the values of the file.
        void: the value of void pixels in `values`; -1 for none.
    """
    values = label if values is None else values
    is_void = values == void
    void_pixels = int(np.count_nonzero(is_void))
    structures = np.where(is_void, 0, values) if void_pixels else values
    interpolated = interpolated_rims(structures).interpolated
    return Inspection(spacing_kind, tuple(notes), interpolated, _sha256(label), void_pixels)


def spacing_notes(film: np.ndarray, mask: np.ndarray, table: np.ndarray) -> list[str]:
    """Return a note if the statements of one case's spacing differ by more than rounding (`limits.SPACING_RTOL`).

    Film and mask are on one grid, so their pixels have one size, and an error of 1 % in it is one of 2 % in areas.

    Args:
        film: f32[2], mm per pixel down and across by the film's header; NaN where it states none.
        mask: the same by the mask's header, laid out as the film.
        table: the same by the table, which has precedence.
    """
    statements = {"the film's header": film, "the mask's header": mask, "the table": table}
    stated = {name: mm for name, mm in statements.items() if np.isfinite(mm).all()}
    if all(limits.same_spacing(first, second) for first, second in combinations(stated.values(), 2)):
        return []
    sizes = np.stack([*stated.values()]).astype(float)
    difference = 100 * (sizes.max(axis=0) / sizes.min(axis=0) - 1).max()
    percent = f"{difference:.0f}" if difference >= 10 else f"{difference:.2g}"
    texts = " and ".join(f"{limits.format_mm(mm)} by {name}" for name, mm in stated.items())
    return [f"the pixel spacing is {texts}, a difference of {percent} %; correct the wrong one"]


def encode(inspection: Inspection | None) -> str:
    """Return the inspection as text, for the files of a store; "" for None."""
    return json.dumps(inspection) if inspection is not None else ""


def decode(text: str) -> Inspection | None:
    """Invert `encode`."""
    if not text:
        return None
    kind, notes, interpolated, sha256, void_pixels = json.loads(text)
    return Inspection(str(kind), tuple(map(str, notes)), bool(interpolated), str(sha256), int(void_pixels))


def _sha256(label: np.ndarray) -> str:
    if not label.any():
        return ""
    return hashlib.sha256(str(label.shape).encode() + label.astype(np.uint8).tobytes()).hexdigest()


def aggregate_notes(case_ids: Sequence[str], notes: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each kind of note: its text in the first case with it, and the cases with it.

    Notes that differ only in numbers are of one kind.

    Args:
        case_ids: of N cases.
        notes: of each case.
    """
    texts: dict[str, str] = {}
    cases: dict[str, list[str]] = {}
    for case_id, case_notes in zip(case_ids, notes, strict=True):
        for kind, text in {_NUMBER.sub("#", text): text for text in case_notes}.items():
            texts.setdefault(kind, text)
            cases.setdefault(kind, []).append(case_id)
    return [f"{text} (in {format_cases(cases[kind], len(case_ids))})" for kind, text in texts.items()]


def format_cases(cases: Sequence[str], count: int) -> str:
    """Return `3 of 24 cases: c1, c2, c3`, with at most five names; `count` is the number of all cases."""
    ellipsis = ", ..." if len(cases) > _LISTED_CASES else ""
    return f"{len(cases)} of {count} cases: {', '.join(cases[:_LISTED_CASES])}{ellipsis}"


def cohort_notes(case_ids: Sequence[str], inspections: Sequence[Inspection | None]) -> list[str]:
    """Return the notes on a cohort's headers: each kind of note, and the kinds of spacing where there are several.

    Args:
        case_ids: of N cases.
        inspections: of each case; () where none is recorded.
    """
    recorded = [
        (case, inspection)
        for case, inspection in zip(case_ids, inspections, strict=bool(inspections))
        if inspection
    ]
    notes = aggregate_notes([case for case, _ in recorded], [inspection.notes for _, inspection in recorded])
    kinds = spacing_kinds(inspections)
    if len(kinds) > 1:
        counts = ", ".join(f"{kind} in {count}" for kind, count in sorted(kinds.items()))
        notes.append(
            f"the pixel spacing of the films is of different kinds: {counts} of {len(recorded)} cases"
        )
    return notes


def void_note(inspections: Sequence[Inspection | None], value: int) -> str:
    """Return how many pixels have the void label, or a warning that none has the given `value`."""
    counts = [record.void_pixels for record in inspections if record and record.void_pixels]
    if not counts:
        return f"no mask has a pixel of the void label {value}; correct the setting, or remove it"
    return (
        f"{sum(counts):,} pixels in {len(counts)} of {len(inspections)} masks have the void label {value} and are "
        "excluded from losses and scores"
    )


def spacing_kinds(inspections: Sequence[Inspection | None]) -> dict[str, int]:
    """Return the number of cases of each kind of spacing, among those whose source states one."""
    return dict(Counter(record.spacing_kind for record in inspections if record and record.spacing_kind))


class Rims(NamedTuple):
    """Rims of labels between two others.

    Attributes:
        rims: their number, along rows and columns.
        share: of rims among the steps over two or more labels, in [0, 1]; 0 if there is no such step.
    """

    rims: int
    share: float

    @property
    def interpolated(self) -> bool:
        """Return whether linear interpolation produced them."""
        return self.rims >= _FEWEST_RIMS and self.share > _INTERPOLATED


def interpolated_rims(label: np.ndarray) -> Rims:
    """Count the rims that interpolation produces between two labels that differ by two or more.

    Linear interpolation between 0 and 4, rounded, gives 1, 2 and 3: labels of other structures. Along each row and
    column, a run of label k, at most four pixels (or 1/64 of the smaller side) long, between a label below k and one
    above it is a rim, if most pixels of label k are not in rims; a border of two labels that differ by two or more is a
    direct step. Exact masks have direct steps, interpolated masks have rims in their place.

    Args:
        label: integers [H, W], as in the file.

    Returns:
        The rims, and their share of rims and direct steps together.

    Example:
        >>> exact = np.zeros((16, 16), np.uint8)
        >>> exact[:, 4:8], exact[:, 8:] = 2, 4
        >>> interpolated_rims(exact)
        Rims(rims=0, share=0.0)
        >>> between = np.where(np.arange(16) == 8, 3, exact)
        >>> between[:4] = 3
        >>> interpolated_rims(between).rims, round(interpolated_rims(between).share, 2)
        (12, 0.43)
    """
    width = max(_RIM_PIXELS, round(_RIM_SHARE * min(label.shape)))
    lines = [_rims_by_block(array, width) for array in (label, label.T)]
    rims = sum(rims[thin <= _MAX_RIM_PIXELS * pixels].sum() for rims, thin, pixels, _ in lines)
    steps = rims + sum(direct for *_, direct in lines)
    return Rims(int(rims), float(rims / steps) if steps else 0.0)


def _rims_by_block(label: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return f64[K] by label: its rims along the rows, the pixels in them, all its pixels; and the direct steps.

    Runs of one pixel take about fifty bytes a pixel, so a block of rows is counted at a time.

    Args:
        label: integers [H, W].
        width: pixels of the widest rim.
    """
    rows = max(1, _BLOCK // label.shape[1])
    sums: dict[int, np.ndarray] = {}
    direct = 0
    for start in range(0, len(label), rows):
        values, *counts, steps = _rims(np.ascontiguousarray(label[start : start + rows]), width)
        direct += steps
        for value, count in zip(values.tolist(), np.stack(counts, axis=1), strict=True):
            sums[value] = sums.get(value, 0) + count
    rims, thin, pixels = np.stack([*sums.values()], axis=1)
    return rims, thin, pixels, direct


def _rims(label: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Return labels, i64[K], their rims along the rows, the pixels in these, all pixels; and the direct steps."""
    starts = np.ones(label.shape, bool)
    starts[:, 1:] = label[:, 1:] != label[:, :-1]
    start = np.flatnonzero(starts)
    value = label.ravel()[start].astype(np.int64)
    length = np.diff(np.append(start, label.size))
    row = start // label.shape[1]
    step = np.where(row[1:] == row[:-1], np.diff(value), 0)
    rim = np.flatnonzero((step[:-1] * step[1:] > 0) & (length[1:-1] <= width)) + 1
    values, run = np.unique(value, return_inverse=True)
    rims = np.bincount(run[rim], minlength=len(values))
    thin = np.bincount(run[rim], length[rim], len(values))
    return values, rims, thin, np.bincount(run, length, len(values)), int(np.count_nonzero(np.abs(step) >= 2))


def contour_bands(label: np.ndarray, values: Collection[int], background: Collection[int]) -> list[int]:
    """Return the background values, other than 0, that form a thin band along the structures' contours.

    Segmentation data sets mark such bands as void, to be excluded from scores; scored as background, they lower the
    scores of all structures, those of small ones most.

    Args:
        label: integers [H, W], as in the file.
        values: of structures.
        background: values that are no structure.

    Returns:
        Those that cover at least half of the structures' outlines, and three quarters of whose pixels are within
        two pixels (or 1/24 of the picture's smaller side) of its edge.
    """
    candidates = [value for value in background if value and (label == value).any()]
    if not candidates:
        return []
    structure = np.isin(label, list(values))
    outline = ndimage.binary_dilation(structure) & ~structure
    side = min(label.shape)
    limit = max(_BAND_PIXELS, _BAND_SHARE * side)
    bands = []
    for value in candidates:
        band = label == value
        is_on_outline = np.count_nonzero(band & outline) >= _OUTLINE * max(int(outline.sum()), 1)
        if is_on_outline and np.quantile(ndimage.distance_transform_edt(band)[band], 0.75) <= limit:
            bands.append(value)
    return bands
