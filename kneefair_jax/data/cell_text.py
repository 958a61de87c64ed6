"""The text of a table's cell: numbers by one strict rule, and the words that stand for a missing value."""

import math
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.data import identifiers

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
# No level of an attribute has one of these names. `none` is a level (no implant).
MISSING_WORDS = frozenset(
    {"", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "#nan", "null", "<null>", "nat"}
    | {groups.MISSING}
)
# These are read as missing too, and a note counts them, since a level may have such a name.
AMBIGUOUS_WORDS = frozenset(
    {"?", "??", "???", "-", "--", "---", "\u2013", "\u2014", ".", "..", "...", "*", "/", "_"}
    | {"n.a.", "n.a", "n/k", "nk", "n.k.", "unk", "unknown", "unkown", "undefined", "undetermined"}
    | {"not available", "not known", "not recorded", "not reported", "not stated", "not specified"}
    | {"unspecified", "unavailable", "empty", "no data", "no information", "unknown/not reported"}
    | {"unknown / not reported", "unknown or not reported", "refused", "don't know", "do not know"}
    | {"#value!", "#ref!", "#name?", "#div/0!", "#num!", "#null!", "#error!", "1.#qnan", "-1.#ind"}
)
_WORDS = MISSING_WORDS | AMBIGUOUS_WORDS

IDENTIFIERS = ("case_id", "patient_id")


def parse_number(text: str) -> float:
    """Return the finite number that a text states in decimal notation, with a point.

    `float` alone reads `0_3` as 3, and accepts `inf`, `nan` and digits of any script.

    Raises:
        ValueError: the text is anything else.
    """
    number = float(text) if _NUMBER.fullmatch(text.strip(" \t")) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a finite number in decimal notation")
    return number


def is_number(text: str) -> bool:
    """Return whether a text is a finite number in decimal notation."""
    return not math.isnan(_number_or_nan(text))


def with_decimal_point(cell: str) -> str:
    """Return a number with a decimal comma as one with a point, `65,5` as `65.5`; "" for any other text."""
    return cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else ""


def to_numbers(cells: pd.Series) -> pd.Series:
    """Return a column of text as f64 on the same index, NaN where a cell is not a number."""
    numbers = {cell: _number_or_nan(cell) for cell in cells.unique()}
    return cells.map(numbers).astype(np.float64)


def _number_or_nan(cell: str) -> float:
    try:
        return parse_number(cell)
    except ValueError:
        return math.nan


def normalized(cell: str) -> str:
    """Return the form of a cell in which `MISSING_WORDS` and `AMBIGUOUS_WORDS` are written."""
    return identifiers.plain(cell)


def is_missing(cell: str) -> bool:
    """Return whether a cell is empty or holds a word that means missing."""
    return normalized(cell) in _WORDS


def without_missing_words(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of text with "" in place of every word that means missing.

    Columns of `IDENTIFIERS` keep their words, which may be a patient's initials: `metadata.check_identifiers` refuses
    them by name. Cells of invisible characters become "" in every column.
    """
    return table.apply(lambda column: column.map(_replacements(column)))


def missing_word_notes(table: pd.DataFrame, ignored: frozenset[str] = frozenset()) -> list[str]:
    """Return a note for every column that holds ambiguous words, with their counts.

    A column whose `None` may be a level or a missing value gets a note too.

    Args:
        table: cells of text, as in the file.
        ignored: columns without a note.
    """
    notes = []
    for name in table.columns.difference(list(ignored), sort=False):
        counts = table[name].value_counts()
        ambiguous_counts = {
            cell: int(n) for cell, n in counts.items() if normalized(str(cell)) in AMBIGUOUS_WORDS
        }
        if ambiguous_counts:
            notes.append(
                f"column {name}: {_format_counts(ambiguous_counts)} read as missing; rename the cells that are levels"
            )
        none_counts = {cell: int(n) for cell, n in counts.items() if normalized(str(cell)) == "none"}
        if none_counts:
            notes.append(
                f"column {name}: {_format_counts(none_counts)} read as a level; leave the cell empty if it is missing"
            )
    return notes


def _replacements(column: pd.Series) -> Mapping[str, str]:
    is_blank = (lambda cell: not normalized(cell)) if column.name in IDENTIFIERS else is_missing
    return {cell: "" if is_blank(cell) else cell for cell in column.unique()}


def _format_counts(counts: Mapping[str, int]) -> str:
    cells = ", ".join(f"{cell!r} ({n})" for cell, n in counts.items())
    total = sum(counts.values())
    return f"{total} cell{'s' * (total != 1)} ({cells}) {'are' if total != 1 else 'is'}"
