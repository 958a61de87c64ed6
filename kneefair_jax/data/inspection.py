"""Inspect the files of a case while they are decoded, and summarize the inspections of a cohort as notes."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kneefair_jax.data import mask_checks

# Two statements of one spacing disagree beyond this factor, which exceeds the magnification of a bone by projection.
SPACING_RATIO = 1.5
_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")
_LISTED_CASES = 5


class Inspection(NamedTuple):
    """Facts about the files of one case, recorded when they are decoded so that nothing decodes them again.

    Attributes:
        spacing_kind: `table`, or of `readers.Radiograph`; "" where the source does not state it.
        notes: warnings on the headers of film and mask.
        interpolated: whether the mask has interpolated labels, by `mask_checks.interpolated_rims`.
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
    interpolated = mask_checks.interpolated_rims(structures).interpolated
    return Inspection(spacing_kind, tuple(notes), interpolated, _sha256(label), void_pixels)


def spacing_notes(film: np.ndarray, mask: np.ndarray, table: np.ndarray) -> list[str]:
    """Return notes on spacings of one case that differ by more than a factor of 1.5.

    Args:
        film: f32[2], mm per pixel down and across by the film's header; NaN where it states none.
        mask: the same by the mask's header, laid out as the film.
        table: the same by the table, which has precedence.
    """
    pairs = [
        ("the mask's header", mask, "the film's header", film),
        ("the table", table, "the film's header", film),
        ("the table", table, "the mask's header", mask),
    ]
    return [
        f"the pixel spacing by {name_a}, {_format_mm(a)} mm, and by {name_b}, {_format_mm(b)} mm, disagree"
        for name_a, a, name_b, b in pairs
        if np.abs(np.log(np.asarray(a, float) / b)).max() > math.log(SPACING_RATIO)
    ]


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


def _format_mm(spacing: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in spacing)


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
