"""Words that stand for a missing value in tables."""

from collections.abc import Mapping

import pandas as pd

from kneefair_jax import groups
from kneefair_jax.data import identifiers

# Certain: no level of an attribute is called so. `none` is a level like any other (no implant).
CERTAIN = frozenset(
    {"", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "#nan", "null", "<null>", "nat"}
    | {groups.MISSING}
)
# Read as missing too, but counted in a note, since somebody may mean a level by them.
AMBIGUOUS = frozenset(
    {"?", "??", "???", "-", "--", "---", "\u2013", "\u2014", ".", "..", "...", "*", "/", "_"}
    | {"n.a.", "n.a", "n/k", "nk", "n.k.", "unk", "unknown", "unkown", "undefined", "undetermined"}
    | {"not available", "not known", "not recorded", "not reported", "not stated", "not specified"}
    | {"unspecified", "unavailable", "empty", "no data", "no information", "unknown/not reported"}
    | {"unknown / not reported", "unknown or not reported", "refused", "don't know", "do not know"}
    | {"#value!", "#ref!", "#name?", "#div/0!", "#num!", "#null!", "#error!", "1.#qnan", "-1.#ind"}
)
_WORDS = CERTAIN | AMBIGUOUS

IDENTIFIERS = ("case_id", "patient_id")


def word(cell: str) -> str:
    """Return the form of a cell in which `CERTAIN` and `AMBIGUOUS` are written."""
    return identifiers.plain(cell)


def is_missing(cell: str) -> bool:
    """Return whether a cell is empty or holds a word that means missing."""
    return word(cell) in _WORDS


def removed(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of text with "" in place of every word that means missing.

    Columns of `IDENTIFIERS` keep their words, which may be a patient's initials: `metadata.check_identifiers` refuses
    them by name. Cells without ink become "" in every column.
    """
    return table.apply(lambda column: column.map(_replacements(column)))


def notes(table: pd.DataFrame, ignored: frozenset[str] = frozenset()) -> list[str]:
    """Return a note for every column of a table of text that holds ambiguous words, with how many there are.

    A column whose `None` may be a level or a missing value gets a note too.

    Args:
        table: cells as they are in the file.
        ignored: columns without a note.
    """
    lines = []
    for name in table.columns.difference(list(ignored), sort=False):
        counts = table[name].value_counts()
        ambiguous = {cell: int(n) for cell, n in counts.items() if word(str(cell)) in AMBIGUOUS}
        if ambiguous:
            lines.append(f"column {name}: {_counted(ambiguous)} read as missing; rename what is a level")
        none = {cell: int(n) for cell, n in counts.items() if word(str(cell)) == "none"}
        if none:
            lines.append(
                f"column {name}: {_counted(none)} read as a level; leave the cell empty if it is missing"
            )
    return lines


def _replacements(column: pd.Series) -> Mapping[str, str]:
    empty = (lambda cell: not word(cell)) if column.name in IDENTIFIERS else is_missing
    return {cell: "" if empty(cell) else cell for cell in column.unique()}


def _counted(words: Mapping[str, int]) -> str:
    cells = ", ".join(f"{cell!r} ({n})" for cell, n in words.items())
    total = sum(words.values())
    return f"{total} cell{'s' * (total != 1)} ({cells}) {'are' if total != 1 else 'is'}"
