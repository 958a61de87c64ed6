"""Notes on the headers of many files, each kind of note once, and on the void pixels of all masks."""

import re
from collections import Counter
from collections.abc import Sequence

from kneefair_jax.data.inspection import Inspection

_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")
_SHOWN = 5


def aggregate(case_ids: Sequence[str], notes: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each kind of note: its text in the first case that has it, and the cases that have it.

    Notes that differ only in numbers are of one kind.

    Args:
        case_ids: of N cases.
        notes: of each case.
    """
    texts: dict[str, str] = {}
    cases: dict[str, list[str]] = {}
    for case_id, of_case in zip(case_ids, notes, strict=True):
        for kind, text in {_NUMBER.sub("#", text): text for text in of_case}.items():
            texts.setdefault(kind, text)
            cases.setdefault(kind, []).append(case_id)
    return [f"{text} (in {some(cases[kind], len(case_ids))})" for kind, text in texts.items()]


def some(cases: Sequence[str], count: int) -> str:
    """Return `3 of 24 cases: c1, c2, c3`, with the first five of many; `count` is of all cases."""
    return (
        f"{len(cases)} of {count} cases: {', '.join(cases[:_SHOWN])}{', ...' if len(cases) > _SHOWN else ''}"
    )


def of_cohort(case_ids: Sequence[str], inspections: Sequence[Inspection | None]) -> list[str]:
    """Return the notes on a cohort's headers: each kind of note, and the kinds of spacing where there are several.

    Args:
        case_ids: of N cases.
        inspections: of each case; () where none is recorded.
    """
    known = [(case, one) for case, one in zip(case_ids, inspections, strict=bool(inspections)) if one]
    notes = aggregate([case for case, _ in known], [one.notes for _, one in known])
    kinds = spacing_kinds(inspections)
    if len(kinds) > 1:
        what = ", ".join(f"{kind} in {count}" for kind, count in sorted(kinds.items()))
        notes.append(f"the pixel spacing of the films is of different kinds: {what} of {len(known)} cases")
    return notes


def of_void(inspections: Sequence[Inspection | None], value: int) -> str:
    """Return how many pixels are void; or that none is, as where `value` was given by mistake."""
    counts = [one.void_pixels for one in inspections if one and one.void_pixels]
    if not counts:
        return f"no mask has a pixel of the void label {value}; correct the setting, or leave it out"
    return (
        f"{sum(counts):,} pixels in {len(counts)} of {len(inspections)} masks have the void label {value} and are left "
        "out of losses and scores"
    )


def spacing_kinds(inspections: Sequence[Inspection | None]) -> dict[str, int]:
    """Return the number of cases of each kind of spacing, of those whose source states one."""
    return dict(Counter(one.spacing_kind for one in inspections if one and one.spacing_kind))
