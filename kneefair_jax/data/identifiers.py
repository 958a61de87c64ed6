"""Finds identifiers and levels that look the same: `0007`, `7`, `7.0`; `p7`, `P007`; `é` in two encodings.

Cells are compared, never changed: an identifier keeps its zeros, and a pair that looks alike is refused or allowed.
"""

import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

# Invisible characters whose Unicode category is not Cc or Cf: fillers, joiners and variation selectors.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_SELECTORS = (("\ufe00", "\ufe0f"), ("\U000e0100", "\U000e01ef"))
_NUMERAL = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:e([+-]?[0-9]{1,6}))?")
# A spreadsheet saves 123456780021 as `1.23457E+11`, without the last digits.
_SCIENTIFIC = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?[eE][+-][0-9]{1,3}|[+-]?[0-9]+\.[0-9]+[eE][0-9]{1,3}")
_FLOAT = re.compile(r"[+-]?[0-9]+\.0+")
LONGEST = 200  # characters of an identifier
# Of `numpy.savez`, which takes the names of its arrays as keywords.
_KEYWORDS = frozenset({"file", "allow_pickle"})
_LEADING_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")

# A line of a table (the header is line 1) and its fault.
type Problem = tuple[int, str]


def visible(text: str) -> str:
    """Return the text without control characters, zero-width characters and other invisible characters.

    White space stays; outer white space is trimmed and inner runs become one space.
    """
    if text.isascii() and text.isprintable():  # almost every cell
        return " ".join(text.split())
    visible_characters = (
        character
        for character in text
        if character.isspace()
        or not (_is_blank(character) or unicodedata.category(character) in ("Cc", "Cf"))
    )
    return " ".join("".join(visible_characters).split())


def canonical(text: str) -> str:
    """Return the canonical form of a level or a name, which is equal for texts that look the same.

    The steps: Unicode NFKC, removal of invisible characters, case folding, collapse of white space, and one form for
    numerals (`0007`, `7` and `7.0` are `7`). `1.1` and `1.10` differ, as the first and the tenth patient of site 1, and
    so do `12000` and `12E03`: only an exponent with a sign, or after a decimal point, belongs to a number. Reference:
    Unicode Standard Annex 15 (normalization forms).
    """
    folded = plain(text)
    return _numeral(_ascii_digits(folded)) or folded


def canonical_identifier(text: str) -> str:
    """Return the canonical form of an identifier: `canonical` without zeros before the numbers inside.

    `P007` and `P7` have one form, and so have `site-01-007` and `site-1-7`. A point separates two numbers, as in
    `1.007` and `1.7`, patient 7 of site 1; in a level it is a decimal point, so levels have the form `canonical`.
    """
    folded = _LEADING_ZEROS.sub("", _ascii_digits(plain(text)))
    return _numeral(folded) or folded


def plain(text: str) -> str:
    """Return the text normalized (NFKC), visible and case-folded: `canonical` without one form for numerals."""
    if text.isascii() and text.isprintable():  # almost every cell
        return " ".join(text.split()).casefold()
    folded = visible(unicodedata.normalize("NFKC", text)).casefold()
    if not folded.isascii():  # a removed character may have separated a letter from its accent
        folded = visible(unicodedata.normalize("NFKC", folded))
    return folded


def similar_identifiers(
    values: Iterable[str], form: Callable[[str], str] = canonical_identifier
) -> list[list[str]]:
    """Return the groups of distinct values with one canonical form, in the order of their first occurrence.

    Args:
        values: identifiers as text, repeated or not.
        form: value -> canonical form; `canonical` for levels and names.

    Returns:
        Lists of two or more distinct values each; empty if all distinct values look different.
    """
    forms: dict[str, list[str]] = {}
    for value in dict.fromkeys(values):
        forms.setdefault(form(value), []).append(value)
    return [group for group in forms.values() if len(group) > 1]


