"""Notes on the headers of many files, each kind of note once."""

import re
from collections import Counter
from collections.abc import Sequence

_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")


def aggregate(case_ids: Sequence[str], notes: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each kind of note: its text in the first case that has it, and how many cases have it.

    Notes that differ only in numbers are of one kind.

    Args:
        case_ids: of N cases.
        notes: of each case.
    """
    first: dict[str, tuple[str, str]] = {}
    counts: Counter[str] = Counter()
    for case_id, texts in zip(case_ids, notes, strict=True):
        kinds = {_NUMBER.sub("#", text): (case_id, text) for text in texts}
        counts.update(kinds.keys())
        first = kinds | first
    return [
        f"{text} (in {counts[kind]} of {len(case_ids)} cases, such as {case_id})"
        for kind, (case_id, text) in first.items()
    ]