def similar(
    cells: Mapping[int, str],
    column: str,
    noun: str,
    remedy: str,
    *,
    rows: bool = True,
    form: Callable[[str], str] = canonical_identifier,
) -> list[Problem]:
    """Return a problem for every value that looks like an earlier one of its column.

    Args:
        cells: line in the file -> cell; empty cells are ignored.
        column: the column's name.
        noun: for the values, such as `patient`.
        remedy: the option that allows such values.
        rows: whether the message names the line of the earlier value.
        form: value -> canonical form; `canonical` for levels and names.
    """
    first_row: dict[str, int] = {}
    for row, cell in cells.items():
        if cell:
            first_row.setdefault(cell, row)
    return [
        (
            first_row[variant],
            f"{column} {original!r}{f' (row {first_row[original]})' if rows else ''} and {variant!r} look like the "
            f"same {noun}; write them alike, or give {remedy}",
        )
        for original, *variants in similar_identifiers(first_row, form)
        for variant in variants
    ]


def spoiled(cells: Mapping[int, str], column: str, allow_floats: bool = False) -> list[Problem]:
    """Return a problem for every identifier that a spreadsheet turned into a number: `1.23457E+11`, `7.0`.

    Args:
        cells: line in the file -> cell.
        column: the column's name.
        allow_floats: whether `7.0` is accepted as text; identifiers that lost digits never are.
    """
    remedy = "export the column as text from the original source; the file no longer holds the identifier"
    return [
        (row, f"{column} {cell!r} was turned into a number by a spreadsheet or program; {remedy}")
        for row, cell in cells.items()
        if _SCIENTIFIC.fullmatch(cell) or (_FLOAT.fullmatch(cell) and not allow_floats)
    ]


def unusable(cells: Mapping[int, str], column: str) -> list[Problem]:
    """Return a problem for every identifier that cannot name an entry of a table, a page or an archive.

    Args:
        cells: line in the file -> cell; empty cells are ignored.
        column: the column's name.
    """
    return [
        (row, f"{column} {_shortened(cell)!r} {fault}; rename it")
        for row, cell in cells.items()
        if (fault := _fault(cell, names_files=column == "case_id"))
    ]


def _fault(cell: str, names_files: bool) -> str:
    """Return the fault of an identifier, which may name files and entries of archives; "" if it has none."""
    if len(cell) > LONGEST:
        return f"has {len(cell)} characters, more than {LONGEST}"
    if not cell.isprintable() and any(unicodedata.category(character) in ("Cc", "Cs") for character in cell):
        return "holds control characters"
    if not names_files:
        return ""
    if cell.startswith("/") or {".", ".."} & set(cell.split("/")):
        return "is a path that leads out of the folder"
    return (
        f"is a keyword of numpy.savez, which stores the predictions of {cell!r}" if cell in _KEYWORDS else ""
    )


def _shortened(cell: str) -> str:
    return cell if len(cell) <= LONGEST else f"{cell[:40]}..."


def across(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    form: Callable[[str], str] = canonical_identifier,
) -> list[tuple[str, str]]:
    """Return pairs of different values, one of each sequence, that look the same; at most one a value of `second`."""
    originals: dict[str, str] = {}
    for value in map(str, first):
        originals.setdefault(form(value), value)
    first_values = set(map(str, first))
    new_values = dict.fromkeys(value for value in map(str, second) if value not in first_values)
    return [(originals[key], value) for value in new_values if (key := form(value)) in originals]


def _is_blank(character: str) -> bool:
    return character in _INVISIBLE or any(low <= character <= high for low, high in _SELECTORS)


def _ascii_digits(text: str) -> str:
    """Return the text with 0 to 9 in place of the decimal digits of other scripts."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def _numeral(text: str) -> str:
    """Return one text for all numerals of a value, exact for any number of digits.

    It is "" for other text, for an exponent with neither a sign nor a decimal point before it (`12e03` may be an
    identifier), and for a fraction that ends in zero after another digit (`1.10`).
    """
    match = _NUMERAL.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        return ""
    fraction, power = match[3] or "", match[4]
    if power and match[3] is None and power[0] not in "+-":
        return ""
    if not power and fraction.strip("0") and fraction.endswith("0"):
        return ""
    digits = (match[2] + fraction).lstrip("0")
    exponent = int(power or 0) - len(fraction) + len(digits) - len(digits.rstrip("0"))
    digits = digits.rstrip("0")
    # `visible` removes the control character from other text, so the text `7e0` never equals the form of 7.
    return f"{match[1].replace('+', '')}{digits}\0e{exponent}" if digits else "0"
